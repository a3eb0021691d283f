"""The one thread that touches the SQLite store's files: what is queued becomes durable at once."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import structlog

from actorbus.errors import StoreError, StoreUnavailableError, StoreUnusableError

READ_SECONDS: Final = 0.01
"""Reads of one round: appends that wait behind readers that catch up wait no longer."""

COMMIT_BYTES: Final = 1024 * 1024
"""Bytes of appends that make a commit: while the disk takes them, their publishers wait, and while
these send more, the disk."""

COMMIT_SHARE: Final = 16
"""If more waits, this part of it makes one: a disk that is slow to sync must not have more commits
to make than it can before the calls are late."""

T = TypeVar("T")
log = structlog.get_logger("actorbus.store")


class Log(Protocol):
    """What the thread works on; none of it is touched by another thread."""

    reason: str | None
    """Why it takes no work just now."""

    def commit(self) -> None:
        """Make all work since the last commit durable; after a `StoreError` none of it was done."""

    def untidy(self) -> bool:
        """Whether there is something for `tidy` to do."""

    def tidy(self) -> None:
        """Work that nobody waits for."""

    def pause(self) -> float | None:
        """Seconds after which to commit without being called; None: never."""

    def close(self, *, broken: bool) -> None:
        """Make all durable, unless it is broken, and free everything."""


class Call:
    """A piece of work, and the future that tells its caller."""

    __slots__ = ("deadline", "future", "reads", "size", "work")

    def __init__(
        self,
        work: Callable[[], Any],
        future: asyncio.Future[Any],
        deadline: float,
        size: int,
        *,
        reads: bool,
    ) -> None:
        self.work = work
        self.future = future
        self.deadline = deadline
        self.size = size
        self.reads = reads


Answer = tuple[Call, Any, StoreError | None]


class Listener(Protocol):
    """Who is told on the loop."""

    def answer(self, answers: Iterable[Answer]) -> None:
        """These calls are done."""

    def broken(self, error: StoreUnusableError) -> None:
        """The files must not be used any more."""


class WriterThread(threading.Thread):
    """A daemon: a disk that hangs must not keep the process from ending.

    Args:
        open_log: opens what it works on, in the thread.
        listener: is told what was done, on the loop.
        tell: has the loop call a function.
        waiting: bytes of the appends that are not answered yet.
        opened: told once the log is open, or why it can't be.

    Attributes:
        queue: calls that belong together, in order; None: nothing comes any more.
    """

    def __init__(
        self,
        open_log: Callable[[], Log],
        listener: Listener,
        tell: Callable[..., None],
        waiting: Callable[[], int],
        opened: asyncio.Future[None],
    ) -> None:
        super().__init__(name="actorbus-sqlite", daemon=True)
        self.queue: SimpleQueue[tuple[Call, ...] | None] = SimpleQueue()
        self._open_log = open_log
        self._listener = listener
        self._tell = tell
        self._waiting = waiting
        self._opened = opened
        self._stopped: asyncio.Future[None] | None = None
        self._reads: deque[Call] = deque()
        self._log: Log | None = None
        self._broken: StoreUnusableError | None = None

    def reason(self) -> str | None:
        """Why the log takes no work just now (read from the loop)."""
        return self._log.reason if self._log is not None else None

    def stop(self, stopped: asyncio.Future[None]) -> None:
        """Have it end after what is queued (called on the loop)."""
        self._stopped = stopped
        self.queue.put(None)

    def run(self) -> None:
        """Open the log and serve until stopped."""
        try:
            opened = self._log = self._open_log()
        except Exception as error:  # noqa: BLE001 - whoever opens gets it
            self._tell(settle, self._opened, error)
            return
        self._tell(settle, self._opened, None)
        while self._round(opened):
            pass
        self._close(opened)

    def _round(self, opened: Log) -> bool:
        """One commit and some reads; False after the last one."""
        writes, going = self._take(opened)
        self._write(opened, writes)
        if self._reads:
            self._read(going=going)
        if opened.untidy():
            try:
                self._attempt(opened.tidy)
            except StoreUnavailableError as error:
                log.debug("store_tidy_later", reason=error.message)
        return going

    def _take(self, opened: Log) -> tuple[list[Call], bool]:
        """All writes that are queued, after waiting for one; reads go to their own line."""
        writes: list[Call] = []
        try:
            size = 0
            calls = self._wait(opened)
            most = max(COMMIT_BYTES, self._waiting() // COMMIT_SHARE)
            while calls is not None:
                for call in calls:
                    (self._reads if call.reads else writes).append(call)
                    size += call.size
                if size >= most:
                    return writes, True
                calls = self.queue.get_nowait()
        except Empty:
            return writes, True
        return writes, False

    def _wait(self, opened: Log) -> tuple[Call, ...] | None:
        pause = None if self._broken is not None else opened.pause()
        if self._reads or pause == 0:
            return self.queue.get_nowait()
        return self.queue.get(timeout=pause)

    def _write(self, opened: Log, calls: list[Call]) -> None:
        done: list[tuple[Call, Any]] = []
        answers: list[Answer] = []
        for call in calls:
            # An append whose caller has been told that it failed need not be kept after all.
            if call.size and call.future.done():
                answers.append((call, None, None))
                continue
            try:
                done.append((call, self._attempt(call.work)))
            except StoreError as error:
                answers.append((call, None, error))
        try:
            self._attempt(opened.commit)
            answers.extend((call, value, None) for call, value in done)
        except StoreError as error:
            answers.extend((call, None, error) for call, _ in done)
        if answers:
            self._tell(self._listener.answer, answers)

    def _read(self, *, going: bool) -> None:
        answers: list[Answer] = []
        until = time.monotonic() + READ_SECONDS
        while self._reads:
            call = self._reads.popleft()
            try:
                answers.append((call, self._attempt(call.work), None))
            except StoreError as error:
                answers.append((call, None, error))
            if going and time.monotonic() >= until:
                break
        if answers:
            self._tell(self._listener.answer, answers)

    def _attempt(self, work: Callable[[], T]) -> T:
        """What `work` returns; whatever must end the store ends it, and refuses this call."""
        if self._broken is not None:
            raise StoreUnavailableError(self._broken.message)
        try:
            return work()
        except StoreUnavailableError:
            raise
        except StoreUnusableError as error:
            self._break(error)
            raise StoreUnavailableError(error.message) from error
        except Exception as error:
            log.exception("store_failed")
            broken = StoreUnusableError(f"the store failed: {error!r}"[:300], exit_status=70)
            self._break(broken)
            raise StoreUnavailableError(broken.message) from error

    def _break(self, error: StoreUnusableError) -> None:
        if self._broken is None:
            self._broken = error
            self._tell(self._listener.broken, error)

    def _close(self, opened: Log) -> None:
        try:
            opened.close(broken=self._broken is not None)
        except StoreError as error:
            log.error("store_close_failed", reason=error.message)  # noqa: TRY400 - said in one line
        finally:
            self._tell(settle, self._stopped, None)


def settle(future: asyncio.Future[None], error: Exception | None) -> None:
    """Tell who waits for the beginning or the end, unless nobody does any more."""
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
