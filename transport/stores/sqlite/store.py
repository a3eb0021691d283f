"""Events in one SQLite file, for one broker: the default store."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import apsw
import msgspec

from actorbus.errors import StoreUnavailableError, StoreUnusableError
from actorbus.store import (
    Appended,
    Feed,
    FeedListener,
    GroupOptions,
    Start,
    Store,
    TopicInfo,
)
from transport.stores.disk import DiskSpace
from transport.stores.log import ABILITIES, wall_clock
from transport.stores.sqlite.feed import SqliteFeed
from transport.stores.sqlite.journal_file import JournalFile
from transport.stores.sqlite.log import SqliteLog
from transport.stores.sqlite.rows import GroupRow
from transport.stores.sqlite.schema import not_opened, open_database
from transport.stores.sqlite.writer import Writer
from transport.stores.urls import parse


def open_store(url: str) -> Store:
    """The store for `sqlite:PATH[?retain=DURATION]`.

    Raises:
        StoreUnusableError: the URL has no path or an unknown parameter.
    """
    settings = parse(url)
    if not settings.path:
        raise StoreUnusableError("a sqlite url needs a path: use sqlite:actorbus.db")
    return SqliteStore(Path(settings.path), retain_ms=settings.retain_ms)


class SqliteStore:
    """A log store in one file, written by one thread of its own.

    Args:
        path: the file; created if it does not exist.
        retain_ms: how long batches are kept at least, for `start: earliest`.
        clock: the wall clock, in milliseconds.
        disk: tells when nothing new may be kept; by default below 64 MiB.
        vfs: the SQLite file system to use, by its name.
        open_journal: opens the journal's file.
    """

    abilities = ABILITIES

    def __init__(
        self,
        path: Path,
        *,
        retain_ms: int = 0,
        clock: Callable[[], int] = wall_clock,
        disk: DiskSpace | None = None,
        vfs: str | None = None,
        open_journal: Callable[[Path], JournalFile] = JournalFile,
    ) -> None:
        self._path = path.absolute()
        self._retain_ms = retain_ms
        self._clock = clock
        self._disk = disk or DiskSpace(self._path.parent)
        self._vfs = vfs
        self._open_journal = open_journal
        self._writer: Writer | None = None
        self._log: SqliteLog | None = None

    async def open(self, failed: Callable[[StoreUnusableError], None]) -> None:
        """Open the file in its thread; `failed` is told of an I/O error or damage, once, later."""
        writer = Writer(failed)
        await writer.start(self._open)
        self._writer = writer

    def _open(self) -> SqliteLog:
        connection = open_database(self._path, self._vfs)
        try:
            self._log = SqliteLog(
                connection,
                retain_ms=self._retain_ms,
                clock=self._clock,
                disk=self._disk,
                open_journal=self._open_journal,
            )
        except BaseException as error:
            connection.close(True)
            if isinstance(error, (apsw.Error, OSError, msgspec.DecodeError, TypeError, ValueError)):
                raise not_opened(self._path, error) from error
            raise
        return self._log

    async def close(self) -> None:
        """Commit what is queued, bring all into one file and close it; again is no error."""
        if self._writer is not None:
            await self._writer.stop()

    def health(self) -> str | None:
        """Why it takes no work now: closed, no room, a disk that hangs or has failed."""
        return self._writer.health() if self._writer is not None else "the store is not open"

    def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> asyncio.Future[Appended]:
        """Keep one batch; told when it is durable, together with all that came meanwhile."""
        writer, log = self._opened()
        size = sum(map(len, events))
        return writer.call(partial(log.append, topic, events, expires_at), size=size)

    async def join(
        self,
        topic: str,
        app_id: str,
        changes: Mapping[str, int | str | None],
        start: Start,
    ) -> GroupOptions:
        """Create a group or change its options."""
        writer, log = self._opened()
        return await writer.call(partial(log.join, topic, app_id, dict(changes), start))

    async def find(self, topic: str, app_id: str) -> GroupOptions | None:
        """A group's options."""
        writer, log = self._opened()
        return await writer.call(partial(log.find, topic, app_id), reads=True)

    async def forget(self, topic: str, app_id: str) -> bool:
        """Remove a group; what only it had left to settle goes bit by bit."""
        writer, log = self._opened()
        return await writer.call(partial(log.forget, topic, app_id))

    async def feed(self, topic: str, app_id: str, listener: FeedListener) -> Feed:  # noqa: ARG002 - the port's; a log store never calls it
        """Open the feed of a group.

        Raises:
            StoreUnavailableError: there is no such group, or the store can't now.
        """
        writer, log = self._opened()

        def work() -> tuple[GroupRow, int]:
            group = log.open_feed(topic, app_id)
            return group, log.floor(group)

        group, position = await writer.call(work, reads=True)
        return SqliteFeed(writer, log, group, position)

    async def topics(
        self, *, after: str | None, limit: int, only: str | None = None
    ) -> list[TopicInfo]:
        """Topics by name, with exact backlogs."""
        writer, log = self._opened()
        return await writer.call(partial(log.topics, after, limit, only), reads=True)

    def _opened(self) -> tuple[Writer, SqliteLog]:
        if self._writer is None or self._log is None:
            raise StoreUnavailableError("the store is not open")
        return self._writer, self._log
