"""The file of the SQLite store: opening, checking and creating it, and what its errors mean."""

import errno
import os
from pathlib import Path
from typing import Any, Final

import apsw

from actorbus.errors import StoreError, StoreUnavailableError, StoreUnusableError

APPLICATION_ID: Final = 0x41435442
"""Marks the file as ours ("ACTB"), for us and for file(1)."""

SCHEMA_VERSION: Final = 2
"""Kept in `user_version`."""

QUICK_CHECK_BYTES: Final = 64 * 1024 * 1024
"""Files up to this size are checked whole at start (0.2 s); of larger ones the small tables."""

INTERNAL_STATUS: Final = 70
"""Exit status after a damaged file or an I/O error: EX_SOFTWARE of sysexits.h."""

LOG_BYTES: Final = 16 * 1024 * 1024
"""SQLite's own log is cut back to this after it had to grow beyond."""

PAGE_BYTES: Final = 8192
"""Of a new file; one that was made with others keeps them. Twice SQLite's default halves the calls
to the system for events of 64 KiB: 1.3 times as many MB/s, and single events took no longer."""

CACHE_BYTES: Final = 32 * 1024 * 1024
"""Most memory for pages. A batch's removal walks along its pages: within `TRIM_SECONDS` it finds
them here, at 600 MB/s. With SQLite's default of 2 MiB it read each again."""

_SCHEMA: Final = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY,
    name TEXT UNIQUE,       -- NULL: no group is left, its batches are being removed
    gone BLOB NOT NULL      -- removed positions above the first kept batch: start, end by turns
);
CREATE TABLE batches (
    topic_id INTEGER NOT NULL,
    first INTEGER NOT NULL,     -- position of the first event
    count INTEGER NOT NULL,
    expires_at INTEGER,         -- wall clock, milliseconds
    created_at INTEGER NOT NULL,
    events BLOB NOT NULL,       -- MessagePack array of bin
    PRIMARY KEY (topic_id, first)   -- not WITHOUT ROWID: looking for a row would read events
);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL,
    app_id TEXT NOT NULL,
    options BLOB NOT NULL,      -- MessagePack map
    floor INTEGER NOT NULL,     -- lowest position not settled
    settled BLOB NOT NULL,      -- settled positions above it: gap, length by turns
    UNIQUE (topic_id, app_id)
);
CREATE TABLE attempts (
    group_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    PRIMARY KEY (group_id, position)
) WITHOUT ROWID;
"""

_JOURNAL: Final = """
CREATE TABLE journal (      -- one row
    salt BLOB,              -- of its records; NULL: no journal is in use
    number INTEGER NOT NULL,    -- of the first record whose batches are not all in the table
    place INTEGER NOT NULL      -- its offset in the journal's file
);
INSERT INTO journal VALUES (NULL, 0, 0);
"""
"""Since version 2. The other rows may be newer than that record: later ones have them again."""

_SHOWN: Final = 100
"""Characters of a path that is no path."""

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a disk, a quota or a limit is full: a passing fault."""


