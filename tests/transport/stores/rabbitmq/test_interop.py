"""Dapr's `pubsub.rabbitmq` and this store on the same exchange and queue."""

import json
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from actorbus.errors import StoreUnavailableError
from actorbus.events import EventEncoder, decode
from actorbus.store import Attempt
from tests.transport.stores.rabbitmq.support import (
    Listener,
    data,
    events,
    holds,
    opened,
    operator,
    run,
    soon,
    spans,
    take,
)

ENVELOPE = {
    "data": {"n": 1},
    "datacontenttype": "application/json",
    "id": "2c8d0c4b-2f1a-4d1c-8f3e-6c0b9d0a7f11",
    "pubsubname": "pubsub",
    "source": "checkout",
    "specversion": "1.0",
    "time": "2026-11-23T20:00:00Z",
    "topic": "orders",
    "traceid": "",
    "traceparent": "",
    "tracestate": "",
    "type": "com.dapr.event.sent",
}


async def dapr_declares(channel: AbstractChannel, app_id: str, topic: str) -> AbstractQueue:
    """What Dapr's component declares (durable, not deleted when unused, queueType quorum)."""
    exchange = await channel.declare_exchange(topic, "fanout", durable=True)
    queue = await channel.declare_queue(
        f"{app_id}-{topic}", durable=True, arguments={"x-queue-type": "quorum"}
    )
    await queue.bind(exchange, "")
    return queue


async def dapr_publishes(channel: AbstractChannel, topic: str, body: bytes) -> None:
    """What Dapr's component publishes: no message id, no headers, not mandatory."""
    exchange = await channel.get_exchange(topic)
    message = aio_pika.Message(body, content_type="text/plain", delivery_mode=2)
    await exchange.publish(message, "", mandatory=False)


@pytest.mark.parametrize("query", ["?interop=dapr", ""])
def test_what_dapr_publishes_is_read_in_either_mode(rabbitmq_url: str, query: str) -> None:
    async def test() -> dict[str, Any]:
        async with opened(rabbitmq_url + query) as store, operator(rabbitmq_url) as channel:
            await store.join("orders", "billing", {}, "new")
            await dapr_publishes(channel, "orders", json.dumps(ENVELOPE).encode())
            feed = await store.feed("orders", "billing", Listener())
            (stored,) = await take(feed, 1)
            return decode(stored.batch.events[0])

    assert run(test()) == ENVELOPE


