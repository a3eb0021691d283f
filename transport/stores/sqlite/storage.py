"""What the SQLite store has on its disk: the journal, and the tables that it is applied to."""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import apsw
import structlog

from actorbus.errors import StoreUnusableError
from actorbus.store import Attempt, Batch
from transport.stores.sqlite.changes import Changes, Row
from transport.stores.sqlite.journal import (
    SALT_BYTES,
    DamagedJournalError,
    Journal,
    Place,
    read,
)
from transport.stores.sqlite.journal_file import JournalFile
from transport.stores.sqlite.kernel_writes import KernelWrites
from transport.stores.sqlite.schema import NO_ROOM, PAGE_BYTES, damaged, journal_path
from transport.stores.sqlite.statements import statements
from transport.stores.sqlite.tables import Tables, unpack_batch
from transport.stores.sqlite.unapplied import Unapplied

SLICE_BYTES: Final = 1024 * 1024
"""Bytes of batches that are applied after one commit at the most: the next one waits for it."""

PENDING_BATCHES: Final = 25_000
"""Batches that are in memory and not in the tables; each takes some 600 bytes beside its events."""

CHECKPOINT_PAGES: Final = 8 * 1024 * 1024 // PAGE_BYTES
"""Pages of SQLite's write-ahead log (8 MiB) after which it is moved into the database."""

log = structlog.get_logger("actorbus.store")


