"""What one commit of the SQLite store writes, as one statement.

Every step of a statement lets other threads of Python run and then has to wait for its turn, beside
a busy event loop up to `sys.getswitchinterval` each time. Beside one, a transaction of four
statements took 1.8 times as long as this one. So all rows of a commit are inserted into a view,
whose triggers put each where it belongs.

All but large batches: before the triggers see the rows, SQLite writes them to a table in memory and
reads them again. A commit of 46 events of 64 KiB took 2.5 times as long that way.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec.msgpack

Row = tuple[Any, ...]
Statement = tuple[str, Row]

_ROWS: Final = 64
"""Rows of one statement: past that the gain is small and the text long."""

LARGE_BYTES: Final = 32 * 1024
"""A batch from here on goes straight into its table."""

_PUT_TOPIC: Final = 0
_PUT_GROUP: Final = 1
_PUT_BATCH: Final = 2
_PUT_ATTEMPT: Final = 3
_DROP_ATTEMPT: Final = 4
_DROP_BATCHES: Final = 5
_DROP_GROUP: Final = 6
_DROP_TOPIC: Final = 7

_WIDTH: Final = 7
_PADDING: Final = [(None,) * (_WIDTH - length) for length in range(_WIDTH + 1)]
_MARKS: Final = "(" + ",".join("?" * _WIDTH) + ")"
_INSERT_LARGE: Final = (
    "INSERT INTO batches (topic_id, first, count, expires_at, created_at, events)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_INSERT: Final = "INSERT INTO changes (kind, a, b, c, d, e, f) VALUES "


CHANGES_VIEW: Final = """
CREATE TEMP VIEW changes (kind, a, b, c, d, e, f) AS SELECT 0, 0, 0, 0, 0, 0, 0 WHERE 0;

CREATE TEMP TRIGGER put_topic INSTEAD OF INSERT ON changes WHEN new.kind = 0 BEGIN
    INSERT INTO topics (id, name, gone) VALUES (new.a, new.b, new.c)
        ON CONFLICT (id) DO UPDATE SET name = excluded.name, gone = excluded.gone;
END;
CREATE TEMP TRIGGER put_group INSTEAD OF INSERT ON changes WHEN new.kind = 1 BEGIN
    INSERT INTO groups (id, topic_id, app_id, options, floor, settled)
        VALUES (new.a, new.b, new.c, new.d, new.e, new.f)
        ON CONFLICT (id) DO UPDATE
        SET options = excluded.options, floor = excluded.floor, settled = excluded.settled;
END;
CREATE TEMP TRIGGER put_batch INSTEAD OF INSERT ON changes WHEN new.kind = 2 BEGIN
    INSERT INTO batches (topic_id, first, count, expires_at, created_at, events)
        VALUES (new.a, new.b, new.c, new.d, new.e, new.f);
END;
CREATE TEMP TRIGGER put_attempt INSTEAD OF INSERT ON changes WHEN new.kind = 3 BEGIN
    INSERT INTO attempts (group_id, position, attempts, lost, not_before)
        VALUES (new.a, new.b, new.c, new.d, new.e)
        ON CONFLICT (group_id, position) DO UPDATE
        SET attempts = excluded.attempts, lost = excluded.lost, not_before = excluded.not_before;
END;
CREATE TEMP TRIGGER drop_attempt INSTEAD OF INSERT ON changes WHEN new.kind = 4 BEGIN
    DELETE FROM attempts WHERE group_id = new.a AND position = new.b;
END;
CREATE TEMP TRIGGER drop_batches INSTEAD OF INSERT ON changes WHEN new.kind = 5 BEGIN
    DELETE FROM batches WHERE topic_id = new.a AND first >= new.b AND first < new.c;
END;
CREATE TEMP TRIGGER drop_group INSTEAD OF INSERT ON changes WHEN new.kind = 6 BEGIN
    DELETE FROM groups WHERE id = new.a;
    DELETE FROM attempts WHERE group_id = new.a;
END;
CREATE TEMP TRIGGER drop_topic INSTEAD OF INSERT ON changes WHEN new.kind = 7 BEGIN
    DELETE FROM topics WHERE id = new.a;
END;
"""
"""To be executed once on a connection: it leaves nothing in the file."""

pack_events: Final = msgspec.msgpack.Encoder().encode


class Changes:
    """What the next commit writes, and how to take it back in memory if that fails."""

    def __init__(self) -> None:
        self.batches: list[Row] = []
        self.topics: dict[int, Row] = {}
        self.groups: list[Row] = []
        self.attempts: list[Row] = []
        self.settled_attempts: list[Row] = []
        self._removals: list[Row] = []
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
        large = [(_INSERT_LARGE, row) for row in self.batches if len(row[-1]) >= LARGE_BYTES]
        rows = list(self._rows())
        return large + [_insert(rows[at : at + _ROWS]) for at in range(0, len(rows), _ROWS)]

    def _rows(self) -> Iterator[Row]:
        for kind, rows in (
            (_PUT_TOPIC, self.topics.values()),
            (_PUT_GROUP, self.groups),
            (_PUT_BATCH, [row for row in self.batches if len(row[-1]) < LARGE_BYTES]),
            (_PUT_ATTEMPT, self.attempts),
            (_DROP_ATTEMPT, self.settled_attempts),
        ):
            for row in rows:
                yield (kind, *row)
        yield from self._removals

    def remove_batches(self, topic_id: int, start: int, end: int) -> None:
        """Remove the batches of a topic that begin from `start` to before `end`."""
        self._removals.append((_DROP_BATCHES, topic_id, start, end))

    def remove_group(self, group_id: int) -> None:
        """Remove a group and its attempts."""
        self._removals.append((_DROP_GROUP, group_id))

    def remove_topic(self, topic_id: int) -> None:
        """Remove a topic's row; its batches have gone before."""
        self._removals.append((_DROP_TOPIC, topic_id))


def _insert(rows: list[Row]) -> Statement:
    values: list[Any] = []
    for row in rows:
        values += row
        values += _PADDING[len(row)]
    return _INSERT + ",".join([_MARKS] * len(rows)), tuple(values)
