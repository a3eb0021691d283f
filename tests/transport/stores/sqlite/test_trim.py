import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from actorbus.store import Attempt, Feed
from tests.conformance.kit import Reader, event, events, never_fails, soon
from tests.transport.stores.sqlite.kit import query, sqlite, storage_of, until
from transport.stores import log
from transport.stores.memory import MemoryStore
from transport.stores.sqlite import trim as sqlite_trim
from transport.stores.sqlite.store import SqliteStore
from transport.stores.sqlite.thread import WriterThread

TURN: Final = threading.Lock()
COUNT = "SELECT count(*) FROM batches"


@pytest.fixture(autouse=True)
def by_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store's thread wait while `rows` looks: apsw refuses who comes second."""
    attempt = WriterThread.attempt

    def alone(thread: WriterThread, work: Callable[[], Any]) -> Any:
        with TURN:
            return attempt(thread, work)

    monkeypatch.setattr(WriterThread, "attempt", alone)


@pytest.fixture
def trimmed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever may be removed is removed with the commit that settles it."""
    monkeypatch.setattr(sqlite_trim, "TRIM_SECONDS", 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


async def filled(store: SqliteStore | MemoryStore, *groups: str, batches: int = 4) -> list[Feed]:
    """Feeds of these groups on a topic with so many batches of two events."""
    for app_id in groups:
        await store.join("t", app_id, {}, "new")
    for number in range(batches):
        await store.append("t", events(2 * number, 2 * number + 1), None)
    return [await soon(store.feed("t", app_id, Reader())) for app_id in groups]


def rows(store: SqliteStore, statement: str = "SELECT first FROM batches") -> list[int]:
    """What the store's own connection sees, between two pieces of work of its thread."""
    assert store._log is not None
    with TURN:
        storage_of(store).apply()
        return [row[0] for row in store._log._connection.execute(statement)]


