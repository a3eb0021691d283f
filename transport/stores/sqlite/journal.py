"""The journal of the SQLite store: a commit is one write to this file, durable when it returns.

A ring of records. SQLite's own commit makes the same durable with a write for each page that it
touches, five for a single event of 256 B, and takes turns with the event loop between them; this is
one call to the system. What is settled before the ring comes round never reaches the tables.

A record is a header (CRC-32 of all that follows, length of the payload, number, salt) and a
payload. It counts if the CRC is right, the salt that of this journal, and the number the next. The
tables tell where the first one is. A record that was torn by a crash had not been answered.

A write may be followed by zeros up to the next block (`journal_file`), so the head stays a block
behind the tail. As SQLite does, this trusts the disk to leave alone the bytes around those it is
told to write.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from transport.stores.sqlite.journal_file import JournalFile, rounded_up
from transport.stores.sqlite.kernel_writes import KernelWrites

SALT_BYTES: Final = 8

START_BYTES: Final = 1024 * 1024
"""Length of a new ring."""

STEP: Final = 8
"""How many times as long it becomes when it has become short."""

AHEAD_BYTES: Final = 16 * 1024 * 1024
"""How much is written ahead with zeros at the most: a write that makes the file longer has to write
its new length, too, and took twice as long. Beyond that records are large, and zeros would cost the
disk as much as they save."""

MOST_BYTES: Final = 48 * 1024 * 1024
"""Length of the ring at the most. 500 events of 64 KiB that are not settled yet are 32 MiB."""

SHORT: Final = 4
"""The ring is short when less than this part of it is free in one piece."""

_HEADER: Final = struct.Struct(f"<IIQ{SALT_BYTES}s")
_CRC_BYTES: Final = 4


class Place(NamedTuple):
    """Where a record is: its number, and its offset in the file."""

    number: int
    offset: int

    def after(self, payload: bytes) -> "Place":
        """Where the next record may be, if this is the payload of the one here."""
        return Place(self.number + 1, self.offset + _HEADER.size + len(payload))


class DamagedJournalError(Exception):
    """A record can't be read, although later ones can."""


class Journal:
    """The ring, from `tail`, the first record that is needed, to `head`, where the next one goes.

    Args:
        file: what is there but for its records is written over.
        salt: marks its records.
        tail: where they begin.
        head: where they end.
    """

    def __init__(self, file: JournalFile, salt: bytes, tail: Place, head: Place) -> None:
        self.tail = tail
        self.head = head
        self._file = file
        self._salt = salt
        self._failed: int | None = None
        self._started = (b"", 0)
        self._ahead = file.size()  # what is there is as good as zeros
        self._end = min(max(self._ahead, START_BYTES), MOST_BYTES)

    def append(self, payload: bytes) -> Place | None:
        """Make one record durable; tells where it is, or None: there is no room for it in the ring.

        Raises:
            OSError: it is not durable, and the next one takes its place.
        """
        self._void()
        record = self._record(payload)
        if record is None:
            return None
        parts, offset = record
        self._failed = offset
        try:
            self._file.write(parts, offset)
        except OSError:
            self._end = max(offset, min(self._end, self._ahead))  # where it can't be made longer
            raise
        return self._appended(payload, offset)

    def start(self, payload: bytes, writes: KernelWrites) -> bool:
        """Have the kernel begin `append`; False: it does not, and `append` has to be called.

        Nothing else may be done with the journal until `ended` was called.
        """
        record = self._record(payload) if self._failed is None else None
        if record is None:
            return False
        parts, offset = record
        if not self._file.start(parts, offset, writes):
            return False
        self._failed = offset
        self._started = payload, offset
        return True

    def ended(self, writes: KernelWrites) -> Place | None:
        """Where the record is that was started, now that it has ended; None: `append` it."""
        return self._appended(*self._started) if self._file.ended(writes) else None

    def _record(self, payload: bytes) -> tuple[tuple[bytes, bytes], int] | None:
        """The next record and its offset; None: there is no room for it."""
        offset = self._offset(_HEADER.size + len(payload))
        if offset is None:
            return None
        head = _HEADER.pack(0, len(payload), self.head.number, self._salt)[_CRC_BYTES:]
        checksum = zlib.crc32(payload, zlib.crc32(head)).to_bytes(_CRC_BYTES, "little")
        return (checksum + head, payload), offset

    def _appended(self, payload: bytes, offset: int) -> Place:
        """The record is durable."""
        self._failed = None
        place = Place(self.head.number, offset)
        self.head = place.after(payload)
        self._end = max(self._end, self.head.offset)
        self._ahead = max(self._ahead, self.head.offset)
        return place

    def _void(self) -> None:
        """See that a record whose write failed can't be read: the disk may have it all the same."""
        if self._failed is None:
            return
        if self._failed + _HEADER.size <= self._ahead:
            self._file.write((bytes(_HEADER.size),), self._failed)
        else:  # a write there might find no room again
            self._file.cut(self._failed)
            self._ahead = min(self._ahead, self._failed)
        self._failed = None

    def _offset(self, length: int) -> int | None:
        head, tail = self.head.offset, self.tail.offset
        if head < tail:
            return head if _ends_before(tail, head + length) else None
        if head + length <= self._end:
            return head
        if _ends_before(tail, length):
            return 0
        return head if head + length <= MOST_BYTES else None

    def is_short(self, tail: Place | None = None) -> bool:
        """Whether little is free; with another `tail`: whether it would be."""
        head, end = self.head.offset, (tail or self.tail).offset
        free = end - head if head < end else max(self._end - head, end)
        return free < self._end // SHORT

    def lengthen(self) -> bool:
        """Make the ring longer, if it may be; tells whether it was.

        Raises:
            OSError: it was not.
        """
        if self.head.offset < self.tail.offset or self._end >= MOST_BYTES:
            return False
        end = min(max(self._end * STEP, START_BYTES), MOST_BYTES)
        self.write_ahead(end)
        self._end = end
        return True

    def write_ahead(self, end: int = 0) -> bool:
        """Have bytes written up to the end of the ring or to `end`, as far as that pays.

        Raises:
            OSError: they were not.
        """
        missing = min(max(end, self._end), AHEAD_BYTES) - self._ahead
        if missing <= 0:
            return False
        try:
            self._file.write((bytes(missing),), self._ahead)
        except OSError:
            self._file.cut(self._ahead)  # the tables may need the room
            raise
        self._ahead += missing
        return True


