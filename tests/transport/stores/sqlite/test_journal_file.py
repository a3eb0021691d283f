"""Writes to the journal's file: exact, past the page cache, and by the kernel."""

import ctypes
import errno
import fcntl
import gc
import mmap
import os
import random
import select
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conformance.kit import SECONDS
from tests.transport.stores.sqlite.kernel import NEEDS_IO_URING, awaited
from transport.stores.sqlite import journal as sqlite_journal
from transport.stores.sqlite import journal_file, kernel_writes
from transport.stores.sqlite.journal import Journal, Place, read
from transport.stores.sqlite.journal_file import (
    BLOCK,
    DIRECT_BYTES,
    KERNEL_BYTES,
    PASSING,
    JournalFile,
)
from transport.stores.sqlite.kernel_writes import KernelWrites

pytestmark = NEEDS_IO_URING

SALT: Final = b"one salt"
HEADER: Final = 24
MOST: Final = 16 * BLOCK


@pytest.fixture
def writes() -> Iterator[KernelWrites]:
    writes = KernelWrites()
    yield writes
    writes.close()


def by_kernel(file: JournalFile, data: bytes, offset: int, writes: KernelWrites) -> bool:
    """Have the kernel write it; whether it did."""
    if not file.start((data,), offset, writes):
        return False
    awaited(writes)
    return file.ended(writes)


def open_files() -> list[Path]:
    """Without those that only garbage of other tests has open."""
    gc.collect()
    return sorted(Path("/proc/self/fd").iterdir())


def going_on(file: JournalFile, offset: int = 0) -> int:
    """A first write; where the next one goes on."""
    file.write((b"first",), offset)
    return offset + 5


def held(path: Path) -> bytearray:
    """What is there; and the page cache is as before."""
    with path.open("rb") as reader:
        found = bytearray(reader.read())
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_written_where_is_there(
    file: JournalFile, path: Path, writes: KernelWrites, seed: int
) -> None:
    choice = random.Random(seed)
    length = 64 * BLOCK
    file.write((choice.randbytes(length),), 0)
    expected = held(path)
    end = length
    kernels = 0
    for step in range(150):
        data = choice.randbytes(choice.choice((1, 300, BLOCK - 24, BLOCK, 3 * BLOCK + 7)))
        goes_on = end + len(data) <= length and choice.randrange(8) > 0
        offset = end if goes_on else choice.randrange(length - len(data))
        if choice.randrange(2) and by_kernel(file, data, offset, writes):
            kernels += 1
        else:
            file.write((data[:5], data[5:]), offset)
        end = offset + len(data)
        expected[offset:end] = data
        found = held(path)
        if goes_on:
            behind = slice(end, -(-end // BLOCK) * BLOCK)
            assert found[behind] in (expected[behind], bytes(behind.stop - end)), step
            expected[behind] = found[behind]
        assert found == expected, step
    assert kernels > 30


def test_what_goes_on_leaves_alone_what_is_behind_its_last_block(file: JournalFile) -> None:
    file.write((b"x" * 3 * BLOCK,), 0)
    end = going_on(file)
    file.write((b"more",), end)
    assert file.read(BLOCK, 0) == b"firstmore".ljust(BLOCK, b"\0")
    assert file.read(3 * BLOCK, BLOCK) == b"x" * 2 * BLOCK


def test_a_write_past_the_cache_is_durable_when_it_ends(file: JournalFile) -> None:
    assert file._direct is not None
    flags = fcntl.fcntl(file._direct, fcntl.F_GETFL)
    assert flags & (os.O_DSYNC | os.O_DIRECT) == os.O_DSYNC | os.O_DIRECT
    assert not os.get_inheritable(file._direct)


def test_a_first_write_is_exact(file: JournalFile) -> None:
    file.write((b"x" * BLOCK,), 0)
    file.close()
    file.__init__(file._path)  # type: ignore[misc]  # opened again
    file.write((b"y",), 100)
    assert file.read(BLOCK, 0) == b"x" * 100 + b"y" + b"x" * (BLOCK - 101)


def test_one_that_is_long_is_exact(file: JournalFile) -> None:
    end = going_on(file)
    file.write((b"z" * (DIRECT_BYTES + 1),), end)
    assert file.size() == end + DIRECT_BYTES + 1
    file.write((b"after",), end + DIRECT_BYTES + 1)
    assert file.read(5, end + DIRECT_BYTES + 1) == b"after"


def test_what_was_cut_off_does_not_come_back(file: JournalFile, path: Path) -> None:
    end = going_on(file)
    file.cut(0)
    file.write((b"more",), end)
    assert path.read_bytes() == b"\0" * end + b"more"


def refuse(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int, flag: int | None = None
) -> list[int]:
    """Let a call of the system fail, if it has this flag; tells how often it did."""
    real = getattr(os, name)
    refused: list[int] = []

    def call(*arguments: Any) -> Any:
        if flag is None or arguments[1] & flag:
            refused.append(code)
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    monkeypatch.setattr(os, name, call)
    return refused


def test_a_file_system_without_direct_writes_has_exact_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch, writes: KernelWrites
) -> None:
    refused = refuse(monkeypatch, "open", errno.EINVAL, os.O_DIRECT)
    file = JournalFile(path)
    end = going_on(file)
    file.write((b"more",), end)
    assert path.read_bytes() == b"firstmore"
    assert not file.start((b"again",), end + 4, writes)
    assert len(refused) == 1
    file.close()


def test_that_there_are_too_many_files_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "open", errno.EMFILE, os.O_DIRECT)
    before = open_files()
    with pytest.raises(OSError, match="Too many open files"):
        JournalFile(path)
    assert open_files() == before


