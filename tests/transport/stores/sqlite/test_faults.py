"""A failing disk never turns into a false success or a silent loss."""

import asyncio
import errno
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from actorbus.errors import StoreUnavailableError
from actorbus.store import Attempt, GroupOptions
from tests.conformance.kit import SECONDS, Reader, event, events, soon
from tests.transport.stores.sqlite.kernel import NEEDS_IO_URING
from tests.transport.stores.sqlite.kit import (
    Disk,
    Failures,
    Room,
    calm,
    query,
    sqlite,
    storage_of,
    until,
)
from transport.stores.disk import DiskSpace
from transport.stores.sqlite import log as sqlite_log
from transport.stores.sqlite import writer as sqlite_writer
from transport.stores.sqlite.journal import Journal
from transport.stores.sqlite.store import SqliteStore


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def hurry(store: SqliteStore, patience: pytest.MonkeyPatch, seconds: float) -> None:
    """Give later calls so long only; the timer that runs for earlier ones would be too late."""
    patience.setattr(sqlite_writer, "CALL_SECONDS", seconds)
    assert store._writer is not None
    assert store._writer._watch is not None
    store._writer._watch.cancel()
    store._writer._watch = None


async def in_a_failing_commit(
    store: SqliteStore, disk: Disk, *calls: Callable[[], Awaitable[object]]
) -> list[object]:
    """What these calls end with when they share a commit that finds no room.

    The topic "full" must have a group.
    """
    disk.room = 50_000
    disk.go_on.clear()
    first = store.append("full", events(0), None)
    await disk.hangs()
    under_way = [asyncio.ensure_future(call()) for call in calls]
    await asyncio.sleep(0)
    too_much = store.append("full", (bytes(100_000),), None)
    disk.go_on.set()
    assert (await soon(first)).groups == 1
    with pytest.raises(StoreUnavailableError, match="no room on the disk"):
        await soon(too_much)
    disk.room = None
    return [*await soon(asyncio.gather(*under_way, return_exceptions=True))]


def test_without_room_publishes_and_new_groups_are_refused(path: Path) -> None:
    async def main() -> None:
        room = Room()
        async with sqlite(path, disk=room) as store:
            await store.join("t", "a", {}, "new")
            room.missing = "1 MiB free on the disk of the store, 64 are needed"
            with pytest.raises(StoreUnavailableError, match="1 MiB free"):
                await soon(store.append("t", events(1), None))
            with pytest.raises(StoreUnavailableError, match="1 MiB free"):
                await soon(store.join("t", "b", {}, "new"))
            assert store.health() == room.missing

    asyncio.run(main())


def test_without_room_settling_and_trimming_go_on(path: Path) -> None:
    async def main() -> None:
        room = Room()
        async with sqlite(path, disk=room) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(1, 2), None)
            reader = await Reader.of(store, "t", "a")
            room.missing = "no room"
            await reader.settle(*await reader.take(2))
            await reader.close()
        assert query(path, "SELECT count(*) FROM batches") == [(0,)]

    asyncio.run(main())


def test_it_is_healthy_again_by_itself_once_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "RETRY_SECONDS", 0.01)

    async def main() -> None:
        room = Room()
        async with sqlite(path, disk=room) as store:
            await store.join("t", "a", {}, "new")
            room.missing = "no room"
            with pytest.raises(StoreUnavailableError):
                await soon(store.append("t", events(1), None))
            room.missing = None
            await until(lambda: store.health() is None)
            assert (await soon(store.append("t", events(1), None))).groups == 1

    asyncio.run(main())


def test_free_space_is_that_of_the_disk(tmp_path: Path) -> None:
    assert DiskSpace(tmp_path, reserve=1).shortage() is None
    shortage = DiskSpace(tmp_path, reserve=2**60).shortage()
    assert shortage is not None
    assert shortage.endswith("MiB free on the disk of the store, 1099511627776 are needed")


