"""What a network can do to a connection: the client comes back by itself and nothing is lost."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import actorbus
from tests.faults.apps import acknowledges, event, instance, publish, publish_until, worked_off
from tests.faults.disconnects import (
    GROUP,
    HELD,
    TOPIC,
    WAIT_SECONDS,
    behind_a_proxy,
    lose_a_holder,
    take,
)
from tests.faults.proxy import Proxy
from tests.faults.record import Record

LARGE = {"padding": "." * 100_000}
MIDDLE = 50_000
"""Bytes after which a frame with `LARGE` in it is cut."""


def test_a_publish_frame_cut_in_the_middle_is_published_once(tmp_path: Path) -> None:
    async def run() -> None:
        record = Record([GROUP])
        async with (
            behind_a_proxy(tmp_path) as (broker, proxy),
            instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as watcher,
            actorbus.connect(proxy.url, app_id="shop") as shop,
        ):
            proxy.cut("to broker", MIDDLE)
            await publish(shop, TOPIC, record, ["cut"], LARGE)
            await worked_off(watcher, TOPIC)
            assert proxy.accepted == 2
        assert record.groups[GROUP].attempts == {"cut": [1]}

    asyncio.run(run())


def test_a_publish_whose_answer_is_cut_is_published_again_with_the_same_id(tmp_path: Path) -> None:
    async def run() -> None:
        record = Record([GROUP])
        async with (
            behind_a_proxy(tmp_path) as (broker, proxy),
            instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as watcher,
            actorbus.connect(proxy.url, app_id="shop") as shop,
        ):
            proxy.cut("to client", 3)
            await publish(shop, TOPIC, record, ["unanswered"])
            await worked_off(watcher, TOPIC)
            assert proxy.accepted == 2
        assert record.groups[GROUP].attempts == {"unanswered": [1, 1]}

    asyncio.run(run())


def test_a_deliver_frame_cut_in_the_middle_comes_again_as_the_second_attempt(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with (
            behind_a_proxy(tmp_path) as (broker, proxy),
            actorbus.connect(proxy.url, app_id=GROUP) as billing,
            billing.subscribe(TOPIC) as deliveries,
            actorbus.connect(broker.url, app_id="shop") as shop,
        ):
            proxy.cut("to client", MIDDLE)
            await shop.publish_many(TOPIC, events=[event("cut", LARGE)])
            assert await take(deliveries, 1) == [("cut", 2)]

    asyncio.run(run())


def test_each_lost_connection_counts_as_one_attempt(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            behind_a_proxy(tmp_path) as (broker, proxy),
            actorbus.connect(proxy.url, app_id=GROUP) as billing,
            billing.subscribe(TOPIC) as deliveries,
            actorbus.connect(broker.url, app_id="shop") as shop,
        ):
            await shop.publish_many(TOPIC, events=[event(name) for name in "abc"])
            for attempt in range(1, 6):
                assert await take(deliveries, 3) == [(name, attempt) for name in "abc"]
                proxy.reset()
            async with asyncio.timeout(WAIT_SECONDS):
                for _ in "abc":
                    delivery = await anext(deliveries)
                    assert (delivery.attempt, await delivery.ack(wait=True)) == (6, True)

    asyncio.run(run())


def test_the_last_of_max_attempts_lost_makes_a_dead_letter(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            behind_a_proxy(tmp_path) as (broker, proxy),
            actorbus.connect(proxy.url, app_id=GROUP) as billing,
            billing.subscribe(TOPIC, max_attempts=3, dead_letter_topic="dead") as deliveries,
            actorbus.connect(broker.url, app_id=GROUP) as mortician,
            mortician.subscribe("dead") as letters,
        ):
            await mortician.publish_many(TOPIC, events=[event("doomed")])
            for attempt in (1, 2, 3):
                assert await take(deliveries, 1) == [("doomed", attempt)]
                proxy.reset()
            async with asyncio.timeout(WAIT_SECONDS):
                letter = await anext(letters)
            assert letter.event["id"] == "doomed"
            assert letter.event["deadletterreason"] == "max_attempts"
            assert letter.event["deadletterattempts"] == 3

    asyncio.run(run())


def test_what_a_lost_connection_held_goes_to_another_instance(tmp_path: Path) -> None:
    record = asyncio.run(lose_a_holder(tmp_path))
    assert record.lost() == {GROUP: 0}
    assert record.groups[GROUP].attempts == {f"{number}": [2] for number in range(HELD)}


def test_a_slow_network_causes_neither_loss_nor_repetition(tmp_path: Path) -> None:
    async def run() -> None:
        record = Record([GROUP])
        async with (
            behind_a_proxy(tmp_path) as (_, proxy),
            instance(proxy.url, GROUP, TOPIC, acknowledges(GROUP, record)) as watcher,
            actorbus.connect(proxy.url, app_id="shop") as shop,
        ):
            proxy.delay = 0.05
            for start in range(0, 500, 100):
                ids = [f"{number}" for number in range(start, start + 100)]
                await publish(shop, TOPIC, record, ids, {"padding": "." * 1000})
            await worked_off(watcher, TOPIC)
        assert record.groups[GROUP].attempts == {f"{number}": [1] for number in range(500)}

    asyncio.run(run())


FAULTS: dict[str, Callable[[Proxy], None]] = {
    "reset": Proxy.reset,
    "half-closed to the client": lambda proxy: proxy.half_close("to client"),
    "half-closed to the broker": lambda proxy: proxy.half_close("to broker"),
    "cut on the way to the broker": lambda proxy: proxy.cut("to broker", 1_000),
    "cut on the way to the client": lambda proxy: proxy.cut("to client", 1_000),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nothing_is_lost_while_connections_are(
    tmp_path: Path, fault: Callable[[Proxy], None]
) -> None:
    """Ten times under load; and no event that was published once has one attempt twice."""

    async def run() -> None:
        record = Record([GROUP])
        stop = asyncio.Event()
        draw = random.Random(4)
        async with AsyncExitStack() as stack:
            broker, proxy = await stack.enter_async_context(behind_a_proxy(tmp_path))
            proxy.on_end = record.interrupted
            watcher = await stack.enter_async_context(actorbus.connect(broker.url, app_id="ops"))
            for _ in range(2):
                handle = acknowledges(GROUP, record)
                await stack.enter_async_context(instance(proxy.url, GROUP, TOPIC, handle))
            shop = await stack.enter_async_context(actorbus.connect(proxy.url, app_id="shop"))
            async with asyncio.TaskGroup() as publishers:
                for name in "ab":
                    publishers.create_task(publish_until(stop, shop, TOPIC, name, record))
                for _ in range(10):
                    enough = len(record.acknowledged) + draw.randint(10, 200)
                    assert await record.wait_for(
                        lambda: len(record.acknowledged) >= enough,  # noqa: B023 - awaited here
                        WAIT_SECONDS,
                    )
                    ended = proxy.ended
                    fault(proxy)
                    await proxy.until_ended(ended + 1)
                stop.set()
            await worked_off(watcher, TOPIC)
        assert record.lost() == {GROUP: 0}
        once = [
            attempts
            for event_id, attempts in record.groups[GROUP].attempts.items()
            if event_id not in record.repeated
        ]
        assert [attempts for attempts in once if len({*attempts}) != len(attempts)] == []

    asyncio.run(run())
