"""RabbitMQ behind the broker: killed, absent, and shared by two brokers of which one is killed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import actorbus
from tests.faults.apps import (
    acknowledges,
    event,
    eventually,
    instance,
    publish,
    publish_until,
    quick_reconnects,
)
from tests.faults.broker import BrokerProcess
from tests.faults.disconnects import take
from tests.faults.raw import RawClient
from tests.faults.record import Record
from tests.rabbitmq_node import RabbitNode, running_node

TOPIC = "orders"
GROUP = "billing"
RECOVERY_SECONDS = 60.0
ANSWER_SECONDS = 10.0
"""Within it a publisher is told `store_unavailable`."""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def own_node(rabbitmq_node: RabbitNode) -> Iterator[RabbitNode]:  # for its skip
    """A node that a test may kill, and has to start again."""
    yield from running_node(vhosts=2)


@asynccontextmanager
async def brokers(directory: Path, url: str, count: int) -> AsyncIterator[list[BrokerProcess]]:
    """Several brokers on one RabbitMQ."""
    async with AsyncExitStack() as stack:
        stack.enter_context(quick_reconnects())
        yield [
            await stack.enter_async_context(
                BrokerProcess(directory, store=url, name=f"broker-{number}")
            )
            for number in range(count)
        ]


async def until_healthy(broker: BrokerProcess) -> None:
    async def healthy() -> bool:
        return (await broker.health())[0] == 200

    await eventually(healthy, RECOVERY_SECONDS)


def test_two_brokers_share_the_work_of_a_group(tmp_path: Path, rabbitmq_url: str) -> None:
    async def run() -> None:
        records = [Record([GROUP]) for _ in range(2)]
        both = Record([GROUP])
        async with brokers(tmp_path, rabbitmq_url, 2) as (one, other), AsyncExitStack() as stack:
            for broker, record in zip((one, other), records, strict=True):
                handle = acknowledges(GROUP, record)
                await stack.enter_async_context(instance(broker.url, GROUP, TOPIC, handle))
            bus = await stack.enter_async_context(actorbus.connect(one.url, app_id="shop"))
            for number in range(40):
                ids = [f"{number}-{index}" for index in range(25)]
                await publish(bus, TOPIC, both, ids)

            async def handled() -> bool:
                counts = [len(record.groups[GROUP].handled) for record in records]
                return sum(counts) >= len(both.acknowledged)

            await eventually(handled, RECOVERY_SECONDS)
        shares = [record.groups[GROUP].handled for record in records]
        assert shares[0].keys() | shares[1].keys() == both.acknowledged
        assert shares[0].keys() & shares[1].keys() == set()
        assert min(map(len, shares)) > 0

    asyncio.run(run())


def test_what_a_killed_broker_held_goes_to_the_other(tmp_path: Path, rabbitmq_url: str) -> None:
    async def run() -> None:
        record = Record([GROUP])
        async with (
            brokers(tmp_path, rabbitmq_url, 2) as (doomed, other),
            actorbus.connect(other.url, app_id="shop") as shop,
            actorbus.connect(doomed.url, app_id=GROUP) as holder,
            holder.subscribe(TOPIC) as held,
        ):
            await publish(shop, TOPIC, record, [f"{number}" for number in range(50)])
            await take(held, 50)
            async with instance(other.url, GROUP, TOPIC, acknowledges(GROUP, record)):
                await doomed.kill()
                assert await record.complete(RECOVERY_SECONDS)
        assert record.groups[GROUP].attempts == {f"{number}": [1] for number in range(50)}

    asyncio.run(run())


def test_a_rabbitmq_killed_under_load_loses_nothing_and_is_reconnected_to(
    tmp_path: Path, own_node: RabbitNode
) -> None:
    async def run() -> None:
        record = Record([GROUP])
        stop = asyncio.Event()
        async with brokers(tmp_path, own_node.url(), 1) as (broker,), AsyncExitStack() as stack:
            enter = stack.enter_async_context
            await enter(instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)))
            shop = await enter(actorbus.connect(broker.url, app_id="shop", publish_timeout=120))
            witness = await enter(RawClient(broker.url, "witness"))
            async with asyncio.TaskGroup() as publishers:
                for name in "ab":
                    publishers.create_task(publish_until(stop, shop, TOPIC, name, record))
                assert await record.wait_for(lambda: len(record.acknowledged) >= 500, 30)
                await asyncio.to_thread(own_node.kill)
                began = time.monotonic()
                assert await witness.publish(TOPIC, event("refused")) == "store_unavailable"
                assert time.monotonic() - began < ANSWER_SECONDS
                status, reason = await broker.health()
                assert (status, bool(reason)) == (503, True)
                await asyncio.to_thread(own_node.start)
                again = len(record.acknowledged) + 500
                assert await record.wait_for(
                    lambda: len(record.acknowledged) >= again, RECOVERY_SECONDS
                )
                stop.set()
            assert await record.complete(RECOVERY_SECONDS)
            await until_healthy(broker)

    asyncio.run(run())


def test_a_broker_waits_for_a_rabbitmq_that_is_away_at_its_start(
    tmp_path: Path, own_node: RabbitNode
) -> None:
    async def run() -> None:
        url = own_node.url()
        record = Record([GROUP])
        await asyncio.to_thread(own_node.kill)
        async with (
            brokers(tmp_path, url, 1) as (broker,),
            RawClient(broker.url, "witness") as witness,
        ):
            status, reason = await broker.health()
            assert (status, bool(reason)) == (503, True)
            assert "guest:guest" not in reason
            assert await witness.publish(TOPIC, event("refused")) == "store_unavailable"
            await asyncio.to_thread(own_node.start)
            await until_healthy(broker)
            handle = acknowledges(GROUP, record)
            async with instance(broker.url, GROUP, TOPIC, handle) as bus:
                await publish(bus, TOPIC, record, ["welcome"])
                assert await record.complete()
        assert record.groups[GROUP].attempts == {"welcome": [1]}

    asyncio.run(run())
