"""Where the tests of the SQLite store keep it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transport.stores.sqlite.kit import Disk
from transport.stores.sqlite.journal_file import JournalFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "actorbus.db"


@pytest.fixture
def file(path: Path) -> Iterator[JournalFile]:
    """A journal's file, where the database would be."""
    file = JournalFile(path)
    yield file
    file.close()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk("faulty")
    yield disk
    disk.unregister()
