import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from tests.conformance.kit import Reader, event, events, soon
from tests.transport.stores.sqlite.kit import Disk, applied, sqlite, storage_of, until
from transport.stores.sqlite import journal as sqlite_journal
from transport.stores.sqlite import storage as sqlite_storage
from transport.stores.sqlite import thread as sqlite_thread
from transport.stores.sqlite import writer as sqlite_writer
from transport.stores.sqlite.changes import Changes, Removed
from transport.stores.sqlite.journal import Place
from transport.stores.sqlite.statements import CHANGES_VIEW, LARGE_BYTES, Statement, statements
from transport.stores.sqlite.store import SqliteStore
from transport.stores.sqlite.unapplied import Unapplied


def counted_commits(store: SqliteStore) -> Callable[[], int]:
    """How many records there are in the journal from now on."""
    journal = storage_of(store)._journal
    before = journal.head.number
    return lambda: journal.head.number - before


def test_what_comes_during_a_commit_shares_the_next(path: Path, disk: Disk) -> None:
    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(0), None)
            reader = await Reader.of(store, "t", "a")
            seen = await reader.take(1)
            commits = counted_commits(store)
            disk.go_on.clear()
            first = store.append("t", events(1), None)
            await disk.hangs()
            appends = [store.append("t", events(number), None) for number in range(2, 200)]
            settling = asyncio.ensure_future(reader.settle(*seen))
            joining = asyncio.ensure_future(store.join("u", "a", {}, "new"))
            await asyncio.sleep(0)
            disk.go_on.set()
            await soon(first)
            await soon(asyncio.gather(*appends))
            await soon(settling)
            await soon(joining)
            assert commits() == 2
            assert [one.event for one in await reader.take(199)] == [*events(*range(1, 200))]
            await reader.close()

    asyncio.run(main())


def test_what_changes_nothing_costs_no_commit(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {"max_attempts": 2}, "new")
            commits = counted_commits(store)
            await store.join("t", "a", {"max_attempts": 2}, "new")
            await store.append("nobody", events(1), None)
            await store.find("t", "a")
            await store.topics(after=None, limit=10)
            await store.forget("t", "nobody")
            assert commits() == 0

    asyncio.run(main())