def test_what_is_published_here_is_one_cloudevent_a_message_for_dapr(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            queue = await dapr_declares(channel, "billing", "orders")
            batch = events({"n": 1}, {"n": 2})
            await store.append("orders", batch, None)
            for event in batch:
                message = await soon(queue.get())
                assert json.loads(message.body) == decode(event)
                assert (message.content_type, message.delivery_mode) == ("text/plain", 2)

    run(test())


def test_an_app_shares_its_work_with_the_same_app_under_dapr(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            queue = await dapr_declares(channel, "billing", "orders")
            await store.join("orders", "billing", {}, "new")
            await store.append("orders", events(1, 2), None)
            message = await soon(queue.get())
            await message.ack()
            feed = await store.feed("orders", "billing", Listener())
            assert [*data(await take(feed, 1)), json.loads(message.body)["data"]] == [2, 1]

    run(test())


def test_dapr_reads_the_expiry_in_the_envelope(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            queue = await dapr_declares(channel, "billing", "orders")
            await store.append("orders", events(1), 4_102_444_800_000)
            message = await soon(queue.get())
            assert json.loads(message.body)["expiration"] == "2100-01-01T00:00:00.000Z"
            assert message.expiration is None  # or RabbitMQ would drop it unseen

    run(test())


def test_the_expiry_of_dapr_s_envelope_counts_here(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            await store.join("orders", "billing", {}, "new")
            envelope = ENVELOPE | {"expiration": "2100-01-01T00:00:00Z"}
            await dapr_publishes(channel, "orders", json.dumps(envelope).encode())
            feed = await store.feed("orders", "billing", Listener())
            (stored,) = await take(feed, 1)
            assert stored.batch.expires_at == 4_102_444_800_000

    run(test())


def test_a_moved_event_stays_a_cloudevent_for_dapr(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            queue = await dapr_declares(channel, "billing", "orders")
            await store.join("orders", "billing", {}, "new")
            await dapr_publishes(channel, "orders", json.dumps(ENVELOPE).encode())
            feed = await store.feed("orders", "billing", Listener())
            await take(feed, 1)
            await feed.move(Attempt(0, 2, 1, 0))
            (moved,) = await take(feed, 1)
            assert (moved.attempts, moved.lost) == (2, 1)
            await feed.close()
            message = await soon(queue.get())
            assert json.loads(message.body) == ENVELOPE

    run(test())


def test_a_raw_body_becomes_binary_data(rabbitmq_url: str) -> None:
    async def test() -> None:
        async with opened(rabbitmq_url) as store, operator(rabbitmq_url) as channel:
            await store.join("orders", "billing", {}, "new")
            await dapr_publishes(channel, "orders", b"\x00raw")
            feed = await store.feed("orders", "billing", Listener())
            runs = await take(feed, 1)
            event = decode(runs[0].batch.events[0])
            assert (event["data"], event["datacontenttype"]) == (b"\x00raw", "text/plain")
            await feed.settle(spans(runs))

    run(test())


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"x-queue-type": "classic"},
        {"x-queue-type": "quorum", "x-dead-letter-exchange": "dlx-billing-orders"},
        {"x-max-length": 1000},
    ],
    ids=["default", "classic", "enableDeadLetter", "maxLen"],
)
def test_a_queue_that_dapr_declared_in_its_own_way_is_shared_as_it_is(
    rabbitmq_url: str, arguments: Any
) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            await channel.declare_queue("billing-orders", durable=True, arguments=arguments)
            await store.join("orders", "billing", {}, "new")
            await dapr_publishes(channel, "orders", json.dumps(ENVELOPE).encode())
            await store.append("orders", events(2), None)
            feed = await store.feed("orders", "billing", Listener())
            runs = await take(feed, 2)
            assert data(runs) == [{"n": 1}, 2]
            assert store.health() is None
            await feed.move(Attempt(0, 2, 1, 0))
            (moved,) = await take(feed, 1)
            assert (data([moved]), moved.attempts) == ([{"n": 1}], 2)
            await feed.settle([(1, 2)])
            await feed.close()
            await holds(channel, "billing-orders", 0)

    run(test())


@pytest.mark.parametrize(
    ("how", "argument"), [({"durable": False}, "durable"), ({"auto_delete": True}, "auto_delete")]
)
def test_a_queue_of_dapr_s_that_would_not_last_is_refused_and_named(
    rabbitmq_url: str, how: dict[str, Any], argument: str
) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            await channel.declare_queue("billing-orders", **{"durable": True, **how})
            with pytest.raises(StoreUnavailableError, match=f"inequivalent arg '{argument}'"):
                await store.join("orders", "billing", {}, "new")
            assert "'billing-orders'" in str(store.health())

    run(test())


@pytest.mark.parametrize(
    "how", [{"auto_delete": True}, {"durable": False}, {"type": "topic"}], ids=str
)
def test_an_exchange_that_dapr_declared_in_its_own_way_is_shared_as_it_is(
    rabbitmq_url: str, how: dict[str, Any]
) -> None:
    async def test() -> None:
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            await channel.declare_exchange(
                "orders", **{"type": "fanout", "durable": True, "auto_delete": False, **how}
            )
            await store.join("orders", "billing", {}, "new")
            await dapr_publishes(channel, "orders", json.dumps(ENVELOPE).encode())
            await store.append("orders", events(2), None)
            feed = await store.feed("orders", "billing", Listener())
            assert data(await take(feed, 2)) == [{"n": 1}, 2]
            assert store.health() is None

    run(test())


@pytest.mark.parametrize("specversion", ["0.3", "1.0"])
def test_binary_data_is_data_base64_for_dapr_in_either_version(
    rabbitmq_url: str, specversion: str
) -> None:
    async def test() -> None:
        _, event = EventEncoder("tests", specversion).encode({"data": b"\x00\xff"})
        async with (
            opened(f"{rabbitmq_url}?interop=dapr") as store,
            operator(rabbitmq_url) as channel,
        ):
            queue = await dapr_declares(channel, "billing", "orders")
            await store.join("orders", "billing", {}, "new")
            await store.append("orders", (event,), None)
            message = await soon(queue.get())
            envelope = json.loads(message.body)
            assert (envelope["data_base64"], "data" in envelope) == ("AP8=", False)
            assert "datacontentencoding" not in envelope
            await message.nack(requeue=True)
            feed = await store.feed("orders", "billing", Listener())
            (stored,) = await take(feed, 1)
            assert decode(stored.batch.events[0]) == decode(event)

    run(test())
