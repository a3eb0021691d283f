"""Drop every event under kills, and count how many dead letters are lost."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import actorbus
from actorbus.client.delivery import Delivery
from tests.faults.apps import acknowledges, instance, publish, quick_reconnects, worked_off
from tests.faults.broker import SERVE, BrokerProcess
from tests.faults.record import Record

TOPIC: Final = "orders"
DEAD: Final = "dead"
GROUP: Final = "billing"
EVENTS: Final = 200
"""Published in each round; the kill comes once half of them are known to be dropped."""


async def run(directory: Path, rounds: int, *, program: Sequence[str] = SERVE) -> Record:
    """Kill the broker while it dead-letters; what the group on the dead-letter topic got.

    Args:
        directory: for the broker's files.
        rounds: kills.
        program: what runs until the last kill; after it the real broker does.
    """
    record = Record([GROUP])
    dropped: set[str] = set()
    changed = asyncio.Event()

    async def drop(delivery: Delivery) -> None:
        if await delivery.drop("not wanted", wait=True):
            dropped.add(delivery.event["id"])
            changed.set()

    async with AsyncExitStack() as stack:
        stack.enter_context(quick_reconnects())
        broker = await stack.enter_async_context(BrokerProcess(directory, program=program))
        enter = stack.enter_async_context
        await enter(instance(broker.url, GROUP, TOPIC, drop, dead_letter_topic=DEAD))
        bus = await enter(actorbus.connect(broker.url, app_id="shop"))
        for number in range(1, rounds + 1):
            await publish(bus, TOPIC, record, [f"{number}-{index}" for index in range(EVENTS)])
            async with asyncio.timeout(20):
                while len(dropped) < (number - 0.5) * EVENTS:
                    changed.clear()
                    await changed.wait()
            await broker.kill()
            broker.program = SERVE if number == rounds else program
            await broker.start()
        await worked_off(bus, TOPIC)
        await enter(instance(broker.url, GROUP, DEAD, acknowledges(GROUP, record)))
        await worked_off(bus, DEAD)
    return record