def test_one_that_says_so_late_has_exact_ones_from_then_on(
    file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = going_on(file)
    refused = refuse(monkeypatch, "pwrite", errno.EINVAL)
    file.write((b"more",), end)
    file.write((b"again",), end + 4)
    assert path.read_bytes() == b"firstmoreagain"
    assert len(refused) == 1


def test_any_other_error_is_told_and_the_next_write_is_exact(
    file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = going_on(file)
    with monkeypatch.context() as broken:
        refuse(broken, "pwrite", errno.EIO)
        with pytest.raises(OSError, match="Input/output error"):
            file.write((b"more",), end)
    file.write((b"more",), end)
    assert path.read_bytes() == b"firstmore"


def test_what_was_written_in_part_is_written_whole(
    file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = going_on(file)
    real = os.pwrite
    with monkeypatch.context() as short:
        short.setattr(os, "pwrite", lambda to, data, at: real(to, data[:BLOCK], at))
        file.write((b"m" * BLOCK,), end)
    assert path.read_bytes() == b"first" + b"m" * BLOCK


def test_the_kernel_writes_again_and_again_after_what_went_through_the_cache(
    file: JournalFile, writes: KernelWrites
) -> None:
    file.write((bytes(32 * BLOCK),), 0)
    end = going_on(file, 7)
    for number in range(20):
        assert by_kernel(file, bytes([number]) * 1000, end, writes), number
        end += 1000


def test_nothing_that_was_written_stays_in_the_page_cache(file: JournalFile, path: Path) -> None:
    """A thread of the kernel would have to take it out, where the write could begin at once."""
    file.write((bytes(32 * BLOCK),), 0)
    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as pages:
        resident = (ctypes.c_ubyte * 32)()
        memory = ctypes.c_char.from_buffer(pages)
        address = ctypes.c_void_p(ctypes.addressof(memory))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(address, ctypes.c_size_t(32 * BLOCK), resident) == 0
        del memory
    assert not any(resident)


def test_the_kernel_is_not_asked_for_what_it_can_t_do_at_once(
    file: JournalFile, writes: KernelWrites
) -> None:
    assert not file.start((b"first",), 0, writes)
    file.write((bytes(64 * BLOCK),), 0)
    end = going_on(file)
    assert not file.start((b"elsewhere",), end + 1, writes)
    assert not file.start((bytes(KERNEL_BYTES + 1),), end, writes)
    assert file.start((bytes(KERNEL_BYTES),), end, writes)
    awaited(writes)
    assert file.ended(writes)


def test_what_the_kernel_did_not_write_is_written_then(
    file: JournalFile, path: Path, writes: KernelWrites
) -> None:
    file.write((bytes(2 * BLOCK),), 0)
    end = going_on(file)
    assert file.start((b"more",), end, writes)
    awaited(writes)
    writes.written = -errno.EAGAIN
    assert not file.ended(writes)
    file.write((b"more",), end)
    assert path.read_bytes()[:10] == b"firstmore\0"
    assert by_kernel(file, b"again", end + 4, writes)


@pytest.mark.parametrize("result", [0, 3, *(-code for code in sorted(PASSING))])
def test_what_the_kernel_did_not_write_is_to_be_written(
    file: JournalFile, writes: KernelWrites, result: int
) -> None:
    assert file.start((b"more",), going_on(file), writes)
    awaited(writes)
    assert writes.written == BLOCK
    writes.written = result
    assert not file.ended(writes)


def test_an_error_of_the_disk_is_raised(file: JournalFile, writes: KernelWrites) -> None:
    writes.written = -errno.EIO
    with pytest.raises(OSError, match="Input/output error") as raised:
        file.ended(writes)
    assert raised.value.errno == errno.EIO


def test_the_kernel_tells_what_is_wrong_and_goes_on(
    file: JournalFile, writes: KernelWrites
) -> None:
    assert writes.begin(-1, file._memory.address, BLOCK, 0)
    awaited(writes)
    assert writes.written == -errno.EBADF
    assert by_kernel(file, b"more", going_on(file), writes)


def test_what_can_t_begin_leaves_nothing_behind(
    file: JournalFile, path: Path, writes: KernelWrites, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    end = going_on(file)
    tail = writes._numbers[writes._tail]
    with monkeypatch.context() as failing:
        failing.setattr(kernel_writes, "_call", busy)
        assert not file.start((b"second",), end, writes)
    assert writes._numbers[writes._tail] == tail
    assert by_kernel(file, b"third", end, writes)
    assert path.read_bytes() == b"firstthird".ljust(BLOCK, b"\0")


def test_that_there_may_be_a_result_is_only_a_hint(file: JournalFile, writes: KernelWrites) -> None:
    """A result that is there already, of the write before, is not taken for it."""
    end = going_on(file)
    for number in range(5):
        os.eventfd_write(writes.event, 1)
        assert not writes.look()
        assert by_kernel(file, b"more", end + 4 * number, writes)
        assert not writes.look()


def test_the_result_of_another_write_is_not_taken_for_it(
    file: JournalFile, writes: KernelWrites
) -> None:
    assert file.start((b"first",), going_on(file), writes)
    with pytest.MonkeyPatch.context() as forgotten:
        forgotten.setattr(writes, "_number", 7)
        ready, _, _ = select.select([writes.event], [], [], SECONDS)
        assert ready
        assert not writes.look()
    assert by_kernel(file, b"more", going_on(file), writes)


def test_it_waits_for_a_result(file: JournalFile, writes: KernelWrites) -> None:
    assert file.start((b"more",), going_on(file), writes)
    writes.wait()
    assert file.ended(writes)


def fail(code: int, times: int = 1) -> Any:
    """A call of the system that fails once it was called so often."""
    real, left = kernel_writes._call, [times]

    def call(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    return call


@pytest.mark.parametrize("times", [1, 2])
def test_a_system_that_does_not_allow_it_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    before = open_files()
    monkeypatch.setattr(kernel_writes, "_call", fail(errno.EPERM, times))
    with pytest.raises(OSError, match="Operation not permitted"):
        KernelWrites()
    assert open_files() == before


def test_one_that_is_too_old_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    monkeypatch.setattr(kernel_writes, "_FEATURE_SINGLE_MMAP", 0)
    with pytest.raises(OSError, match="this io_uring is too old"):
        KernelWrites()
    assert open_files() == before


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(OSError, match="no io_uring on darwin"):
        KernelWrites()


def test_closed_it_leaves_no_file_behind() -> None:
    before = open_files()
    KernelWrites().close()
    assert open_files() == before


class Ring:
    """A journal of real blocks, and which records it has to have."""

    def __init__(self, file: JournalFile, writes: KernelWrites) -> None:
        self.journal = Journal(file, SALT, Place(0, 0), Place(0, 0))
        self.journal.write_ahead()
        self.kept: list[tuple[Place, bytes]] = []
        self.by_kernel = 0
        self._writes = writes

    def append(self, payload: bytes, *, by_kernel: bool) -> None:
        place = None
        if by_kernel and self.journal.start(payload, self._writes):
            awaited(self._writes)
            place = self.journal.ended(self._writes)
            self.by_kernel += place is not None
        place = place or self.journal.append(payload)
        if place is not None:
            self.kept.append((place, payload))

    def give_up(self, count: int) -> None:
        del self.kept[:count]
        self.journal.tail = self.kept[0][0] if self.kept else self.journal.head


@pytest.fixture
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length of a ring, which can't be made longer."""
    monkeypatch.setattr(sqlite_journal, "START_BYTES", 2 * BLOCK)
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", 2 * BLOCK)


@pytest.mark.parametrize("seed", range(8))
def test_exactly_the_records_that_are_needed_are_read_from_blocks(
    file: JournalFile, writes: KernelWrites, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_journal, "START_BYTES", 4 * BLOCK)
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", MOST)
    choice = random.Random(seed)
    ring = Ring(file, writes)
    laps = taken = 0
    for step in range(300):
        before = ring.journal.head.offset
        match choice.randrange(12):
            case 0 | 1:
                ring.give_up(choice.randrange(len(ring.kept) + 1))
            case 2 if ring.journal.is_short():
                ring.journal.lengthen()
            case _:
                most = choice.choice((30, 300, BLOCK, 4 * BLOCK))
                payload = choice.randbytes(choice.randrange(most))
                ring.append(payload, by_kernel=bool(choice.randrange(3)))
        laps += ring.journal.head.offset < before
        found = islice(read(file, SALT, ring.journal.tail), len(ring.kept) + 1)
        assert list(found) == ring.kept, step
        os.posix_fadvise(file._file, 0, 0, os.POSIX_FADV_DONTNEED)
        taken = max(taken, len(ring.kept))
        assert file.size() <= MOST
    assert laps > 3
    assert taken > 3
    assert ring.by_kernel > 50


@pytest.mark.usefixtures("two_blocks")
def test_the_zeros_behind_a_record_leave_the_tail_alone(
    file: JournalFile, writes: KernelWrites
) -> None:
    """The head comes round to just before the tail, in one block with it."""
    ring = Ring(file, writes)
    for number in range(7):
        ring.append(bytes([number]) * 1000, by_kernel=False)
    ring.give_up(3)
    assert ring.journal.tail.offset == 3 * (1000 + HEADER)
    assert ring.journal.append(b"x" * 2000) is None
    assert list(read(file, SALT, ring.journal.tail)) == ring.kept
    ring.give_up(2)
    ring.append(b"x" * 2000, by_kernel=False)
    ring.append(b"y" * 1000, by_kernel=True)
    assert (ring.kept[-1][0].offset, ring.by_kernel) == (2000 + HEADER, 1)
    assert list(read(file, SALT, ring.journal.tail)) == ring.kept


def refused(ring: Ring, payload: bytes, writes: KernelWrites) -> None:
    """Have the kernel write a record, and say that it did not."""
    assert ring.journal.start(payload, writes)
    awaited(writes)
    writes.written = -errno.EAGAIN
    assert ring.journal.ended(writes) is None


def test_a_record_that_the_kernel_did_not_write_is_appended_then(
    file: JournalFile, writes: KernelWrites
) -> None:
    ring = Ring(file, writes)
    ring.append(b"first", by_kernel=False)
    refused(ring, b"second", writes)
    ring.append(b"second", by_kernel=False)
    ring.append(b"third", by_kernel=True)
    assert ring.by_kernel == 1
    assert list(read(file, SALT, ring.journal.tail)) == ring.kept


@pytest.mark.usefixtures("two_blocks")
def test_one_that_the_disk_has_all_the_same_is_not_read_though_the_next_is_elsewhere(
    file: JournalFile, writes: KernelWrites
) -> None:
    """Both have the same number."""
    ring = Ring(file, writes)
    for number in range(6):
        ring.append(bytes([number]) * 1200, by_kernel=False)
    ring.give_up(5)
    refused(ring, b"small", writes)
    ring.append(b"large" * 200, by_kernel=False)
    assert ring.kept[-1][0].offset == 0
    assert list(read(file, SALT, ring.journal.tail)) == ring.kept


def test_the_kernel_is_asked_for_nothing_before_a_failed_record_is_void(
    file: JournalFile, writes: KernelWrites, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Ring(file, writes)
    ring.append(b"first", by_kernel=False)
    refused(ring, b"second", writes)
    monkeypatch.setattr(file, "start", lambda *_: pytest.fail("it was asked"))
    assert not ring.journal.start(b"second", writes)


def test_memory_that_has_grown_keeps_the_edge(file: JournalFile, path: Path) -> None:
    end = going_on(file)
    file.write((b"m" * 9 * BLOCK,), end)
    assert path.read_bytes()[: end + 1] == b"firstm"
    assert len(file._memory.view) == 16 * BLOCK
    assert journal_file.rounded_up(end + 9 * BLOCK) == file.size()
