"""The one thread that touches the SQLite file: it takes all that is queued into one commit."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import structlog

from actorbus.errors import StoreError, StoreUnavailableError, StoreUnusableError
from actorbus.store import CALL_SECONDS

QUEUE_CALLS: Final = 100_000
"""Unanswered calls above which appends are refused: some seconds of work of the thread."""

QUEUE_BYTES: Final = 256 * 1024 * 1024
"""Bytes of unanswered appends above which more are refused."""

OPEN_SECONDS: Final = 120.0
"""For opening: a long write-ahead log left by a crash is read whole first."""

READ_SECONDS: Final = 0.01
"""Reads of one round: appends that wait behind readers that catch up wait no longer."""

PATIENCE_SECONDS: Final = 0.005
"""How long patient work waits to be done together with more of its kind; then it goes with the next
append. So an event that comes alone costs a commit for its publish, and none for its settling."""

LAST_SECONDS: Final = 0.015
"""How long patient work waits for that append at the most: then it gets a commit of its own."""

COMMIT_BYTES: Final = 1024 * 1024
"""Bytes of appends that make a commit: while the disk takes them, their publishers wait, and while
these send more, the disk."""

COMMIT_SHARE: Final = 16
"""If more waits, this part of it makes one: a disk that is slow to sync must not have more commits
to make than it can before the calls are late."""

STALL_SECONDS: Final = 3.0
"""A call that is unanswered for so long makes the store unhealthy."""

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


class _Call:
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


_Answer = tuple[_Call, Any, StoreError | None]


class Writer:
    """The loop's side of the thread: queue, answers and deadlines.

    Args:
        failed: called once, on the loop, when the file must not be used any more.
    """

    def __init__(self, failed: Callable[[StoreUnusableError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._thread: _Thread | None = None
        self._pending: deque[_Call] = deque()
        self._bytes = 0
        self._watch: asyncio.TimerHandle | None = None
        self._patient: list[_Call] = []
        self._patience: asyncio.TimerHandle | None = None
        self._ripe = False
        self._refuses: str | None = "the store is not open"

    async def start(self, open_log: Callable[[], Log]) -> None:
        """Start the thread, which opens the log; raises what that raises."""
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = _Thread(open_log, self._answer_later, lambda: self._bytes, opened)
        self._thread.start()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await opened
        except TimeoutError:
            late = f"the store's disk did not answer within {OPEN_SECONDS:.0f} s"
            raise StoreUnusableError(late) from None
        self._refuses = None

    async def stop(self) -> None:
        """Finish what is queued, close the log and end the thread, in `CALL_SECONDS` at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._refuses = self._refuses or "the store is closed"
        self._hand_over(thread)
        stopped: asyncio.Future[None] = self._loop.create_future()
        thread.stop(stopped)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await stopped
        except TimeoutError:
            log.error("store_abandoned", reason="the disk does not answer")  # noqa: TRY400 - no use for a traceback
        self._expire(StoreUnavailableError(self._refuses))
        if self._watch is not None:
            self._watch.cancel()

    def health(self) -> str | None:
        """Why no work is taken, or None."""
        if self._refuses is not None or self._thread is None:
            return self._refuses
        self._forget_answered()
        if self._pending:
            waited = self._loop.time() + CALL_SECONDS - self._pending[0].deadline
            if waited > STALL_SECONDS:
                return f"the disk has not answered for {waited:.0f} s"
        return self._thread.reason()

    def call(
        self,
        work: Callable[[], T],
        *,
        size: int = 0,
        reads: bool = False,
        patient: bool = False,
    ) -> asyncio.Future[T]:
        """Have the thread do `work`; the future tells when it is durable.

        Args:
            work: raises `StoreUnavailableError` to refuse this call alone.
            size: bytes, for an append; only appends are refused when the queue is full.
            reads: it changes nothing, and may be done after writes that were queued later.
            patient: it may wait, for `PATIENCE_SECONDS` and `LAST_SECONDS` at the most; only
                appends are done before it meanwhile.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        refusal = self._refusal(size)
        if refusal is not None or self._thread is None:
            _fail(future, StoreUnavailableError(refusal or "the store is closed"))
            return future
        call = _Call(work, future, self._loop.time() + CALL_SECONDS, size, reads=reads)
        self._pending.append(call)
        self._bytes += size
        if self._watch is None:
            self._watch = self._loop.call_at(call.deadline, self._look)
        if size and not patient and not self._ripe:
            self._thread.queue.put((call,))  # nothing that waits has to come before an append
            return future
        self._patient.append(call)
        if not patient:
            self._hand_over(self._thread)
        elif self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._ripen, self._thread)
        return future

    def _ripen(self, thread: "_Thread") -> None:
        """Patient work goes with the next append, which pays for the commit."""
        self._ripe = True
        self._patience = self._loop.call_later(LAST_SECONDS, self._hand_over, thread)

    def _hand_over(self, thread: "_Thread") -> None:
        """Give the thread all that waits, in order."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._ripe = False
        if self._patient:
            thread.queue.put(tuple(self._patient))
        self._patient.clear()

    def _refusal(self, size: int) -> str | None:
        if self._refuses is not None:
            return self._refuses
        if size and (self._bytes + size > QUEUE_BYTES or len(self._pending) >= QUEUE_CALLS):
            return "the store lags: too much is waiting for the disk"
        return None

    def _answer_later(self, act: Callable[..., None], *arguments: Any) -> None:
        """From the thread: have the loop do this."""
        try:
            self._loop.call_soon_threadsafe(act, self, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told, and the thread ends with its queue.
            log.debug("store_answer_unheard")

    def answer(self, answers: Iterable[_Answer]) -> None:
        """Tell the callers."""
        for call, value, error in answers:
            self._bytes -= call.size
            if call.future.done():
                continue
            if error is None:
                call.future.set_result(value)
            else:
                _fail(call.future, error)
        self._forget_answered()

    def broken(self, error: StoreUnusableError) -> None:
        """Fail every caller, now and later; tell the broker."""
        self._refuses = error.message
        self._expire(StoreUnavailableError(error.message))
        self._failed(error)

    def _forget_answered(self) -> None:
        while self._pending and self._pending[0].future.done():
            self._pending.popleft()

    def _look(self) -> None:
        """Fail the calls that the disk has kept for too long."""
        self._watch = None
        now = self._loop.time()
        self._forget_answered()
        while self._pending and self._pending[0].deadline <= now:
            late = StoreUnavailableError(f"the disk did not answer within {CALL_SECONDS:.0f} s")
            _fail(self._pending[0].future, late)
            self._forget_answered()
        if self._pending:
            self._watch = self._loop.call_at(self._pending[0].deadline, self._look)

    def _expire(self, error: StoreError) -> None:
        while self._pending:
            call = self._pending.popleft()
            if not call.future.done():
                _fail(call.future, error)


class _Thread(threading.Thread):
    """The thread itself. A daemon: a disk that hangs must not keep the process from ending."""

    def __init__(
        self,
        open_log: Callable[[], Log],
        tell: Callable[..., None],
        waiting: Callable[[], int],
        opened: asyncio.Future[None],
    ) -> None:
        super().__init__(name="actorbus-sqlite", daemon=True)
        self.queue: SimpleQueue[tuple[_Call, ...] | None] = SimpleQueue()
        self._open_log = open_log
        self._tell = tell
        self._waiting = waiting
        self._opened = opened
        self._stopped: asyncio.Future[None] | None = None
        self._reads: deque[_Call] = deque()
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
            self._tell(_settle, self._opened, error)
            return
        self._tell(_settle, self._opened, None)
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

    def _take(self, opened: Log) -> tuple[list[_Call], bool]:
        """All writes that are queued, after waiting for one; reads go to their own line."""
        writes: list[_Call] = []
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

    def _wait(self, opened: Log) -> tuple[_Call, ...] | None:
        pause = None if self._broken is not None else opened.pause()
        if self._reads or pause == 0:
            return self.queue.get_nowait()
        return self.queue.get(timeout=pause)

    def _write(self, opened: Log, calls: list[_Call]) -> None:
        done: list[tuple[_Call, Any]] = []
        answers: list[_Answer] = []
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
            self._tell(Writer.answer, answers)

    def _read(self, *, going: bool) -> None:
        answers: list[_Answer] = []
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
            self._tell(Writer.answer, answers)

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
            self._tell(Writer.broken, error)

    def _close(self, opened: Log) -> None:
        try:
            opened.close(broken=self._broken is not None)
        except StoreError as error:
            log.error("store_close_failed", reason=error.message)  # noqa: TRY400 - said in one line
        finally:
            self._tell(_settle, self._stopped, None)


def _settle(_: Writer, future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _fail(future: asyncio.Future[Any], error: StoreError) -> None:
    future.set_exception(error)
    future.exception()  # seen: whoever does not await it is not told of it again
