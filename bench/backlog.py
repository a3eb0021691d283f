"""One round with a backlog: published while nobody reads, found again at a start, then drained."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final

import actorbus
from bench import load
from bench.broker import Broker, serving
from bench.load import ANSWER_SECONDS, LEAD_SECONDS, LOOK_SECONDS, READY_SECONDS, per_second
from bench.measure import confirmed, judge
from bench.messages import Published, Received, Report, Start, SubscriberTask
from bench.options import OUT, TEMPORARY, BacklogOptions, LoadOptions, warmup_of
from bench.processes import AppProcess, running
from bench.progress import Display
from bench.results import Backlog
from bench.usage import Usage

TOPIC: Final = "bench.backlog"
APP_ID: Final = "bench-backlog"

BATCH: Final = 500
"""Events a `publish_many` call while the backlog is made: how fast that goes is not measured."""

PATIENCE_SECONDS: Final = 35.0
"""As in a load test: a lease that went astray ends after 30 s."""


async def run_round(options: BacklogOptions, display: Display) -> Backlog:
    """Measure the normal rate, make the backlog, start a broker on it, drain it.

    Raises:
        BenchError: a process failed, or the broker did.
        ActorbusError: the broker does not answer.
    """
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT) as directory:
        store = options.store
        if store == TEMPORARY:
            store = f"sqlite:{Path(directory) / 'backlog.db'}"
        async with serving(None, TEMPORARY if options.store == TEMPORARY else store) as broker:
            work = LoadOptions(duration=options.duration, warmup=warmup_of(options.duration))
            normal, _ = await load.run_round(work, broker, display)
        async with serving(None, store) as broker:
            before = await asyncio.to_thread(broker.usage)
            sent = await _fill(options, broker, display)
            filled = await asyncio.to_thread(broker.usage)
        begun = time.monotonic()
        async with serving(None, store) as broker:
            start_seconds = time.monotonic() - begun
            started = await asyncio.to_thread(broker.usage)
            rate, got = await _drain(options, broker, display)
            drained = await asyncio.to_thread(broker.usage)
            async with actorbus.connect(broker.url, app_id=APP_ID) as bus:
                await bus.forget(TOPIC)
    verdict = judge([confirmed(sent.claimed, sent.failed)], got.received, [got.bitmaps])
    return Backlog(
        events=sent.claimed - len(sent.failed),
        filling_mib=_grown(before, filled),
        start_seconds=round(start_seconds, 2),
        draining_mib=_grown(started, drained),
        normal_per_second=normal.delivered_per_second,
        drained_per_second=rate,
        drained_to_normal=round(rate / normal.delivered_per_second, 4),
        lost=verdict.lost,
        duplicates=verdict.duplicates,
    )


async def _fill(options: BacklogOptions, broker: Broker, display: Display) -> Published:
    """Publish with a group that exists and has no instance."""
    async with (
        actorbus.connect(broker.url, app_id=APP_ID) as bus,
        bus.subscribe(TOPIC),
    ):
        pass
    work = LoadOptions(events=options.events, batch=BATCH, window=4 * BATCH, warmup=0.0)
    task = load.publisher_task(work, 0, broker.url, TOPIC)
    async with running("bench.publisher", [("the publisher", task)], READY_SECONDS) as apps:
        (publisher,) = apps
        display.phase("publishing the backlog", options.events)
        publisher.on_progress = lambda progress: display.show(progress.count)
        at = time.monotonic_ns() + round(LEAD_SECONDS * 1e9)
        publisher.tell(Start(at=at, measured_from=at))
        return await publisher.expect(Published, load.allowed_seconds(work))


async def _drain(
    options: BacklogOptions, broker: Broker, display: Display
) -> tuple[float, Received]:
    """Deliveries per second from the first moment that all is ready, and what was delivered."""
    task = SubscriberTask(
        url=broker.url,
        app_id=APP_ID,
        instance="drain",
        topic=TOPIC,
        encoding="msgpack",
        publishers=1,
        max_in_flight=LoadOptions().max_in_flight,
    )
    async with running("bench.subscriber", [("the subscriber", task)], READY_SECONDS) as apps:
        (subscriber,) = apps
        begun = time.monotonic_ns()
        subscriber.tell(Start(at=begun, measured_from=begun))
        display.phase("draining the backlog", options.events)
        await _arrived(subscriber, options.events, display)
        subscriber.tell(Report())
        got = await subscriber.expect(Received, ANSWER_SECONDS)
    return per_second(got.measured, begun, got.last), got


async def _arrived(subscriber: AppProcess, events: int, display: Display) -> None:
    """Wait until all have, or nothing has for too long."""
    seen, changed = -1, time.monotonic()
    while seen < events and time.monotonic() - changed < PATIENCE_SECONDS:
        subscriber.check()
        count = 0 if subscriber.progress is None else subscriber.progress.count
        if count != seen:
            seen, changed = count, time.monotonic()
        display.show(count)
        await asyncio.sleep(LOOK_SECONDS)


def _grown(before: Usage, after: Usage) -> float:
    """MiB by which a broker's memory had grown at most."""
    most = after.rss_bytes if after.peak_bytes is None else after.peak_bytes
    return round((most - before.rss_bytes) / 2**20, 1)
