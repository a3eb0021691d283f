"""The ring: what was written is read again, and nothing else ever is."""

import errno
import fcntl
import os
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pytest

from transport.stores.sqlite import journal as sqlite_journal
from transport.stores.sqlite import journal_file
from transport.stores.sqlite.journal import DamagedJournalError, Journal, Place, read
from transport.stores.sqlite.journal_file import JournalFile

SALT: Final = b"one salt"
OTHER_SALT: Final = b"2nd salt"
HEADER: Final = 24
BEGINNING: Final = Place(0, 0)
START: Final = 1000
MOST: Final = 5000
AHEAD: Final = 3000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_journal, "START_BYTES", START)
    monkeypatch.setattr(sqlite_journal, "MOST_BYTES", MOST)
    monkeypatch.setattr(sqlite_journal, "AHEAD_BYTES", AHEAD)
    monkeypatch.setattr(journal_file, "BLOCK", 1)  # blocks: test_journal_file
    monkeypatch.setattr(journal_file, "_open_direct", lambda path: None)


def payloads(file: JournalFile, tail: Place = BEGINNING, salt: bytes = SALT) -> list[bytes]:
    found = [payload for _, payload in islice(read(file, salt, tail), MOST // HEADER + 1)]
    assert len(found) <= MOST // HEADER  # else the ring is read round and round
    return found


def record(length: int, mark: int = 0) -> bytes:
    """A payload whose record has this length."""
    return bytes([mark % 256]) * (length - HEADER)


def appended(journal: Journal, payload: bytes) -> Place:
    place = journal.append(payload)
    assert place is not None
    return place


def fresh(file: JournalFile, salt: bytes = SALT) -> Journal:
    return Journal(file, salt, BEGINNING, BEGINNING)


def filled(file: JournalFile, *lengths: int) -> Journal:
    """A journal with records of these lengths."""
    journal = fresh(file)
    for mark, length in enumerate(lengths):
        appended(journal, record(length, mark))
    return journal


def flipped(path: Path, offset: int) -> None:
    with path.open("r+b") as bare:
        bare.seek(offset)
        (byte,) = bare.read(1)
        bare.seek(offset)
        bare.write(bytes([byte ^ 0x10]))


# One lap.


def test_records_are_read_in_order_with_their_places(file: JournalFile) -> None:
    journal = fresh(file)
    places = [appended(journal, payload) for payload in (b"", b"first", b"second")]
    assert places == [(0, 0), (1, HEADER), (2, 2 * HEADER + 5)]
    assert payloads(file) == [b"", b"first", b"second"]
    assert [place for place, _ in islice(read(file, SALT, BEGINNING), 4)] == places
    assert payloads(file, places[2]) == [b"second"]
    assert payloads(file, journal.head) == []
    assert journal.tail == (0, 0)


def test_an_empty_file_has_no_records(file: JournalFile) -> None:
    assert payloads(file) == []
    fresh(file).write_ahead(START)
    assert file.size() == START
    assert payloads(file) == []


@pytest.mark.parametrize("then", [b"", bytes(200), b"\xff" * 200])
def test_a_record_torn_anywhere_ends_the_journal(path: Path, then: bytes) -> None:
    with path.open("wb"):
        pass
    file = JournalFile(path)
    journal = filled(file, 50, 60, 70)
    whole = path.read_bytes()
    for cut in range(110, 180):
        path.write_bytes(whole[:cut] + then)
        if whole[:cut] + then[: 180 - cut] == whole:
            continue  # its end is as good as written
        assert payloads(file) == [record(50, 0), record(60, 1)], cut
    path.write_bytes(whole)
    assert len(payloads(file)) == 3
    assert journal.head == (3, 180)
    file.close()


def test_any_damage_to_the_last_record_ends_the_journal(file: JournalFile, path: Path) -> None:
    filled(file, 50, 60, 70)
    for offset in range(110, 180):
        flipped(path, offset)
        assert payloads(file) == [record(50, 0), record(60, 1)], offset
        flipped(path, offset)


def test_any_damage_before_the_last_record_is_found(file: JournalFile, path: Path) -> None:
    filled(file, 50, 60, 70)
    for offset in range(110):
        flipped(path, offset)
        number = 0 if offset < 50 else 1
        with pytest.raises(DamagedJournalError) as caught:
            payloads(file)
        assert str(caught.value) == f"record {number} can't be read, although later ones can"
        flipped(path, offset)


def test_damage_is_found_whatever_comes_after_the_next_record(
    file: JournalFile, path: Path
) -> None:
    """Also where later records stand before it, and after such as can't be read either."""
    journal = filled(file, 300, 300, 300)
    journal.tail = Place(2, 600)
    assert appended(journal, record(200)) == (3, 0)
    assert appended(journal, record(200)) == (4, 200)
    flipped(path, 700)
    flipped(path, 100)
    with pytest.raises(DamagedJournalError, match="record 2 "):
        payloads(file, journal.tail)


def test_damage_before_the_first_record_that_is_needed_is_none(
    file: JournalFile, path: Path
) -> None:
    filled(file, 50, 60, 70)
    flipped(path, 30)
    assert payloads(file, Place(1, 50)) == [record(60, 1), record(70, 2)]


# Laps and openings.


def test_the_ring_begins_again_where_room_was_made(file: JournalFile) -> None:
    journal = filled(file, 400, 500)
    journal.tail = Place(1, 400)
    assert appended(journal, record(150, 2)) == (2, 0)
    assert payloads(file, journal.tail) == [record(500, 1), record(150, 2)]


def test_a_record_fits_to_the_last_byte(file: JournalFile) -> None:
    journal = filled(file, START // 2, START // 2)
    assert journal.head == (2, START)
    assert file.size() == START


def test_the_head_never_meets_the_tail(file: JournalFile) -> None:
    """A full ring would look like an empty one."""
    journal = filled(file, 400, 500)
    journal.tail = Place(1, 400)
    assert appended(journal, record(300, 2)) == (2, 0)
    assert journal.append(record(100)) is None
    assert appended(journal, record(99, 3)) == (3, 300)
    assert len(payloads(file, journal.tail)) == 3
    assert journal.append(b"") is None


def test_room_before_the_tail_must_be_more_than_the_record(file: JournalFile) -> None:
    journal = filled(file, 400, 4500)
    journal.tail = Place(1, 400)
    assert journal.append(record(400)) is None
    assert appended(journal, record(399)) == (2, 0)


def test_what_finds_no_room_leaves_all_as_it_was(file: JournalFile) -> None:
    journal = filled(file, 400)
    for length in (MOST + 1, MOST - 399):
        assert journal.append(record(length)) is None
    assert journal.head == (1, 400)
    assert file.size() == 400
    assert len(payloads(file)) == 1


def test_records_of_an_earlier_lap_are_not_read(file: JournalFile) -> None:
    """They are where the next one would be, with the right salt and the right CRC."""
    journal = filled(file, *[100] * 10)
    journal.tail = Place(9, 900)
    appended(journal, record(100, 77))
    assert payloads(file, journal.tail) == [record(100, 9), record(100, 77)]
    journal.tail = journal.head
    assert payloads(file, journal.tail) == []


def test_records_of_an_earlier_journal_are_not_read(file: JournalFile) -> None:
    """They are where the next one would be, with the right number and the right CRC."""
    filled(file, 100, 100, 100)
    journal = fresh(file, OTHER_SALT)
    assert payloads(file, journal.tail, OTHER_SALT) == []
    appended(journal, record(100, 9))
    assert payloads(file, journal.tail, OTHER_SALT) == [record(100, 9)]
    with pytest.raises(DamagedJournalError):
        payloads(file)


def test_the_number_is_what_tells_a_lap_at_the_beginning(file: JournalFile) -> None:
    journal = filled(file, 300, 600)
    assert payloads(file, Place(2, 900)) == []
    journal.tail = Place(1, 300)
    appended(journal, record(200, 2))
    assert payloads(file, Place(2, 900)) == [record(200, 2)]


def test_it_goes_on_where_an_earlier_opening_ended(file: JournalFile) -> None:
    earlier = filled(file, 400, 500)
    earlier.tail = Place(1, 400)
    appended(earlier, record(150, 2))
    later = Journal(file, SALT, earlier.tail, earlier.head)
    assert later.append(record(250)) is None
    assert appended(later, record(200, 3)) == (3, 150)
    assert payloads(file, later.tail) == [record(500, 1), record(150, 2), record(200, 3)]


def test_a_new_file_may_begin_anywhere(file: JournalFile) -> None:
    """Numbers and places go on from the journal of an earlier run."""
    for number, offset in ((7, 800), (8, 4500)):
        journal = Journal(file, SALT, Place(number, offset), Place(number, offset))
        journal.write_ahead()
        assert appended(journal, record(300)) == (number, 0)
        assert payloads(file, journal.tail) == [record(300)]


class Model:
    """Which records there must be, and where the ring may put none."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.kept: list[tuple[Place, bytes]] = []

    def append(self, payload: bytes) -> None:
        place = self.journal.append(payload)
        if place is None:
            return
        start, end = place.offset, place.offset + HEADER + len(payload)
        for other, its in self.kept:
            assert end <= other.offset or start >= other.offset + HEADER + len(its)
        assert end <= MOST
        self.kept.append((place, payload))

    def give_up(self, count: int) -> None:
        del self.kept[:count]
        self.journal.tail = self.kept[0][0] if self.kept else self.journal.head


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_exactly_the_records_that_are_needed_are_read(
    file: JournalFile, seed: int
) -> None:
    choice = random.Random(seed)
    model = Model(fresh(file))
    taken = 0
    for step in range(160):
        match choice.randrange(10):
            case 0 | 1 | 2:
                model.give_up(choice.randrange(len(model.kept) + 1))
            case 3 if model.journal.is_short():
                model.journal.lengthen()
            case _:
                most = choice.choice((30, 300, 1500))
                model.append(choice.randbytes(choice.randrange(most)))
        found = islice(read(file, SALT, model.journal.tail), len(model.kept) + 1)
        assert list(found) == model.kept, step
        taken = max(taken, len(model.kept))
        assert file.size() <= MOST
    assert model.journal.head.number > 60
    assert taken > 3


# Length.


def test_a_longer_ring_is_written_ahead_and_has_its_records_still(file: JournalFile) -> None:
    journal = filled(file, 300, 300, 300)
    assert journal.lengthen()
    assert file.size() == AHEAD
    assert payloads(file) == [record(300, mark) for mark in range(3)]


def test_a_ring_that_an_append_made_longer_has_its_records_still_when_lengthened(
    file: JournalFile,
) -> None:
    journal = fresh(file)
    journal.write_ahead(START)
    for mark in range(3):
        appended(journal, record(600, mark))
    assert journal.lengthen()
    assert payloads(file) == [record(600, mark) for mark in range(3)]
    assert file.size() == AHEAD


def test_only_so_much_is_written_ahead(file: JournalFile) -> None:
    journal = fresh(file)
    assert journal.lengthen()
    assert file.size() == AHEAD
    assert not journal.lengthen()
    assert [appended(journal, record(1000)).offset for _ in range(5)] == [*range(0, MOST, 1000)]
    assert file.size() == MOST


def test_a_ring_that_began_again_can_t_be_made_longer(file: JournalFile) -> None:
    """What comes after its last record at the end is at its beginning."""
    journal = filled(file, 400, 500)
    journal.tail = Place(1, 400)
    appended(journal, record(150, 2))
    assert not journal.lengthen()
    journal.tail = journal.head
    assert journal.lengthen()


def test_a_ring_without_room_at_the_end_or_the_beginning_grows(file: JournalFile) -> None:
    journal = filled(file, 600)
    assert appended(journal, record(600, 1)) == (1, 600)
    assert file.size() == 1200
    assert payloads(file) == [record(600, 0), record(600, 1)]


def test_the_file_of_an_earlier_journal_is_used_as_it_is(file: JournalFile, path: Path) -> None:
    path.write_bytes(b"\xff" * 2000)
    journal = fresh(file)
    appended(journal, record(1500))
    assert file.size() == 2000
    assert payloads(file) == [record(1500)]


def test_a_file_that_is_too_long_is_used_up_to_the_most(file: JournalFile, path: Path) -> None:
    path.write_bytes(b"\xff" * (2 * MOST))
    journal = fresh(file)
    assert appended(journal, record(MOST - 100)) == (0, 0)
    assert journal.append(record(101)) is None
    assert not journal.lengthen()


def test_it_is_short_when_a_quarter_is_free_in_one_piece(file: JournalFile) -> None:
    journal = filled(file, 750)
    assert not journal.is_short()
    appended(journal, record(HEADER))
    assert journal.is_short()
    assert journal.is_short(Place(1, 249))
    assert not journal.is_short(Place(1, 250))
    journal.tail = Place(1, 750)
    assert not journal.is_short()
    appended(journal, record(500))
    assert not journal.is_short()
    appended(journal, record(HEADER))
    assert journal.is_short()


# The file.


def test_a_write_returns_when_it_is_durable(file: JournalFile) -> None:
    flags = fcntl.fcntl(file._file, fcntl.F_GETFL)
    assert flags & os.O_DSYNC == os.O_DSYNC
    assert not os.get_inheritable(file._file)


def test_an_append_is_one_call_to_the_system(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    pwritev = os.pwritev

    def counted(number: int, parts: Sequence[bytes], offset: int) -> int:
        calls.append(offset)
        return pwritev(number, parts, offset)

    journal = fresh(file)
    monkeypatch.setattr(os, "pwritev", counted)
    monkeypatch.delattr(os, "pwrite")
    appended(journal, b"one")
    appended(journal, b"two")
    assert calls == [0, HEADER + 3]


def test_its_name_is_made_durable(
    file: JournalFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino))
    file.make_known()
    assert synced == [path.parent.stat().st_ino]


@pytest.mark.parametrize("count", [1, HEADER - 1, HEADER, HEADER + 1, 70])
def test_a_short_write_is_gone_on_with(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    pwrite = os.pwrite

    def short(number: int, parts: Any, offset: int) -> int:
        data = parts if isinstance(parts, (bytes, memoryview)) else b"".join(parts)
        return pwrite(number, data[:count], offset)

    journal = fresh(file)
    monkeypatch.setattr(os, "pwritev", short)
    monkeypatch.setattr(os, "pwrite", short)
    sent = [bytes(range(60)), b"x" * 200]
    for payload in sent:
        appended(journal, payload)
    assert payloads(file) == sent


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("count", [0, HEADER, 100])
def test_the_next_one_takes_the_place_of_one_that_was_not_written_whole(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch, number: int, count: int
) -> None:
    pwrite = os.pwrite

    def short(file_number: int, parts: Sequence[bytes], offset: int) -> int:
        return pwrite(file_number, b"".join(parts)[:count], offset)

    def fails(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    journal = filled(file, 100)
    with monkeypatch.context() as full:
        full.setattr(os, "pwritev", short)
        full.setattr(os, "pwrite", fails)
        with pytest.raises(OSError, match=r".") as caught:
            journal.append(record(300, 8))
    assert caught.value.errno == number
    assert journal.head == (1, 100)
    assert payloads(file) == [record(100)]
    assert appended(journal, record(50, 9)) == (1, 100)
    assert payloads(file) == [record(100), record(50, 9)]


def test_one_that_was_not_written_whole_is_not_read_though_the_next_is_elsewhere(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def short(file_number: int, parts: Sequence[bytes], offset: int) -> int:
        return pwrite(file_number, b"".join(parts)[:60], offset)

    def fails(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    journal = filled(file, 400, 400)
    journal.tail = Place(1, 400)
    with monkeypatch.context() as full:
        full.setattr(os, "pwritev", short)
        full.setattr(os, "pwrite", fails)
        with pytest.raises(OSError, match="full"):
            journal.append(record(100, 8))
    assert appended(journal, record(300, 9)) == (2, 0)
    assert payloads(file, journal.tail) == [record(400, 1), record(300, 9)]


def test_a_ring_that_could_not_be_made_longer_is_as_it_was(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    journal = fresh(file)
    appended(journal, record(400))
    with monkeypatch.context() as full:
        full.setattr(os, "pwritev", fails)
        with pytest.raises(OSError, match="full"):
            journal.lengthen()
    assert appended(journal, record(500, 1)) == (1, 400)
    assert payloads(file) == [record(400), record(500, 1)]
    assert journal.lengthen()
    assert payloads(file) == [record(400), record(500, 1)]


def test_what_could_not_be_written_ahead_is_given_back(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwritev

    def half(descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        return write(descriptor, [b"".join(parts)[:300]], offset)

    def fails(*_: Any) -> int:
        raise OSError(errno.EDQUOT, "no quota")

    journal = fresh(file)
    appended(journal, record(400))
    with monkeypatch.context() as full:
        full.setattr(os, "pwritev", half)
        full.setattr(os, "pwrite", fails)
        with pytest.raises(OSError, match="no quota"):
            journal.lengthen()
    assert file.size() == 400
    assert payloads(file) == [record(400)]


def test_where_the_file_can_t_be_longer_the_ring_begins_again(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwritev

    def limited(descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        if offset + sum(map(len, parts)) > 1410:
            raise OSError(errno.EFBIG, "too large")
        return write(descriptor, parts, offset)

    monkeypatch.setattr(os, "pwritev", limited)
    journal = filled(file, 700, 700)
    with pytest.raises(OSError, match="too large"):
        journal.append(record(300, 2))
    assert journal.is_short()
    journal.tail = Place(1, 700)
    assert appended(journal, record(300, 2)) == (2, 0)
    assert payloads(file, journal.tail) == [record(700, 1), record(300, 2)]


def test_closing_again_is_no_error_and_removing_removes(file: JournalFile, path: Path) -> None:
    file.close()
    file.close()
    assert path.exists()
    file.remove()
    file.remove()
    assert not path.exists()
