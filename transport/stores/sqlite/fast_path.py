"""The short way of a commit: made on the loop, its write by the kernel, while the thread is idle.

To wake the thread and to be woken by it is a third of what a single event takes, since each of the
two has to wait for the interpreter's lock: without it, 1.5 times as many events go through one
after the other (7 pairs). What comes while a commit is under way, what is large or may take time,
and whatever does not succeed at once, is the thread's.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final, Self

import structlog

from actorbus.errors import StoreError
from transport.stores.sqlite.kernel_writes import KernelWrites
from transport.stores.sqlite.thread import Call, Listener, Log, WriterThread

MOST_CALLS: Final = 32
"""Calls of one commit: some 0.1 ms of the loop's time."""

MOST_BYTES: Final = 48 * 1024
"""Bytes of its appends: less than the kernel takes at once."""

REST_SECONDS: Final = (0.01, 10.0)
"""How long the thread makes all commits after the kernel did not make one, and at the most when
that was so several times in a row: what is done by both costs more."""

log = structlog.get_logger("actorbus.store")


class FastPath:
    """Holds the thread's lock while a commit is under way; used on the loop alone.

    Args:
        thread: whose work it takes.
        opened: what the thread has opened.
        writes: how the kernel is asked.
        listener: is told what was done.
    """

    def __init__(
        self, thread: WriterThread, opened: Log, writes: KernelWrites, listener: Listener
    ) -> None:
        self._thread = thread
        self._log = opened
        self._writes = writes
        self._listener = listener
        self._due: asyncio.TimerHandle | None = None
        self._rest = REST_SECONDS[0]
        self._rested = 0.0
        self._under_way = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(writes.event, self._ended)

    @classmethod
    def open(cls, thread: WriterThread, listener: Listener) -> Self | None:
        """None where the system has no such writes."""
        if thread.log is None:
            return None
        try:
            writes = KernelWrites()
        except OSError as error:
            log.debug("store_writes_in_thread", reason=str(error))
            return None
        return cls(thread, thread.log, writes, listener)

    def take(self, calls: Sequence[Call]) -> bool:
        """Commit these calls, or begin to; False: the thread has to do it."""
        if len(calls) > MOST_CALLS or sum(call.size for call in calls) > MOST_BYTES:
            return False
        if any(call.reads for call in calls) or not any(call.size for call in calls):
            return False
        thread = self._thread
        if self._loop.time() < self._rested:
            return False
        if not thread.idle() or not thread.lock.acquire(blocking=False):
            return False
        performed = False
        try:
            if thread.attempt(self._log.calm):
                performed = True
                thread.perform(calls)
                self._begin()
        except StoreError as error:
            if performed:
                self._conclude(error)
        finally:
            if not self._under_way:
                thread.lock.release()
        return performed

    def _begin(self) -> None:
        """Have the kernel write what was performed, or the thread; or nothing is to be written."""
        thread = self._thread
        if thread.attempt(self._log.clean):
            self._conclude(None)
        elif not self._start():
            thread.hand(())

    def _start(self) -> bool:
        self._under_way = True  # before: whatever ends this must not give up the lock of a write
        try:
            self._under_way = self._thread.attempt(partial(self._log.start, self._writes))
        except StoreError:
            self._under_way = False
            raise
        return self._under_way

    def _ended(self) -> None:
        """The kernel may have a result."""
        if not self._writes.look():
            return
        try:
            self._end()
        finally:
            self._under_way = False
            self._thread.lock.release()

    def _end(self) -> None:
        failure: StoreError | None = None
        durable = False
        try:
            durable = self._thread.attempt(partial(self._log.ended, self._writes))
        except StoreError as error:
            failure = error
        if durable or failure is not None:
            self._rest = REST_SECONDS[0]
            self._conclude(failure)
        else:
            self._rested = self._loop.time() + self._rest
            self._rest = min(2 * self._rest, REST_SECONDS[1])
            self._thread.hand(())  # it commits what was performed

    def _conclude(self, failure: StoreError | None) -> None:
        """Tell the callers, and have the thread do what is due now or later; with the lock."""
        self._listener.answer(self._thread.conclude(failure))
        pause = 0.0 if self._log.untidy() else self._log.pause()
        if pause == 0:
            self._thread.hand(())
        elif pause is not None and (
            self._due is None or self._loop.time() + pause < self._due.when()
        ):
            if self._due is not None:
                self._due.cancel()
            self._due = self._loop.call_later(pause, self._on_due)

    def _on_due(self) -> None:
        self._due = None
        self._thread.hand(())

    def close(self) -> None:
        """Take nothing more; a commit that is under way is ended by the thread."""
        if self._due is not None:
            self._due.cancel()
        self._loop.remove_reader(self._writes.event)
        if self._under_way:
            self._thread.adopt(self._writes)
            self._thread.lock.release()
        else:
            self._writes.close()
