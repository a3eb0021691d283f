"""What the client does at a real broker's hands."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from actorbus import Bus, Delivery, GroupStatus, connect
from actorbus.client.subscribe_options import Options
from actorbus.testing import TestBroker

SECONDS = 30.0


def run(test: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        async with asyncio.timeout(SECONDS):
            await test

    asyncio.run(within())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TestBroker() as broker:
        yield broker.url


async def group(bus: Bus, topic: str) -> GroupStatus:
    return (await bus.inspect(topic))[0].groups[0]


async def take(subscription: Any, count: int) -> list[Delivery]:
    return [await anext(subscription) for _ in range(count)]


def test_a_slow_consumer_with_a_full_window_causes_no_redelivery(url: str) -> None:
    async def test() -> None:
        async with (
            connect(url, app_id="app", max_in_flight=8) as bus,
            bus.subscribe("slow", ack_wait=1) as deliveries,
        ):
            await bus.publish_many("slow", range(10))
            for n in range(10):
                (delivery,) = await take(deliveries, 1)
                assert (delivery.data, delivery.attempt) == (n, 1)
                await asyncio.sleep(0.25)  # the work: what is in the window takes twice the lease
                assert await delivery.ack(wait=True)
            status = await group(bus, "slow")
            assert (status.delivered, status.redelivered, status.backlog) == (10, 0, 0)

    run(test())


def test_what_an_event_loop_that_stood_still_has_lost_is_not_handed_over(url: str) -> None:
    async def test() -> None:
        async with (
            connect(url, app_id="app") as bus,
            bus.subscribe("stall", ack_wait=0.5) as deliveries,
        ):
            await bus.publish_many("stall", range(5))
            (first,) = await take(deliveries, 1)
            await first.ack(wait=True)
            time.sleep(0.6)  # noqa: ASYNC251 - the app's mistake: the leases run out meanwhile
            again = await take(deliveries, 4)
            assert [(d.data, d.attempt) for d in again] == [(n, 2) for n in range(1, 5)]

    run(test())


@pytest.mark.parametrize("count", [1, 100])
def test_leaving_costs_what_waits_one_attempt(url: str, count: int) -> None:
    topic = f"leave/{count}"

    async def test() -> None:
        async with connect(url, app_id="app", max_in_flight=100) as bus:
            async with bus.subscribe(topic) as deliveries:
                await bus.publish_many(topic, range(count + 1))
                (first,) = await take(deliveries, 1)
                await first.ack()
            async with bus.subscribe(topic) as deliveries:
                again = await take(deliveries, count)
                assert {d.attempt for d in again} == {2}
                assert {d.data for d in again} == set(range(1, count + 1))
                for delivery in again:
                    await delivery.ack()

    run(test())


def test_leaving_gives_up_what_waits_on_its_last_attempt(url: str) -> None:
    options: Options = {"max_attempts": 1, "dead_letter_topic": "last/dead"}

    async def test() -> None:
        async with (
            connect(url, app_id="app") as bus,
            bus.subscribe("last", **options) as deliveries,
        ):
            await bus.publish_many("last", range(10))
            (first,) = await take(deliveries, 1)
            await first.ack()
        async with connect(url, app_id="app") as bus, bus.subscribe("last/dead") as deliveries:
            dead = await take(deliveries, 9)
            assert {d.data for d in dead} == set(range(1, 10))
            assert {d.event["deadletterreason"] for d in dead} == {"max_attempts"}
            for delivery in dead:
                await delivery.ack()

    run(test())


def test_draining_first_costs_nothing_an_attempt(url: str) -> None:
    async def test() -> None:
        async with connect(url, app_id="app") as bus, bus.subscribe("drain") as deliveries:
            await bus.publish_many("drain", range(20))
            seen = await take(deliveries, 1)
            draining = asyncio.ensure_future(bus.drain())
            await seen[0].ack()
            async for delivery in deliveries:
                seen.append(delivery)
                await delivery.ack()
            await draining
            assert [(d.data, d.attempt) for d in seen] == [(n, 1) for n in range(20)]

    run(test())


def test_closing_makes_the_acknowledgements_durable(tmp_path: Path) -> None:
    async def test() -> None:
        async with TestBroker(store=f"sqlite:{tmp_path / 'events.db'}") as broker:
            async with connect(broker.url, app_id="app") as bus, bus.subscribe("t") as deliveries:
                await bus.publish_many("t", range(500))
                for delivery in await take(deliveries, 200):
                    await delivery.ack()
            broker.kill()
            broker.start()
            async with connect(broker.url, app_id="app") as bus:
                assert (await group(bus, "t")).backlog == 300

    run(test())


def test_a_killed_broker_interrupts_publisher_and_subscriber_only_for_a_while(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with (
            TestBroker(store=f"sqlite:{tmp_path / 'events.db'}") as broker,
            connect(broker.url, app_id="app") as bus,
            bus.subscribe("t") as deliveries,
        ):

            async def consume() -> dict[str, Any]:
                seen: dict[str, Any] = {}
                while len(seen) < 200:
                    (delivery,) = await take(deliveries, 1)
                    seen[delivery.event["id"]] = delivery.data
                    await delivery.ack()
                return seen

            consumer = asyncio.ensure_future(consume())
            calls = [asyncio.ensure_future(bus.publish("t", n)) for n in range(100)]
            await calls[0]
            broker.kill()
            calls += [asyncio.ensure_future(bus.publish("t", n)) for n in range(100, 200)]
            await asyncio.to_thread(broker.start)
            ids = await asyncio.gather(*calls)
            assert await consumer == {event_id: n for n, event_id in enumerate(ids)}

    run(test())
