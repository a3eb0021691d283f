"""Subscriptions, deliveries and their leases, against a broker that says what it is told to."""

import asyncio
import time
from typing import Any

import pytest

from actorbus import ConnectionLostError, Delivery, RefusedError, UnavailableError
from actorbus.client import acks
from tests.actorbus.client.fake_broker import (
    FakeBroker,
    Peer,
    connected,
    run,
    subscribed,
    take,
    turns,
    until,
)


async def order(*works: Any) -> None:
    """Do one after the other."""
    for work in works:
        await work


def test_options_travel_in_milliseconds_and_unnamed_ones_not_at_all() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            await subscribed(
                bus, peer, ack_wait=2.5, max_attempts=3, dead_letter_topic=None, start="earliest"
            )
            sent = next(f for f in peer.seen if f["type"] == "subscribe")
            assert sent["options"] == {
                "ack_wait_ms": 2500,
                "max_attempts": 3,
                "dead_letter_topic": None,
                "start": "earliest",
            }

    run(test())


@pytest.mark.parametrize(
    "options", [{"ack_wait": 0.01}, {"ack_wait": True}, {"colour": 1}, {"max_attempts": -1}]
)
def test_a_wrong_option_is_refused_here(options: dict[str, Any]) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            with pytest.raises(RefusedError) as caught:
                bus.subscribe("t", **options)
            assert caught.value.code == "invalid_option"

    run(test())


def test_deliveries_come_in_order_and_acks_of_one_turn_share_a_frame() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", "a", "b", "c")
            deliveries = await take(subscription, 3)
            assert [(d.data, d.event["id"], d.attempt) for d in deliveries] == [
                (data, f"e{i}", 1) for data, i in zip("abc", ids, strict=True)
            ]
            for delivery in deliveries:
                assert await delivery.ack()
            assert await peer.acked() == {"type": "ack", "ids": ids}

    run(test())


def test_an_ack_that_waits_is_true_once_durable_and_false_when_the_lease_was_lost() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", 1, 2)
            acks = asyncio.gather(*(d.ack(wait=True) for d in await take(subscription, 2)))
            frame = await peer.acked(ids[1])
            assert frame["ids"] == ids
            assert await acks == [True, False]

    run(test())


def test_an_ack_that_is_never_answered_fails_after_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acks, "CONFIRM_SECONDS", 0.05)

    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1)
            (delivery,) = await take(subscription, 1)
            with pytest.raises(UnavailableError, match="no answer to an acknowledgement"):
                await delivery.ack(wait=True)

    run(test())


def test_a_subscription_that_was_not_entered_says_so() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            with pytest.raises(RefusedError, match="not_subscribed"):
                await anext(bus.subscribe("t"))

    run(test())


def test_retry_and_drop_carry_delay_and_reason() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", 1, 2, 3, 4)
            one, two, three, four = await take(subscription, 4)
            await order(one.retry(delay=2.5), two.retry(), three.drop("bad\n\ud800"), four.drop())
            frames = [await peer.expect("ack") for _ in range(4)]
            assert frames == [
                {"type": "ack", "ids": [ids[0]], "status": "RETRY", "delay_ms": 2500},
                {"type": "ack", "ids": [ids[1]], "status": "RETRY"},
                {"type": "ack", "ids": [ids[2]], "status": "DROP", "reason": "bad"},
                {"type": "ack", "ids": [ids[3]], "status": "DROP"},
            ]

    run(test())


def test_only_the_first_settling_counts() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", 1, 2)
            one, two = await take(subscription, 2)
            assert await one.ack()
            assert [await one.ack(), await one.retry(), await one.drop(), await one.extend()] == [
                False
            ] * 4
            await peer.expect("ack")
            assert await two.ack()
            assert (await peer.expect("ack"))["ids"] == [ids[1]]

    run(test())


def test_a_wrong_delay_is_refused_and_settles_nothing() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1)
            (delivery,) = await take(subscription, 1)
            with pytest.raises(RefusedError, match="delay must be 0 to 3600 seconds, not -1"):
                await delivery.retry(delay=-1)
            with pytest.raises(RefusedError, match="ack_wait"):
                await delivery.extend(0.05)
            assert await delivery.ack()

    run(test())


def test_an_extension_is_sent_and_a_lost_lease_is_noted() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", 1, 2)
            one, two = await take(subscription, 2)
            await order(one.extend(60), two.extend(60))
            frame = await peer.expect("extend")
            assert (frame["ids"], frame["ack_wait_ms"]) == (ids, 60_000)
            await peer.send({"type": "extended", "ref": frame["ref"], "stale": [ids[1]]})
            await until(lambda: two.lost)
            assert not one.lost
            assert not await two.ack()

    run(test())


async def extended(peer: Peer, *stale: int) -> dict[str, Any]:
    frame = await peer.expect("extend")
    await peer.send({"type": "extended", "ref": frame["ref"], "stale": list(stale)})
    return frame


