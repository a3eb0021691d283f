"""What an operator reads when the file can't be used."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from actorbus.errors import StoreUnavailableError, StoreUnusableError
from tests.conformance.kit import Reader, events, never_fails, soon
from tests.transport.stores.sqlite.kit import query, sqlite, storage_of
from transport.stores.sqlite.schema import PAGE_BYTES, QUICK_CHECK_BYTES, scalar
from transport.stores.sqlite.store import SqliteStore

HOLDER = """
import sys
from pathlib import Path
from transport.stores.sqlite.schema import open_database
connection = open_database(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(path: Path) -> Iterator[Path]:
    """A file that another process has open."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield path
        holder.communicate(timeout=10)


def refusal(path: Path) -> str:
    async def main() -> None:
        await soon(SqliteStore(path).open(never_fails))

    with pytest.raises(StoreUnusableError) as caught:
        asyncio.run(main())
    assert caught.value.exit_status == 78
    assert "\n" not in caught.value.message
    return caught.value.message


def fill(path: Path, batches: int = 50) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            await store.join("t", "a", {}, "new")
            for number in range(batches):
                await store.append("t", events(*range(number, number + 20)), None)

    asyncio.run(main())


def test_a_file_of_another_broker_is_refused(held: Path) -> None:
    assert refusal(held) == (
        f"{held} is in use by another process: stop that broker, or name another file"
    )


def test_a_second_store_in_the_same_process_is_refused(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path):
            with pytest.raises(StoreUnusableError, match="is in use by another process"):
                await soon(SqliteStore(path).open(never_fails))

    asyncio.run(main())


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    text = b"dear diary, " * 1000
    path.write_bytes(text)
    assert refusal(path) == f"{path} is not a database of actorbus: name another file"
    assert path.read_bytes() == text


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    query(path, "SELECT 1") if path.exists() else None
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    assert refusal(path) == f"{path} is the database of another program: name another file"
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    fill(path, 1)
    query(path, "PRAGMA user_version=9")
    assert refusal(path) == (
        f"{path} was written by a newer actorbus (schema 9, this one reads up to 2): "
        "install that version"
    )


def test_a_truncated_file_is_refused(path: Path) -> None:
    fill(path)
    path.write_bytes(path.read_bytes()[:-9000])
    assert refusal(path) == (
        f"{path} is damaged (database disk image is malformed): restore a backup"
    )


def test_a_damaged_page_is_found_at_start(path: Path) -> None:
    fill(path)
    content = bytearray(path.read_bytes())
    (root,) = query(path, "SELECT rootpage FROM sqlite_schema WHERE name='batches'")[0]
    start = (root - 1) * PAGE_BYTES
    content[start : start + PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith("): restore a backup")


def test_of_a_large_file_only_the_small_tables_are_checked(path: Path) -> None:
    fill(path, 1)
    with path.open("ab") as file:
        file.truncate(QUICK_CHECK_BYTES + 4096)
    checks: list[str] = []

    def note(statement: str) -> None:
        if "quick_check" in statement:
            checks.append(statement)

    apsw.connection_hooks.append(
        lambda connection: connection.set_profile(lambda statement, _: note(statement))
    )
    try:
        fill(path, 1)
    finally:
        apsw.connection_hooks.pop()
    assert checks == [f"PRAGMA quick_check('{name}')" for name in ("topics", "groups", "attempts")]


def test_a_version_that_never_was_is_damage(path: Path) -> None:
    fill(path, 1)
    query(path, "PRAGMA user_version=-1")
    assert refusal(path) == f"{path} is damaged (schema version -1): restore a backup"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE groups SET options=x'ff'",
        "UPDATE groups SET settled=x'ff'",
        "UPDATE groups SET settled=x'9101'",
        "UPDATE groups SET floor='many'",
        "UPDATE topics SET gone=x'ff'",
        "ALTER TABLE groups RENAME COLUMN floor TO ceiling",
    ],
)
def test_a_row_that_makes_no_sense_is_refused_at_start(path: Path, change: str) -> None:
    fill(path, 1)
    query(path, change)
    message = refusal(path)
    assert message.startswith(f"{path} is damaged (")
    assert message.endswith("): restore a backup")


def test_a_batch_that_makes_no_sense_ends_the_broker_with_70(path: Path) -> None:
    fill(path, 1)
    query(path, "UPDATE batches SET events=x'c1'")
    failures: list[StoreUnusableError] = []

    async def main() -> None:
        store = SqliteStore(path)
        await soon(store.open(failures.append))
        feed = await soon(store.feed("t", "a", Reader()))
        with pytest.raises(StoreUnavailableError, match="damaged"):
            await soon(feed.fetch(0, 1000))
        await soon(store.close())

    asyncio.run(main())
    (failure,) = failures
    assert failure.exit_status == 70
    assert failure.message == (
        "the store's file is damaged (batch near 0 of 't'): restore a backup"
    )


@pytest.mark.parametrize("name", ["x" * 300, "d/" * 3000, "a/b"])
def test_a_path_that_can_not_be_is_one_short_line(path: Path, name: str) -> None:
    path.touch()  # so that a/b is below a file
    message = refusal(path / name if name == "a/b" else path.parent / name)
    assert len(message) < 300


def test_a_path_with_a_null_character_is_refused(tmp_path: Path) -> None:
    assert "null character" in refusal(tmp_path / "a\0b.db")


def test_a_file_that_may_only_be_read_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, 1)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    assert refusal(path) == f"{path} can't be written: check the rights on it and on its directory"


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "data"
    assert refusal(missing / "a.db") == f"directory {missing} does not exist: create it first"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a directory: name a file"


def test_a_directory_that_can_not_be_written_is_refused() -> None:
    path = Path("/proc/actorbus.db")  # not even root may write here
    assert refusal(path) == f"{path} can't be written: check the rights on it and on its directory"


def test_the_file_is_set_up_to_lose_nothing(path: Path) -> None:
    async def main() -> None:
        async with sqlite(path) as store:
            assert store._log is not None
            connection = store._log._connection
            settings = ("locking_mode", "journal_mode", "synchronous", "user_version")
            values = [scalar(connection, f"PRAGMA {name}") for name in settings]
            assert values == ["exclusive", "wal", 2, 2]
            flags = fcntl.fcntl(storage_of(store)._file._file, fcntl.F_GETFL)
            assert flags & os.O_DSYNC

    asyncio.run(main())


def test_a_clean_stop_leaves_one_file(path: Path) -> None:
    fill(path)
    assert [file.name for file in path.parent.iterdir()] == ["actorbus.db"]
