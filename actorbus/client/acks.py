"""Acknowledgements and extensions of one connection, coalesced into frames.

What the app acknowledges within one turn of the event loop goes out in one frame at the next. When
a frame of successes has just gone, the next one waits for `PACE_SECONDS` since, unless the window
fills meanwhile: an acknowledgement of its own is a frame, a turn of two actors and a call of the
store. An answer is asked for only where someone waits for it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from actorbus.client.limits import CONFIRM_SECONDS, NO_ANSWER
from actorbus.codec import Codec
from actorbus.errors import UnavailableError
from actorbus.limits import ACK_IDS, REASON_CHARACTERS

SUCCESS: Final = ("SUCCESS", None, None)
PACE_SECONDS: Final = 0.005
"""At the least between two frames of successes. Its price: when an app crashes, what it has
acknowledged so shortly before comes again."""

PACED_SHARE: Final = 4
"""Successes of a quarter of the window are sent at once, so that it never runs dry."""

Settling = tuple[str, int | None, str | None]
"""Status, `delay_ms` and `reason` of an ack frame: what ids must share to travel together."""


class AckLane:
    """Settlings and extensions on their way to the broker, on one connection.

    Delivery ids name leases of one connection only (protocol: delivery ids), so each connection
    has its own lane and nothing moves from one to the next.

    Args:
        codec: how frames are encoded.
        wake: called when there is something to write after there was nothing.
        next_ref: numbers for the frames that want an answer.
        window: deliveries that may be unsettled on this connection.
    """

    def __init__(
        self,
        codec: Codec,
        wake: Callable[[], None],
        next_ref: Callable[[], int],
        window: int,
    ) -> None:
        self.closed = False
        self._hurried = False
        self._most = 0
        self.set_window(window)
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._codec = codec
        self._wake = wake
        self._next_ref = next_ref
        self._settlings: dict[Settling, list[int]] = {}
        self._success: list[int] = []
        self._extensions: dict[int | None, dict[int, Callable[[], None]]] = {}
        self._confirms: dict[int, asyncio.Future[bool]] = {}
        self._acks: dict[int, dict[int, asyncio.Future[bool]]] = {}
        self._extends: dict[int, dict[int, Callable[[], None]]] = {}

    def succeed(self, delivery_id: int) -> None:
        """Settle one delivery with SUCCESS."""
        self._success.append(delivery_id)
        count = len(self._success)
        if count >= self._most:
            if count in (self._most, 1):
                self._wake()
        elif count == 1:
            self._wake_in_time()

    def set_window(self, max_in_flight: int) -> None:
        """The connection's window has changed."""
        self._most = 0 if self._hurried else max_in_flight // PACED_SHARE

    def hurry(self) -> None:
        """Send each success at once: a group waits for room that this lane does not know of."""
        self._hurried = True
        self._most = 0

    def _wake_in_time(self) -> None:
        """Wake now, or once the last frame is `PACE_SECONDS` ago."""
        wait = self._sent_at + PACE_SECONDS - time.monotonic()
        if wait <= 0:
            self._wake()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._success:
            self._wake()

    def settle(self, delivery_ids: Iterable[int], settling: Settling) -> None:
        """Settle deliveries with any status."""
        if settling == SUCCESS:
            self._success.extend(delivery_ids)
        else:
            self._settlings.setdefault(settling, []).extend(delivery_ids)
        self._wake()

    def confirm(self, delivery_id: int) -> asyncio.Future[bool]:
        """Ask that a settling which is not written yet be answered.

        The future gets True once the settling is durable, False if the lease was lost before.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.set_result(False)
        else:
            self._confirms[delivery_id] = future
            self._wake()
        return future

    async def confirmed(self, delivery_id: int) -> bool:
        """Wait for the answer to a settling that is not written yet; see `confirm`.

        Raises:
            UnavailableError: no answer within `CONFIRM_SECONDS`; the lease goes on for now.
        """
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                return await self.confirm(delivery_id)
        except TimeoutError:
            raise UnavailableError(
                NO_ANSWER, f"no answer to an acknowledgement within {CONFIRM_SECONDS:g} s"
            ) from None

    def confirm_all(self) -> Sequence[asyncio.Future[bool]]:
        """One future for each frame's worth of settlings that are not written yet."""
        groups = [self._success, *self._settlings.values()]
        return [self._confirms.get(ids[-1]) or self.confirm(ids[-1]) for ids in groups if ids]

    def extend(self, delivery_id: int, ack_wait_ms: int | None, lost: Callable[[], None]) -> None:
        """Renew one lease; `lost` is called if the broker says that it is no longer held."""
        self.extend_many({delivery_id: lost}, ack_wait_ms)

    def extend_many(self, leases: dict[int, Callable[[], None]], ack_wait_ms: int | None) -> None:
        """Renew leases, given with what to call when one is lost."""
        self._extensions.setdefault(ack_wait_ms, {}).update(leases)
        self._wake()

    def frames(self) -> Iterator[bytes]:
        """What waits, encoded; each frame is taken out when the next is asked for.

        Extensions go before settlings, so that a lease which is extended and settled in the same
        turn is not reported as lost.
        """
        while self._extensions:
            ack_wait_ms = next(iter(self._extensions))
            yield self._extend_frame(ack_wait_ms, self._extensions.pop(ack_wait_ms))
        if self._success:
            self._sent_at = time.monotonic()
        while self._success:
            ids, self._success = self._success[:ACK_IDS], self._success[ACK_IDS:]
            yield self._ack_frame(ids, SUCCESS)
        while self._settlings:
            settling = next(iter(self._settlings))
            ids = self._settlings.pop(settling)
            if len(ids) > ACK_IDS:
                self._settlings[settling] = ids[ACK_IDS:]
            yield self._ack_frame(ids[:ACK_IDS], settling)

    def acked(self, ref: int, stale: Sequence[int]) -> bool:
        """Take an `acked` answer; False if the lane did not ask for it."""
        confirms = self._acks.pop(ref, None)
        if confirms is None:
            return False
        for delivery_id, future in confirms.items():
            if not future.done():
                future.set_result(delivery_id not in stale)
        return True

    def extended(self, ref: int, stale: Sequence[int]) -> bool:
        """Take an `extended` answer; False if the lane did not ask for it."""
        leases = self._extends.pop(ref, None)
        if leases is None:
            return False
        for delivery_id in stale:
            lost = leases.get(delivery_id)
            if lost is not None:
                lost()
        return True

    def refused(self, ref: int) -> bool:
        """Take an `error` answer: nothing was settled or renewed. False if it is not the lane's."""
        confirms = self._acks.pop(ref, None)
        if confirms is not None:
            for future in confirms.values():
                if not future.done():
                    future.set_result(False)
        return self._extends.pop(ref, None) is not None or confirms is not None

    def close(self) -> None:
        """The connection ended: its leases are gone, and nobody will answer."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        waiting = [*self._confirms.values()]
        waiting += [future for confirms in self._acks.values() for future in confirms.values()]
        for future in waiting:
            if not future.done():
                future.set_result(False)
        for table in (self._confirms, self._acks, self._extends, self._extensions, self._settlings):
            table.clear()
        self._success.clear()

    def _ack_frame(self, ids: list[int], settling: Settling) -> bytes:
        status, delay_ms, reason = settling
        frame: dict[str, Any] = {"type": "ack", "ids": ids}
        if status != "SUCCESS":
            frame["status"] = status
        if delay_ms is not None:
            frame["delay_ms"] = delay_ms
        if reason is not None:
            frame["reason"] = reason
        if self._confirms:
            self._want_answer(frame, ids)
        return self._codec.encode(frame)

    def _want_answer(self, frame: dict[str, Any], ids: list[int]) -> None:
        wanted = {i: self._confirms.pop(i) for i in ids if i in self._confirms}
        if wanted:
            frame["ref"] = self._next_ref()
            self._acks[frame["ref"]] = wanted

    def _extend_frame(
        self, ack_wait_ms: int | None, leases: dict[int, Callable[[], None]]
    ) -> bytes:
        ref = self._next_ref()
        self._extends[ref] = leases
        frame: dict[str, Any] = {"type": "extend", "ref": ref, "ids": list(leases)}
        if ack_wait_ms is not None:
            frame["ack_wait_ms"] = ack_wait_ms
        return self._codec.encode(frame)


def printable(reason: str) -> str:
    """`reason` as the protocol takes it: printable characters only, cut to its limit."""
    return "".join(c for c in reason if c.isprintable())[:REASON_CHARACTERS]
