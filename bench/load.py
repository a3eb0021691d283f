"""One round of a load test: processes started, events published, awaited, judged."""

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import actorbus
from bench.broker import Broker
from bench.measure import Histogram, confirmed, judge
from bench.messages import (
    Progress,
    Published,
    PublisherTask,
    Received,
    Report,
    Start,
    SubscriberTask,
)
from bench.options import LoadOptions
from bench.processes import AppProcess, running
from bench.progress import Display
from bench.results import GroupResult, Round, Trace, latency_ms
from bench.usage import Usage

READY_SECONDS: Final = 60.0
"""For a process to start and connect; many at once share few cores."""

LEAD_SECONDS: Final = 0.2
"""From the order to start until the start: all processes have read it by then."""

ANSWER_SECONDS: Final = 60.0
"""For the last publishes to be answered (they give up after 30 s), and for a report."""

SLOWEST: Final = 100
"""Events per second under which a run by number of events is given up."""

PATIENCE_SECONDS: Final = 35.0
"""How long nothing may arrive before what is missing counts as lost: the lease of an event that
went astray ends after 30 s, and it is redelivered then."""

LOOK_SECONDS: Final = 0.05

AsyncProcesses = AbstractAsyncContextManager[list[AppProcess]]


async def run_round(options: LoadOptions, broker: Broker, display: Display) -> tuple[Round, Trace]:
    """Run it on a broker.

    Raises:
        BenchError: a process failed.
        ActorbusError: the broker does not answer at the end.
    """
    topic = f"bench.{secrets.token_hex(4)}"
    running_round = _Round(options, broker, display, topic)
    return await running_round.run()


class _Round:
    """One round under way."""

    def __init__(self, options: LoadOptions, broker: Broker, display: Display, topic: str) -> None:
        self._options = options
        self._broker = broker
        self._display = display
        self._topic = topic
        self._app_ids = [f"bench-{number}" for number in range(options.groups)]
        self._published = Line()
        self._delivered = Line()

    async def run(self) -> tuple[Round, Trace]:
        self._display.phase("starting the processes")
        async with self._subscribers() as subscribers, self._publishers() as publishers:
            self._published.follow(publishers)
            self._delivered.follow(subscribers)
            before = await asyncio.to_thread(self._broker.usage)
            start = self._start([*subscribers, *publishers])
            sent = await self._publishing(publishers, subscribers)
            got = await self._arriving(subscribers, sent)
            after = await asyncio.to_thread(self._broker.usage)
        unsettled = await self._unsettled()
        await self._forget()
        groups = [
            self._group(number, sent, got, unsettled.get(app_id))
            for number, app_id in enumerate(self._app_ids)
        ]
        return _result(start, sent, got, (before, after), groups), Trace(
            merged(got),
            self._published.since(start.at),
            self._delivered.since(start.at),
        )

    def _subscribers(self) -> AsyncProcesses:
        options = self._options
        tasks = [
            (
                f"instance {instance} of {app_id}",
                SubscriberTask(
                    url=self._broker.url,
                    app_id=app_id,
                    instance=f"instance-{instance}",
                    topic=self._topic,
                    encoding=options.encoding,
                    publishers=options.publishers,
                    max_in_flight=options.max_in_flight,
                ),
            )
            for app_id in self._app_ids
            for instance in range(options.instances)
        ]
        return running("bench.subscriber", tasks, READY_SECONDS)

    def _publishers(self) -> AsyncProcesses:
        tasks = [
            (
                f"publisher {number}",
                publisher_task(self._options, number, self._broker.url, self._topic),
            )
            for number in range(self._options.publishers)
        ]
        return running("bench.publisher", tasks, READY_SECONDS)

    def _start(self, apps: Sequence[AppProcess]) -> Start:
        at = time.monotonic_ns() + round(LEAD_SECONDS * 1e9)
        start = Start(at=at, measured_from=at + round(self._options.warmup * 1e9))
        for app in apps:
            app.tell(start)
        return start

    async def _publishing(
        self, publishers: Sequence[AppProcess], subscribers: Sequence[AppProcess]
    ) -> list[Published]:
        options = self._options
        self._display.phase("publishing", options.events or options.duration)
        seconds = allowed_seconds(options)
        answers = asyncio.gather(*(app.expect(Published, seconds) for app in publishers))
        try:
            while not answers.done():
                self._show(None if options.events is None else self._published.count)
                _check(subscribers)
                await asyncio.wait([answers], timeout=LOOK_SECONDS)
            return answers.result()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    async def _arriving(
        self, subscribers: Sequence[AppProcess], sent: Sequence[Published]
    ) -> list[Received]:
        """Wait until every group has everything, or nothing has come for too long."""
        needed = sum(each.claimed - len(each.failed) for each in sent)
        self._display.phase("waiting for what is under way", needed * self._options.groups)
        seen, changed, asked = -1, time.monotonic(), -1
        while True:
            _check(subscribers)
            count = self._delivered.count
            self._show(count)
            if count != seen:
                seen, changed = count, time.monotonic()
            overdue = time.monotonic() - changed > PATIENCE_SECONDS
            if overdue or (count != asked and self._may_have_all(subscribers, needed)):
                asked = count
                got = await _report(subscribers)
                if overdue or not any(self._lost(sent, got)):
                    return got
            await asyncio.sleep(LOOK_SECONDS)

    def _may_have_all(self, subscribers: Sequence[AppProcess], needed: int) -> bool:
        """Enough has arrived; duplicates at several instances may still hide a gap."""
        counts = [0 if app.progress is None else app.progress.count for app in subscribers]
        return all(sum(counts[own]) >= needed for own in self._slices())

    def _slices(self) -> list[slice]:
        """Where each group's instances stand in the list of subscribers."""
        each = self._options.instances
        return [slice(number * each, (number + 1) * each) for number in range(self._options.groups)]

    def _lost(self, sent: Sequence[Published], got: Sequence[Received]) -> list[int]:
        return [
            self._group(number, sent, got, None).verdict.lost
            for number in range(len(self._app_ids))
        ]

    def _group(
        self, number: int, sent: Sequence[Published], got: Sequence[Received], unsettled: int | None
    ) -> GroupResult:
        mine = got[self._slices()[number]]
        by_instance = [each.received for each in mine]
        return GroupResult(
            app_id=self._app_ids[number],
            verdict=judge(
                [confirmed(each.claimed, each.failed) for each in sent],
                sum(by_instance),
                [each.bitmaps for each in mine],
            ),
            redelivered=sum(each.redelivered for each in mine),
            unsettled=unsettled,
            by_instance=by_instance,
        )

    def _show(self, done: float | None) -> None:
        note = f"{self._published.count:,} published, {self._delivered.count:,} delivered"
        self._display.show(done, note)

    async def _unsettled(self) -> dict[str, int | None]:
        """What the broker still keeps, now that all instances have left."""
        async with self._bus("bench") as bus:
            topics = await bus.inspect(self._topic)
        return {group.app_id: group.backlog for topic in topics for group in topic.groups}

    async def _forget(self) -> None:
        for app_id in self._app_ids:
            async with self._bus(app_id) as bus:
                await bus.forget(self._topic)

    def _bus(self, app_id: str) -> actorbus.Bus:
        return actorbus.connect(self._broker.url, app_id=app_id, encoding=self._options.encoding)


