"""Events in memory, for tests and trials: all is lost when the broker exits."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
import structlog

from actorbus.errors import StoreUnavailableError, StoreUnusableError
from actorbus.store import (
    Appended,
    Attempt,
    Batch,
    Feed,
    FeedListener,
    Fetched,
    GroupInfo,
    GroupOptions,
    Start,
    Store,
    Stored,
    TopicInfo,
)
from transport.stores.log import (
    ABILITIES,
    FETCH_BATCHES,
    LogGroup,
    LogTopic,
    Range,
    page,
    retention_pause,
    wall_clock,
)
from transport.stores.urls import parse

T = TypeVar("T")
_COMPACT: Final = 64
"""Fewer batches than this are not worth the work of closing gaps in the index."""

log = structlog.get_logger("actorbus.store")


def open_store(url: str) -> Store:
    """The store for `memory:[?retain=DURATION]`.

    Raises:
        StoreUnusableError: the URL has a path or an unknown parameter.
    """
    settings = parse(url)
    if settings.path:
        raise StoreUnusableError("a memory url has no path: use memory: or sqlite:PATH")
    return MemoryStore(retain_ms=settings.retain_ms)


class MemoryStore:
    """A log store in dictionaries; on the event loop alone.

    Args:
        retain_ms: how long batches are kept at least, for `start: earliest`.
        clock: the wall clock, in milliseconds.
    """

    abilities = ABILITIES

    def __init__(self, *, retain_ms: int = 0, clock: Callable[[], int] = wall_clock) -> None:
        self._retain_ms = retain_ms
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._start = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reason: str | None = "the store is not open"

    async def open(self, failed: Callable[[StoreUnusableError], None]) -> None:  # noqa: ARG002 - the port's; memory can't fail
        """Make ready; say that nothing here outlives the process."""
        log.warning("store_in_memory", lost_on_exit="every event and group")
        self._reason = None
        if self._retain_ms:
            self._trim_later()

    async def close(self) -> None:
        """Forget everything."""
        self._reason = "the store is closed"
        if self._timer is not None:
            self._timer.cancel()
        self._topics.clear()

    def health(self) -> str | None:
        """None while it is open."""
        return self._reason

    def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> asyncio.Future[Appended]:
        """Keep a batch, unless no group wants it and nothing is retained."""
        return _done(self._append, topic, events, expires_at)

    def _append(self, name: str, events: tuple[bytes, ...], expires_at: int | None) -> Appended:
        self._check()
        topic = self._topics.get(name)
        if topic is None or not (topic.groups or self._retain_ms):
            if not self._retain_ms:
                return Appended(None, 0)
            topic = self._topic(name)
        batch = topic.append(events, expires_at, self._clock())
        return Appended(batch, len(topic.groups))

    async def join(
        self,
        topic: str,
        app_id: str,
        changes: Mapping[str, int | str | None],
        start: Start,
    ) -> GroupOptions:
        """Create a group or change its options."""
        self._check()
        log_topic = self._topic(topic)
        group = log_topic.groups.get(app_id)
        if group is None:
            group = LogGroup(app_id, GroupOptions(), log_topic.starting(start))
            log_topic.groups[app_id] = group
        group.options = group.options.changed(changes)
        return group.options

    async def find(self, topic: str, app_id: str) -> GroupOptions | None:
        """A group's options."""
        self._check()
        group = self._group(topic, app_id)
        return group.options if group is not None else None

    async def forget(self, topic: str, app_id: str) -> bool:
        """Remove a group; what only it had left to settle goes."""
        self._check()
        log_topic = self._topics.get(topic)
        if log_topic is not None and log_topic.groups.pop(app_id, None) is not None:
            self._trim(log_topic, [(0, log_topic.next)])
        return True

    async def feed(self, topic: str, app_id: str, listener: FeedListener) -> Feed:  # noqa: ARG002 - the port's; a log store never calls it
        """Open the feed of a group.

        Raises:
            StoreUnavailableError: there is no such group, or the store is closed.
        """
        self._check()
        group = self._group(topic, app_id)
        if group is None:
            raise StoreUnavailableError(f"no group of {app_id!r} on topic {topic!r}: join it first")
        return _MemoryFeed(self, self._topics[topic], group)

    async def topics(
        self, *, after: str | None, limit: int, only: str | None = None
    ) -> list[TopicInfo]:
        """Topics by name, with exact backlogs."""
        self._check()
        names = page(self._topics, after=after, limit=limit, only=only)
        return [self._topics[name].info() for name in names]

    def _check(self) -> None:
        if self._reason is not None:
            raise StoreUnavailableError(self._reason)

    def _topic(self, name: str) -> "_Topic":
        if name not in self._topics:
            self._topics[name] = _Topic(name, self._start)
        return self._topics[name]

    def _group(self, topic: str, app_id: str) -> LogGroup | None:
        log_topic = self._topics.get(topic)
        return log_topic.groups.get(app_id) if log_topic is not None else None

    def _settle(self, topic: "_Topic", group: LogGroup, runs: Sequence[tuple[int, int]]) -> None:
        self._check()
        group.settle(runs)
        if not self._retain_ms:
            self._trim(topic, [(first, first + count) for first, count in runs])

    def _trim(self, topic: "_Topic", ranges: Sequence[Range]) -> None:
        oldest_kept = self._clock() - self._retain_ms
        for start, end in ranges:
            for low, high in topic.removable(start, end):
                topic.remove(low, high, oldest_kept)
        if not topic.groups and not topic.kept and self._topics.get(topic.name) is topic:
            # A later topic of this name starts here: no position ever comes twice in a run.
            self._start = max(self._start, topic.next)
            del self._topics[topic.name]

    def _trim_later(self) -> None:
        for topic in tuple(self._topics.values()):
            self._trim(topic, [(0, topic.next)])
        pause = retention_pause(self._retain_ms)
        self._timer = asyncio.get_running_loop().call_later(pause, self._trim_later)


