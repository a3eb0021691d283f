"""What of the file is touched for a large batch."""

from pathlib import Path

import apsw
import pytest

from transport.stores.sqlite.schema import open_database
from transport.stores.sqlite.tables import Tables

BATCHES = 16
BYTES = 1024 * 1024


@pytest.fixture
def connection(tmp_path: Path) -> apsw.Connection:
    """A file with batches of one topic that are 128 pages each."""
    opened = open_database(tmp_path / "actorbus.db")
    for first in range(BATCHES):
        row = (1, first, 1, None, 0, bytes(BYTES))
        opened.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", row)
    return opened


def touched(connection: apsw.Connection) -> int:
    """Pages asked for since the last call."""
    kinds = (apsw.SQLITE_DBSTATUS_CACHE_HIT, apsw.SQLITE_DBSTATUS_CACHE_MISS)
    return sum(connection.status(kind, reset=True)[0] for kind in kinds)


def test_to_look_for_a_batch_reads_no_events(connection: apsw.Connection) -> None:
    tables = Tables(connection)
    touched(connection)
    assert tables.last_before(1, BATCHES // 2) == (BATCHES // 2 - 1, 1, 0)
    assert touched(connection) < 20


def test_what_was_just_written_is_removed_without_reading_the_file(
    connection: apsw.Connection,
) -> None:
    connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS, reset=True)
    connection.execute("DELETE FROM batches WHERE topic_id=1")
    assert connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)[0] == 0
