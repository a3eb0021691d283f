"""What the conformance tests share: opening stores, and reading feeds as a group does."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Self, TypeVar

import msgspec

from actorbus.errors import StoreUnusableError
from actorbus.store import Attempt, Feed, GroupOptions, Store, Stored
from transport.stores import open_store

SECONDS = 10.0
"""Deadline of every wait."""

T = TypeVar("T")
_numbers = itertools.count()


def event(number: int, size: int = 0) -> bytes:
    """Bytes of a CloudEvent that differ with its number."""
    attributes = {
        "id": f"e{number}",
        "source": "conformance",
        "type": "test",
        "specversion": "1.0",
        "data": b"x" * size,
    }
    return msgspec.msgpack.encode(attributes)


def events(*numbers: int) -> tuple[bytes, ...]:
    return tuple(event(number) for number in numbers)


def fresh_topic() -> str:
    """A name that no other test uses: some stores outlive a test."""
    return f"topic-{next(_numbers)}"


async def soon(work: Awaitable[T]) -> T:
    async with asyncio.timeout(SECONDS):
        return await work


def never_fails(error: StoreUnusableError) -> None:
    raise AssertionError(error)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    await soon(store.open(never_fails))
    try:
        yield store
    finally:
        await soon(store.close())


class Seen(msgspec.Struct, frozen=True):
    """One event as a group gets it."""

    event: bytes
    position: int
    attempts: int = 0
    lost: int = 0
    not_before: int = 0
    expires_at: int | None = None


class Reader:
    """Reads one feed as a group does, and moves what the store asks to move."""

    def __init__(self) -> None:
        self._feed: Feed
        self._at = 0
        self._ready: list[Seen] = []
        self._histories: dict[int, Attempt] = {}
        self._moves: set[asyncio.Task[None]] = set()

    @classmethod
    async def of(cls, store: Store, topic: str, app_id: str) -> Self:
        reader = cls()
        reader._feed = await soon(store.feed(topic, app_id, reader))
        reader._at = reader._feed.position
        return reader

    def evict(self, positions: Sequence[int]) -> None:
        for position in positions:
            attempt = self._histories.pop(position, Attempt(position, 0, 0, 0))
            task = asyncio.ensure_future(soon(self._feed.move(attempt)))
            self._moves.add(task)
            task.add_done_callback(self._moves.discard)

    def reset(self) -> None:
        raise AssertionError("the store took everything back")

    async def take(self, count: int, *, max_bytes: int = 1 << 20) -> list[Seen]:
        """The next `count` events; the test fails if there are fewer."""
        async with asyncio.timeout(SECONDS):
            while len(self._ready) < count:
                found = await self._feed.fetch(self._at, max_bytes)
                assert found.runs, f"only {self._ready} of {count} events"
                self._at = found.next
                self._ready += [seen for run in found.runs for seen in _seen(run)]
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    async def rest(self, store: Store, topic: str) -> list[bytes]:
        """Everything that is there, without waiting for what is not: up to a marker."""
        marker = event(1_000_000 + next(_numbers))
        await soon(store.append(topic, (marker,), None))
        got: list[bytes] = []
        while not got or got[-1] != marker:
            got += [seen.event for seen in await self.take(1)]
        return got[:-1]

    async def settle(self, *seen: Seen) -> None:
        await soon(self._feed.settle([(one.position, 1) for one in seen]))

    async def attempted(self, *attempts: Attempt) -> None:
        self._histories.update((attempt.position, attempt) for attempt in attempts)
        await soon(self._feed.attempted(attempts))

    async def release(self, *seen: Seen) -> None:
        """Let go of these; the reader must hold nothing else."""
        assert not self._ready
        self._at = await soon(self._feed.release([(one.position, 1) for one in seen]))

    async def close(self) -> None:
        while self._moves:
            await asyncio.gather(*self._moves)
        await soon(self._feed.close())


def _seen(run: Stored) -> list[Seen]:
    indexes = range(run.index, run.index + run.count)
    batch = run.batch
    history = (run.attempts, run.lost, run.not_before, batch.expires_at)
    return [Seen(batch.events[index], batch.first + index, *history) for index in indexes]


async def read_all(store: Store, topic: str, app_id: str, count: int) -> list[bytes]:
    """What a fresh feed reads, unsettled."""
    reader = await Reader.of(store, topic, app_id)
    seen = await reader.take(count)
    await reader.close()
    return [one.event for one in seen]


async def backlogs(store: Store, topic: str) -> dict[str, int | None]:
    (info,) = await soon(store.topics(after=None, limit=10, only=topic))
    return {group.app_id: group.backlog for group in info.groups}


DEFAULTS = GroupOptions()
