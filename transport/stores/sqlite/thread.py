"""The one thread that touches the SQLite store's files: what is queued becomes durable at once."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import structlog

from actorbus.errors import StoreError, StoreUnavailableError, StoreUnusableError
from transport.stores.sqlite.kernel_writes import KernelWrites

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
    """What the thread works on; whoever holds its lock, and nobody else, touches it."""

    reason: str | None
    """Why it takes no work just now."""

    def commit(self) -> None:
        """Make all work since the last commit durable; after a `StoreError` none of it was done."""

    def calm(self) -> bool:
        """Whether a commit now takes no time but for its write, which may be `start`ed."""

    def clean(self) -> bool:
        """Whether there is nothing to commit."""

    def start(self, writes: KernelWrites) -> bool:
        """Have the kernel begin `commit`; False: it does not, and `commit` has to be called."""

    def ended(self, writes: KernelWrites) -> bool:
        """Whether what was started is durable, now that it has ended; else `commit` it."""

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
        log: what it works on, once it is open.
        lock: held by who touches the log; by the loop only while the thread is `idle`.
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
        self.log: Log | None = None
        self.lock = threading.Lock()
        self._queue: SimpleQueue[tuple[Call, ...] | None] = SimpleQueue()
        self._handed = self._taken = self._finished = 0
        self._open_log = open_log
        self._listener = listener
        self._tell = tell
        self._waiting = waiting
        self._opened = opened
        self._stopped: asyncio.Future[None] | None = None
        self._reads: deque[Call] = deque()
        self._done: list[tuple[Call, Any]] = []
        self._failed: list[Answer] = []
        self._pause: float | None = None
        self._adopted: KernelWrites | None = None
        self._broken: StoreUnusableError | None = None

    def reason(self) -> str | None:
        """Why the log takes no work just now (read from the loop)."""
        return self.log.reason if self.log is not None else None

    def hand(self, calls: tuple[Call, ...]) -> None:
        """Have it do calls that belong together, in order (called on the loop).

        Without calls: have it do what is due.
        """
        self._handed += 1
        self._queue.put(calls)

    def idle(self) -> bool:
        """Whether all that was handed to it is done (asked on the loop)."""
        return self._finished == self._handed

    def adopt(self, writes: KernelWrites) -> None:
        """Wait for the end of a commit that the loop has started, whose lock it gives up then."""
        self._adopted = writes
        self.hand(())

    def stop(self, stopped: asyncio.Future[None]) -> None:
        """Have it end after what is queued (called on the loop)."""
        self._stopped = stopped
        self._queue.put(None)

    def run(self) -> None:
        """Open the log and serve until stopped."""
        try:
            opened = self.log = self._open_log()
            self._pause = opened.pause()
        except Exception as error:  # noqa: BLE001 - whoever opens gets it
            self._tell(settle, self._opened, error)
            return
        self._tell(settle, self._opened, None)
        while self._round(opened):
            pass
        self._close(opened)

    def _round(self, opened: Log) -> bool:
        """One commit and some reads; False after the last one."""
        writes, going = self._take()
        with self.lock:
            if self._adopted is not None:
                self._end(opened, self._adopted)
            self._write(opened, writes)
            if self._reads:
                self._read(going=going)
            if opened.untidy():
                try:
                    self.attempt(opened.tidy)
                except StoreUnavailableError as error:
                    log.debug("store_tidy_later", reason=error.message)
            self._pause = opened.pause() if self._broken is None else None
            if not self._reads:
                self._finished = self._taken
        return going

    def _take(self) -> tuple[list[Call], bool]:
        """All writes that are queued, after waiting for one; reads go to their own line."""
        writes: list[Call] = []
        try:
            size = 0
            calls = self._wait()
            most = max(COMMIT_BYTES, self._waiting() // COMMIT_SHARE)
            while calls is not None:
                self._taken += 1
                for call in calls:
                    (self._reads if call.reads else writes).append(call)
                    size += call.size
                if size >= most:
                    return writes, True
                calls = self._queue.get_nowait()
        except Empty:
            return writes, True
        return writes, False

    def _wait(self) -> tuple[Call, ...] | None:
        if self._reads or self._pause == 0:
            return self._queue.get_nowait()
        return self._queue.get(timeout=self._pause)

    def _end(self, opened: Log, writes: KernelWrites) -> None:
        """Take the commit that the kernel writes to its end; else it is for `_write` to make."""
        self._adopted = None
        writes.wait()
        try:
            if self.attempt(partial(opened.ended, writes)):
                self._answer(None)
        except StoreError as error:
            self._answer(error)
        writes.close()

    def _write(self, opened: Log, calls: list[Call]) -> None:
        self.perform(calls)
        failure: StoreError | None = None
        try:
            self.attempt(opened.commit)
        except StoreError as error:
            failure = error
        self._answer(failure)

    def _answer(self, failure: StoreError | None) -> None:
        answers = self.conclude(failure)
        if answers:
            self._tell(self._listener.answer, answers)

    def perform(self, calls: Iterable[Call]) -> None:
        """Do the work of writes, which is durable with the next commit; by who has the lock."""
        for call in calls:
            # An append whose caller has been told that it failed need not be kept after all.
            if call.size and call.future.done():
                self._failed.append((call, None, None))
                continue
            try:
                self._done.append((call, self.attempt(call.work)))
            except StoreError as error:
                self._failed.append((call, None, error))

    def conclude(self, failure: StoreError | None) -> list[Answer]:
        """The answers to all that was performed, now that its commit is done, or has failed."""
        answers = self._failed
        if failure is None:
            answers.extend((call, value, None) for call, value in self._done)
        else:
            answers.extend((call, None, failure) for call, _ in self._done)
        self._done, self._failed = [], []
        return answers

    def _read(self, *, going: bool) -> None:
        answers: list[Answer] = []
        until = time.monotonic() + READ_SECONDS
        while self._reads:
            call = self._reads.popleft()
            try:
                answers.append((call, self.attempt(call.work), None))
            except StoreError as error:
                answers.append((call, None, error))
            if going and time.monotonic() >= until:
                break
        if answers:
            self._tell(self._listener.answer, answers)

    def attempt(self, work: Callable[[], T]) -> T:
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
