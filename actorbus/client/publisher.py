"""Publishing: calls made in one turn of the event loop share frames, formed at the next.

While frames are under way, or the broker is away, what is published meanwhile waits in order. What
was not answered when a connection ended is published again on the next, with the same event ids,
before anything newer.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, Generic, TypeVar

from actorbus.client.backoff import Backoff
from actorbus.client.limits import NO_ANSWER
from actorbus.client.publish_batch import BATCH_BYTES, EventErrors, PublishBatch, Waiter, copy_of
from actorbus.client.publish_room import PublishRoom
from actorbus.errors import ActorbusError, ErrorCode, InvalidEventError, UnavailableError
from actorbus.frame_types import Limits
from actorbus.limits import BATCH_EVENTS, FRAME_BYTES, PUBLISH_BYTES
from actorbus.names import check_topic

F = TypeVar("F")
"""A publish frame, as who sends it wants it."""

RETRY_FIRST: Final = 0.1
RETRY_LONGEST: Final = 2.0
"""Seconds before a publish that was refused with a retryable error is sent again."""

TICKS: Final = 10
"""Deadlines are looked at so often within one: a tenth late at most, for one timer in all."""

FULL_EVENTS: Final = 64
"""A frame of so many events goes at once, before the loop's next turn: while the broker is at it,
the next is made. Waiting for all that is published in one turn, client and broker took turns."""

FRAME_HEAD: Final = 1024
"""Room for what stands around the events of a publish frame; names are 120 bytes at most."""


class Publisher(Generic[F]):
    """The publishes of one bus, over all its connections.

    Args:
        frame: makes a publish frame of topic, ref, encoded events and their time to live.
        timeout: seconds after which a publish without an answer fails.
        next_ref: numbers for the frames.
        shared_events: most events of several calls in one frame.
    """

    def __init__(
        self,
        frame: Callable[[str, int, Sequence[bytes], int | None], F],
        timeout: float,
        next_ref: Callable[[], int],
        shared_events: int = BATCH_EVENTS,
    ) -> None:
        self._frame = frame
        self._shared_events = shared_events
        self._timeout = timeout
        self._next_ref = next_ref
        self._loop = asyncio.get_running_loop()
        self._room = PublishRoom(PUBLISH_BYTES // 2)
        self._batch_events = BATCH_EVENTS
        self._longest = FRAME_BYTES - FRAME_HEAD
        self._wake: Callable[[], None] | None = None
        self._flush: Callable[[], None] | None = None
        self._queue: deque[PublishBatch] = deque()
        self._open: dict[str, PublishBatch] = {}
        self._in_flight: dict[int, PublishBatch] = {}
        self._delayed: dict[PublishBatch, asyncio.TimerHandle] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None
        self._error: ActorbusError | None = None

    @property
    def under_way(self) -> AbstractSet[int]:
        """The frames that have no answer yet, by `ref`."""
        return self._in_flight.keys()

    @property
    def waiting(self) -> bool:
        """Whether there are frames to be taken."""
        return bool(self._queue)

    @property
    def unanswered(self) -> int:
        """Events that have no answer yet."""
        return sum(len(batch.events) for batch in self._batches())

    def publish(self, topic: str, ttl_ms: int | None, event: bytes) -> Awaitable[EventErrors]:
        """Publish one encoded event; to be awaited: done once it is durable or refused for itself.

        No coroutine of its own where there is room, since every event comes through here.

        Raises:
            RefusedError: the whole frame was refused, or the topic is no name.
            UnavailableError: no answer in time; the event may have been published all the same.
            ConnectionLostError: the bus has ended.
        """
        size = len(event)
        self._check_size(size)
        if not self._room.take(size):
            return self._publish_later(topic, ttl_ms, event)
        batch = self._batch(topic, ttl_ms, 1, size)
        waiter: Waiter = self._loop.create_future()
        batch.events.append(event)
        batch.waiters.append(waiter)
        batch.size += size
        if len(batch.events) >= FULL_EVENTS and self._flush is not None:
            self._flush()
        return waiter

    async def _publish_later(self, topic: str, ttl_ms: int | None, event: bytes) -> EventErrors:
        """`publish` once there is room."""
        size = len(event)
        await self._room.wait(size, self._timeout)
        return await self._add(topic, ttl_ms, [event], size)

    async def publish_many(
        self, topic: str, ttl_ms: int | None, events: Sequence[bytes]
    ) -> EventErrors:
        """Publish encoded events in order; returns those that were refused for themselves.

        Raises: as `publish`. Part of the events may be durable then.
        """
        parts: list[tuple[int, Waiter]] = []
        self._check_size(max(map(len, events), default=0))
        try:
            for first, last, size in _parts(events, self._batch_events):
                if not self._room.take(size):
                    await self._room.wait(size, self._timeout)
                parts.append((first, self._add(topic, ttl_ms, events[first:last], size)))
            answers = await asyncio.gather(*(waiter for _, waiter in parts))
        except BaseException:
            for _, waiter in parts:
                waiter.cancel()  # nobody is left to hear of them
            raise
        return tuple(
            (first + index, code, message)
            for (first, _), errors in zip(parts, answers, strict=True)
            for index, code, message in errors
        )

    def frames(self, events: int | None = None) -> Iterator[F]:
        """What waits, as frames; one counts as under way from the moment it is taken.

        Args:
            events: as few frames as have so many; None: all.
        """
        taken = 0
        while self._queue and (events is None or taken < events):
            batch = self._queue.popleft()
            self._shut(batch)
            taken += len(batch.events)
            if batch.abandoned():
                self._done(batch)
                continue
            ref = self._next_ref()
            self._in_flight[ref] = batch
            yield self._frame(batch.topic, ref, batch.events, batch.ttl_ms)

    def published(self, ref: int, errors: Sequence[Mapping[str, Any]]) -> None:
        """Take a `published` answer; one that comes after the deadline is of no use any more."""
        batch = self._in_flight.get(ref)
        if batch is not None:
            batch.answered(errors)  # may raise: then it is still unanswered
            del self._in_flight[ref]
            self._done(batch)

    def refused(self, ref: int, error: ActorbusError) -> bool:
        """Take an `error` answer; False if no publish asked for it.

        A retryable one is sent again after a back-off, until its deadline; the app then gets the
        last one.
        """
        batch = self._in_flight.pop(ref, None)
        if batch is None:
            return False
        if isinstance(error, UnavailableError):
            self._delay(batch, error)
        else:
            batch.failed(error)
            self._done(batch)
        return True

    def connected(
        self, wake: Callable[[], None], flush: Callable[[], None], limits: Limits
    ) -> None:
        """A connection is there; `wake` is called when a frame waits, `flush` when one is full.

        Half of `publish_bytes` is used: the broker counts events after wrapping, which adds
        attributes to each.
        """
        self._room.budget = limits.publish_bytes // 2
        self._batch_events = limits.batch_events
        self._longest = limits.frame_bytes - FRAME_HEAD
        self._wake = wake
        self._flush = flush
        if self._queue:
            wake()

    def disconnected(self) -> None:
        """The connection ended: what was under way goes first on the next."""
        self._wake = self._flush = None
        self._queue.extendleft(reversed(self._in_flight.values()))
        self._in_flight.clear()

    async def idle(self) -> None:
        """Return when every publish has been answered or has failed."""
        while self._room.used:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def close(self, error: ActorbusError) -> None:
        """Fail all that is unanswered, and all that is yet to come."""
        self._error = error
        for handle in self._delayed.values():
            handle.cancel()
        for batch in self._batches():
            batch.failed(error)
        for table in (self._queue, self._in_flight, self._delayed, self._open):
            table.clear()
        self._room.close(error)
        if self._tick is not None:
            self._tick.cancel()
        self._tell_idle()

    def _check_size(self, size: int) -> None:
        if size > self._longest:
            raise InvalidEventError(
                f"an event of {size} bytes fits into no frame: send at most {self._longest}",
                ErrorCode.TOO_LARGE,
            )

    def _add(self, topic: str, ttl_ms: int | None, events: Sequence[bytes], size: int) -> Waiter:
        batch = self._batch(topic, ttl_ms, len(events), size)
        waiter: Waiter = self._loop.create_future()
        batch.events += events
        batch.waiters += [waiter] * len(events)
        batch.size += size
        return waiter

    def _batch(self, topic: str, ttl_ms: int | None, count: int, size: int) -> PublishBatch:
        """The batch to add events to: the topic's open one if they fit, else a new one."""
        batch = self._open.get(topic) if isinstance(topic, str) else None
        if (
            batch is None
            or batch.ttl_ms != ttl_ms
            or len(batch.events) + count > self._batch_events
            or len(batch.events) >= self._shared_events
            or (batch.size + size > BATCH_BYTES and batch.events)
        ):
            return self._begin(topic, ttl_ms, size)
        return batch

    def _begin(self, topic: str, ttl_ms: int | None, size: int) -> PublishBatch:
        try:
            if self._error is not None:
                raise copy_of(self._error)
            check_topic(topic)
        except ActorbusError:
            self._room.give_back(size)
            raise
        batch = PublishBatch(topic, ttl_ms, self._loop.time() + self._timeout)
        self._open[topic] = batch
        self._enqueue(batch)
        if self._tick is None:
            self._tick = self._loop.call_later(self._timeout / TICKS, self._on_tick)
        return batch

    def _enqueue(self, batch: PublishBatch) -> None:
        self._queue.append(batch)
        if self._wake is not None:
            self._wake()

    def _shut(self, batch: PublishBatch) -> None:
        if self._open.get(batch.topic) is batch:
            del self._open[batch.topic]

    def _delay(self, batch: PublishBatch, error: UnavailableError) -> None:
        batch.attempts += 1
        batch.refusal = error
        backoff = Backoff(RETRY_FIRST * 2 ** min(batch.attempts - 1, 10), RETRY_LONGEST)
        self._delayed[batch] = self._loop.call_later(
            min(backoff.next(), RETRY_LONGEST), self._retry, batch
        )

    def _retry(self, batch: PublishBatch) -> None:
        del self._delayed[batch]
        self._enqueue(batch)

    def _done(self, batch: PublishBatch) -> None:
        self._room.give_back(batch.size)
        if not self._room.used:
            self._tell_idle()

    def _tell_idle(self) -> None:
        if self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def _batches(self) -> list[PublishBatch]:
        return [*self._in_flight.values(), *self._delayed, *self._queue]

    def _on_tick(self) -> None:
        """Fail what is past its deadline; end open batches, so that one has about one deadline."""
        self._open.clear()
        now = self._loop.time()
        for batch in self._batches():
            if batch.deadline <= now:
                self._expire(batch)
        self._tick = None
        if self._room.used:
            self._tick = self._loop.call_later(self._timeout / TICKS, self._on_tick)

    def _expire(self, batch: PublishBatch) -> None:
        batch.failed(self._overdue(batch))
        self._in_flight = {ref: b for ref, b in self._in_flight.items() if b is not batch}
        handle = self._delayed.pop(batch, None)
        if handle is not None:
            handle.cancel()
        if batch in self._queue:
            self._queue.remove(batch)
        self._done(batch)

    def _overdue(self, batch: PublishBatch) -> UnavailableError:
        what = f"a publish to {batch.topic} within {self._timeout:g} s"
        advice = "it may have been published; publish it again with the same id"
        last = batch.refusal
        if last is None:
            return UnavailableError(NO_ANSWER, f"no answer to {what}: {advice}")
        return UnavailableError(
            last.code, f"{last.message} (refused {batch.attempts} times: {what}; {advice})"
        )


def _parts(events: Sequence[bytes], most: int) -> Iterator[tuple[int, int, int]]:
    """Cut events into frames: first and last index, and bytes, of each."""
    first = size = 0
    for index, event in enumerate(events):
        if index > first and (index - first == most or size + len(event) > BATCH_BYTES):
            yield first, index, size
            first, size = index, 0
        size += len(event)
    if events:
        yield first, len(events), size
