"""Where the tests of the SQLite store keep it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transport.stores.sqlite.kit import Disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "actorbus.db"


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk("faulty")
    yield disk
    disk.unregister()
