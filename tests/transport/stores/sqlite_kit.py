"""What the tests of the SQLite store share: disks that fail on command, and a look at the file."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw

from actorbus.errors import StoreUnusableError
from tests.conformance.kit import SECONDS, never_fails, soon
from transport.stores.disk import DiskSpace
from transport.stores.sqlite import SqliteStore


class Disk:
    """A file system for SQLite that can fail or hang where it makes writes durable."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fails = False
        self.syncs = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self._hanging = threading.Event()
        self._vfs = _Vfs(self)

    async def hangs(self) -> None:
        """Return once a write waits to be durable."""
        assert await asyncio.to_thread(self._hanging.wait, SECONDS)

    def sync(self) -> None:
        self.syncs += 1
        if not self.go_on.is_set():
            self._hanging.set()
        assert self.go_on.wait(30)
        if self.fails:
            raise apsw.IOError("disk I/O error (injected)")

    def unregister(self) -> None:
        self.go_on.set()
        self._vfs.unregister()


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(disk.name, "", maxpathname=0)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self._disk, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.sync()
        super().xSync(flags)


class Room(DiskSpace):
    """Free space as the test says."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.missing: str | None = None

    def shortage(self) -> str | None:
        return self.missing


class Failures:
    """Collects what a store reports to the broker."""

    def __init__(self) -> None:
        self.seen: list[StoreUnusableError] = []

    def __call__(self, error: StoreUnusableError) -> None:
        self.seen.append(error)


@asynccontextmanager
async def sqlite(
    path: Path, failed: Failures | None = None, **settings: Any
) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, **settings)
    await soon(store.open(failed or never_fails))
    try:
        yield store
    finally:
        await soon(store.close())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what only another thread or a timer brings about."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.005)


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """Rows of a file that no store has open."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        rows: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
        return rows
    finally:
        connection.close()