def test_waiting_deliveries_keep_their_leases_and_lost_ones_are_discarded() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", "held", "b", "lost", "d", lease_ms=1000)
            await take(subscription, 1)
            frame = await extended(peer, ids[2])
            assert (frame["ids"], frame["ack_wait_ms"]) == (ids[1:], 1000)
            frame = await extended(peer)
            assert frame["ids"] == [ids[1], ids[3]]
            assert [d.data for d in await take(subscription, 2)] == ["b", "d"]

    run(test())


def test_a_delivery_that_waited_long_gets_its_whole_lease_at_the_handing_over() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", 1, lease_ms=2000)
            await until(lambda: len(subscription._buffer))
            subscription._buffer._grants[0].renewed -= 0.3  # an eighth of 2 s is 0.25 s
            await take(subscription, 1)
            frame = await extended(peer)
            assert (frame["ids"], frame["ack_wait_ms"]) == (ids, 2000)

    run(test())


def test_leaving_hands_back_what_waits_but_nothing_on_its_last_attempt() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer, {"max_attempts": 3})
            first = await peer.deliver("t", 1, 2, attempt=2)
            await peer.deliver("t", 3, attempt=3)
            (held,) = await take(subscription, 1)
            await until(lambda: len(subscription._buffer) == 2)
            leaving = asyncio.ensure_future(subscription.close())
            await peer.unsubscribed()
            await leaving
            assert await peer.expect("ack") == {
                "type": "ack",
                "ids": first[1:],
                "status": "RETRY",
                "delay_ms": 0,
            }
            assert await held.ack()  # what the app holds may still be acknowledged
            assert (await peer.expect("ack"))["ids"] == first[:1]

    run(test())


def test_leaving_waits_until_the_last_acks_are_durable() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", 1)
            (delivery,) = await take(subscription, 1)
            leaving = asyncio.ensure_future(order(delivery.ack(), subscription.close()))
            frame = await peer.acked(answer=False)
            assert frame["ids"] == ids
            assert not [f for f in peer.seen if f["type"] == "unsubscribe"]
            await peer.send({"type": "acked", "ref": frame["ref"], "stale": []})
            await peer.unsubscribed()
            await leaving

    run(test())


def test_what_comes_while_leaving_goes_back_once_the_broker_sends_no_more() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            leaving = asyncio.ensure_future(subscription.close())
            unsubscribe = await peer.expect("unsubscribe")
            ids = await peer.deliver("t", 1)
            await peer.error(unsubscribe["ref"], "internal", retryable=True)
            await peer.unsubscribed()
            frame = await peer.expect("ack")
            assert (frame["ids"], frame["status"], frame["delay_ms"]) == (ids, "RETRY", 0)
            assert [f["type"] for f in peer.seen[-3:]] == ["unsubscribe", "unsubscribe", "ack"]
            await leaving
            assert [d async for d in subscription] == []


def test_what_comes_for_a_topic_that_was_left_goes_back_with_a_delay() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (_, peer):
            ids = await peer.deliver("other", 1)
            frame = await peer.expect("ack")
            assert (frame["ids"], frame["status"], frame["delay_ms"]) == (ids, "RETRY", 1000)

    run(test())


def test_a_reconnect_subscribes_again_with_the_same_options() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer, ack_wait=7)
            peer.cut()
            second = await broker.greeted()
            assert (await second.subscribed())["options"] == {"ack_wait_ms": 7000}
            await second.deliver("t", "after")
            assert [d.data for d in await take(subscription, 1)] == ["after"]

    run(test())


def test_deliveries_of_a_lost_connection_are_gone_and_their_acks_go_nowhere() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1, 2)
            (held,) = await take(subscription, 1)
            waiting = asyncio.ensure_future(held.ack(wait=True))
            await peer.expect("ack")
            peer.cut()
            second = await broker.greeted()
            await second.subscribed()
            assert not await waiting
            ids = await second.deliver("t", 3)
            (fresh,) = await take(subscription, 1)
            assert fresh.data == 3  # 2 was in the buffer of the old connection
            await fresh.ack()
            assert (await second.expect("ack"))["ids"] == ids

    run(test())


def test_a_delivery_knows_that_its_connection_has_ended() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1)
            (held,) = await take(subscription, 1)
            peer.cut()
            await broker.greeted()
            assert held.lost
            assert [await held.ack(), await held.retry(), await held.extend()] == [False] * 3

    run(test())


def test_a_refused_subscribe_raises_and_leaves_the_bus_open() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            entering = asyncio.ensure_future(bus.subscribe("t").__aenter__())
            await peer.refuse("subscribe", "forbidden")
            with pytest.raises(RefusedError, match="forbidden"):
                await entering
            await subscribed(bus, peer)

    run(test())


def test_a_subscribe_that_cannot_be_served_now_is_sent_again() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            entering = asyncio.ensure_future(bus.subscribe("t").__aenter__())
            await peer.refuse("subscribe", "store_unavailable", retryable=True)
            await peer.subscribed()
            await entering

    run(test())


