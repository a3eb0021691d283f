import asyncio
import shutil
from pathlib import Path

import pytest

from tests.conformance.kit import events, never_fails
from tests.transport.stores.sqlite_kit import query, sqlite
from transport.stores import sqlite_wal
from transport.stores.disk import DiskSpace
from transport.stores.sqlite import SqliteStore
from transport.stores.sqlite_schema import PAGE_BYTES

COUNT = "SELECT count(*) FROM batches"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "actorbus.db"


def length(path: Path) -> int:
    return path.with_name("actorbus.db-wal").stat().st_size


async def fill(store: SqliteStore, count: int) -> None:
    for number in range(count):
        await store.append("t", events(number), None)


async def tidied(store: SqliteStore) -> None:
    """What follows the commit before is done: it comes before the second round from now."""
    for _ in range(2):
        await store.find("t", "a")


def test_commits_find_the_log_longer_than_they_need(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            await tidied(store)
            before = length(path)
            await fill(store, 1)
            assert length(path) == before

    asyncio.run(main())


def test_the_log_is_made_longer_in_steps_up_to_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_wal, "CHECKPOINT_PAGES", 400)
    seen: set[int] = set()

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            for _ in range(300):
                await fill(store, 1)
                await tidied(store)
                seen.add(length(path))
            assert max(seen) == 400 * (PAGE_BYTES + 24)

    asyncio.run(main())
    assert len(seen) <= 5


def test_what_a_kill_leaves_in_a_lengthened_log_is_found_again(path: Path, tmp_path: Path) -> None:
    left = tmp_path / "left" / path.name
    left.parent.mkdir()

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            await fill(store, 20)
            for file in path.parent.glob("actorbus.db*"):
                shutil.copy(file, left.parent)

    asyncio.run(main())
    assert query(left, COUNT) == [(20,)]


def test_a_disk_without_room_is_not_filled_with_zeros(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
        disk = DiskSpace(path.parent, reserve=0)
        store = SqliteStore(path, disk=disk)
        await store.open(never_fails)
        disk._reserve = 2**62
        disk._look_at = 0
        await store.join("t", "a", {"max_attempts": 3}, "new")
        await tidied(store)
        assert length(path) <= 4 * (PAGE_BYTES + 24)
        await store.close()

    asyncio.run(main())


def test_a_log_that_cannot_be_made_longer_takes_commits_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", refuses)

    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            await fill(store, 20)
            assert store.health() is None

    asyncio.run(main())
    assert query(path, COUNT) == [(20,)]
