"""Commits that the loop makes, the kernel writing, while the thread has nothing to do."""

import asyncio
import errno
import math
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from actorbus.errors import StoreUnavailableError, StoreUnusableError
from actorbus.store import Appended
from tests.conformance.kit import SECONDS, Reader, backlogs, event, events, read_all, soon
from tests.transport.stores.sqlite.kernel import NEEDS_IO_URING, HeldWrites
from tests.transport.stores.sqlite.kit import (
    Failures,
    Room,
    calm,
    killed,
    put,
    sqlite,
    storage_of,
    until,
)
from transport.stores.disk import DiskSpace
from transport.stores.sqlite import fast_path
from transport.stores.sqlite import log as sqlite_log
from transport.stores.sqlite import thread as sqlite_thread
from transport.stores.sqlite import writer as sqlite_writer
from transport.stores.sqlite.journal_file import JournalFile
from transport.stores.sqlite.log import CALM_SECONDS
from transport.stores.sqlite.store import SqliteStore
from transport.stores.sqlite.thread import Call, WriterThread

pytestmark = NEEDS_IO_URING

SETTINGS: Final[dict[str, Any]] = {"disk": Room()}


def thread_of(store: SqliteStore) -> WriterThread:
    assert store._writer is not None
    assert store._writer._thread is not None
    return store._writer._thread


def fast_path_of(store: SqliteStore) -> fast_path.FastPath:
    assert store._writer is not None
    assert store._writer._fast_path is not None
    return store._writer._fast_path


def future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def handed(store: SqliteStore) -> int:
    """How often the thread was given something to do."""
    return thread_of(store)._handed


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[HeldWrites]:
    """What the kernel writes of each store that is opened."""
    made: list[HeldWrites] = []

    def hold() -> HeldWrites:
        made.append(HeldWrites())
        return made[-1]

    monkeypatch.setattr(fast_path, "KernelWrites", hold)
    return made


async def joined(store: SqliteStore) -> None:
    """A topic with a group, and a journal that goes on."""
    await store.join("t", "a", {}, "new")
    await calm(store)


