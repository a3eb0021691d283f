"""The open loop: events become due at a fixed rate, whatever became of those before them."""

import asyncio
import threading
import time
from typing import Final, Self

FINEST_SECONDS: Final = 0.0001
"""Shortest sleep of the pacer: faster rates come due in small groups."""


class Pacer:
    """Lets events go when they are due.

    A thread keeps the time, since event loops round their timers up to whole milliseconds, which
    would be the greater part of what is measured. `asyncio.Semaphore` is fair: turns are taken in
    the order of asking.

    Args:
        rate: events per second.
        start: when event 0 is due (`time.monotonic_ns`).
        batch: events that go in one call: the call goes when its last one is due.
    """

    def __init__(self, rate: float, start: int, batch: int = 1) -> None:
        self._interval = 1e9 / rate
        self._start = start
        self._batch = batch
        self._turns = asyncio.Semaphore(0)
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_time, name="pacer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def due(self, number: int) -> int:
        """When an event is due (`time.monotonic_ns`)."""
        return self._start + round(number * self._interval)

    async def turn(self) -> None:
        """Return when the next call is due."""
        await self._turns.acquire()

    def _keep_time(self) -> None:
        calls = 0
        while not self._ended.is_set():
            late = time.monotonic_ns() - self.due(calls * self._batch + self._batch - 1)
            if late < 0:
                time.sleep(min(max(-late / 1e9, FINEST_SECONDS), 0.1))
                continue
            due = 1 + int(late / (self._interval * self._batch))
            self._loop.call_soon_threadsafe(self._release, due)
            calls += due

    def _release(self, count: int) -> None:
        for _ in range(count):
            self._turns.release()