class _Kept(msgspec.Struct, frozen=True):
    batch: Batch
    created_at: int


class _Topic(LogTopic[LogGroup]):
    """A topic with its batches, and an index of their positions that may name removed ones."""

    __slots__ = ("_firsts", "kept")

    def __init__(self, name: str, start: int) -> None:
        super().__init__(name, start)
        self.kept: dict[int, _Kept] = {}
        self._firsts: list[int] = []

    def append(self, events: tuple[bytes, ...], expires_at: int | None, now: int) -> Batch:
        batch = Batch(self.next, events, sum(map(len, events)), expires_at)
        self.kept[batch.first] = _Kept(batch, now)
        self._firsts.append(batch.first)
        self.next += len(events)
        return batch

    def holding(self, position: int) -> _Kept | None:
        """The batch that `position` is in, if that is kept."""
        index = bisect_right(self._firsts, position) - 1
        return self.kept.get(self._firsts[index]) if index >= 0 else None

    def remove(self, start: int, end: int, oldest_kept: int) -> None:
        """Drop the batches wholly between `start` and `end`, created before `oldest_kept`."""
        low, high = bisect_left(self._firsts, start), bisect_left(self._firsts, end)
        for first in self._firsts[low:high]:
            kept = self.kept.get(first)
            if kept is None or kept.created_at > oldest_kept:
                continue
            count = len(kept.batch.events)
            if first + count <= end:
                del self.kept[first]
                self.gone.add(first, count)
        if len(self._firsts) > 2 * len(self.kept) + _COMPACT:
            self._firsts = list(self.kept)

    def info(self) -> TopicInfo:
        return TopicInfo(self.name, tuple(map(self._info, self.groups.values())))

    def _info(self, group: LogGroup) -> GroupInfo:
        oldest = self.holding(group.settled.floor)
        oldest_at = oldest.created_at if oldest is not None else None
        return GroupInfo(group.app_id, self.backlog(group), oldest_at)


class _MemoryFeed:
    """One group's side of the memory store."""

    def __init__(self, store: MemoryStore, topic: _Topic, group: LogGroup) -> None:
        self._store = store
        self._topic = topic
        self._group = group
        self.position = group.settled.floor

    def fetch(self, position: int, max_bytes: int) -> asyncio.Future[Fetched]:
        """Unsettled events from `position` on."""
        return _done(self._fetch, position, max_bytes)

    def _fetch(self, position: int, max_bytes: int) -> Fetched:
        self._store._check()  # noqa: SLF001 - the feed is a part of its store
        runs: list[Stored] = []
        at = self._group.settled.first_unsettled(position)
        size = batches = 0
        while not batches or (size < max_bytes and batches < FETCH_BATCHES):
            kept = self._topic.holding(at)
            if kept is None or at >= self._topic.next:
                break
            runs += self._group.stored(kept.batch, at)
            position = kept.batch.first + len(kept.batch.events)
            at = self._group.settled.first_unsettled(position)
            size += kept.batch.size
            batches += 1
        return Fetched(tuple(runs), position)

    def settle(
        self,
        runs: Sequence[tuple[int, int]],
        *,
        awaited: bool = True,  # noqa: ARG002 - the port's; it is done at once
    ) -> asyncio.Future[None]:
        """Done with these runs."""
        return _done(self._store._settle, self._topic, self._group, runs)  # noqa: SLF001 - as above

    def attempted(self, attempts: Sequence[Attempt]) -> asyncio.Future[None]:
        """Note the histories of these events."""
        return _done(self._attempted, attempts)

    def _attempted(self, attempts: Sequence[Attempt]) -> None:
        self._store._check()  # noqa: SLF001 - as above
        self._group.attempted(attempts)

    def move(self, attempt: Attempt) -> asyncio.Future[None]:
        """Never asked for by a log store.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"a log store moves no events: {attempt.position} was not evicted")

    def release(self, runs: Sequence[tuple[int, int]]) -> asyncio.Future[int]:  # noqa: ARG002 - a log has them still
        """Give back what is unsettled; returns the lowest such position."""
        return _done(self._release)

    def _release(self) -> int:
        self.position = self._group.settled.floor
        return self.position

    async def close(self) -> None:
        """Nothing is held here."""


def _done(work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
    """What `work` returns or raises, as the port's calls give it."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    try:
        future.set_result(work(*arguments))
    except StoreUnavailableError as error:
        future.set_exception(error)
        future.exception()  # seen: whoever does not await it is not told of it again
    return future
