"""A subscription: the iterator of deliveries, its buffer and the leases in it."""

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import Any, Final, Protocol, Self

import structlog

from actorbus.client.backoff import Backoff
from actorbus.client.delivery import Delivery
from actorbus.client.lease_buffer import RENEW_AT, LeaseBuffer
from actorbus.client.link import Link, LinkLostError
from actorbus.client.publish_batch import copy_of
from actorbus.codec import Codec
from actorbus.errors import (
    ActorbusError,
    ConnectionLostError,
    ErrorCode,
    RefusedError,
    UnavailableError,
)
from actorbus.frame_types import Subscribed

log: Final = structlog.get_logger("actorbus")

BREATHE_SECONDS: Final = 0.002
"""A consumer that never waits lets the event loop read and write this often."""

JOIN_BACKOFF: Final = (0.1, 5.0)
"""First and longest wait before a subscribe that the broker can't serve now is sent again."""


class Owner(Protocol):
    """The session as its subscriptions see it."""

    link: Link | None
    codec: Codec
    close_timeout: float

    async def join(self, subscription: "Subscription") -> None:
        """Take it in; returns once it is subscribed."""

    async def leave(self, subscription: "Subscription") -> None:
        """Unsubscribe; returns once the broker has answered, or the connection has ended."""

    def release(self, subscription: "Subscription") -> None:
        """Forget it."""