def test_publishing_costs_one_row_however_many_groups_there_are(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            for number in range(20):
                await store.join("t", f"app-{number}", {}, "new")
            assert store._log is not None
            connection = store._log._connection
            storage_of(store).apply()
            before = connection.total_changes()
            await store.append("t", events(*range(50)), None)
            storage_of(store).apply()
            assert connection.total_changes() - before == 1 + 1  # and where the journal begins

    asyncio.run(main())


def test_more_rows_than_one_statement_holds_are_all_written(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            names = [f"t{number}" for number in range(150)]
            await asyncio.gather(*(store.join(name, "a", {}, "new") for name in names))
            await asyncio.gather(*(store.append(name, (name.encode(),), None) for name in names))
        async with sqlite(path) as store:
            infos = await store.topics(after=None, limit=1000)
            assert [group.backlog for info in infos for group in info.groups] == [1] * 150

    asyncio.run(main())


def test_reads_do_not_hold_up_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.stores.sqlite.thread.READ_SECONDS", 0.0)

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            done: list[str] = []
            reads = [store.topics(after=None, limit=1) for _ in range(50)]
            tasks = [asyncio.ensure_future(read) for read in reads]
            for task in tasks:
                task.add_done_callback(lambda _: done.append("read"))
            await asyncio.sleep(0)
            await soon(store.append("t", events(1), None))
            assert len(done) < 50
            await soon(asyncio.gather(*tasks))

    asyncio.run(main())


def test_the_write_ahead_log_is_moved_into_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_storage, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", sqlite_journal.START_BYTES)

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            for number in range(40):
                await store.append("t", (event(number, size=100_000),), None)
            await until(lambda: path.stat().st_size > 2_000_000)
            assert path.with_name("actorbus.db-wal").stat().st_size < 2_000_000

    asyncio.run(main())


def test_so_many_batches_are_in_memory_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_storage, "PENDING_BATCHES", 10)

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            for number in range(100):
                await store.append("t", events(number), None)
            unapplied = storage_of(store)._unapplied
            await until(lambda: unapplied.count() <= 10)
            reader = await Reader.of(store, "t", "a")
            assert [one.event for one in await reader.take(100)] == [*events(*range(100))]
            await reader.close()

    asyncio.run(main())


def test_a_fetch_seeks_past_what_is_settled(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            await store.join("t", "b", {}, "new")
            for number in range(300):
                await store.append("t", events(number), None)
            feed = await store.feed("t", "a", Reader())
            await feed.settle([(1, 298)])
            read: list[int] = []
            storage = storage_of(store)
            batches = storage.batches

            def counted(topic_id: int, position: int) -> Iterator[object]:
                for batch in batches(topic_id, position):
                    read.append(batch.first)
                    yield batch

            storage.batches = counted  # type: ignore[method-assign, assignment]  # counts
            found = await feed.fetch(0, 1 << 20)
            assert [run.batch.first for run in found.runs] == [0, 299]
            assert read == [0, 1, 299]

    asyncio.run(main())


def test_no_statement_looks_at_every_batch(path: Path) -> None:
    """Start, reading, settling and trimming stay as fast with a million events behind them."""
    seen: set[str] = set()

    def note(connection: apsw.Connection) -> None:
        connection.set_profile(lambda statement, _: seen.add(statement))

    apsw.connection_hooks.append(note)
    try:
        asyncio.run(_everything(path))
        asyncio.run(_everything(path))
    finally:
        apsw.connection_hooks.pop()
    about = [one for one in seen if "batches" in one and "CREATE" not in one]
    assert len(about) >= 5
    removals = re.findall(r"DELETE FROM \w+ WHERE [^;]+", CHANGES_VIEW)
    assert len(removals) == 5
    connection = apsw.Connection(str(path))
    for statement in (*about, *(re.sub(r"new\.\w", "?", one) for one in removals)):
        marks = set(re.findall(r"\?\d", statement)) or re.findall(r"\?", statement)
        values = (1,) * len(marks)
        plan = str(list(connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)))
        assert "SCAN" not in plan.replace("SCAN CONSTANT ROW", ""), (statement, plan)
    connection.close()


async def _everything(path: Path) -> None:
    async with sqlite(path) as store:
        await store.join("t", "a", {}, "new")
        await store.join("t", "b", {}, "earliest")
        await store.append("t", events(1, 2), None)
        await applied(store)
        await store.append("t", events(3, 4), None)
        await applied(store)
        reader = await Reader.of(store, "t", "a")
        seen = await reader.take(4)
        await reader.settle(*seen[1:])
        await applied(store)
        await store.topics(after=None, limit=10)
        await store.forget("t", "b")
        await store.join("u", "a", {}, "new")
        await store.append("u", events(5), None)
        await applied(store)
        await store.forget("u", "a")
        await reader.settle(seen[0])
        await reader.close()
        await store.join("t", "b", {}, "new")


def applying(changes: Changes) -> list[Statement]:
    unapplied = Unapplied()
    unapplied.add(changes, Place(0, 0))
    return statements(unapplied, unapplied.oldest(None), (b"", 1, 0))


def test_what_is_applied_is_one_statement_whatever_it_changes() -> None:
    changes = Changes()
    changes.topics[1] = (1, "t", b"")
    changes.groups = [(1, 1, "a", b"", 0, b"")]
    changes.batches = [(1, 0, 1, None, 0, b"")]
    changes.attempts = [(1, 0, 1, 0, 0)]
    changes.settled_attempts = [(1, 1), (1, 2)]
    changes.removed_batches.append(Removed(1, 0, 2))
    changes.removed_groups.append(2)
    changes.removed_topics.append(2)
    assert len(applying(changes)) == 1


def test_a_large_batch_is_a_statement_of_its_own_beside_the_rest() -> None:
    changes = Changes()
    changes.batches += [(1, 0, 1, None, 0, bytes(LARGE_BYTES)), (1, 1, 1, None, 0, b"small")]
    (rest, values), (large, row) = applying(changes)
    assert large.startswith("INSERT INTO batches ")
    assert row == changes.batches[0]
    assert rest.startswith("INSERT INTO changes ")
    assert b"small" in values


def test_large_and_small_batches_of_one_commit_are_kept_in_order(path: Path, disk: Disk) -> None:
    published = (event(0), event(1, LARGE_BYTES), event(2), event(3, LARGE_BYTES))

    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            commits = counted_commits(store)
            disk.go_on.clear()
            first = store.append("t", events(9), None)
            await disk.hangs()
            appends = [store.append("t", (one,), None) for one in published]
            disk.go_on.set()
            await soon(asyncio.gather(first, *appends))
            assert commits() == 2
        async with sqlite(path) as store:
            reader = await Reader.of(store, "t", "a")
            assert [one.event for one in await reader.take(5)] == [*events(9), *published]
            await reader.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("share", "further"), [(16, 3), (1, 1)], ids=["two by two", "all, if that is its share"]
)
def test_a_commit_takes_so_many_bytes_of_what_waits_or_its_share(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, share: int, further: int
) -> None:
    monkeypatch.setattr(sqlite_thread, "COMMIT_BYTES", 1000)
    monkeypatch.setattr(sqlite_thread, "COMMIT_SHARE", share)

    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            commits = counted_commits(store)
            disk.go_on.clear()
            first = store.append("t", events(9), None)
            await disk.hangs()
            appends = [store.append("t", (bytes(500),), None) for _ in range(5)]
            disk.go_on.set()
            await soon(asyncio.gather(first, *appends))
            assert commits() == 1 + further

    asyncio.run(main())