def test_an_append_that_comes_alone_does_not_wake_the_thread(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            for number in range(50):
                appended = await soon(store.append("t", events(number), None))
                assert appended.batch is not None
                assert (appended.batch.first, appended.groups) == (number, 1)
            assert handed(store) == before
            assert await read_all(store, "t", "a", 50) == [*events(*range(50))]

    asyncio.run(main())


def test_it_is_durable_when_it_is_answered(path: Path, tmp_path: Path) -> None:
    """What a killed broker leaves behind has it."""

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            for number in range(20):
                await soon(store.append("t", events(number), None))
            assert handed(store) == before
            copy = put(killed(path), tmp_path / "copy")
        async with sqlite(copy) as found:
            assert await read_all(found, "t", "a", 20) == [*events(*range(20))]

    asyncio.run(main())


def test_nothing_is_answered_before_the_kernel_has_a_result(
    path: Path, held: list[HeldWrites]
) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            first = store.append("t", events(1), None)
            assert held[0].begun == 1
            await asyncio.sleep(0.05)
            assert not first.done()
            held[0].go_on()
            assert (await soon(first)).groups == 1

    asyncio.run(main())


def test_what_comes_meanwhile_is_the_threads_and_comes_after(
    path: Path, held: list[HeldWrites]
) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            first = store.append("t", events(0), None)
            later = [store.append("t", events(number), None) for number in range(1, 5)]
            infos = asyncio.ensure_future(store.topics(after=None, limit=9))
            await asyncio.sleep(0.05)
            assert not any(call.done() for call in (first, *later))
            assert not infos.done()
            held[0].go_on()
            await soon(asyncio.gather(first, *later))
            assert await soon(infos)
            assert (held[0].begun, handed(store)) == (1, before + 5)
            assert await read_all(store, "t", "a", 5) == [*events(*range(5))]

    asyncio.run(main())


def test_what_was_handed_to_the_thread_is_not_overtaken(
    path: Path, held: list[HeldWrites], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the thread does not have the lock yet."""
    taken, go_on = threading.Event(), threading.Event()
    take = WriterThread._take

    def slowly(thread: WriterThread) -> object:
        result = take(thread)
        taken.set()
        assert go_on.wait(SECONDS)
        return result

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            monkeypatch.setattr(WriterThread, "_take", slowly)
            await soon(store.topics(after=None, limit=1))  # the next round begins by `slowly`
            fast_path_of(store)._rested = math.inf
            first = store.append("t", events(0), None)
            assert await asyncio.to_thread(taken.wait, SECONDS)
            fast_path_of(store)._rested = 0.0
            second = store.append("t", events(1), None)
            assert held[0].begun == 0
            go_on.set()
            await soon(asyncio.gather(first, second))
            assert await read_all(store, "t", "a", 2) == [*events(0, 1)]

    asyncio.run(main())


@pytest.mark.parametrize("result", [-errno.EAGAIN, -errno.EINVAL, -errno.ENOSPC, 0, 300])
def test_what_the_kernel_did_not_write_the_thread_does(
    path: Path, held: list[HeldWrites], result: int
) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            held[0].instead = result
            first = store.append("t", events(1), None)
            held[0].go_on()
            appended = await soon(first)
            assert appended.batch is not None
            assert (appended.batch.first, appended.groups) == (0, 1)
            assert (held[0].begun, handed(store)) == (1, before + 1)
            held[0].instead = None
            fast_path_of(store)._rested = 0.0
            await calm(store)
            second = store.append("t", events(2), None)
            held[0].go_on()
            await soon(second)
            assert held[0].begun == 2
            assert await backlogs(store, "t") == {"a": 2}
        async with sqlite(path) as store:
            assert await read_all(store, "t", "a", 2) == [*events(1, 2)]

    asyncio.run(main())


def test_a_kernel_that_refuses_is_left_alone_for_longer_and_longer(
    path: Path, held: list[HeldWrites], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_path, "REST_SECONDS", (100.0, 300.0))

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            way = fast_path_of(store)
            held[0].instead = -errno.EINVAL
            for number, rest in enumerate((100.0, 200.0, 300.0, 300.0)):
                way._rested = 0.0  # so much time goes by
                refused = store.append("t", events(1), None)
                held[0].go_on()
                await soon(refused)
                assert held[0].begun == number + 1
                left = way._rested - asyncio.get_running_loop().time()
                assert left == pytest.approx(rest, abs=SECONDS)
                await calm(store)
                await soon(store.append("t", events(2), None))
                assert held[0].begun == number + 1
                await calm(store)
            held[0].instead = None
            way._rested = 0.0
            last = store.append("t", events(3), None)
            held[0].go_on()
            await soon(last)
            assert way._rest == 100.0

    asyncio.run(main())


def test_a_write_that_can_t_begin_is_the_threads(path: Path, held: list[HeldWrites]) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            held[0].refuses = True
            for number in range(3):
                await soon(store.append("t", events(number), None))
                await calm(store)
            assert held[0].begun == 3
            assert await read_all(store, "t", "a", 3) == [*events(0, 1, 2)]

    asyncio.run(main())


def test_an_io_error_of_the_kernel_ends_the_store(path: Path, held: list[HeldWrites]) -> None:
    """To write again would prove nothing."""

    async def main() -> None:
        failed = Failures()
        async with sqlite(path, failed, **SETTINGS) as store:
            await joined(store)
            before = storage_of(store)._journal.head
            held[0].instead = -errno.EIO
            first = store.append("t", events(1), None)
            held[0].go_on()
            with pytest.raises(StoreUnavailableError, match="Input/output error: check the disk"):
                await soon(first)
            with pytest.raises(StoreUnavailableError, match="check the disk"):
                await soon(store.append("t", events(2), None))
            assert storage_of(store)._journal.head == before
        assert [error.exit_status for error in failed.seen] == [70]

    asyncio.run(main())


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device (injected)")


async def has_kept_nothing(store: SqliteStore) -> None:
    """The next event is the first one."""
    assert await backlogs(store, "t") == {"a": 0}
    again = await soon(store.append("t", events(2), None))
    assert again.batch is not None
    assert again.batch.first == 0
    assert await read_all(store, "t", "a", 1) == [*events(2)]


@pytest.mark.parametrize("way", ["start", "ended"])
def test_what_fails_before_or_after_the_write_is_refused_and_not_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            with monkeypatch.context() as failing:
                failing.setattr(storage_of(store), way, no_room)
                with pytest.raises(StoreUnavailableError, match="no room"):
                    await soon(store.append("t", events(1), None))
            assert handed(store) == before
            await has_kept_nothing(store)

    asyncio.run(main())


def test_what_the_thread_can_t_write_either_is_refused_and_not_kept(
    path: Path, held: list[HeldWrites], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            held[0].instead = -errno.ENOSPC
            with monkeypatch.context() as full:
                full.setattr(JournalFile, "write", no_room)
                first = store.append("t", events(1), None)
                held[0].go_on()
                with pytest.raises(StoreUnavailableError, match="no room"):
                    await soon(first)
            await has_kept_nothing(store)

    asyncio.run(main())


def test_a_kernel_that_does_not_answer_fails_calls_in_time_and_stops_nobody(
    path: Path, held: list[HeldWrites], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "STALL_SECONDS", 0.05)
    monkeypatch.setattr(sqlite_writer, "CALL_SECONDS", 0.3)

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            calls = [store.append("t", events(number), None) for number in range(2)]
            await until(lambda: store.health() is not None)
            for call in calls:
                with pytest.raises(StoreUnavailableError, match="did not answer within"):
                    await soon(call)
            held[0].go_on()
            assert (await soon(store.append("t", events(3), None))).groups == 1
            assert store.health() is None

    asyncio.run(main())


def test_a_store_whose_kernel_does_not_answer_is_closed_in_time(
    path: Path, held: list[HeldWrites], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> WriterThread:
        failed = Failures()
        async with sqlite(path, failed, **SETTINGS) as store:
            await joined(store)
            first = store.append("t", events(1), None)
            thread = thread_of(store)
            monkeypatch.setattr(sqlite_writer, "CALL_SECONDS", 0.2)
        with pytest.raises(StoreUnavailableError, match="the store is closed"):
            await soon(first)
        return thread

    thread = asyncio.run(main())
    assert thread.is_alive()
    held[0].go_on()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert [*path.parent.iterdir()] == [path]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.eventfd_read(held[0].event)


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be frozen."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(40 * 1024 * 1024)
    for command in (
        ["mkfs.ext4", "-q", str(image)],
        ["mount", "-o", "loop", str(image), str(place)],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["fsfreeze", "-u", str(place)], capture_output=True, check=False)
    subprocess.run(["umount", str(place)], check=True)


def freeze(place: Path, seconds: int) -> subprocess.Popen[bytes]:
    """Freeze a file system; a process of its own thaws it."""
    subprocess.run(["fsfreeze", "-f", str(place)], check=True)
    return subprocess.Popen(["sh", "-c", f"sleep {seconds}; fsfreeze -u {place}"])


def test_a_file_system_that_is_frozen_stops_nobody(ext4: Path) -> None:
    """As while a snapshot of it is taken."""

    async def main() -> None:
        async with sqlite(ext4 / "actorbus.db", **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            thaw = freeze(ext4, 2)
            begun = time.monotonic()
            call = store.append("t", events(1), None)
            await asyncio.sleep(0)
            assert time.monotonic() - begun < 1
            assert not call.done()
            assert (await soon(call)).groups == 1
            assert handed(store) == before
            assert thaw.wait() == 0

    asyncio.run(main())


def test_a_store_that_is_closed_meanwhile_answers_first(path: Path, held: list[HeldWrites]) -> None:
    async def main() -> None:
        store = SqliteStore(path, **SETTINGS)
        await soon(store.open(Failures()))
        await joined(store)
        first = store.append("t", events(1), None)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        held[0].go_on()
        assert (await soon(first)).groups == 1
        await soon(closing)
        async with sqlite(path) as later:
            assert await read_all(later, "t", "a", 1) == [*events(1)]

    asyncio.run(main())


async def with_settling(store: SqliteStore, reader: Reader) -> None:
    """Append an event; settle it with the next one, by the fast path."""
    await calm(store)
    await soon(store.append("t", events(1), None))
    (seen,) = await reader.take(1)
    await calm(store)
    settled = reader._feed.settle([(seen.position, 1)], awaited=False)
    writer, _ = store._opened()
    await until(lambda: writer._ripe)
    before = handed(store)
    await soon(store.append("t", events(2), None))
    await soon(settled)
    assert handed(store) == before


def test_what_the_kernel_did_not_write_is_written_before_the_end(
    path: Path, held: list[HeldWrites]
) -> None:
    async def main() -> None:
        store = SqliteStore(path, **SETTINGS)
        await soon(store.open(Failures()))
        await joined(store)
        held[0].instead = -errno.EAGAIN
        first = store.append("t", events(1), None)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        held[0].go_on()
        assert (await soon(first)).groups == 1
        await soon(closing)
        async with sqlite(path) as later:
            assert await read_all(later, "t", "a", 1) == [*events(1)]

    asyncio.run(main())


def test_what_the_disk_refuses_at_the_end_is_refused(path: Path, held: list[HeldWrites]) -> None:
    async def main() -> None:
        failed = Failures()
        store = SqliteStore(path, **SETTINGS)
        await soon(store.open(failed))
        await joined(store)
        held[0].instead = -errno.EIO
        first = store.append("t", events(1), None)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        held[0].go_on()
        with pytest.raises(StoreUnavailableError, match="Input/output error"):
            await soon(first)
        await soon(closing)
        assert [error.exit_status for error in failed.seen] == [70]

    asyncio.run(main())


def test_groups_with_many_gaps_are_the_threads(
    path: Path, held: list[HeldWrites], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows are long to make."""
    monkeypatch.setattr(sqlite_log, "MOST_WEIGHT", 2)

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            log = store._opened()[1]
            group = log._topics["t"].groups["a"]
            for position, changed in ((10, 0), (10, 1), (20, 0)):
                with thread_of(store).lock:
                    group.settled.add(position, 1)
                    group.changed.update(range(changed))
                    log._dirty.add(group)
                call = store.append("t", events(position), None)
                assert held[0].begun == 1
                if not changed and position == 10:
                    held[0].go_on()
                await soon(call)
                assert not log._dirty
                await calm(store)

    asyncio.run(main())


def test_settling_goes_with_it(path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            reader = await Reader.of(store, "t", "a")
            await with_settling(store, reader)
            log = store._opened()[1]
            assert not log._dirty
            assert log.pause() is not None
            copy = put(killed(path), tmp_path / "copy")
            await reader.close()
        async with sqlite(copy) as found:
            assert await read_all(found, "t", "a", 1) == [*events(2)]

    asyncio.run(main())


def test_settling_that_comes_with_what_is_not_kept_is_durable_all_the_same(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            reader = await Reader.of(store, "t", "a")
            await soon(store.append("t", events(1), None))
            (seen,) = await reader.take(1)
            await calm(store)
            settled = reader._feed.settle([(seen.position, 1)], awaited=False)
            writer, log = store._opened()
            await until(lambda: writer._ripe)
            before = storage_of(store)._journal.head.number
            assert await soon(store.append("nobody", events(2), None)) == Appended(None, 0)
            await soon(settled)
            assert not log._dirty
            assert storage_of(store)._journal.head.number == before + 1
            await reader.close()

    asyncio.run(main())


def one_more(store: SqliteStore, kept: int) -> bool:
    """Whether there is one batch more than there were."""
    return storage_of(store)._unapplied.count() == kept + 1


def test_what_it_leaves_to_be_done_is_done_in_time_by_the_thread(path: Path) -> None:
    """Removing what was settled, with nobody calling."""

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            reader = await Reader.of(store, "t", "a")
            for _ in range(2):
                kept = storage_of(store)._unapplied.count()
                await with_settling(store, reader)
                before = handed(store)
                await until(partial(one_more, store, kept))
                assert handed(store) == before + 1
                await reader.take(1)
            await reader.close()

    asyncio.run(main())


def test_what_is_due_sooner_is_done_sooner(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As trying again after a refusal, before what is retained has to go."""
    monkeypatch.setattr(sqlite_log, "RETRY_SECONDS", 0.01)
    room = Room()

    async def main() -> None:
        async with sqlite(path, disk=room) as store:
            await joined(store)
            way, loop = fast_path_of(store), asyncio.get_running_loop()
            later = way._due = loop.call_later(1000, way._on_due)
            room.missing = "1 MiB free"
            with pytest.raises(StoreUnavailableError, match="1 MiB free"):
                await soon(store.append("t", events(1), None))
            room.missing = None
            await until(lambda: store.health() is None)
            assert later.cancelled()

    asyncio.run(main())


def test_a_hint_of_the_kernel_ends_nothing(path: Path, held: list[HeldWrites]) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            first = store.append("t", events(1), None)
            fast_path_of(store)._ended()
            assert not first.done()
            assert thread_of(store).lock.locked()
            held[0].go_on()
            assert (await soon(first)).groups == 1

    asyncio.run(main())


def test_what_is_due_when_it_is_closed_is_not_done_later(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            reader = await Reader.of(store, "t", "a")
            await with_settling(store, reader)
            thread, way = thread_of(store), fast_path_of(store)
            due = way._due
            assert due is not None
            await reader.close()
        before = thread._handed
        assert due.cancelled()
        await asyncio.sleep(0)
        assert thread._handed == before

    asyncio.run(main())


def test_what_is_large_or_many_is_the_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch, held: list[HeldWrites]
) -> None:
    monkeypatch.setattr(fast_path, "MOST_CALLS", 0)

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            await soon(store.append("t", events(1), None))
            monkeypatch.setattr(fast_path, "MOST_CALLS", 1)
            await calm(store)
            await soon(store.append("t", (event(2, fast_path.MOST_BYTES + 1),), None))
            await calm(store)
            assert held[0].begun == 0
            last = store.append("t", (event(3, fast_path.MOST_BYTES - 100),), None)
            held[0].go_on()
            await soon(last)
            assert held[0].begun == 1

    asyncio.run(main())


def test_a_read_is_the_threads_whatever_it_comes_with(path: Path) -> None:
    """The tables may have to be read for it."""

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            read = Call(lambda: pytest.fail("it was done"), future(), math.inf, 1, reads=True)
            assert not fast_path_of(store).take((read,))

    asyncio.run(main())


def test_a_look_at_the_disk_is_the_threads(path: Path, held: list[HeldWrites]) -> None:
    disk = DiskSpace(path.parent, reserve=0)

    async def main() -> None:
        async with sqlite(path, disk=disk) as store:
            await joined(store)
            disk._look_at = 0.0
            await soon(store.append("t", events(1), None))
            assert held[0].begun == 0
            await calm(store)
            second = store.append("t", events(2), None)
            held[0].go_on()
            await soon(second)
            assert held[0].begun == 1

    asyncio.run(main())


def test_a_refusal_needs_no_kernel(path: Path, held: list[HeldWrites]) -> None:
    room = Room()

    async def main() -> None:
        async with sqlite(path, disk=room) as store:
            await joined(store)
            room.missing = "1 MiB free"
            with pytest.raises(StoreUnavailableError, match="1 MiB free"):
                await soon(store.append("t", events(1), None))
            assert held[0].begun == 0
            room.missing = None
            assert (await soon(store.append("t", events(2), None))).groups == 1

    asyncio.run(main())


def test_a_topic_without_groups_keeps_nothing(path: Path, held: list[HeldWrites]) -> None:
    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            assert await soon(store.append("u", events(1), None)) == Appended(None, 0)
            assert held[0].begun == 0

    asyncio.run(main())


def test_a_system_without_such_writes_leaves_all_to_the_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fast_path, "KernelWrites", fail)

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            before = handed(store)
            for number in range(5):
                await soon(store.append("t", events(number), None))
            assert handed(store) == before + 5
            assert await read_all(store, "t", "a", 5) == [*events(*range(5))]

    asyncio.run(main())


def test_a_broken_store_takes_no_fast_path(path: Path, held: list[HeldWrites]) -> None:
    async def main() -> None:
        failed = Failures()
        async with sqlite(path, failed, **SETTINGS) as store:
            await joined(store)
            thread = thread_of(store)
            thread._break(StoreUnusableError("broken (injected)", exit_status=70))
            assert not fast_path_of(store).take(
                (Call(lambda: 1, future(), math.inf, 1, reads=False),)
            )
            assert not thread.lock.locked()
            assert held[0].begun == 0
            await until(lambda: bool(failed.seen))

    asyncio.run(main())


def test_a_store_that_has_failed_is_tried_by_the_thread(path: Path, held: list[HeldWrites]) -> None:
    """It may find that the tables can't be written, either."""

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            store._opened()[1].reason = "no room (injected)"
            await soon(store.append("t", events(1), None))
            assert held[0].begun == 0
            assert store.health() is None

    asyncio.run(main())


def test_what_will_be_due_in_no_time_is_the_threads(path: Path, held: list[HeldWrites]) -> None:
    """The tables are read for it, and a disk that hangs would stop the loop."""

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            log = store._opened()[1]
            trimmer = log._trimmer
            topic = log._topics["t"]
            thread_of(store).lock.acquire()
            trimmer.settled(topic, [(0, 1)])
            trimmer._trim_at = time.monotonic() + CALM_SECONDS
            thread_of(store).lock.release()
            await soon(store.append("t", events(1), None))
            assert held[0].begun == 0

    asyncio.run(main())


def test_reads_that_the_thread_has_put_off_keep_it_busy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append must not come between them: they may be many."""
    monkeypatch.setattr(sqlite_thread, "READ_SECONDS", 0.0)  # one a round
    second, go_on = threading.Event(), threading.Event()

    def read() -> None:
        second.set()
        assert go_on.wait(SECONDS)

    async def main() -> None:
        async with sqlite(path, **SETTINGS) as store:
            await joined(store)
            thread = thread_of(store)
            thread.hand(
                (
                    Call(int, future(), math.inf, 0, reads=True),
                    Call(read, future(), math.inf, 0, reads=True),
                )
            )
            assert await asyncio.to_thread(second.wait, SECONDS)
            assert not thread.idle()
            go_on.set()
            await until(thread.idle)

    asyncio.run(main())
