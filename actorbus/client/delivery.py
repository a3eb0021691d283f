"""One event in the app's hands, to be acknowledged, sent back or dropped."""

from typing import Any, Final

import msgspec

from actorbus.client.acks import AckLane, Settling, printable
from actorbus.client.durations import milliseconds
from actorbus.codec import Codec
from actorbus.errors import ErrorCode
from actorbus.limits import ACK_WAIT_MS, DELAY_MS

HELD: Final = 0
SETTLED: Final = 1
LOST: Final = 2


class Delivery(msgspec.Struct, eq=False, repr_omit_defaults=True):
    """One delivery of one event: a lease that ends with an acknowledgement or with its deadline.

    It is settled once, by `ack`, `retry` or `drop`; what comes second changes nothing. Each of them
    returns at once: what is settled in the same turn of the event loop, or with `ack` within 5 ms
    of the last frame, travels in one frame. With `wait=True` it is sent at once, and the call
    returns when the settling is durable, or raises `UnavailableError` when the broker does not say
    so within 30 s.

    All return False when the lease is known to be lost (deadline passed, connection ended, settled
    before): the event may come again, to this instance or another.

    Attributes:
        topic: where the event was published.
        attempt: 1 for the first delivery; 1 more for each earlier attempt that failed.
        lease_id: the lease's number on its connection (protocol: delivery ids).
    """

    topic: str
    attempt: int
    lease_id: int
    _lane: AckLane
    _codec: Codec
    _wire: Any
    _event: dict[str, Any] | None = None
    _state: int = HELD

    @property
    def event(self) -> dict[str, Any]:
        """The complete CloudEvent: its attributes, and `data` with bytes as bytes."""
        event = self._event
        if event is None:
            event = self._event = self._codec.event(self._wire)
        return event

    @property
    def data(self) -> Any:
        """The event's data; None if it has none. Bytes for binary data in either encoding."""
        return self.event.get("data")

    @property
    def lost(self) -> bool:
        """The lease is known to be over: acknowledging it would change nothing."""
        return self._state == LOST or (self._state == HELD and self._lane.closed)

    async def ack(self, *, wait: bool = False) -> bool:
        """The event is done with."""
        if self._state or self._lane.closed:
            return False
        self._state = SETTLED
        self._lane.succeed(self.lease_id)
        return await self._lane.confirmed(self.lease_id) if wait else True

    async def retry(self, *, delay: float | None = None, wait: bool = False) -> bool:
        """The attempt failed: deliver the event again.

        Args:
            delay: not before so many seconds (0 to 3600); None: the group's back-off.
            wait: return when that is durable.

        Raises:
            RefusedError: `delay` is out of range.
        """
        delay_ms = None if delay is None else milliseconds(delay, "delay", DELAY_MS)
        return await self._settle(("RETRY", delay_ms, None), wait=wait)

    async def drop(self, reason: str | None = None, *, wait: bool = False) -> bool:
        """The event can't be handled: dead-letter or discard it, as the group's options say.

        Args:
            reason: what a dead-lettered event will carry; cut to 256 printable characters.
            wait: return when that is durable.
        """
        reason = None if reason is None else printable(reason)
        return await self._settle(("DROP", None, reason or None), wait=wait)

    async def extend(self, ack_wait: float | None = None) -> bool:
        """Renew the lease, for handling that takes longer than the group's `ack_wait`.

        Args:
            ack_wait: seconds from now on (0.1 to 600); None: the group's `ack_wait`.

        Raises:
            RefusedError: `ack_wait` is out of range.
        """
        ack_wait_ms = (
            None
            if ack_wait is None
            else milliseconds(ack_wait, "ack_wait", ACK_WAIT_MS, ErrorCode.INVALID_OPTION)
        )
        if self._state or self._lane.closed:
            return False
        self._lane.extend(self.lease_id, ack_wait_ms, self.lose)
        return True

    async def _settle(self, settling: Settling, *, wait: bool) -> bool:
        if self._state or self._lane.closed:
            return False
        self._state = SETTLED
        self._lane.settle((self.lease_id,), settling)
        return await self._lane.confirmed(self.lease_id) if wait else True

    def lose(self) -> None:
        """The broker says that the lease is over (called by the library)."""
        if self._state == HELD:
            self._state = LOST

    def __repr__(self) -> str:
        return f"<Delivery of {self.topic} attempt {self.attempt}>"