class Line:
    """How a number of events grew, summed over processes.

    Attributes:
        count: by now.
    """

    def __init__(self) -> None:
        self.count = 0
        self._points: list[tuple[int, int]] = []
        self._apps: Sequence[AppProcess] = ()

    def follow(self, apps: Sequence[AppProcess]) -> None:
        """Note what these processes tell from now on."""
        self._apps = apps
        for app in apps:
            app.on_progress = self._note

    def since(self, start: int) -> list[tuple[float, int]]:
        """Seconds since `start`, and events until then."""
        return [((at - start) / 1e9, count) for at, count in self._points if at >= start]

    def _note(self, progress: Progress) -> None:
        self.count = sum(app.progress.count for app in self._apps if app.progress is not None)
        self._points.append((progress.at, self.count))


def publisher_task(options: LoadOptions, number: int, url: str, topic: str) -> PublisherTask:
    """One publisher's share of the work."""
    events = options.events
    if events is not None:
        share, rest = divmod(events, options.publishers)
        events = share + (number < rest)
    return PublisherTask(
        url=url,
        app_id="bench",
        topic=topic,
        encoding=options.encoding,
        number=number,
        payload=options.payload,
        window=options.window,
        batch=options.batch,
        events=events,
        seconds=options.duration,
        rate=None if options.rate is None else options.rate / options.publishers,
        phase=number / options.publishers,
    )


def allowed_seconds(options: LoadOptions) -> float:
    """How long publishing may take."""
    if options.events is None:
        return LEAD_SECONDS + options.duration + ANSWER_SECONDS
    return options.events / min(SLOWEST, options.rate or SLOWEST) + ANSWER_SECONDS


def _check(apps: Iterable[AppProcess]) -> None:
    for app in apps:
        app.check()


async def _report(subscribers: Sequence[AppProcess]) -> list[Received]:
    for app in subscribers:
        app.tell(Report())
    return await asyncio.gather(*(app.expect(Received, ANSWER_SECONDS) for app in subscribers))


def merged(got: Sequence[Received]) -> Histogram:
    """The latencies of several subscribers together."""
    latencies = Histogram()
    for each in got:
        latencies.add(each.latencies)
    return latencies


def _result(
    start: Start,
    sent: Sequence[Published],
    got: Sequence[Received],
    usage: tuple[Usage, Usage],
    groups: list[GroupResult],
) -> Round:
    before, after = usage
    failed = sum(len(each.failed) for each in sent)
    published = sum(each.claimed for each in sent) - failed
    received = sum(each.received for each in got)
    last = max(each.last for each in got)
    return Round(
        published=published,
        failed=failed,
        published_per_second=sum(
            per_second(each.measured, start.measured_from, each.ended) for each in sent
        ),
        delivered_per_second=per_second(
            sum(each.measured for each in got), start.measured_from, last
        ),
        latency_ms=latency_ms(merged(got)),
        broker_cpu_us=_each(after.cpu_seconds - before.cpu_seconds, published),
        publisher_cpu_us=_each(sum(each.cpu_seconds for each in sent), published),
        subscriber_cpu_us=_each(sum(each.cpu_seconds for each in got), received),
        broker_rss_mib=_mib(after.rss_bytes),
        broker_peak_mib=None if after.peak_bytes is None else _mib(after.peak_bytes),
        groups=groups,
    )


def per_second(count: int, begun: int, ended: int) -> float:
    """A rate from two times of `time.monotonic_ns`; 0 for no time at all."""
    return round(count * 1e9 / (ended - begun), 1) if ended > begun else 0.0


def _each(seconds: float, count: int) -> float:
    """Microseconds for each of so many."""
    return round(seconds * 1e6 / count, 2) if count else 0.0


def _mib(size: int) -> float:
    return round(size / 2**20, 1)