def _ends_before(tail: int, end: int) -> bool:
    """Whether a record that ends there leaves the tail alone, and is seen to be behind it."""
    return end < tail and rounded_up(end) <= tail


def read(file: JournalFile, salt: bytes, tail: Place) -> Iterator[tuple[Place, bytes]]:
    """The payloads of all records from `tail` on.

    Raises:
        OSError: the file could not be read.
        DamagedJournalError: one can't be read, and later ones can.
    """
    place = tail
    while (found := _read(file, salt, place)) is not None:
        yield found
        place = found[0].after(found[1])
    if _has_later(file, salt, place.number):
        raise DamagedJournalError(f"record {place.number} can't be read, although later ones can")


def _read(file: JournalFile, salt: bytes, place: Place) -> tuple[Place, bytes] | None:
    """The record of this number: at its place, or where the ring begins again."""
    number = place.number
    for offset in (place.offset, 0):
        payload = _payload(file.read(_HEADER.size, offset), file, salt, number, offset)
        if payload is not None:
            return Place(number, offset), payload
    return None


def _payload(
    header: bytes, file: JournalFile, salt: bytes, number: int, offset: int
) -> bytes | None:
    if len(header) < _HEADER.size:
        return None
    checksum, length, found, its_salt = _HEADER.unpack(header)
    if (found, its_salt) != (number, salt) or length > MOST_BYTES:
        return None
    payload = file.read(length, offset + _HEADER.size)
    return payload if zlib.crc32(payload, zlib.crc32(header[_CRC_BYTES:])) == checksum else None


def _has_later(file: JournalFile, salt: bytes, number: int) -> bool:
    """Whether a sound record with a higher number is anywhere in the file."""
    whole = file.read(file.size(), 0)
    at = -1
    while (at := whole.find(salt, at + 1)) >= 0:
        offset = at - (_HEADER.size - SALT_BYTES)
        header = whole[max(offset, 0) : at + SALT_BYTES]
        if len(header) == _HEADER.size:
            later: int = _HEADER.unpack(header)[2]
            if later > number and _payload(header, file, salt, later, offset) is not None:
                return True
    return False
