"""A store that takes its time and now and then is away."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from actorbus.errors import StoreUnavailableError
from actorbus.store import Appended, Attempt, Feed, FeedListener, Fetched
from tests.simulation.virtual_time import VirtualClock, VirtualLoop
from transport.stores.memory import MemoryStore

T = TypeVar("T")
FAILS = 0.05


class MoodyStore(MemoryStore):
    """A memory store with moods: each call ends some time later, and one in twenty fails.

    Attributes:
        moody: until the script wants calm.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__(clock=lambda: VirtualClock(loop).now().wall)
        self._random = loop.random
        self.moody = True

    async def mood(self) -> None:
        """Pass some time, and perhaps fail."""
        if not self.moody:
            return
        await asyncio.sleep(self._random.choice((0, 0, 0.001, 0.05)))
        if self._random.random() < FAILS:
            raise StoreUnavailableError("away")

    def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> asyncio.Future[Appended]:
        """A failed append may have been done all the same."""

        async def work() -> Appended:
            await self.mood()
            appended = await MemoryStore.append(self, topic, events, expires_at)
            await self.mood()
            return appended

        return asyncio.ensure_future(work())

    async def feed(self, topic: str, app_id: str, listener: FeedListener) -> Feed:
        await self.mood()
        return MoodyFeed(self, await super().feed(topic, app_id, listener))


class MoodyFeed:
    """What is settled or noted holds at once; its confirmation comes later, or fails."""

    def __init__(self, store: MoodyStore, feed: Feed) -> None:
        self._store = store
        self._feed = feed
        self.position = feed.position

    async def fetch(self, position: int, max_bytes: int) -> Fetched:
        await self._store.mood()
        return await self._feed.fetch(position, max_bytes)

    def settle(self, runs: Sequence[tuple[int, int]], *, awaited: bool = True) -> Awaitable[None]:
        return self._confirm(self._feed.settle(runs, awaited=awaited))

    def attempted(self, attempts: Sequence[Attempt]) -> Awaitable[None]:
        return self._confirm(self._feed.attempted(attempts))

    def move(self, attempt: Attempt) -> Awaitable[None]:
        return self._feed.move(attempt)

    async def release(self, runs: Sequence[tuple[int, int]]) -> int:
        await self._store.mood()
        return await self._feed.release(runs)

    async def close(self) -> None:
        await self._store.mood()
        await self._feed.close()

    async def _confirm(self, done: Awaitable[T]) -> T:
        await self._store.mood()
        return await done
