"""One group's feed: its consumer, its ledger and its mover, put together."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import structlog
from aiormq.abc import DeliveredMessage

from actorbus.errors import InvalidEventError, StoreUnavailableError
from actorbus.store import Attempt, FeedListener, Fetched, Stored
from transport.stores.rabbitmq.calls import CALL_SECONDS, abandon, finished
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.consumer import PREFETCH, PREFETCH_MOST, Consumer
from transport.stores.rabbitmq.ledger import Held, Ledger, unwanted
from transport.stores.rabbitmq.memory import Memories
from transport.stores.rabbitmq.messages import MESSAGE_BYTES, MESSAGE_EVENTS, History, read
from transport.stores.rabbitmq.mover import Mover

_RECENT: Final = 256

log = structlog.get_logger("actorbus.store")


class Feed:
    """A group's events, as `actorbus.store.Feed` says.

    Attributes:
        position: where the first fetch starts.
    """

    def __init__(
        self,
        listener: FeedListener,
        mover: Mover,
        memories: Memories,
        ended: Callable[["Feed"], None],
        timing: Timing,
    ) -> None:
        self.position = 0
        self.consumer: Consumer  # set by the store, which knows the connections
        self._listener = listener
        self._mover = mover
        self._memories = memories
        self._ended = ended
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._ledger = Ledger()
        self._ready: deque[tuple[Held, int]] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._dead: str | None = None
        self._done: dict[int, str | None] = {}  # tags to acknowledge, with their message ids
        self._recent: deque[str | None] = deque(maxlen=_RECENT)
        self._acking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = self._loop.call_later(timing.watch_seconds, self._watch)

    # --- the port -----------------------------------------------------------------------------

    async def fetch(self, position: int, max_bytes: int) -> Fetched:  # noqa: ARG002 - a queue has no positions to read from
        """Wait until something is there and return all of it, up to `max_bytes`.

        A release meanwhile ends the wait with no runs.
        """
        self._check()
        await self._consume()
        if not self._ready:
            self._arrival = self._loop.create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return self._take(max_bytes)

    def settle(
        self,
        runs: Sequence[tuple[int, int]],
        *,
        awaited: bool = True,  # noqa: ARG002 - the port's; it is done at once
    ) -> "asyncio.Future[None]":
        """Strike the events off; messages that are complete are acknowledged.

        RabbitMQ does not confirm acknowledgements: the future ends once they are written, at once
        if no message is complete.
        """
        if self._dead is not None:
            return self._failure()
        return self._changed(self._ledger.settle(runs))

    def attempted(self, attempts: Sequence[Attempt]) -> "asyncio.Future[None]":
        """Note the attempts; they become durable when the events move."""
        if self._dead is not None:
            return self._failure()
        return self._changed(self._ledger.attempted(attempts))

    async def move(self, attempt: Attempt) -> None:
        """Publish the event to the group again and settle the original."""
        self._check()
        found = self._ledger.find(attempt.position)
        if found is None or not found[0].left >> found[1] & 1:
            return
        held, index = found
        held.histories[index] = History(attempt.attempts, attempt.lost, attempt.not_before)
        await self._move(held, index)

    async def release(self, runs: Sequence[tuple[int, int]] | None = None) -> int:
        """Give back what has been fetched and is not settled.

        Args:
            runs: only these events, beside those that have not been fetched; None: all.
        """
        self._check()
        await self.consumer.cancel()
        self._wake()
        chosen = self._chosen(runs)
        self._ready.clear()
        await self._move_parts(chosen)
        if runs is None or all(chosen.get(held) == held.left for held in self._ledger):
            await self._return_all()
        else:
            await self._return_whole(chosen)
        return self._ledger.position

    async def close(self) -> None:
        """Release, acknowledge what was settled, and close the channel."""
        if self._dead is not None:
            return
        try:
            await self.release()
        except StoreUnavailableError as error:
            log.warning("feed_not_released", reason=error.message)
            self._remember()
            await self._abandon_channel()
        finally:
            self._end("the feed is closed")

    # --- coming in ----------------------------------------------------------------------------

    def on_message(self, message: DeliveredMessage) -> None:
        """Take in one message (the consumer's callback)."""
        tag = message.delivery_tag
        assert tag is not None
        properties = message.header.properties
        try:
            arrived = read(message.body, properties)
        except InvalidEventError as error:
            log.error("message_refused", reason=error.message)  # noqa: TRY400 - a stranger's fault
            self._spawn(self.consumer.reject(tag))
            return
        memory = self._memories.take(properties.message_id)
        now = self._loop.time()
        held = self._ledger.add(tag, properties.message_id, arrived, now, memory)
        if held.histories:
            self._put_off(held)
        self._offer(held, held.left & ~held.moving)
        if not held.left:
            self._changed([held])

    def on_lost(self, reason: str) -> None:
        """The channel is gone, and with it all that is in hand (the consumer's callback)."""
        if self._dead is not None:
            return
        self._remember()
        self._end(reason)
        self._spawn(self._abandon_channel())  # if it is still open, its messages go back
        self._listener.reset()

    def _put_off(self, held: Held) -> None:
        """Send events that are far from due round through the delay queue."""
        for index, history in held.histories.items():
            if held.left >> index & 1 and self._mover.early(history):
                held.moving |= 1 << index
                self._spawn(self._postpone(held, index))

    async def _postpone(self, held: Held, index: int) -> None:
        try:
            await self._move(held, index)
        except StoreUnavailableError as error:
            log.warning("event_not_delayed", reason=error.message)
            held.failed |= 1 << index  # the group keeps it, and lets go when the message has aged
            self._offer(held, 1 << index)

    def _offer(self, held: Held, bits: int) -> None:
        if bits and self._dead is None:
            self._ready.append((held, bits))
            self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _take(self, max_bytes: int) -> Fetched:
        self._check()
        runs: list[Stored] = []
        size = 0
        while self._ready and (not runs or size + self._ready[0][0].size <= max_bytes):
            held, bits = self._ready.popleft()
            bits &= held.left & ~held.moving
            runs += held.stored(bits)
            size += held.size
        return Fetched(tuple(runs), self._next())

    def _next(self) -> int:
        return self._ready[0][0].first if self._ready else self._ledger.position

    async def _consume(self) -> None:
        try:
            if not self.consumer.prefetch:
                await self.consumer.start()
            elif self._starving():
                await self.consumer.widen()
        except StoreUnavailableError as error:
            self.on_lost(error.message)
            raise

    def _starving(self) -> bool:
        """Whether the group wants more than the prefetch lets through, and may have it.

        It may while four times as much, if messages stay as they are, is no more than `PREFETCH`
        times four full ones.
        """
        ledger = self._ledger
        return (
            not self._ready
            and len(ledger) >= self.consumer.prefetch
            and self.consumer.prefetch < PREFETCH_MOST
            and ledger.events <= PREFETCH * MESSAGE_EVENTS
            and ledger.size <= PREFETCH * MESSAGE_BYTES
        )

    # --- settling -----------------------------------------------------------------------------

    def _changed(self, changed: Iterable[Held]) -> "asyncio.Future[None]":
        wishes: list[int] = []
        now = self._loop.time()
        before = len(self._done)
        for held in changed:
            if held.left:
                wishes += unwanted(held, aged=now - held.since >= self._timing.aged_seconds)
            else:
                self._ledger.remove(held)
                self._done[held.tag] = held.message_id
        if wishes:
            self._listener.evict(wishes)
        if len(self._done) > before:
            return self._acknowledge()
        nothing: asyncio.Future[None] = self._loop.create_future()
        nothing.set_result(None)
        return nothing

    def _acknowledge(self) -> "asyncio.Future[None]":
        if self._acking is None:
            self._acking = asyncio.create_task(self._ack(), name="rabbitmq acks")
            self._acking.add_done_callback(_retrieve)
        shielded = asyncio.shield(self._acking)
        shielded.add_done_callback(_retrieve)
        return shielded

    async def _ack(self) -> None:
        """Write acknowledgements, one round after the other, until there are none left."""
        try:
            while self._done:
                tags = set(self._done)
                upto = self._ledger.cumulative(tags)
                singles = {tag for tag in tags if upto is None or tag > upto}
                await self.consumer.ack(upto, singles)
                self._recent.extend(self._done.pop(tag) for tag in tags)
        finally:
            self._acking = None

    async def _move(self, held: Held, index: int) -> None:
        held.moving |= 1 << index
        event = held.arrived.events[index]
        try:
            await self._mover.move(event, held.arrived.expires_at, held.history(index))
        except BaseException:
            held.moving &= ~(1 << index)
            raise
        held.moving &= ~(1 << index)
        held.left &= ~(1 << index)
        if self._dead is None:
            self._changed([held])
        else:
            self._memories.put(held.message_id, held.left, held.histories)

    # --- giving back --------------------------------------------------------------------------

    def _chosen(self, runs: Sequence[tuple[int, int]] | None) -> dict[Held, int]:
        if runs is None:
            return {held: held.left & ~held.moving for held in self._ledger}
        chosen: dict[Held, int] = {}
        for held, bits in self._ready:
            chosen[held] = chosen.get(held, 0) | bits & held.left & ~held.moving
        for position, count in runs:
            for held, bits in self._ledger.slices(position, count):
                chosen[held] = chosen.get(held, 0) | bits & held.left & ~held.moving
        return chosen

    async def _move_parts(self, chosen: dict[Held, int]) -> None:
        """Publish again what can't go back with its message; what that fails for stays here."""
        moves = [
            (held, index)
            for held, bits in chosen.items()
            if not held.whole(bits)
            for index in range(bits.bit_length())
            if bits >> index & 1
        ]
        tasks = [asyncio.ensure_future(self._move(*move)) for move in moves]
        if tasks:
            await finished(tasks, CALL_SECONDS)
        for (held, index), task in zip(moves, tasks, strict=True):
            if task.cancelled() or task.exception() is not None:
                chosen[held] &= ~(1 << index)
                self._offer(held, 1 << index)

    async def _return_all(self) -> None:
        """Close the channel: untouched messages go back to the front of the queue, in order."""
        if self._tasks:
            await finished(self._tasks, CALL_SECONDS)  # events on their way to the delay queue
        if self._done:
            await self._acknowledge()
        self._remember()
        self._drop_all()
        await self.consumer.close()

    async def _return_whole(self, chosen: dict[Held, int]) -> None:
        """Give back single messages, since others of the channel are still leased."""
        whole = [held for held, bits in chosen.items() if held.whole(bits)]
        for held in whole:
            self._ledger.remove(held)
        await self.consumer.requeue(held.tag for held in whole)

    async def _abandon_channel(self) -> None:
        try:
            await self.consumer.close()
        except StoreUnavailableError as error:
            log.warning("channel_not_closed", reason=error.message)

    def _remember(self) -> None:
        """Note what RabbitMQ does not know of the messages in hand."""
        for held in self._ledger:
            if not held.untouched:
                self._memories.put(held.message_id, held.left, held.histories)
        for message_id in (*self._recent, *self._done.values()):
            self._memories.put(message_id, 0, {})
        self._recent.clear()

    def _drop_all(self) -> None:
        for held in self._ledger:
            self._ledger.remove(held)
        self._ready.clear()
        self._done.clear()

    # --- the rest -----------------------------------------------------------------------------

    def _watch(self) -> None:
        """Ask for the failed events of aged messages, time and again."""
        now = self._loop.time()
        wishes = [
            position
            for held in self._ledger
            if now - held.since >= self._timing.aged_seconds
            for position in unwanted(held, aged=True)
        ]
        if wishes:
            self._listener.evict(wishes)
        self._timer = self._loop.call_later(self._timing.watch_seconds, self._watch)

    def _end(self, reason: str) -> None:
        self._dead = reason
        self._timer.cancel()
        self._wake()
        abandon(self._tasks)
        self._drop_all()
        self._ended(self)

    def _check(self) -> None:
        if self._dead is not None:
            raise StoreUnavailableError(self._dead)

    def _failure(self) -> "asyncio.Future[None]":
        failed: asyncio.Future[None] = self._loop.create_future()
        failed.set_exception(StoreUnavailableError(self._dead or "the feed is closed"))
        failed.add_done_callback(_retrieve)
        return failed

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="rabbitmq feed")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_retrieve)


def _retrieve(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()  # or asyncio logs it when nobody awaits the future