class Storage:
    """Makes changes durable in the journal, applies them later, and reads as if that were done.

    Args:
        connection: the open database; closed by `close`.
        open_file: opens the journal's file.

    Raises:
        StoreUnusableError: the journal is missing or damaged.
        OSError, apsw.Error: the files failed, as they do from all methods that write.
        msgspec.DecodeError: a record is none of ours.
    """

    def __init__(
        self, connection: apsw.Connection, open_file: Callable[[Path], JournalFile] = JournalFile
    ) -> None:
        self._connection = connection
        self._tables = Tables(connection)
        self._unapplied = Unapplied()
        self._logged_pages = 0
        connection.set_wal_hook(self._logged)
        path = journal_path(Path(connection.filename))
        salt, number, place = self._tables.journal()
        if salt is not None and not path.exists():
            raise StoreUnusableError(
                f"{path} is missing, and may hold events: put it back beside the database"
            )
        self._salt: bytes | None = salt or os.urandom(SALT_BYTES)
        self._file = open_file(path)
        try:
            head = tail = Place(0, 0)
            if salt is not None:
                tail = Place(number, place)
                head = self._recover(salt, tail)
            self._journal = Journal(self._file, self._salt, tail, head)
            if salt is None:
                self._file.share(Path(connection.filename))
                self._file.make_known()
            if salt is None or self._unapplied.has_removals():
                self._apply(self._unapplied, 0)
        except BaseException:
            self._file.close()
            raise
        self._grow(self._journal.write_ahead)

    def _recover(self, salt: bytes, tail: Place) -> Place:
        """Read what a killed broker left in the journal; tells where that ends.

        It is not applied, so a start needs no room on the disk.
        """
        head = tail
        try:
            for found, payload in read(self._file, salt, tail):
                self._unapplied.add(Changes.unpack(payload), found)
                head = found.after(payload)
        except DamagedJournalError as error:
            raise damaged(Path(self._connection.filename), error) from error
        if head != tail:
            # The crash may have cut short the last write, or an I/O error ended it: once more.
            self._file.write(
                (self._file.read(head.offset - found.offset, found.offset),), found.offset
            )
        return head

    def _logged(self, _: apsw.Connection, __: str, pages: int) -> int:
        self._logged_pages = pages
        return apsw.SQLITE_OK

    # Writes.

    def write(self, changes: Changes) -> None:
        """Make these changes durable, all or none."""
        payload = changes.pack()
        place = self._journal.append(payload)
        if place is None:
            self.apply()
            place = self._journal.append(payload)
        if place is None:  # larger than the ring
            whole = Unapplied()
            whole.add(changes, self._journal.head)
            self._apply(whole, None)
        else:
            self._unapplied.add(changes, place)

    def start(self, changes: Changes, writes: KernelWrites) -> bool:
        """Have the kernel begin `write`; False: it does not, and `write` has to be called.

        Nothing else may be done with the storage until `ended` was called.
        """
        return self._journal.start(changes.pack(), writes)

    def ended(self, changes: Changes, writes: KernelWrites) -> bool:
        """Whether what was started is durable, now that it has ended; else `write` it."""
        place = self._journal.ended(writes)
        if place is not None:
            self._unapplied.add(changes, place)
        return place is not None

    def apply(self) -> None:
        """Bring all of the journal into the tables."""
        self._apply(self._unapplied, None)

    def _apply(self, unapplied: Unapplied, max_bytes: int | None) -> None:
        batches = unapplied.oldest(max_bytes)
        tail = unapplied.place_after(batches) or self._journal.head
        journal = (self._salt, tail.number, tail.offset)
        self._tables.write(statements(unapplied, batches, journal))
        unapplied.applied(batches)
        self._journal.tail = tail

    def untidy(self) -> bool:
        """Whether there is something for `tidy` to do; asked after each commit."""
        return (
            self._journal.is_short()
            or self._unapplied.count() > PENDING_BATCHES
            or bool(self._unapplied.removed_batches)
            or self._logged_pages >= CHECKPOINT_PAGES
        )

    def tidy(self, *, may_grow: bool) -> None:
        """Work that nobody waits for: make room in the journal, and move SQLite's own log.

        Args:
            may_grow: whether the disk has room.
        """
        if self._unapplied.removed_batches:
            self._apply(self._unapplied, 0)
        if self._unapplied.count() > PENDING_BATCHES:
            self._apply(self._unapplied, SLICE_BYTES)
        if self._journal.is_short():
            self._make_room(may_grow=may_grow)
        if self._logged_pages >= CHECKPOINT_PAGES:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._logged_pages = 0

    def _make_room(self, *, may_grow: bool) -> None:
        """Give up what is settled of the journal, else make it longer, else apply its oldest."""
        tail = self._unapplied.first_place() or self._journal.head
        if not self._journal.is_short(tail):
            self._apply(self._unapplied, 0)
        elif not (may_grow and self._grow(self._journal.lengthen)):
            self._apply(self._unapplied, SLICE_BYTES)

    def _grow(self, grow: Callable[[], bool]) -> bool:
        try:
            return grow()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # commits say themselves when there is none for them, either
            log.debug("store_journal_not_lengthened", reason=str(error))
            return False

    def close(self, *, broken: bool) -> None:
        """Bring all into the tables and leave one file; a broken one is left as it is."""
        try:
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, broken)
            if not broken:
                self._salt = None
                self.apply()
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._file.remove()
        finally:
            self._file.close()
            self._connection.close(True)

    # Reads.

    def topics(self) -> Collection[Row]:
        """All topics at the start: id, name, gone."""
        return ({row[0]: row for row in self._tables.topics()} | self._unapplied.topics).values()

    def groups(self) -> Collection[Row]:
        """All groups at the start: id, topic_id, app_id, options, floor, settled."""
        return ({row[0]: row for row in self._tables.groups()} | self._unapplied.groups).values()

    def span(self, topic_id: int) -> tuple[int, int] | None:
        """Where at the start a topic's first batch begins and its last one ends."""
        spans = [self._tables.span(topic_id), self._unapplied.span(topic_id)]
        known = [span for span in spans if span is not None]
        return (known[0][0], known[-1][1]) if known else None

    def attempts(self, group_id: int) -> dict[int, Attempt]:
        """A group's histories by position."""
        known = self._tables.attempts(group_id)
        for position, row in self._unapplied.attempts.get(group_id, {}).items():
            known.pop(position, None)
            if row is not None:
                known[position] = Attempt(*row[1:])
        return known

    def batches(self, topic_id: int, position: int) -> Iterator[Batch]:
        """A topic's batches, from the one that holds `position` on."""
        if not self._unapplied.begins_by(topic_id, position):
            yield from self._tables.batches(topic_id, position)
        for _, first, _, expires_at, _, packed in self._unapplied.batches(topic_id, position):
            yield unpack_batch(first, packed, expires_at)

    def last_before(self, topic_id: int, end: int) -> tuple[int, int, int] | None:
        """The last batch that begins before `end`: first, count, created_at."""
        row = self._unapplied.last_before(topic_id, end)
        return self._tables.last_before(topic_id, end) if row is None else (row[1], row[2], row[4])

    def first_from(self, topic_id: int, start: int) -> tuple[int, int, int] | None:
        """The first batch that begins at `start` or later: first, count, created_at."""
        if not self._unapplied.begins_by(topic_id, start):
            found = self._tables.first_from(topic_id, start)
            if found is not None:
                return found
        row = self._unapplied.first_from(topic_id, start)
        return None if row is None else (row[1], row[2], row[4])

    def nth_in_table(self, topic_id: int, index: int) -> int | None:
        """Where batch number `index` begins, of those of a topic that are in the table."""
        return self._tables.nth(topic_id, index)
