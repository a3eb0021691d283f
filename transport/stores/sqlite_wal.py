"""The write-ahead log's file: long enough before it is needed, and moved into the database."""

import os
from pathlib import Path
from typing import Final

import apsw
import structlog

from transport.stores.sqlite_schema import PAGE_BYTES

CHECKPOINT_PAGES: Final = 48 * 1024 * 1024 // PAGE_BYTES
"""Pages written to the write-ahead log (48 MiB) after which they are moved into the database. What
is settled meanwhile frees its pages for others, so the longer the log, the fewer of its pages are
moved: events of 64 KiB went 1.14 times as fast as with 16 MiB. Below `JOURNAL_BYTES`, to which the
file would be cut back each time."""

AHEAD_PAGES: Final = 16 * 1024 * 1024 // PAGE_BYTES
"""Pages of the log (16 MiB) that are written ahead at the most. Beyond that commits are large, and
zeros would cost the disk as much as they save."""

STEP: Final = 8
"""How many times as long the file is made when it has been filled: a broker with little to do needs
little, and a busy one is there with four steps."""

log = structlog.get_logger("actorbus.store")


class WriteAheadLog:
    """Looked after between commits, by the thread that commits.

    A commit that makes the file longer has to write the file's new length, too. Over bytes that are
    there already, it took a half of the time: 190 µs instead of 340 for an event of 256 B on ext4,
    medians of 1,500. So zeros are written ahead of it. To SQLite they are the end of the log, as is
    whatever an earlier round has left there.

    Args:
        connection: the open database.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._path = Path(connection.filename_wal)
        self._frame: int = connection.pragma("page_size") + 24  # SQLite's file format, 4.2
        self._written = 0
        self._room = 0

    def tidy(self, *, may_grow: bool) -> None:
        """Make the log longer once it is full, and move it into the database once it is long.

        Args:
            may_grow: whether the disk has room.

        Raises:
            apsw.Error: it could not be moved.
        """
        # asked for, not told by a hook: that would wait for the interpreter's lock in each commit
        pages, _ = self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE, reset=True)
        self._written += pages
        most = min(AHEAD_PAGES, CHECKPOINT_PAGES)
        if self._written >= CHECKPOINT_PAGES:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._written = 0
        elif self._room < min(self._written, most) and may_grow:
            self._room = min(self._written * STEP, most)
            self._lengthen()

    def _lengthen(self) -> None:
        try:
            # the locks are on other files, so none is lost with the closing of this one
            file = os.open(self._path, os.O_WRONLY)
            try:
                length = os.fstat(file).st_size
                missing = self._room * self._frame - length
                if missing > 0:
                    os.pwrite(file, bytes(missing), length)
                    os.fdatasync(file)
            finally:
                os.close(file)
        except OSError as error:
            # commits are slower so, and say themselves what is wrong with the disk
            log.debug("store_log_not_lengthened", reason=str(error))
