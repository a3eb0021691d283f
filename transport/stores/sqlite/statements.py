"""Rows for the tables of the SQLite store, as few statements.

Every step of a statement lets other threads of Python run and then has to wait for its turn, beside
a busy event loop up to `sys.getswitchinterval` each time. Beside one, a transaction of four
statements took 1.8 times as long as this one. So rows of all kinds are inserted into a view, whose
triggers put each where it belongs.

All but large batches: before the triggers see the rows, SQLite writes them to a table in memory and
reads them again. 46 events of 64 KiB took 2.5 times as long that way.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from transport.stores.sqlite.changes import Row
from transport.stores.sqlite.unapplied import Pending, Unapplied

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
_SET_JOURNAL: Final = 8

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
CREATE TEMP TRIGGER set_journal INSTEAD OF INSERT ON changes WHEN new.kind = 8 BEGIN
    UPDATE journal SET salt = new.a, number = new.b, place = new.c;
END;
"""
"""To be executed once on a connection: it leaves nothing in the file."""


def statements(unapplied: Unapplied, batches: Sequence[Pending], journal: Row) -> list[Statement]:
    """What brings all that is unapplied into the tables, of its batches only these.

    Args:
        unapplied: what is to be written.
        batches: some of its batches.
        journal: the new row of `journal`: salt, number, place.
    """
    large = [row for row, _ in batches if len(row[-1]) >= LARGE_BYTES]
    small = [row for row, _ in batches if len(row[-1]) < LARGE_BYTES]
    rows = list(_rows(unapplied, small, journal))
    inserts = [_insert(rows[at : at + _ROWS]) for at in range(0, len(rows), _ROWS)]
    return inserts + [(_INSERT_LARGE, row) for row in large]


def _rows(unapplied: Unapplied, batches: Sequence[Row], journal: Row) -> Iterator[Row]:
    # Removals come first: a name may have been taken again by a row with another id.
    yield from ((_DROP_BATCHES, *removed) for removed in unapplied.removed_batches)
    yield from ((_DROP_GROUP, group_id) for group_id in unapplied.removed_groups)
    yield from ((_DROP_TOPIC, topic_id) for topic_id in unapplied.removed_topics)
    yield from ((_PUT_TOPIC, *row) for row in unapplied.topics.values())
    yield from ((_PUT_GROUP, *row) for row in unapplied.groups.values())
    yield from ((_PUT_BATCH, *row) for row in batches)
    for group_id, attempts in unapplied.attempts.items():
        for position, row in attempts.items():
            yield (_DROP_ATTEMPT, group_id, position) if row is None else (_PUT_ATTEMPT, *row)
    yield (_SET_JOURNAL, *journal)


def _insert(rows: list[Row]) -> Statement:
    values: list[Any] = []
    for row in rows:
        values += row
        values += _PADDING[len(row)]
    return _INSERT + ",".join([_MARKS] * len(rows)), tuple(values)
