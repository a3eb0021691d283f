"""One group's side of the SQLite store."""

import asyncio
from collections.abc import Sequence
from functools import partial

from actorbus.store import Attempt, Fetched
from transport.stores.sqlite.log import SqliteLog
from transport.stores.sqlite.rows import GroupRow
from transport.stores.sqlite.writer import Writer


class SqliteFeed:
    """Hands each call to the thread.

    Attributes:
        position: where the first fetch starts.
    """

    def __init__(self, writer: Writer, log: SqliteLog, group: GroupRow, position: int) -> None:
        self._writer = writer
        self._log = log
        self._group = group
        self.position = position

    def fetch(self, position: int, max_bytes: int) -> asyncio.Future[Fetched]:
        """Unsettled events from `position` on."""
        work = partial(self._log.fetch, self._group, position, max_bytes)
        return self._writer.call(work, reads=True)

    def settle(
        self, runs: Sequence[tuple[int, int]], *, awaited: bool = True
    ) -> asyncio.Future[None]:
        """Done with these runs; told when that is durable."""
        work = partial(self._log.settle, self._group, tuple(runs))
        return self._writer.call(work, patient=not awaited)

    def attempted(self, attempts: Sequence[Attempt]) -> asyncio.Future[None]:
        """Keep the histories of these events; told when they are durable."""
        return self._writer.call(partial(self._log.attempted, self._group, tuple(attempts)))

    def move(self, attempt: Attempt) -> asyncio.Future[None]:
        """Never asked for by a log store.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"a log store moves no events: {attempt.position} was not evicted")

    def release(self, runs: Sequence[tuple[int, int]]) -> asyncio.Future[int]:  # noqa: ARG002 - the log has them still
        """Give back what is unsettled; returns the lowest such position."""
        return self._writer.call(partial(self._log.floor, self._group), reads=True)

    async def close(self) -> None:
        """Make durable what was settled and attempted."""
        await self._writer.call(partial(self._log.close_feed, self._group))