def test_a_subscribe_that_is_never_served_fails_with_the_brokers_reason() -> None:
    async def test() -> None:
        async with (
            FakeBroker() as broker,
            connected(broker, request_timeout=0.2) as (bus, peer),
        ):
            entering = asyncio.ensure_future(bus.subscribe("t").__aenter__())
            await peer.refuse("subscribe", "store_unavailable", retryable=True)
            with pytest.raises(UnavailableError, match="store_unavailable: because"):
                await entering

    run(test())


def test_closing_the_bus_ends_a_subscribe_that_waits_for_its_answer() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker, close_timeout=0.1) as (bus, peer):
            entering = asyncio.ensure_future(bus.subscribe("t").__aenter__())
            await peer.expect("subscribe")
            await bus.close()
            with pytest.raises(ConnectionLostError, match="the subscription to t was closed"):
                await entering

    run(test())


def test_a_subscription_is_entered_once() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            leaving = asyncio.ensure_future(subscription.close())
            await peer.unsubscribed()
            await leaving
            with pytest.raises(RefusedError, match="has ended: call subscribe again"):
                await subscription.__aenter__()
            await subscribed(bus, peer)

    run(test())


def test_one_bus_subscribes_once_to_a_topic() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            await subscribed(bus, peer)
            with pytest.raises(RefusedError, match="in_use"):
                await bus.subscribe("t").__aenter__()

    run(test())


def test_a_refusal_after_a_reconnect_ends_the_iteration_with_it() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            waiting = asyncio.ensure_future(anext(subscription))
            peer.cut()
            second = await broker.greeted()
            await second.refuse("subscribe", "forbidden")
            with pytest.raises(RefusedError, match="forbidden"):
                await waiting

    run(test())


def test_closing_the_bus_ends_iterations() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)

            async def consume() -> list[Delivery]:
                return [d async for d in subscription]

            consumer = asyncio.ensure_future(consume())
            await turns()
            await bus.close()
            assert await consumer == []

    run(test())


def test_a_consumer_that_leaves_passes_its_delivery_on() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            leaver = asyncio.ensure_future(anext(subscription))
            stayer = asyncio.ensure_future(anext(subscription))
            await turns()
            wake = subscription._wake

            def wake_and_cancel(count: int) -> None:
                wake(count)
                leaver.cancel()

            subscription._wake = wake_and_cancel  # type: ignore[method-assign]  # the race itself
            await peer.deliver("t", 1)
            assert (await stayer).data == 1

    run(test())


def test_a_batch_is_what_waits_up_to_the_number_asked_for() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1, 2, 3)
            assert [d.data for d in await subscription.next_batch(2)] == [1, 2]
            assert [d.data for d in await subscription.next_batch(2)] == [3]
            await bus.close()
            assert await subscription.next_batch() == []

    run(test())


def test_a_batch_has_room_for_one_at_least() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            with pytest.raises(RefusedError, match="most must be 1 or more"):
                await subscription.next_batch(0)

    run(test())


def test_a_lone_ack_or_publish_is_written_within_a_few_turns_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1)
            (delivery,) = await take(subscription, 1)
            link = bus._opened().link
            assert link is not None
            written: list[str] = []

            def write_now(frame: bytes, *, text: bool) -> None:
                written.append(link._codec.decode(frame)["type"])

            with monkeypatch.context() as patch:
                patch.setattr(link._socket, "write_now", write_now)
                await delivery.ack()
                await turns(3)  # no timer, however short, is waited for
                assert written == ["ack"]
                publishing = asyncio.ensure_future(bus.publish("t", 1))
                await turns(4)
                assert written == ["ack", "publish"]
            publishing.cancel()

    run(test())


def test_a_consumer_that_never_waits_lets_acks_out() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            ids = await peer.deliver("t", *range(10))
            await until(lambda: len(subscription._buffer))
            acknowledged = peer.expect("ack")
            for delivery in await take(subscription, 1):
                await delivery.ack()
            async for delivery in subscription:
                time.sleep(0.003)  # noqa: ASYNC251 - the app that this is about
                await delivery.ack()
                if delivery.data == 9:
                    break
            assert len((await acknowledged)["ids"]) < len(ids)

    run(test())


def test_binary_data_is_bytes_in_both_encodings() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker, encoding="json") as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.send(
                {
                    "type": "deliver",
                    "topic": "t",
                    "lease_ms": 30_000,
                    "deliveries": [
                        {
                            "id": 1,
                            "attempt": 2,
                            "event": {"specversion": "1.0", "data_base64": "cmF3"},
                        },
                        {"id": 2, "attempt": 1, "event": {"specversion": "1.0", "id": "x"}},
                    ],
                }
            )
            one, two = await take(subscription, 2)
            assert (one.data, two.data) == (b"raw", None)

    run(test())


def test_a_deliverys_repr_shows_no_payload() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", "secret")
            (delivery,) = await take(subscription, 1)
            assert repr(delivery) == "<Delivery of t attempt 1>"

    run(test())
