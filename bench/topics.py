"""One round with many topics: what each costs, and what they cost the one that is in use."""

import asyncio
from typing import Final

from bench import load
from bench.broker import Broker, serving
from bench.messages import TopicsTask
from bench.options import LoadOptions, TopicsOptions, warmup_of
from bench.processes import running
from bench.progress import Display
from bench.results import Topics

SUBSCRIBE_SECONDS: Final = 30.0
"""For the first of them; and this many seconds for each thousand more."""

SETTLE_SECONDS: Final = 0.5
"""Between the last subscription and the measuring."""


async def run_round(options: TopicsOptions, display: Display) -> Topics:
    """Load one topic twice: alone at a fresh broker, then among all the others.

    Raises:
        BenchError: a process failed, or the broker did.
        ActorbusError: the broker does not answer.
    """
    async with serving(options.url, options.store) as broker:
        alone = await _rate(options, broker, display)
        display.phase(f"subscribing to {options.count} topics")
        before = await asyncio.to_thread(broker.usage)
        task = TopicsTask(
            url=broker.url, app_id="bench-idle", encoding=options.encoding, topics=options.count
        )
        allowed = SUBSCRIBE_SECONDS * (1 + options.count / 1000)
        async with running("bench.topics_app", [("the idle app", task)], allowed):
            await asyncio.sleep(SETTLE_SECONDS)
            after = await asyncio.to_thread(broker.usage)
            among = await _rate(options, broker, display)
    return Topics(
        topics=options.count,
        kib_each=round((after.rss_bytes - before.rss_bytes) / 1024 / options.count, 2),
        alone_per_second=alone,
        among_per_second=among,
        among_to_alone=round(among / alone, 4) if alone else 0.0,
    )


async def _rate(options: TopicsOptions, broker: Broker, display: Display) -> float:
    work = LoadOptions(
        duration=options.duration,
        warmup=warmup_of(options.duration),
        encoding=options.encoding,
    )
    result, _ = await load.run_round(work, broker, display)
    return result.delivered_per_second
