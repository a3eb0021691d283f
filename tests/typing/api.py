"""The API as an app uses it: this file is only type-checked."""

from collections.abc import Sequence
from typing import Any, assert_type

from cloudevents.core.v1.event import CloudEvent

import actorbus
from actorbus.testing import TestBroker


async def publish(bus: actorbus.Bus) -> None:
    assert_type(await bus.publish("orders", {"n": 1}), str)
    assert_type(await bus.publish_many("orders", [{"n": 2}, b"raw", None]), list[str])
    await bus.publish("orders", "text", ttl=60, attributes={"subject": "s", "type": "my.type"})
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
    await bus.publish("orders", event=event)
    await bus.publish("orders", event=CloudEvent({"source": "s", "type": "t"}, {"n": 1}))
    await bus.publish_many("orders", events=[event])
    try:
        await bus.publish_many("orders", range(3))
    except actorbus.PartlyPublishedError as error:
        assert_type(error.ids, list[str | None])
        assert_type(error.code, str)


async def consume(bus: actorbus.Bus) -> None:
    async with bus.subscribe(
        "orders", ack_wait=30, max_attempts=5, dead_letter_topic=None, start="earliest"
    ) as deliveries:
        assert_type(deliveries, actorbus.Subscription)
        async for delivery in deliveries:
            assert_type(delivery, actorbus.Delivery)
            assert_type(delivery.event, dict[str, Any])
            assert_type(delivery.attempt, int)
            assert_type(delivery.lost, bool)
            assert_type(await delivery.ack(wait=True), bool)
            await delivery.retry(delay=2.5)
            await delivery.drop("why")
            await delivery.extend(30)
        assert_type(await deliveries.next_batch(10), list[actorbus.Delivery])


async def handle() -> None:
    bus = actorbus.connect(app_id="billing", instance="one", token="t", encoding="json")

    @bus.on("orders", concurrency=4, ack_wait=60)
    async def handler(delivery: actorbus.Delivery) -> None:
        await delivery.extend()

    async with bus:
        await handler(await anext(bus.subscribe("other")))
        await bus.wait_closed()


async def operate(bus: actorbus.Bus) -> None:
    topics: Sequence[actorbus.TopicStatus] = await bus.inspect()
    for topic in topics:
        for group in topic.groups:
            assert_type(group.backlog, int | None)
    await bus.flow(0)
    await bus.drain(5)
    await bus.forget("orders")


def test_of_an_app() -> None:
    with TestBroker(store="memory:", args=["--grace", "0"]) as broker:
        assert_type(broker.url, str)
