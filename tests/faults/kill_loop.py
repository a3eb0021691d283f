"""Kill the broker under load, again and again, and count what the apps lost.

    python -m tests.faults.kill_loop --rounds 300

Two publishers, two groups of two instances each. Every round ends with `kill -9` at a random
moment, and a start on the same file. In every second round one group takes nothing, so that all it
gets later has outlived a kill.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
import structlog

import actorbus
from actorbus.client.bus import Bus
from tests.faults.apps import (
    acknowledges,
    backlogs,
    instance,
    publish_until,
    quick_reconnects,
    worked_off,
)
from tests.faults.broker import SERVE, BrokerProcess
from tests.faults.record import Record

TOPIC: Final = "orders"
GROUPS: Final = ("billing", "shipping")
INSTANCES: Final = 2
PUBLISHERS: Final = 2
CALLS: Final = 4
"""Calls under way at each publisher."""

ROUND_EVENTS: Final = (20, 1_500)
"""Between so few and so many events are acknowledged from one start to the next kill."""

SCATTER_SECONDS: Final = 0.01
"""Then the kill comes within so long, so that it hits every step of a publish."""

WINDOW: Final = 256

ROUND_SECONDS: Final = 30.0


class GroupResult(msgspec.Struct, frozen=True):
    """What one group saw.

    Attributes:
        lost: acknowledged events that it never got.
        duplicates: deliveries beyond an event's first.
        returned: of them, those of events that were settled durably and published once.
    """

    lost: int
    deliveries: int
    duplicates: int
    returned: int
    highest_attempt: int


class Result(msgspec.Struct, frozen=True):
    """What a loop showed.

    Attributes:
        acknowledged: events of which publishers were told that they are durable.
        unanswered: events that were under way at a kill; their publishers publish them again.
        backlog: unsettled events at the end.
    """

    kills: int
    acknowledged: int
    unanswered: int
    seconds: float
    backlog: int
    groups: dict[str, GroupResult]


async def run(
    directory: Path,
    rounds: int,
    seed: int,
    *,
    program: Sequence[str] = SERVE,
    show: bool = False,
) -> Result:
    """Kill the broker `rounds` times; returns once all that it still has is handled.

    Args:
        directory: for the broker's files.
        rounds: kills.
        seed: of the moments of the kills.
        program: what runs until the last kill; after it the real broker does.
        show: whether to write progress to standard error.
    """
    began = time.monotonic()
    record = Record(GROUPS)
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(quick_reconnects())
        broker = await stack.enter_async_context(BrokerProcess(directory, program=program))
        buses = [
            await stack.enter_async_context(
                instance(broker.url, group, TOPIC, acknowledges(group, record))
            )
            for group in GROUPS
            for _ in range(INSTANCES)
        ]
        async with asyncio.TaskGroup() as publishers:
            for number in range(PUBLISHERS):
                publishers.create_task(_publisher(broker.url, number, stop, record))
            draw = random.Random(seed)
            for number in range(1, rounds + 1):
                await _round(broker, buses[-INSTANCES:] if number % 2 else [], record, draw)
                if number == rounds:
                    broker.program = SERVE
                await broker.start()
                if show:
                    sys.stderr.write(f"\r{number}/{rounds} kills")
            stop.set()
        await worked_off(buses[0], TOPIC)
        return Result(
            kills=rounds,
            acknowledged=len(record.acknowledged),
            unanswered=len(record.repeated),
            seconds=round(time.monotonic() - began, 1),
            backlog=await backlogs(buses[0], TOPIC),
            groups=_groups(record),
        )


async def _publisher(url: str, number: int, stop: asyncio.Event, record: Record) -> None:
    async with (
        actorbus.connect(url, app_id="shop", publish_timeout=60) as bus,
        asyncio.TaskGroup() as calls,
    ):
        for call in range(CALLS):
            name = f"{number}.{call}"
            calls.create_task(publish_until(stop, bus, TOPIC, name, record))


async def _round(
    broker: BrokerProcess, paused: Sequence[Bus], record: Record, draw: random.Random
) -> None:
    """Publish for a while, then kill the broker."""
    for bus in paused:
        await bus.flow(0)
    enough = len(record.acknowledged) + draw.randint(*ROUND_EVENTS)
    if not await record.wait_for(lambda: len(record.acknowledged) >= enough, ROUND_SECONDS):
        raise TimeoutError(f"publishers stand still; groups wait for {record.lost()}")
    await asyncio.sleep(draw.uniform(0, SCATTER_SECONDS))  # the kill's moment, not a wait
    record.interrupted()
    await broker.kill()
    for bus in paused:
        await bus.flow(WINDOW)


def _groups(record: Record) -> dict[str, GroupResult]:
    return {
        app_id: GroupResult(
            lost=len(group.missing),
            deliveries=group.handled.total(),
            duplicates=group.duplicates(),
            returned=group.returned,
            highest_attempt=group.highest_attempt(),
        )
        for app_id, group in record.groups.items()
    }


def main() -> int:
    """Run by hand; the exit status tells whether anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.ERROR)  # it is about lost connections
    structlog.configure(wrapper_class=quiet)
    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(run(Path(directory), arguments.rounds, arguments.seed, show=True))
    sys.stdout.write("\n" + msgspec.json.format(msgspec.json.encode(result)).decode() + "\n")
    return int(any(group.lost for group in result.groups.values()))


if __name__ == "__main__":
    sys.exit(main())