class Subscription:
    """Deliveries of one topic. Use it as `async with`, and iterate over it with `async for`.

    Several tasks may iterate over the same subscription; each delivery goes to one of them.
    Deliveries wait in a buffer, as many as `max_in_flight` allows; their leases are renewed there,
    so an event that is handed over has its whole `ack_wait` before it. From then on the lease is
    the app's to renew (`Delivery.extend`).

    At the end of `async with` acknowledgements are flushed, the broker is told, and then what is
    still in the buffer goes back, to be redelivered elsewhere. The protocol counts that as an
    attempt, so an event on the last of its `max_attempts` is not sent back: it keeps its lease
    until that or the connection ends. `Bus.drain` first leaves nothing in the buffer.

    Attributes:
        topic: the topic.
        options: those in force in the group when it was last joined, as the protocol names them.
        put_off: why the broker could not subscribe it when it last said so.
    """

    def __init__(self, owner: Owner, topic: str, changes: dict[str, Any]) -> None:
        self.topic = topic
        self.options: dict[str, Any] = {}
        self.put_off: UnavailableError | None = None
        self._owner = owner
        self._changes = changes
        self._buffer = LeaseBuffer()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._joined: asyncio.Future[None] | None = None
        self._ended = False
        self._leaving = False
        self._left: list[Delivery] = []
        self._error: ActorbusError | None = None
        self._breathe_at = 0.0

    async def __aenter__(self) -> Self:
        """Subscribe; returns once group and options are durable.

        Raises:
            RefusedError: `invalid_option`, `invalid_name`, `forbidden`…; `in_use` if this bus is
                subscribed to the topic already; `not_subscribed` if it has been left before.
            UnavailableError: the broker did not answer in time.
            ConnectionLostError: the bus has ended.
        """
        if self._ended:
            raise RefusedError(
                ErrorCode.NOT_SUBSCRIBED,
                f"this subscription to {self.topic} has ended: call subscribe again",
            )
        await self._owner.join(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Unsubscribe; see the class for what happens to deliveries. Again: does nothing."""
        if self._leaving:
            return
        self._leaving = True
        self._left = self._buffer.take_all()
        self.finish()
        try:
            async with asyncio.timeout(self._owner.close_timeout):
                await self._flush()
                await self._owner.leave(self)
        except TimeoutError:
            log.warning("unsubscribe_timed_out", topic=self.topic)
        finally:
            self._owner.release(self)
            self._hand_back()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        """The next delivery; waits for one. Ends when the subscription or the bus is closed.

        Raises:
            ActorbusError: what ended the bus or the subscription, if it was an error.
        """
        now = time.monotonic()
        if now >= self._breathe_at:
            await asyncio.sleep(0)
            now = time.monotonic()
            self._breathe_at = now + BREATHE_SECONDS
        while True:
            delivery = self._buffer.take(now)
            if delivery is not None:
                if self._buffer.aged:
                    await delivery.extend(self._buffer.aged)
                return delivery
            if self._ended:
                self._raise_end()
            if self._joined is None:
                raise RefusedError(
                    ErrorCode.NOT_SUBSCRIBED, f"enter the subscription to {self.topic} first"
                )
            await self._arrival()
            now = time.monotonic()
            self._breathe_at = now + BREATHE_SECONDS

    async def next_batch(self, most: int = 100) -> list[Delivery]:
        """What is in the buffer, up to `most` deliveries; waits until there is one.

        For apps that handle events together. An empty list: the subscription or the bus is closed.

        Raises:
            RefusedError: `most` is below 1. Otherwise as the iteration.
        """
        if most < 1:
            raise RefusedError(ErrorCode.INVALID_OPTION, f"most must be 1 or more, not {most}")
        try:
            batch = [await anext(self)]
        except StopAsyncIteration:
            return []
        now = time.monotonic()
        while len(batch) < most:
            delivery = self._buffer.take(now)
            if delivery is None:
                break
            if self._buffer.aged:
                await delivery.extend(self._buffer.aged)
            batch.append(delivery)
        return batch

    # What the session calls.

    def deliver(self, link: Link, frame: dict[str, Any]) -> None:
        """Take a `deliver` frame."""
        codec, lane, topic = self._owner.codec, link.lane, self.topic
        deliveries = [
            Delivery(topic, wire["attempt"], wire["id"], lane, codec, wire["event"])
            for wire in frame["deliveries"]
        ]
        if self._leaving:
            self._left += deliveries
            return
        now, lease = time.monotonic(), frame["lease_ms"] / 1000
        self._buffer.add(deliveries, lease, now)
        self._arm(now + lease * RENEW_AT)
        self._wake(len(deliveries))

    async def subscribe(self, link: Link) -> None:
        """Subscribe on a new connection; the answer, or a refusal, is kept for who waits."""
        backoff = Backoff(*JOIN_BACKOFF)
        frame = {"type": "subscribe", "topic": self.topic, "options": self._changes}
        while True:
            try:
                answer = await link.request(frame)
            except UnavailableError as error:
                log.info("subscribe_put_off", topic=self.topic, code=error.code)
                self.put_off = error
                await asyncio.sleep(backoff.next())
            except LinkLostError:
                return  # the session subscribes on the next connection
            except RefusedError as error:
                self.finish(error)
                return
            else:
                self._take_answer(answer, link)
                return

    async def joined(self) -> None:
        """Return once the broker has answered the first subscribe.

        Raises:
            ActorbusError: it was refused, or the subscription or the bus has ended.
        """
        if self._ended:
            raise self._end()
        self._joined = asyncio.get_running_loop().create_future()
        await self._joined

    def disconnected(self) -> None:
        """The connection ended, and with it all leases: what was in the buffer comes again."""
        self._buffer.take_all()
        self._left.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def finish(self, error: ActorbusError | None = None) -> None:
        """Nothing more will come: end the iterators, once the buffer is empty."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        if self._joined is not None and not self._joined.done():
            self._joined.set_exception(self._end())
        self._wake(len(self._waiters))

    def discard(self) -> None:
        """The bus is closing: end the iterators now; the connection's end frees the leases."""
        self._buffer.take_all()
        self.finish()

    def _take_answer(self, answer: object, link: Link) -> None:
        if isinstance(answer, Subscribed):
            self.options = answer.options
            if answer.options.get("max_in_flight"):
                link.lane.hurry()
        if self._joined is not None and not self._joined.done():
            self._joined.set_result(None)

    def _end(self) -> ActorbusError:
        """What an end means for who waits to be subscribed."""
        if self._error is not None:
            return copy_of(self._error)
        return ConnectionLostError(f"the subscription to {self.topic} was closed")

    def _raise_end(self) -> None:
        if self._error is not None:
            raise copy_of(self._error)
        raise StopAsyncIteration

    async def _arrival(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._wake(1)  # we were called and are leaving: call the next
            raise

    def _wake(self, count: int) -> None:
        while count and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _arm(self, due: float) -> None:
        """Have the one timer for renewals fire at `due` or earlier."""
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        delay = max(0.0, due - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._renew)

    def _renew(self) -> None:
        self._timer = None
        link = self._owner.link
        if link is None:
            return
        for lease, deliveries in self._buffer.renew(time.monotonic()).items():
            link.lane.extend_many(
                {delivery.lease_id: delivery.lose for delivery in deliveries}, round(lease * 1000)
            )
        due = self._buffer.next_due()
        if due is not None:
            self._arm(due)

    async def _flush(self) -> None:
        """Have the acknowledgements so far made durable."""
        link = self._owner.link
        confirms = [] if link is None else link.lane.confirm_all()
        if confirms:
            await asyncio.wait(confirms)

    def _hand_back(self) -> None:
        """Send back what the app has not seen.

        Not before the broker has answered `unsubscribe`: until then it would deliver it again,
        here, and each time an attempt would be gone.
        """
        link, last = self._owner.link, self.options.get("max_attempts") or 0
        ids = [d.lease_id for d in self._left if not d.lost and not 0 < last <= d.attempt]
        self._left.clear()
        if ids and link is not None:
            link.lane.settle(ids, ("RETRY", 0, None))
