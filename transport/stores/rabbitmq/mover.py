"""Publishing events of a group again, to the group's own queue or to its delay queue.

What is to move while a publish is under way goes together with the next one. What only goes round
the delay queue waits a little for company, so that events with long delays get ever fewer messages.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import msgspec

from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.messages import MESSAGE_BYTES, Format, History, properties
from transport.stores.rabbitmq.publisher import Outgoing, Publisher
from transport.stores.rabbitmq.topology import Topology

_MESSAGES: Final = 8
"""Messages published in one go."""

_COMPANY: Final = 8
"""Events that are enough company: more of them could fill the prefetch while they wait."""

_WINDOW: Final = 0.01
"""How long events wait for company, as a part of the time they spend in the delay queue."""


class Move(msgspec.Struct, frozen=True, eq=False):
    """One event on its way."""

    event: bytes
    expires_at: int | None
    history: History
    done: "asyncio.Future[None]"


class Mover:
    """Moves the events of one group.

    Args:
        queue: the group's queue.
        clock: the wall clock, in milliseconds.
    """

    def __init__(
        self,
        queue: str,
        form: Format,
        publisher: Publisher,
        topology: Topology,
        clock: Callable[[], int],
    ) -> None:
        self._queue = queue
        self._form = form
        self._publisher = publisher
        self._topology = topology
        self._clock = clock
        self._waiting: list[Move] = []
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def move(self, event: bytes, expires_at: int | None, history: History) -> None:
        """Publish one event with its history; returns once that is confirmed.

        Raises:
            StoreUnavailableError: it was not confirmed; it may come twice.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Move(event, expires_at, history, done))
        if not self.early(history) or len(self._waiting) >= _COMPANY:
            self._hurry.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="rabbitmq mover")
        await done

    def early(self, history: History) -> bool:
        """Whether an event is to wait in the delay queue."""
        return history.not_before > self._clock() + self._topology.delay_ms

    async def _run(self) -> None:
        messages: list[list[Move]] = []
        try:
            while self._waiting:
                await self._gather()
                messages = self._take()
                _end(messages, await self._publish(messages))
        finally:
            self._task = None
            _end([*messages, self._waiting], "an event was not moved: interrupted")

    async def _gather(self) -> None:
        with suppress(TimeoutError):  # nothing hurries
            async with asyncio.timeout(self._topology.delay_ms / 1000 * _WINDOW):
                await self._hurry.wait()
        self._hurry.clear()

    def _take(self) -> list[list[Move]]:
        """Some of what waits, as messages: alike in destination and ttl."""
        alike: dict[tuple[bool, int | None], list[Move]] = {}
        for move in self._waiting:
            alike.setdefault((self.early(move.history), move.expires_at), []).append(move)
        messages = [message for moves in alike.values() for message in self._split(moves)]
        taken = messages[:_MESSAGES]
        gone = {id(move) for message in taken for move in message}
        self._waiting = [move for move in self._waiting if id(move) not in gone]
        if self._waiting:
            self._hurry.set()
        return taken

    def _split(self, moves: list[Move]) -> Iterator[list[Move]]:
        message: list[Move] = []
        size = 0
        for move in moves:
            full = len(message) == self._form.events or size + len(move.event) > MESSAGE_BYTES
            if message and full:
                yield message
                message, size = [], 0
            message.append(move)
            size += len(move.event)
        yield message

    async def _publish(self, messages: list[list[Move]]) -> str | None:
        """Publish and return why it failed, or None."""
        try:
            outgoing = [await self._outgoing(message) for message in messages]
            routed = await self._publisher.publish(outgoing)
        except StoreUnavailableError as error:
            return error.message
        if routed == len(outgoing):
            return None
        self._topology.forget()
        return f"queue {self._queue!r} or its delay queue is gone"

    async def _outgoing(self, message: list[Move]) -> Outgoing:
        expires_at = message[0].expires_at
        early = self.early(message[0].history)
        queue = await self._topology.delay(self._queue) if early else self._queue
        body = self._form.body([move.event for move in message], expires_at)
        props = properties(self._form, expires_at, [move.history for move in message])
        return Outgoing("", queue, body, props)


def _end(messages: list[list[Move]], failure: str | None) -> None:
    for message in messages:
        for move in message:
            if move.done.done():  # before, or its waiter was cancelled
                continue
            if failure is None:
                move.done.set_result(None)
            else:
                move.done.set_exception(StoreUnavailableError(failure))