def test_settling_that_nobody_waits_for_goes_with_an_append_that_comes_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(sqlite_writer, "LAST_SECONDS", 60.0)

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            reader = await Reader.of(store, "t", "a")
            await store.append("t", events(1), None)
            [seen] = await reader.take(1)
            commits = counted_commits(store)
            settled = reader._feed.settle([(seen.position, 1)], awaited=False)
            writer = store._writer
            assert writer is not None
            await until(lambda: writer._ripe)
            assert commits() == 0
            await soon(asyncio.gather(settled, store.append("t", events(2), None)))
            assert commits() == 1

    asyncio.run(main())


def test_settling_that_nobody_waits_for_shares_a_commit_behind_appends(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "PATIENCE_SECONDS", 1.0)  # longer than an append may take

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            reader = await Reader.of(store, "t", "a")
            await store.append("t", events(1, 2), None)
            seen = await reader.take(2)
            commits = counted_commits(store)
            settled = [
                asyncio.ensure_future(reader._feed.settle([(each.position, 1)], awaited=False))
                for each in seen
            ]
            await store.append("t", events(3), None)
            assert commits() == 1
            assert not any(each.done() for each in settled)
            await soon(asyncio.gather(*settled))
            assert commits() == 2

    asyncio.run(main())


def test_settling_that_nobody_waits_for_is_durable_soon_by_itself(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            reader = await Reader.of(store, "t", "a")
            await store.append("t", events(1), None)
            [seen] = await reader.take(1)
            commits = counted_commits(store)
            await soon(reader._feed.settle([(seen.position, 1)], awaited=False))
            assert commits() == 1

    asyncio.run(main())


def test_settling_that_nobody_waits_for_is_durable_at_the_end(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            reader = await Reader.of(store, "t", "a")
            await store.append("t", events(1), None)
            [seen] = await reader.take(1)
            reader._feed.settle([(seen.position, 1)], awaited=False)
        async with sqlite(path) as store:
            [topic] = await store.topics(after=None, limit=10)
            assert [group.backlog for group in topic.groups] == [0]

    asyncio.run(main())
