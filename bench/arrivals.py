"""What a subscriber process counts of its deliveries, and how it is asked for it."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from bench.app import Bench
from bench.measure import Histogram, Seen
from bench.messages import Received, Report, Start
from bench.payload import unpack


class Arrivals:
    """Deliveries of one process, counted and timed.

    Args:
        publishers: how many publish.

    Attributes:
        seen: which events arrived.
    """

    def __init__(self, publishers: int) -> None:
        self.seen = Seen(publishers)
        self._latencies = Histogram()
        self._measured_from = 0
        self._redelivered = 0
        self._last = 0
        self._begun = time.process_time()

    def start(self, measured_from: int) -> None:
        """What is published from now on is measured once `measured_from` is reached."""
        self._measured_from = measured_from
        self._begun = time.process_time()

    def note(self, data: bytes, attempt: int = 1) -> None:
        """Count one delivery, which has just arrived."""
        now = time.monotonic_ns()
        publisher, number, at = unpack(data)
        self.seen.add(publisher, number)
        if now >= self._measured_from:
            self._latencies.record(max(0, now - at))
        if attempt > 1:
            self._redelivered += 1
        self._last = now

    def result(self) -> Received:
        """All that was counted so far."""
        return Received(
            received=self.seen.unique + self.seen.repeated,
            redelivered=self._redelivered,
            measured=self._latencies.total,
            last=self._last,
            bitmaps=self.seen.bitmaps,
            latencies=self._latencies.counts,
            cpu_seconds=time.process_time() - self._begun,
        )


async def take_for(bench: Bench, arrivals: Arrivals, take: Coroutine[Any, Any, None]) -> None:
    """Take deliveries, tell how many, and report when asked to, until told to stop."""
    taking = asyncio.create_task(take)
    progress = asyncio.create_task(bench.tell_progress(lambda: arrivals.seen.unique))
    obeying = asyncio.create_task(_obey(bench, arrivals))
    done, _ = await asyncio.wait((taking, obeying), return_when=asyncio.FIRST_COMPLETED)
    for task in (taking, obeying, progress):
        task.cancel()
    await asyncio.wait((taking, obeying, progress))
    for ended in done:
        ended.result()


async def _obey(bench: Bench, arrivals: Arrivals) -> None:
    while True:
        match await bench.order():
            case Start(measured_from=measured_from):
                arrivals.start(measured_from)
            case Report():
                bench.tell(arrivals.result())
            case _:
                return
