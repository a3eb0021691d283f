"""The reads of the SQLite store, and the step that makes changes durable."""

from collections.abc import Iterator, Sequence
from typing import Final

import apsw
import msgspec.msgpack

from actorbus.store import Attempt, Batch
from transport.stores.sqlite.changes import Row
from transport.stores.sqlite.schema import scalar
from transport.stores.sqlite.statements import CHANGES_VIEW, Statement

_events: Final = msgspec.msgpack.Decoder(tuple[bytes, ...])


def unpack_batch(first: int, packed: bytes, expires_at: int | None) -> Batch:
    """The batch of these columns.

    Raises:
        msgspec.DecodeError: these are no events.
    """
    events = _events.decode(packed)
    return Batch(first, events, sum(map(len, events)), expires_at)


class Tables:
    """Reads and writes rows; raises `apsw.Error`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        scalar(connection, "PRAGMA temp_store=MEMORY")
        connection.execute(CHANGES_VIEW)

    def write(self, statements: Sequence[Statement]) -> None:
        """Make these changes durable, all or none."""
        if len(statements) == 1:  # a transaction of its own
            self._connection.execute(*statements[0])
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                self._connection.execute(*statement)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def journal(self) -> tuple[bytes | None, int, int]:
        """The journal's salt (None: it is not in use), and its first record's number and place."""
        rows: list[Row] = self._connection.execute(
            "SELECT salt, number, place FROM journal"
        ).fetchall()
        ((salt, number, place),) = rows
        return salt, number, place

    def topics(self) -> list[Row]:
        """All topics: id, name, gone."""
        return self._connection.execute("SELECT id, name, gone FROM topics").fetchall()

    def groups(self) -> list[Row]:
        """All groups: id, topic_id, app_id, options, floor, settled."""
        statement = "SELECT id, topic_id, app_id, options, floor, settled FROM groups"
        return self._connection.execute(statement).fetchall()

    def attempts(self, group_id: int) -> dict[int, Attempt]:
        """A group's histories by position."""
        statement = "SELECT position, attempts, lost, not_before FROM attempts WHERE group_id=?"
        rows = self._connection.execute(statement, (group_id,))
        return {row[0]: Attempt(*row) for row in rows}

    def span(self, topic_id: int) -> tuple[int, int] | None:
        """Where a topic's first batch begins and its last one ends; None without batches."""
        statement = (
            "SELECT (SELECT first FROM batches WHERE topic_id=?1 ORDER BY first LIMIT 1),"
            " (SELECT first+count FROM batches WHERE topic_id=?1 ORDER BY first DESC LIMIT 1)"
        )
        rows: list[Row] = self._connection.execute(statement, (topic_id,)).fetchall()
        start, end = rows[0]
        return None if start is None else (start, end)

    def batches(self, topic_id: int, position: int) -> Iterator[Batch]:
        """A topic's batches, from the one that holds `position` on."""
        statement = (
            "SELECT first, events, expires_at FROM batches WHERE topic_id=?1 AND first>=coalesce("
            "(SELECT first FROM batches WHERE topic_id=?1 AND first<=?2 ORDER BY first DESC"
            " LIMIT 1), ?2) ORDER BY first"
        )
        cursor = self._connection.cursor()
        try:
            for first, packed, expires_at in cursor.execute(statement, (topic_id, position)):
                yield unpack_batch(first, packed, expires_at)
        finally:
            cursor.close()

    def last_before(self, topic_id: int, end: int) -> tuple[int, int, int] | None:
        """The last batch that begins before `end`: first, count, created_at."""
        statement = (
            "SELECT first, count, created_at FROM batches WHERE topic_id=? AND first<?"
            " ORDER BY first DESC LIMIT 1"
        )
        return self._one(statement, topic_id, end)

    def first_from(self, topic_id: int, start: int) -> tuple[int, int, int] | None:
        """The first batch that begins at `start` or later: first, count, created_at."""
        statement = (
            "SELECT first, count, created_at FROM batches WHERE topic_id=? AND first>=?"
            " ORDER BY first LIMIT 1"
        )
        return self._one(statement, topic_id, start)

    def nth(self, topic_id: int, index: int) -> int | None:
        """Where a topic's batch number `index` begins."""
        statement = "SELECT first FROM batches WHERE topic_id=? ORDER BY first LIMIT 1 OFFSET ?"
        first: int | None = scalar(self._connection, statement, topic_id, index)
        return first

    def _one(self, statement: str, *values: int) -> tuple[int, int, int] | None:
        rows: list[Row] = self._connection.execute(statement, values).fetchall()
        return (rows[0][0], rows[0][1], rows[0][2]) if rows else None
