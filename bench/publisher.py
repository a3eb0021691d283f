"""A publisher process: `python -m bench.publisher TASK`."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial

import msgspec

import actorbus
from bench.app import Bench, main, until
from bench.messages import Pace, Published, PublisherTask, Ready, Start
from bench.pacer import Pacer
from bench.payload import Payload


class Outlet(msgspec.Struct, frozen=True):
    """Where events go.

    Attributes:
        publish: one event's data; returns once it is acknowledged.
        publish_many: the same for several; None where there is no such call.
    """

    publish: Callable[[bytes], Awaitable[object]]
    publish_many: Callable[[list[bytes]], Awaitable[object]] | None = None


class Publisher:
    """Publishes events by as many workers as its window allows.

    A worker is a loop around a plain `await publish(...)`, as an app would have it: no task and
    no semaphore per event.

    Attributes:
        published: events acknowledged so far.
        failed: numbers of those that were not.
    """

    def __init__(self, task: Pace, outlet: Outlet, start: int) -> None:
        self.published = 0
        self.failed: list[int] = []
        self._task = task
        self._outlet = outlet
        self._payload = Payload(task.number, task.payload)
        self._claimed = 0
        self._until = start + round(task.seconds * 1e9)
        self._pacer: Pacer | None = None
        if task.rate is not None:
            first = start + round(task.phase * 1e9 / task.rate)
            self._pacer = Pacer(task.rate, first, task.batch)

    async def run(self, measured_from: int) -> Published:
        """Publish everything; returns when all is answered."""
        begun = time.process_time()
        warm = asyncio.create_task(self._warm_count(measured_from))
        work = self._publish_many if self._task.batch > 1 else self._publish
        with ExitStack() as stack:
            if self._pacer is not None:
                stack.enter_context(self._pacer)
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._task.window // self._task.batch):
                    workers.create_task(work())
        ended = time.monotonic_ns()
        warm.cancel()
        before = warm.result() if warm.done() and not warm.cancelled() else self.published
        return Published(
            claimed=self._claimed,
            failed=self.failed,
            measured=self.published - before,
            ended=ended,
            cpu_seconds=time.process_time() - begun,
        )

    async def _warm_count(self, measured_from: int) -> int:
        await until(measured_from)
        return self.published

    async def _publish(self) -> None:
        publish, pack = self._outlet.publish, self._payload.pack
        while (number := self._claim(1)) is not None:
            if self._pacer is not None:
                await self._pacer.turn()
            data = pack(number, self._begins(number))
            try:
                await publish(data)
            except actorbus.UnavailableError:
                self.failed.append(number)
            else:
                self.published += 1

    async def _publish_many(self) -> None:
        publish, pack, batch = self._outlet.publish_many, self._payload.pack, self._task.batch
        assert publish is not None, "batches are asked only of what can publish them"
        while (first := self._claim(batch)) is not None:
            numbers = range(first, min(first + batch, self._claimed))
            if self._pacer is not None:
                await self._pacer.turn()
            data = [pack(number, self._begins(number)) for number in numbers]
            try:
                await publish(data)
            except actorbus.UnavailableError:
                self.failed.extend(numbers)
            else:
                self.published += len(numbers)

    def _claim(self, count: int) -> int | None:
        """Number of the next events; None when there is no next."""
        number, most = self._claimed, self._task.events
        if number == most or (most is None and self._begins(number) >= self._until):
            return None
        self._claimed = number + count if most is None else min(number + count, most)
        return number

    def _begins(self, number: int) -> int:
        """When an event's latency begins: now, or when it was due in an open loop."""
        return time.monotonic_ns() if self._pacer is None else self._pacer.due(number)


async def work(task: PublisherTask, bench: Bench) -> None:
    """Connect, wait for the start, publish, tell the result."""
    Payload(task.number, task.payload)  # an impossible size is said before anything starts
    async with actorbus.connect(task.url, app_id=task.app_id, encoding=task.encoding) as bus:
        await publish_for(bench, task, outlet_of(bus, task.topic))


def outlet_of(bus: actorbus.Bus, topic: str) -> Outlet:
    """A topic of a broker as an outlet."""
    return Outlet(partial(bus.publish, topic), partial(bus.publish_many, topic))


async def publish_for(bench: Bench, task: Pace, outlet: Outlet) -> None:
    """Say that all is ready, wait for the start, publish, tell the result, wait for the end."""
    bench.tell(Ready())
    order = await bench.order()
    if not isinstance(order, Start):
        return
    publisher = Publisher(task, outlet, order.at)
    await until(order.at)
    progress = asyncio.create_task(bench.tell_progress(lambda: publisher.published))
    publishing = asyncio.create_task(publisher.run(order.measured_from))
    stopped = asyncio.create_task(bench.order())
    await asyncio.wait((publishing, stopped), return_when=asyncio.FIRST_COMPLETED)
    progress.cancel()
    if stopped.done():
        await _abandon(publishing)
        return
    bench.tell(publishing.result())
    await stopped


async def _abandon(publishing: asyncio.Task[Published]) -> None:
    """The bench has given up, or is gone: nobody wants the rest."""
    publishing.cancel()
    await asyncio.wait([publishing])


if __name__ == "__main__":
    main(PublisherTask, work)
