"""A broker behind a proxy, and an app that holds what is delivered to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import actorbus
from actorbus.client.subscription import Subscription
from tests.faults.apps import acknowledges, instance, publish, quick_reconnects
from tests.faults.broker import SERVE, BrokerProcess
from tests.faults.proxy import Proxy
from tests.faults.record import Record

TOPIC: Final = "orders"
GROUP: Final = "billing"
WAIT_SECONDS: Final = 10.0
HELD: Final = 50


@asynccontextmanager
async def behind_a_proxy(
    directory: Path, program: Sequence[str] = SERVE
) -> AsyncIterator[tuple[BrokerProcess, Proxy]]:
    """A broker and the proxy before it; clients reconnect quickly."""
    with quick_reconnects():
        async with (
            BrokerProcess(directory, program=program) as broker,
            Proxy(broker.url) as proxy,
        ):
            yield broker, proxy


async def take(deliveries: Subscription, count: int) -> list[tuple[str, int]]:
    """Id and attempt of the next deliveries, in the order of ids; they are left unsettled."""
    async with asyncio.timeout(WAIT_SECONDS):
        taken = [await anext(deliveries) for _ in range(count)]
    return sorted((delivery.event["id"], delivery.attempt) for delivery in taken)


async def lose_a_holder(directory: Path, program: Sequence[str] = SERVE) -> Record:
    """Reset the connection of an instance that holds `HELD` events; what the others then got."""
    record = Record([GROUP])
    async with (
        behind_a_proxy(directory, program) as (broker, proxy),
        actorbus.connect(broker.url, app_id="shop") as shop,
        actorbus.connect(proxy.url, app_id=GROUP) as holder,
        holder.subscribe(TOPIC) as held,
    ):
        await publish(shop, TOPIC, record, [f"{number}" for number in range(HELD)])
        await take(held, HELD)
        async with instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)):
            await holder.flow(0)
            proxy.reset()
            await record.complete(seconds=3)
    return record