def test_what_is_settled_goes_soon_though_nobody_calls(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            (a,) = await filled(store, "a")
            await a.settle([(0, 4)])
            assert rows(store) == [0, 2, 4, 6]
            await until(lambda: rows(store) == [4, 6])

    asyncio.run(main())


def test_what_is_settled_is_gone_from_a_closed_file(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            (a,) = await filled(store, "a")
            await a.settle([(0, 4)])

    asyncio.run(main())
    assert query(path, COUNT) == [(2,)]


@pytest.mark.usefixtures("trimmed_at_once")
def test_a_batch_goes_once_every_group_has_settled_all_of_it(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            a, b = await filled(store, "a", "b")
            await a.settle([(2, 2)])
            assert rows(store) == [0, 2, 4, 6]
            await b.settle([(2, 1)])
            assert rows(store) == [0, 2, 4, 6]
            await b.settle([(3, 1)])
            assert rows(store) == [0, 4, 6]

    asyncio.run(main())


@pytest.mark.usefixtures("trimmed_at_once")
def test_a_run_over_parts_of_batches_takes_only_the_whole_ones(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            (a,) = await filled(store, "a")
            await a.settle([(1, 6)])
            assert rows(store) == [0, 6]
            await a.settle([(0, 1), (7, 1)])
            assert rows(store) == []

    asyncio.run(main())


def test_what_only_a_forgotten_group_wanted_goes(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            a, _ = await filled(store, "a", "b")
            await a.settle([(0, 6)])
            await store.forget("t", "b")
            await until(lambda: rows(store) == [6])

    asyncio.run(main())


def test_the_topic_goes_with_its_last_group(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await filled(store, "a")
            await store.forget("t", "a")
            assert await store.topics(after=None, limit=9) == []
            await until(lambda: rows(store, "SELECT id FROM topics") == [])
            assert rows(store) == []

    asyncio.run(main())


def test_a_large_forgotten_backlog_goes_bit_by_bit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_trim, "GRAVE_BATCHES", 3)

    async def main() -> None:
        async with sqlite(path) as store:
            await filled(store, "a", batches=20)
            await store.forget("t", "a")
            await until(lambda: rows(store, "SELECT id FROM topics") == [])

    asyncio.run(main())


def test_a_burial_goes_on_after_a_restart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave() -> None:
        with monkeypatch.context() as idle:
            idle.setattr(sqlite_trim.Trimmer, "_dig", lambda self, changes: None)
            idle.setattr(sqlite_trim.Trimmer, "wait", lambda self: None)
            async with sqlite(path) as store:
                await filled(store, "a", batches=20)
                await store.forget("t", "a")

    async def go_on() -> None:
        async with sqlite(path) as store:
            await until(lambda: rows(store, "SELECT id FROM topics") == [])

    asyncio.run(leave())
    assert query(path, COUNT) == [(20,)]
    asyncio.run(go_on())
    assert query(path, COUNT) == [(0,)]


def test_a_large_removable_range_goes_bit_by_bit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_trim, "TRIM_EVENTS", 5)

    async def main() -> None:
        async with sqlite(path) as store:
            a, _ = await filled(store, "a", "b", batches=20)
            await a.settle([(0, 37)])
            await store.forget("t", "b")
            await until(lambda: rows(store) == [36, 38])

    asyncio.run(main())


def test_more_topics_than_one_commit_trims_are_all_trimmed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_trim, "TRIM_TOPICS", 2)

    async def main() -> None:
        async with sqlite(path) as store:
            names = [f"t{number}" for number in range(7)]
            await asyncio.gather(*(store.join(name, "a", {}, "new") for name in names))
            await asyncio.gather(*(store.append(name, events(1), None) for name in names))
            feeds = [await store.feed(name, "a", Reader()) for name in names]
            await asyncio.gather(*(feed.settle([(0, 1)]) for feed in feeds))
            await until(lambda: rows(store) == [])

    asyncio.run(main())


def test_what_was_removable_at_a_crash_goes_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave() -> None:
        with monkeypatch.context() as idle:
            idle.setattr(sqlite_trim.Trimmer, "plan", lambda self, changes, topics: [])
            idle.setattr(sqlite_trim.Trimmer, "wait", lambda self: None)
            async with sqlite(path) as store:
                (a,) = await filled(store, "a")
                await a.settle([(0, 2), (4, 2)])

    async def go_on() -> None:
        async with sqlite(path) as store:
            await until(lambda: rows(store) == [2, 6])

    asyncio.run(leave())
    assert query(path, COUNT) == [(4,)]
    asyncio.run(go_on())


def test_a_new_topic_of_an_old_name_repeats_no_position(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await filled(store, "a")
            await store.forget("t", "a")
            await store.join("t", "a", {}, "new")
            appended = await store.append("t", events(1), None)
            assert appended.batch is not None
            assert appended.batch.first == 8

    asyncio.run(main())


def test_what_is_gone_is_still_known_after_a_restart(path: Path) -> None:
    async def leave() -> None:
        async with sqlite(path) as store:
            a, _ = await filled(store, "a", "b")
            await a.settle([(2, 4)])
            await store.forget("t", "b")
            await until(lambda: rows(store) == [0, 6])

    async def go_on() -> None:
        async with sqlite(path) as store:
            assert await earliest(store, "late") == [*events(0, 1, 6, 7)]

    asyncio.run(leave())
    asyncio.run(go_on())


def test_attempts_go_with_their_events(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            (a,) = await filled(store, "a")
            await a.attempted([Attempt(position, 1, 0, 0) for position in range(4)])
            assert rows(store, "SELECT position FROM attempts") == [0, 1, 2, 3]
            await a.settle([(1, 2)])
            assert rows(store, "SELECT position FROM attempts") == [0, 3]

    asyncio.run(main())


def test_attempts_of_events_settled_by_a_closed_feed_go_with_the_next(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            (a,) = await filled(store, "a")
            await a.attempted([Attempt(0, 1, 0, 0), Attempt(1, 1, 0, 0)])
            await a.close()
            await a.settle([(0, 1)])
            again = await store.feed("t", "a", Reader())
            await again.settle([(5, 1)])
            assert rows(store, "SELECT position FROM attempts") == [1]

    asyncio.run(main())


def test_attempts_leave_with_their_group(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            (a,) = await filled(store, "a")
            await a.attempted([Attempt(0, 1, 0, 0)])
            await a.close()
            await store.forget("t", "a")
            assert rows(store, "SELECT position FROM attempts") == []

    asyncio.run(main())


STORES = ("memory", "sqlite")


async def retaining(kind: str, path: Path, clock: Clock) -> SqliteStore | MemoryStore:
    settings: dict[str, Any] = {"retain_ms": 1_000, "clock": clock}
    store = MemoryStore(**settings) if kind == "memory" else SqliteStore(path, **settings)
    await store.open(never_fails)
    return store


async def earliest(store: SqliteStore | MemoryStore, app_id: str) -> list[bytes]:
    """What a new group from the earliest would read; it is gone again afterwards."""
    await store.join("t", app_id, {}, "earliest")
    reader = await Reader.of(store, "t", app_id)
    (info,) = await store.topics(after=None, limit=1, only="t")
    (backlog,) = (group.backlog for group in info.groups if group.app_id == app_id)
    assert backlog is not None
    seen = await reader.take(backlog)
    await reader.close()
    await store.forget("t", app_id)
    return [one.event for one in seen]


@pytest.mark.parametrize("kind", STORES)
def test_retained_batches_are_there_for_a_group_from_the_earliest(kind: str, path: Path) -> None:
    async def main() -> None:
        store = await retaining(kind, path, Clock())
        appended = await store.append("t", events(1), None)
        assert appended.groups == 0
        assert appended.batch is not None
        await store.append("t", events(2, 3), None)
        assert await earliest(store, "late") == [*events(1, 2, 3)]
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", STORES)
def test_settled_batches_are_retained_for_their_time_and_not_longer(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("memory", "sqlite.trim"):
        monkeypatch.setattr(f"transport.stores.{module}.retention_pause", lambda _: 0.01)

    async def main() -> None:
        clock = Clock()
        store = await retaining(kind, path, clock)
        (a,) = await filled(store, "a", batches=2)
        await a.settle([(0, 4)])
        clock.now += 600
        await store.append("t", events(9), None)
        assert await earliest(store, "late") == [*events(0, 1, 2, 3, 9)]
        clock.now += 600
        async with asyncio.timeout(10):
            while await earliest(store, "late") != [event(9)]:  # noqa: ASYNC110 - a timer does it
                await asyncio.sleep(0.01)
        clock.now += 600
        await a.fetch(0, 1)
        assert await earliest(store, "late") == [event(9)]  # "a" has yet to settle it
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", STORES)
def test_a_retained_topic_without_groups_ends_with_its_last_batch(
    kind: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("memory", "sqlite.trim"):
        monkeypatch.setattr(f"transport.stores.{module}.retention_pause", lambda _: 0.01)

    async def main() -> None:
        clock = Clock()
        store = await retaining(kind, path, clock)
        await store.append("t", events(1), None)
        (info,) = await store.topics(after=None, limit=9)
        assert (info.topic, info.groups) == ("t", ())
        clock.now += 2_000
        async with asyncio.timeout(10):
            while await store.topics(after=None, limit=9):  # noqa: ASYNC110 - a timer does it
                await asyncio.sleep(0.01)
        await store.close()

    asyncio.run(main())


def test_retained_batches_go_when_retention_is_turned_off(path: Path) -> None:
    async def retain() -> None:
        store = await retaining("sqlite", path, Clock())
        await store.append("t", events(1), None)
        await store.close()

    async def plain() -> None:
        async with sqlite(path) as store:
            await until(lambda: rows(store, "SELECT id FROM topics") == [])

    asyncio.run(retain())
    assert query(path, COUNT) == [(1,)]
    asyncio.run(plain())
    assert query(path, COUNT) == [(0,)]


@pytest.mark.parametrize(("retain_ms", "seconds"), [(100, 0.1), (60_000, 6.0), (10**9, 60.0)])
def test_retention_is_looked_after_ten_times_in_its_time(retain_ms: int, seconds: float) -> None:
    assert log.retention_pause(retain_ms) == seconds
