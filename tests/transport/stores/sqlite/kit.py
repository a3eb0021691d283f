"""What the tests of the SQLite store share: disks that fail on command, and a look at the file."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from actorbus.errors import StoreUnusableError
from tests.conformance.kit import SECONDS, never_fails, soon
from transport.stores.disk import DiskSpace
from transport.stores.sqlite.journal_file import JournalFile
from transport.stores.sqlite.kernel_writes import KernelWrites
from transport.stores.sqlite.storage import Storage
from transport.stores.sqlite.store import SqliteStore

NAMES: Final = ("actorbus.db", "actorbus.db-wal", "actorbus.db.journal")
"""The files of an open store: its database, SQLite's log, the journal."""

Image = dict[str, bytes]
"""The files of a database by their names, as a crash leaves them."""


class Disk:
    """What SQLite and the journal write to; can fail or hang where it makes writes durable.

    Attributes:
        settings: for a store on it.
        fails: whether writes fail for good.
        room: bytes of the largest write to the journal that finds room; None: of any.
        syncs: writes made durable so far.
    """

    def __init__(self, name: str) -> None:
        self.settings: dict[str, Any] = {"vfs": name, "open_journal": partial(_Journal, self)}
        self.name = name
        self.fails = False
        self.room: int | None = None
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

    def write(self, size: int) -> None:
        if self.room is not None and size > self.room:
            raise OSError(errno.ENOSPC, "No space left on device (injected)")
        try:
            self.sync()
        except apsw.IOError as error:
            raise OSError(errno.EIO, str(error)) from error

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


class _Journal(JournalFile):
    def __init__(self, disk: Disk, path: Path) -> None:
        self._disk = disk
        super().__init__(path)

    def write(self, parts: Sequence[bytes], offset: int) -> None:
        self._disk.write(sum(map(len, parts)))
        super().write(parts, offset)

    def start(self, parts: Sequence[bytes], offset: int, writes: KernelWrites) -> bool:
        return False  # the thread does it: that is where it fails and hangs


class Room(DiskSpace):
    """Free space as the test says."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.missing: str | None = None

    def shortage(self) -> str | None:
        return self.missing

    def due(self) -> bool:
        return False


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


def storage_of(store: SqliteStore) -> Storage:
    """What an open store keeps; to be touched while its thread does nothing."""
    assert store._log is not None
    return store._log._storage


async def calm(store: SqliteStore) -> None:
    """Return once the next append may take the fast path; with `Room`, or a look would be due."""
    writer, log = store._opened()
    thread = writer._thread
    assert thread is not None
    await until(lambda: thread.idle() and not thread.lock.locked() and log.calm())


async def applied(store: SqliteStore) -> None:
    """Bring all of the journal into the tables, in the store's thread."""
    assert store._writer is not None
    await soon(store._writer.call(storage_of(store).apply))


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


def killed(path: Path) -> Image:
    """What the next process finds when this one is killed now."""
    files = ((name, path.with_name(name)) for name in NAMES)
    return {name: file.read_bytes() for name, file in files if file.exists()}


def put(image: Image, directory: Path) -> Path:
    """Have these files, and no others of a store, in a directory; tells where its database is."""
    directory.mkdir(exist_ok=True)
    for name in NAMES:
        (directory / name).unlink(missing_ok=True)
    for name, data in image.items():
        (directory / name).write_bytes(data)
    return directory / NAMES[0]
