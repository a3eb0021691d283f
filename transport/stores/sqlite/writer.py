"""The event loop's side of the SQLite store's thread: queue, answers and deadlines."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import structlog

from actorbus.errors import StoreError, StoreUnavailableError, StoreUnusableError
from actorbus.store import CALL_SECONDS
from transport.stores.sqlite.fast_path import FastPath
from transport.stores.sqlite.thread import Answer, Call, Log, WriterThread

QUEUE_CALLS: Final = 100_000
"""Unanswered calls above which appends are refused: some seconds of work of the thread."""

QUEUE_BYTES: Final = 256 * 1024 * 1024
"""Bytes of unanswered appends above which more are refused."""

OPEN_SECONDS: Final = 120.0
"""For opening: the journal and the log that a crash has left are read whole first."""

PATIENCE_SECONDS: Final = 0.005
"""How long patient work waits to be done together with more of its kind; then it goes with the next
append. So an event that comes alone costs a commit for its publish, and none for its settling."""

LAST_SECONDS: Final = 0.015
"""How long patient work waits for that append at the most: then it gets a commit of its own."""

STALL_SECONDS: Final = 3.0
"""A call that is unanswered for so long makes the store unhealthy."""

T = TypeVar("T")
log = structlog.get_logger("actorbus.store")


class Writer:
    """Hands calls to the thread, and tells the callers.

    Args:
        failed: called once, on the loop, when the file must not be used any more.
    """

    def __init__(self, failed: Callable[[StoreUnusableError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._thread: WriterThread | None = None
        self._fast_path: FastPath | None = None
        self._pending: deque[Call] = deque()
        self._bytes = 0
        self._watch: asyncio.TimerHandle | None = None
        self._patient: list[Call] = []
        self._patience: asyncio.TimerHandle | None = None
        self._ripe = False
        self._refuses: str | None = "the store is not open"

    async def start(self, open_log: Callable[[], Log]) -> None:
        """Start the thread, which opens the log; raises what that raises."""
        opened: asyncio.Future[None] = self._loop.create_future()
        thread = WriterThread(open_log, self, self._on_loop, lambda: self._bytes, opened)
        self._thread = thread
        thread.start()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await opened
        except TimeoutError:
            late = f"the store's disk did not answer within {OPEN_SECONDS:.0f} s"
            raise StoreUnusableError(late) from None
        self._fast_path = FastPath.open(thread, self)
        self._refuses = None

    async def stop(self) -> None:
        """Finish what is queued, close the log and end the thread, in `CALL_SECONDS` at most."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._refuses = self._refuses or "the store is closed"
        self._hand_over(thread)
        fast_path, self._fast_path = self._fast_path, None
        if fast_path is not None:
            fast_path.close()
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
        call = Call(work, future, self._loop.time() + CALL_SECONDS, size, reads=reads)
        self._pending.append(call)
        self._bytes += size
        if self._watch is None:
            self._watch = self._loop.call_at(call.deadline, self._look)
        if size and not patient and not self._ripe:
            self._hand(self._thread, (call,))  # nothing that waits has to come before an append
            return future
        self._patient.append(call)
        if not patient:
            self._hand_over(self._thread)
        elif self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._ripen, self._thread)
        return future

    def _ripen(self, thread: WriterThread) -> None:
        """Patient work goes with the next append, which pays for the commit."""
        self._ripe = True
        self._patience = self._loop.call_later(LAST_SECONDS, self._hand_over, thread)

    def _hand_over(self, thread: WriterThread) -> None:
        """Give the thread all that waits, in order."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._ripe = False
        if self._patient:
            self._hand(thread, tuple(self._patient))
        self._patient.clear()

    def _hand(self, thread: WriterThread, calls: tuple[Call, ...]) -> None:
        if self._fast_path is None or not self._fast_path.take(calls):
            thread.hand(calls)

    def _refusal(self, size: int) -> str | None:
        if self._refuses is not None:
            return self._refuses
        if size and (self._bytes + size > QUEUE_BYTES or len(self._pending) >= QUEUE_CALLS):
            return "the store lags: too much is waiting for the disk"
        return None

    def _on_loop(self, act: Callable[..., None], *arguments: Any) -> None:
        """From the thread: have the loop do this."""
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told, and the thread ends with its queue.
            log.debug("store_answer_unheard")

    def answer(self, answers: Iterable[Answer]) -> None:
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


def _fail(future: asyncio.Future[Any], error: StoreError) -> None:
    future.set_exception(error)
    future.exception()  # seen: whoever does not await it is not told of it again
