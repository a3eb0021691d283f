"""RabbitMQ behind the broker: killed, absent, and shared by two brokers of which one is killed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
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
from tests.rabbitmq_node import RabbitNode
from tests.transport.stores.rabbitmq.support import declared, holds, operator, reaches

TOPIC = "orders"
GROUP = "billing"
RECOVERY_SECONDS = 60.0
ANSWER_SECONDS = 10.0
"""Within it a publisher is told `store_unavailable`."""

LATER_SECONDS = 7.0
"""More than the 5 s that are waited for beside the queue: the event goes to the delay queue."""

pytestmark = pytest.mark.timeout(180)


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


class Outage(msgspec.Struct):
    """One kill of RabbitMQ, as seen through two brokers.

    `load` is one under load. `late` was killed too and started again while RabbitMQ was away; it
    had an event that an app wanted to try again later.
    """

    load: Record
    late: Record
    refused: str = ""
    refused_seconds: float = 0.0
    health: tuple[int, str] = (0, "")
    late_refused: str = ""
    late_health: tuple[int, str] = (0, "")
    reconnected: bool = False
    complete: bool = False


@pytest.fixture(scope="module")
def outage(mortal_node: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Outage:
    seen = Outage(Record([GROUP]), Record([GROUP]))
    asyncio.run(_through_an_outage(tmp_path_factory.mktemp("outage"), mortal_node, seen))
    return seen


async def _through_an_outage(directory: Path, node: RabbitNode, seen: Outage) -> None:
    urls = [node.url(), node.url()]
    late = BrokerProcess(directory, store=urls[1], name="late")
    stop = asyncio.Event()
    async with brokers(directory, urls[0], 1) as (broker,), late, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await _put_off(late, urls[1], seen.late)
        await enter(instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, seen.load)))
        shop = await enter(actorbus.connect(broker.url, app_id="shop", publish_timeout=120))
        witness = await enter(RawClient(broker.url, "witness"))
        async with asyncio.TaskGroup() as publishers:
            for name in "ab":
                publishers.create_task(publish_until(stop, shop, TOPIC, name, seen.load))
            assert await seen.load.wait_for(lambda: len(seen.load.acknowledged) >= 500, 30)
            await asyncio.to_thread(node.kill)
            await _while_away(broker, witness, late, seen)
            await asyncio.to_thread(node.start)
            again = len(seen.load.acknowledged) + 500
            seen.reconnected = await seen.load.wait_for(
                lambda: len(seen.load.acknowledged) >= again, RECOVERY_SECONDS
            )
            stop.set()
        seen.complete = await seen.load.complete(RECOVERY_SECONDS)
        await until_healthy(broker)
        await until_healthy(late)
        async with instance(late.url, GROUP, TOPIC, acknowledges(GROUP, seen.late)) as bus:
            await publish(bus, TOPIC, seen.late, ["welcome"])
            assert await seen.late.complete()


async def _put_off(broker: BrokerProcess, url: str, record: Record) -> None:
    """Let an app ask for one event again later, and wait until that is durable."""
    async with (
        actorbus.connect(broker.url, app_id=GROUP) as bus,
        bus.subscribe(TOPIC) as deliveries,
        operator(url) as channel,
    ):
        await publish(bus, TOPIC, record, ["put-off"])
        delivery = await anext(deliveries)
        await delivery.retry(delay=LATER_SECONDS)
        queue = f"{GROUP}+{TOPIC}+delay"
        await reaches(lambda: declared(url, queue))
        await holds(channel, queue, 1)


async def _while_away(
    broker: BrokerProcess, witness: RawClient, late: BrokerProcess, seen: Outage
) -> None:
    began = time.monotonic()
    seen.refused = await witness.publish(TOPIC, event("refused"))
    seen.refused_seconds = time.monotonic() - began
    seen.health = await broker.health()
    await late.kill()
    await late.start()
    async with RawClient(late.url, "witness") as client:
        seen.late_health = await late.health()
        seen.late_refused = await client.publish(TOPIC, event("refused"))


def test_a_rabbitmq_killed_under_load_loses_nothing_and_is_reconnected_to(outage: Outage) -> None:
    assert (outage.reconnected, outage.complete) == (True, True)
    assert outage.load.lost() == {GROUP: 0}


def test_while_rabbitmq_is_away_publishers_are_told_in_time(outage: Outage) -> None:
    assert outage.refused == "store_unavailable"
    assert outage.refused_seconds < ANSWER_SECONDS
    status, reason = outage.health
    assert (status, bool(reason)) == (503, True)


def test_a_broker_waits_for_a_rabbitmq_that_is_away_at_its_start(outage: Outage) -> None:
    status, reason = outage.late_health
    assert (status, bool(reason)) == (503, True)
    assert "guest:guest" not in reason
    assert outage.late_refused == "store_unavailable"
    assert outage.late.groups[GROUP].attempts["welcome"] == [1]


def test_an_event_put_off_keeps_its_attempts_through_kills_of_broker_and_rabbitmq(
    outage: Outage,
) -> None:
    assert outage.late.groups[GROUP].attempts["put-off"] == [2]
