"""One round with idle connections: what each costs the broker."""

import asyncio
import time
from typing import Final

from bench.broker import Broker, serving
from bench.messages import IdleTask
from bench.options import ConnectionsOptions
from bench.peers.house import house
from bench.peers.relay import Relay
from bench.processes import running
from bench.progress import Display
from bench.results import Idle
from bench.usage import Usage

OPEN_SECONDS: Final = 30.0
"""For the first of them; and this many seconds for each thousand more."""

SETTLE_SECONDS: Final = 0.5
"""Between the last connection and the measuring: the broker has answered all of them by then."""


async def run_round(options: ConnectionsOptions, display: Display) -> Idle:
    """Run it on a broker that has no other connections.

    Raises:
        BenchError: they could not be opened, or the broker does not start.
    """
    if options.bare:
        async with house() as servers:
            relay = await Relay(many=False).serve(servers)
            url = f"{relay.address['ws']}/subscribe/idle"
            return await _run(options, Broker(url, relay.usage), display)
    async with serving(options.url, options.store) as broker:
        return await _run(options, broker, display)


async def _run(options: ConnectionsOptions, broker: Broker, display: Display) -> Idle:
    display.phase(f"opening {options.count} connections")
    before = await asyncio.to_thread(broker.usage)
    task = IdleTask(
        url=broker.url,
        app_id="bench-idle",
        encoding=options.encoding,
        connections=options.count,
        bare=options.bare,
    )
    allowed = OPEN_SECONDS * (1 + options.count / 1000)
    async with running("bench.idler", [("the idle app", task)], allowed):
        await asyncio.sleep(SETTLE_SECONDS)
        opened = await asyncio.to_thread(broker.usage)
        display.phase("idle", options.idle)
        begun = time.monotonic()
        while time.monotonic() < begun + options.idle:
            display.show(None)
            await asyncio.sleep(min(0.1, options.idle))
        seconds = time.monotonic() - begun
        idle = await asyncio.to_thread(broker.usage)
    return _result(options.count, before, opened, idle, seconds)


def _result(count: int, before: Usage, opened: Usage, idle: Usage, seconds: float) -> Idle:
    rss = max(opened.rss_bytes, idle.rss_bytes)
    return Idle(
        connections=count,
        start_mib=round(before.rss_bytes / 2**20, 1),
        end_mib=round(rss / 2**20, 1),
        kib_each=round((rss - before.rss_bytes) / 1024 / count, 2),
        opening_cpu_us=round((opened.cpu_seconds - before.cpu_seconds) * 1e6 / count, 1),
        idle_cpu_percent=round((idle.cpu_seconds - opened.cpu_seconds) * 100 / seconds, 2),
    )
