"""The statements of the SQLite store: few and large ones.

Every step of a statement lets other threads of Python run and then has to wait for its turn (up to
5 ms beside a busy event loop: `sys.getswitchinterval`). So rows are written many at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import apsw
import msgspec.msgpack

from actorbus.store import Attempt, Batch
from transport.stores.sqlite_schema import scalar

Row = tuple[Any, ...]
Statement = tuple[str, Row]

_ROWS: Final = 64
"""Rows of one statement: past that the gain is small and the text long."""

_INSERT_BATCHES: Final = (
    "INSERT INTO batches (topic_id, first, count, expires_at, created_at, events) VALUES "
)
_PUT_GROUPS: Final = "INSERT INTO groups (id, topic_id, app_id, options, floor, settled) VALUES "
_NEWER_GROUPS: Final = (
    " ON CONFLICT (id) DO UPDATE"
    " SET options=excluded.options, floor=excluded.floor, settled=excluded.settled"
)
_PUT_TOPICS: Final = (
    "INSERT INTO topics (id, name, gone) VALUES ",
    " ON CONFLICT (id) DO UPDATE SET name=excluded.name, gone=excluded.gone",
)
_PUT_ATTEMPTS: Final = (
    "INSERT OR REPLACE INTO attempts (group_id, position, attempts, lost, not_before) VALUES "
)
_DROP_ATTEMPTS: Final = ("DELETE FROM attempts WHERE (group_id, position) IN (VALUES ", ")")

_events = msgspec.msgpack.Decoder(tuple[bytes, ...])
pack_events = msgspec.msgpack.Encoder().encode


class Changes:
    """What the next commit writes, and how to take it back in memory if that fails."""

    def __init__(self) -> None:
        self.batches: list[Row] = []
        self.topics: dict[int, Row] = {}
        self.groups: list[Row] = []
        self.attempts: list[Row] = []
        self.settled_attempts: list[Row] = []
        self.removals: list[Statement] = []
        self._undo: list[Callable[[], object]] = []

    def on_failure(self, undo: Callable[[], object]) -> None:
        """Have `undo` called if the commit fails, the last one first."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Take everything back in memory."""
        while self._undo:
            self._undo.pop()()

    def statements(self) -> list[Statement]:
        """All of it, as few statements as possible."""
        return [
            *_many(*_PUT_TOPICS, list(self.topics.values())),
            *_many(_PUT_GROUPS, _NEWER_GROUPS, self.groups),
            *_many(_INSERT_BATCHES, "", self.batches),
            *_many(_PUT_ATTEMPTS, "", self.attempts),
            *_many(*_DROP_ATTEMPTS, self.settled_attempts),
            *self.removals,
        ]

    def remove_batches(self, topic_id: int, start: int, end: int) -> None:
        """Remove the batches of a topic that begin from `start` to before `end`."""
        statement = "DELETE FROM batches WHERE topic_id=? AND first>=? AND first<?"
        self.removals.append((statement, (topic_id, start, end)))

    def remove_group(self, group_id: int) -> None:
        """Remove a group and its attempts."""
        self.removals.append(("DELETE FROM groups WHERE id=?", (group_id,)))
        self.removals.append(("DELETE FROM attempts WHERE group_id=?", (group_id,)))

    def remove_topic(self, topic_id: int) -> None:
        """Remove a topic's row; its batches have gone before."""
        self.removals.append(("DELETE FROM topics WHERE id=?", (topic_id,)))


def _many(head: str, tail: str, rows: Sequence[Row]) -> Iterator[Statement]:
    for start in range(0, len(rows), _ROWS):
        chunk = rows[start : start + _ROWS]
        marks = "(" + ",".join("?" * len(chunk[0])) + ")"
        values = tuple(value for row in chunk for value in row)
        yield head + ",".join([marks] * len(chunk)) + tail, values


class Tables:
    """Reads and writes rows; raises `apsw.Error`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def write(self, statements: Sequence[Statement]) -> None:
        """Make these changes durable, all or none."""
        if len(statements) == 1:  # a transaction of its own: two steps saved
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
                events = _events.decode(packed)
                yield Batch(first, events, sum(map(len, events)), expires_at)
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