def open_database(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open the file for this process alone, or create it.

    Raises:
        StoreUnusableError: one line for the operator.
    """
    _check_place(path)
    connection = None
    try:
        connection = apsw.Connection(str(path), vfs=vfs, statementcachesize=512)
        _prepare(connection, path)
    except (apsw.Error, StoreUnusableError) as error:
        if connection is not None:
            connection.close(True)
        if isinstance(error, StoreUnusableError):
            raise
        raise StoreUnusableError(_why_not(error, path)) from error
    return connection


def scalar(connection: apsw.Connection, statement: str, *values: Any) -> Any:
    """The first column of the first row, None if there is no row."""
    row = connection.execute(statement, values).get
    return row[0] if isinstance(row, tuple) else row


def meaning(error: apsw.Error | OSError, connection: apsw.Connection) -> StoreError:
    """What an error at work means: no room is a passing fault, all else the end.

    A failed write for lack of room (ENOSPC, and the quotas EDQUOT and EFBIG, which SQLite calls
    I/O errors) has been rolled back and may succeed later. After any other I/O error nothing is
    known of what reached the disk, and trying again would prove nothing.
    """
    no_room = (
        isinstance(error, apsw.FullError)
        or (isinstance(error, OSError) and error.errno in NO_ROOM)
        or (
            getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE
            and connection.system_errno in NO_ROOM
        )
    )
    if no_room:
        return StoreUnavailableError(f"no room on the disk of the store: {error}")
    if isinstance(error, (apsw.NoMemError, apsw.BusyError)):
        return StoreUnavailableError(f"the store can't now: {error}")
    return StoreUnusableError(
        f"the store's file failed: {error}: check the disk, then start again",
        exit_status=INTERNAL_STATUS,
    )


def damaged(path: Path, found: object) -> StoreUnusableError:
    """What to say of a file whose content makes no sense."""
    return StoreUnusableError(f"{path} is damaged ({_one_line(found)}): restore a backup")


def journal_path(database: Path) -> Path:
    """Where the journal of a database is."""
    return database.with_name(f"{database.name}.journal")


def not_opened(path: Path, error: Exception) -> StoreUnusableError:
    """What to say when the file was opened, and what is in it or in its journal can't be used."""
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return StoreUnusableError(f"{path} can't be opened: its disk is full: make room there")
    if isinstance(error, OSError):
        reason = (error.strerror or repr(error)).lower()
        return StoreUnusableError(
            f"{journal_path(path)} can't be opened: {reason}: check the rights on it, and its disk"
        )
    return damaged(path, error)  # rows that are none of ours


def damaged_at_work(what: str) -> StoreUnusableError:
    """What to say of a row that can't be read while the broker runs: it must not go on."""
    return StoreUnusableError(
        f"the store's file is damaged ({what}): restore a backup", exit_status=INTERNAL_STATUS
    )


def _check_place(path: Path) -> None:
    if "\0" in str(path):
        raise StoreUnusableError("the path of the sqlite url holds a null character: name a file")
    try:
        if path.is_dir():
            raise StoreUnusableError(f"{path} is a directory: name a file")
        if not path.parent.is_dir():
            raise StoreUnusableError(f"directory {path.parent} does not exist: create it first")
        writable = not path.exists() or os.access(path, os.R_OK | os.W_OK)
    except OSError as error:
        shown = f"{str(path)[:_SHOWN]}{'…' if len(str(path)) > _SHOWN else ''}"
        reason = (error.strerror or repr(error)).lower()
        raise StoreUnusableError(
            f"{shown} can't be opened: {reason}: check the path and the rights on its directories"
        ) from error
    if not writable:
        raise StoreUnusableError(_no_rights(path))


def _prepare(connection: apsw.Connection, path: Path) -> None:
    connection.set_busy_timeout(0)
    # EXCLUSIVE must come before WAL: the log's index then lives in memory, and the lock is kept.
    scalar(connection, "PRAGMA locking_mode=EXCLUSIVE")
    scalar(connection, f"PRAGMA page_size={PAGE_BYTES}")  # before WAL, which fixes it
    fresh = _is_fresh(connection, path)
    if scalar(connection, "PRAGMA journal_mode=WAL") != "wal":
        raise StoreUnusableError(f"{path} can't use a write-ahead log: name a file on a local disk")
    scalar(connection, "PRAGMA synchronous=FULL")
    # Checkpoints are ours, after the answers are out, so that their errors are seen.
    scalar(connection, "PRAGMA wal_autocheckpoint=0")
    scalar(connection, f"PRAGMA journal_size_limit={LOG_BYTES}")
    scalar(connection, f"PRAGMA cache_size=-{CACHE_BYTES // 1024}")
    if fresh:
        _create(connection)
    else:
        _check(connection, path)
        if connection.pragma("user_version") < SCHEMA_VERSION:
            _upgrade(connection)


def _is_fresh(connection: apsw.Connection, path: Path) -> bool:
    """Whether the file is new; raises if it is someone else's or of a newer version."""
    owner = scalar(connection, "PRAGMA application_id")
    version = scalar(connection, "PRAGMA user_version")
    tables = scalar(connection, "SELECT count(*) FROM sqlite_schema")
    if owner == version == tables == 0:
        return True
    if owner != APPLICATION_ID:
        raise StoreUnusableError(f"{path} is the database of another program: name another file")
    if version < 1:
        raise damaged(path, f"schema version {version}")
    if version > SCHEMA_VERSION:
        raise StoreUnusableError(
            f"{path} was written by a newer actorbus (schema {version}, "
            f"this one reads up to {SCHEMA_VERSION}): install that version"
        )
    return False


def _create(connection: apsw.Connection) -> None:
    with connection:
        connection.execute(_SCHEMA + _JOURNAL)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)


def _upgrade(connection: apsw.Connection) -> None:
    with connection:
        connection.execute(_JOURNAL)
        connection.pragma("user_version", SCHEMA_VERSION)


def _check(connection: apsw.Connection, path: Path) -> None:
    small = path.stat().st_size <= QUICK_CHECK_BYTES
    scopes = [""] if small else ["('topics')", "('groups')", "('attempts')"]
    for scope in scopes:
        found = scalar(connection, f"PRAGMA quick_check{scope}")
        if found != "ok":
            raise damaged(path, found)


def _no_rights(path: Path) -> str:
    return f"{path} can't be written: check the rights on it and on its directory"


def _why_not(error: apsw.Error, path: Path) -> str:
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return f"{path} is in use by another process: stop that broker, or name another file"
        case apsw.NotADBError():
            return f"{path} is not a database of actorbus: name another file"
        case apsw.CorruptError() | apsw.FormatError():
            return damaged(path, error).message
        case apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError():
            return _no_rights(path)
        case apsw.FullError():
            return f"{path} can't be opened: its disk is full: make room there"
        case _:
            return f"{path} can't be opened: {_one_line(error)}"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]