def test_free_space_is_looked_at_ten_times_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    space = DiskSpace(tmp_path)
    monkeypatch.setattr(space, "_look", lambda: looks.append(1))
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for now[0] in (100.0, 100.05, 100.09, 100.11, 100.2, 100.22):
        space.shortage()
    assert len(looks) == 3


def test_a_full_file_refuses_appends_and_takes_no_position(path: Path, disk: Disk) -> None:
    async def main() -> None:
        failed = Failures()
        async with sqlite(path, failed, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            disk.room = 50_000
            with pytest.raises(StoreUnavailableError, match="no room on the disk"):
                await soon(store.append("t", (bytes(100_000),), None))
            disk.room = None
            appended = await soon(store.append("t", events(1), None))
            assert appended.batch is not None
            assert appended.batch.first == 0
        assert failed.seen == []

    asyncio.run(main())


def test_a_group_that_could_not_be_written_does_not_exist(path: Path, disk: Disk) -> None:
    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("full", "a", {}, "new")
            (result,) = await in_a_failing_commit(
                store, disk, lambda: store.join("t", "a", {}, "new")
            )
            assert isinstance(result, StoreUnavailableError)
            assert await soon(store.find("t", "a")) is None
            assert await soon(store.topics(after=None, limit=9, only="t")) == []

    asyncio.run(main())


def test_options_that_could_not_be_written_are_not_in_force(path: Path, disk: Disk) -> None:
    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("full", "a", {"max_attempts": 1}, "new")
            (result,) = await in_a_failing_commit(
                store, disk, lambda: store.join("full", "a", {"max_attempts": 2}, "new")
            )
            assert isinstance(result, StoreUnavailableError)
            assert await soon(store.find("full", "a")) == GroupOptions(max_attempts=1)

    asyncio.run(main())


def test_a_forgetting_that_could_not_be_written_is_taken_back(path: Path, disk: Disk) -> None:
    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("full", "a", {}, "new")
            await store.join("t", "a", {"max_attempts": 1}, "new")
            await store.append("t", events(1), None)
            results = await in_a_failing_commit(
                store,
                disk,
                lambda: store.forget("t", "a"),
                lambda: store.forget("full", "a"),
                lambda: store.join("t", "a", {}, "new"),
                lambda: store.join("full", "b", {}, "earliest"),
            )
            assert [type(result) for result in results] == [StoreUnavailableError] * 4
            await soon(store.append("t", events(2), None))
        async with sqlite(path) as store:
            assert await soon(store.find("t", "a")) == GroupOptions(max_attempts=1)
            assert await soon(store.find("full", "b")) is None
            reader = await Reader.of(store, "t", "a")
            assert await reader.rest(store, "t") == [*events(1, 2)]
            await reader.close()
            reader = await Reader.of(store, "full", "a")
            assert await reader.rest(store, "full") == [*events(0)]
            await reader.close()

    asyncio.run(main())


def test_what_could_not_be_settled_is_settled_with_the_next(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "RETRY_SECONDS", 60.0)

    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("full", "a", {}, "new")
            await store.join("t", "a", {}, "new")
            await store.append("t", events(0, 1, 2, 3, 4), None)
            reader = await Reader.of(store, "t", "a")
            seen = await reader.take(5)
            tried = [Attempt(one.position, 1, 0, 0) for one in seen[3:]]
            results = await in_a_failing_commit(
                store,
                disk,
                lambda: reader.settle(seen[0], seen[2]),
                lambda: reader.attempted(*tried),
            )
            assert [type(result) for result in results] == [StoreUnavailableError] * 2
            await reader.settle(seen[1])
            await reader.close()
        async with sqlite(path) as store:
            reader = await Reader.of(store, "t", "a")
            left = await reader.take(2)
            assert [(one.event, one.attempts) for one in left] == [(event(3), 1), (event(4), 1)]
            await reader.close()

    asyncio.run(main())


def test_what_could_not_be_settled_is_tried_again_without_any_call(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "RETRY_SECONDS", 0.01)

    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("full", "a", {}, "new")
            reader = await Reader.of(store, "full", "a")
            await store.append("full", events(1), None)
            seen = await reader.take(1)
            await in_a_failing_commit(store, disk, lambda: reader.settle(*seen))
            assert store._log is not None
            dirty = store._log._dirty
            await until(lambda: not dirty)
            await until(lambda: store.health() is None)

    asyncio.run(main())


def test_a_disk_that_is_full_is_a_passing_fault(tmpfs: Path) -> None:
    async def main() -> None:
        failed = Failures()
        async with sqlite(tmpfs / "a.db", failed, disk=Room()) as store:
            await store.join("t", "a", {}, "new")
            appends = [store.append("t", (bytes(50_000),), None) for _ in range(5)]
            kept = len(await soon(asyncio.gather(*appends)))
            with pytest.raises(StoreUnavailableError, match="no room on the disk"):
                await soon(store.append("t", (bytes(2_000_000),), None))
            reader = await Reader.of(store, "t", "a")
            assert len(await reader.take(kept)) == kept
            await reader.close()
        assert failed.seen == []

    asyncio.run(main())


QUOTA = """
import asyncio, resource, sys
from pathlib import Path
from actorbus.errors import StoreUnavailableError
from transport.stores.sqlite.store import SqliteStore
from transport.stores.sqlite.journal import Journal

async def main():
    failures = []
    store = SqliteStore(Path(sys.argv[1]))
    await store.open(failures.append)
    await store.join("t", "a", {}, "new")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    kept = 0
    try:
        while kept < 100:
            await store.append("t", (bytes(50_000),), None)
            kept += 1
    except StoreUnavailableError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.append("t", (b"after",), None)
    (info,) = await store.topics(after=None, limit=1)
    assert info.groups[0].backlog == kept + 1
    assert 5 < kept < 40, kept
    assert failures == []
    await store.close()

asyncio.run(main())
"""


def test_a_file_size_limit_is_a_passing_fault(path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", QUOTA, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    said = [line for line in child.stdout.splitlines() if "[debug" not in line]
    assert said == ["no room on the disk of the store: [Errno 27] File too large"]


def test_an_io_error_fails_every_caller_and_tells_the_broker_once(path: Path, disk: Disk) -> None:
    async def main() -> None:
        failed = Failures()
        async with sqlite(path, failed, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", events(1), None)
            reader = await Reader.of(store, "t", "a")
            seen = await reader.take(1)
            disk.fails = True
            calls = (store.append("t", events(2), None), reader.settle(*seen))
            results = await soon(asyncio.gather(*calls, return_exceptions=True))
            assert [type(result) for result in results] == [StoreUnavailableError] * 2
            disk.fails = False
            for _ in range(2):
                with pytest.raises(StoreUnavailableError, match="the store's file failed"):
                    await soon(store.append("t", events(3), None))
            with pytest.raises(StoreUnavailableError):
                await soon(store.find("t", "a"))
            health = store.health()
            syncs = disk.syncs
        assert disk.syncs == syncs  # closing leaves the file alone
        assert health is not None
        assert health.startswith("the store's file failed: ")
        assert [error.exit_status for error in failed.seen] == [70]

    asyncio.run(main())


def test_a_journal_that_fails_while_it_is_made_longer_ends_the_store(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(journal: Journal) -> bool:
        raise OSError(errno.EIO, "Input/output error (injected)")

    monkeypatch.setattr(Journal, "lengthen", fails)

    async def main() -> None:
        failed = Failures()
        async with sqlite(path, failed, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            await store.append("t", (bytes(900_000),), None)
            await until(lambda: store.health() is not None)
        assert [error.exit_status for error in failed.seen] == [70]

    asyncio.run(main())


def test_what_was_acknowledged_before_an_io_error_is_there_after_it(path: Path, disk: Disk) -> None:
    async def main() -> None:
        async with sqlite(path, Failures(), **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            for number in range(20):
                await store.append("t", events(number), None)
            disk.fails = True
            with pytest.raises(StoreUnavailableError):
                await soon(store.append("t", events(99), None))
        disk.fails = False
        async with sqlite(path) as store:
            reader = await Reader.of(store, "t", "a")
            assert (await reader.rest(store, "t"))[:20] == [*events(*range(20))]
            await reader.close()

    asyncio.run(main())


def test_a_disk_that_hangs_fails_calls_in_time(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "STALL_SECONDS", 0.05)

    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            disk.go_on.clear()
            with monkeypatch.context() as patience:
                hurry(store, patience, 0.4)
                first = store.append("t", events(1), None)
                await until(lambda: store.health() is not None)
                assert store.health() == "the disk has not answered for 0 s"
                with pytest.raises(StoreUnavailableError, match="did not answer within"):
                    await soon(first)
                with pytest.raises(StoreUnavailableError, match="did not answer within"):
                    await soon(store.append("t", events(2), None))
            disk.go_on.set()
            appended = await soon(store.append("t", events(3), None))
            assert appended.groups == 1

    asyncio.run(main())


def test_an_append_that_was_given_up_while_it_waited_is_not_kept(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            disk.go_on.clear()
            with monkeypatch.context() as patience:
                hurry(store, patience, 0.1)
                under_way = store.append("t", events(1), None)
                await disk.hangs()
                with pytest.raises(StoreUnavailableError):
                    await soon(under_way)
                with pytest.raises(StoreUnavailableError):
                    await soon(store.append("t", events(2), None))
            disk.go_on.set()
            reader = await Reader.of(store, "t", "a")
            assert await reader.rest(store, "t") == [event(1)]
            await reader.close()

    asyncio.run(main())


def test_appends_past_the_bound_are_refused_at_once(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "QUEUE_BYTES", 1_000)

    async def main() -> None:
        async with sqlite(path, **disk.settings) as store:
            await store.join("t", "a", {}, "new")
            disk.go_on.clear()
            accepted = store.append("t", (bytes(900),), None)
            refused = store.append("t", (bytes(200),), None)
            assert refused.done()
            with pytest.raises(StoreUnavailableError, match="the store lags"):
                await refused
            disk.go_on.set()
            await soon(accepted)
            await soon(store.append("t", (bytes(200),), None))

    asyncio.run(main())


def test_closing_gives_up_on_a_disk_that_hangs(
    path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> threading.Thread:
        store = SqliteStore(path, **disk.settings)
        await soon(store.open(Failures()))
        assert store._writer is not None
        thread = store._writer._thread
        assert thread is not None
        await store.join("t", "a", {}, "new")
        disk.go_on.clear()
        append = store.append("t", events(1), None)
        monkeypatch.setattr(sqlite_writer, "CALL_SECONDS", 0.1)
        await soon(store.close())
        with pytest.raises(StoreUnavailableError):
            await append
        return thread

    thread = asyncio.run(main())
    disk.go_on.set()
    thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "way",
    [
        "write",
        pytest.param("start", marks=NEEDS_IO_URING),
        pytest.param("ended", marks=NEEDS_IO_URING),
    ],
)
def test_an_unexpected_error_ends_the_store_instead_of_the_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def main() -> None:
        failed = Failures()
        async with sqlite(path, failed, disk=Room()) as store:
            await store.join("t", "a", {}, "new")
            await calm(store)
            storage = storage_of(store)
            if way == "write":
                monkeypatch.setattr(storage, "start", lambda *_: False)
            monkeypatch.setattr(storage, way, lambda *_: 1 // 0)
            with pytest.raises(StoreUnavailableError, match="ZeroDivisionError"):
                await soon(store.append("t", events(1), None))
            with pytest.raises(StoreUnavailableError):
                await soon(store.topics(after=None, limit=1))
        assert [error.exit_status for error in failed.seen] == [70]

    asyncio.run(main())
