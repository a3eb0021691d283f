"""A subscriber process, one instance of a group: `python -m bench.subscriber TASK`."""

import asyncio
import time

import actorbus
from bench.app import Bench, main
from bench.measure import Histogram, Seen
from bench.messages import Ready, Received, Report, Start, SubscriberTask
from bench.payload import unpack


class Subscriber:
    """Takes deliveries as an app would, acknowledges each by itself, and counts.

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

    async def take(self, deliveries: actorbus.Subscription) -> None:
        """Handle deliveries until cancelled."""
        clock, seen, record = time.monotonic_ns, self.seen.add, self._latencies.record
        async for delivery in deliveries:
            now = clock()
            publisher, number, at = unpack(delivery.data)
            seen(publisher, number)
            if now >= self._measured_from:
                record(max(0, now - at))
            if delivery.attempt > 1:
                self._redelivered += 1
            self._last = now
            await delivery.ack()

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


async def work(task: SubscriberTask, bench: Bench) -> None:
    """Connect, subscribe, take deliveries, and report when asked to."""
    subscriber = Subscriber(task.publishers)
    connection = actorbus.connect(
        task.url,
        app_id=task.app_id,
        instance=task.instance,
        max_in_flight=task.max_in_flight,
        encoding=task.encoding,
    )
    async with connection as bus, bus.subscribe(task.topic) as deliveries:
        taking = asyncio.create_task(subscriber.take(deliveries))
        progress = asyncio.create_task(bench.tell_progress(lambda: subscriber.seen.unique))
        obeying = asyncio.create_task(_obey(bench, subscriber))
        bench.tell(Ready())
        done, _ = await asyncio.wait((taking, obeying), return_when=asyncio.FIRST_COMPLETED)
        for task_ in (taking, obeying, progress):
            task_.cancel()
        for ended in done:
            ended.result()


async def _obey(bench: Bench, subscriber: Subscriber) -> None:
    while True:
        match await bench.order():
            case Start(measured_from=measured_from):
                subscriber.start(measured_from)
            case Report():
                bench.tell(subscriber.result())
            case _:
                return


if __name__ == "__main__":
    main(SubscriberTask, work)
