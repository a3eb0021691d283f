"""`ack`, `extend` and the life of a lease, to the attempt."""

import asyncio
from typing import Any

import pytest

from tests.protocol.harness import Player, Stage


def test_success_settles_for_good(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", ack_wait_ms=100)
        await peer.publish("orders", 1, 2)
        first, second = await peer.deliveries(2)
        assert await peer.ack(first, second) == []
        stats = await peer.stats("orders", "billing")
        oldest = stats.pop("oldest_ms")
        assert oldest is None
        assert stats == {
            "app_id": "billing",
            "instances": 1,
            "backlog": 0,
            "in_flight": 0,
            "delivered": 2,
            "redelivered": 0,
            "dead_lettered": 0,
            "dropped": 0,
        }
        other = await stage.app("billing")
        await other.subscribe("orders")
        await other.no_delivery()

    play_stores(script)


def test_stale_ids_are_named_and_the_held_ones_settle(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1, 2)
        first, second = await peer.deliveries(2)
        assert await peer.ack(first) == []
        stranger = {"id": second["id"] + 1000}
        assert await peer.ack(first, stranger, second) == [first["id"], stranger["id"]]
        assert (await peer.stats("orders", "billing"))["backlog"] == 0

    play(script)


def test_an_id_named_twice_is_stale_the_second_time(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        assert await peer.ack(delivery, delivery) == [delivery["id"]]
        assert (await peer.stats("orders", "billing"))["backlog"] == 0

    play(script)


def test_another_connections_id_is_stale(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, other = await stage.app("billing"), await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        assert await other.ack(delivery) == [delivery["id"]]
        assert (await peer.stats("orders", "billing"))["in_flight"] == 1
        assert await peer.ack(delivery) == []

    play(script)


def test_ids_of_several_topics_settle_in_one_ack(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        deliveries = []
        for topic in ("a", "b", "c"):
            await peer.subscribe(topic)
            await peer.publish(topic, topic)
            deliveries.append(await peer.delivery())
        assert await peer.ack(*deliveries) == []
        for topic in ("a", "b", "c"):
            assert (await peer.stats(topic, "billing"))["backlog"] == 0

    play(script)


def test_delivery_ids_rise_by_one_from_a_random_start(play: Player) -> None:
    async def script(stage: Stage) -> None:
        starts = set()
        for _ in range(3):
            peer = await stage.app("billing")
            await peer.subscribe("orders")
            await peer.publish("orders", *range(5))
            ids = [one["id"] for one in await peer.deliveries(5)]
            assert ids == list(range(ids[0], ids[0] + 5))
            assert 0 <= ids[0] < 2**52
            starts.add(ids[0])
            await peer.ask("ack", ids=ids)
            await peer.close()
        assert len(starts) == 3

    play(script)


def test_retry_comes_back_with_the_next_attempt_after_its_delay(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", "again")
        clock = asyncio.get_running_loop()
        for attempt in (1, 2, 3):
            delivery = await peer.delivery()
            assert (delivery["attempt"], delivery["event"]["data"]) == (attempt, "again")
            asked = clock.time()
            assert await peer.ack(delivery, status="RETRY", delay_ms=60) == []
        delivery = await peer.delivery()
        assert clock.time() - asked >= 0.058
        assert delivery["attempt"] == 4
        assert await peer.ack(delivery) == []
        assert (await peer.stats("orders", "billing"))["redelivered"] == 3

    play_stores(script)


def test_retry_without_delay_backs_off_with_jitter(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", backoff_ms=80, max_backoff_ms=160)
        await peer.publish("orders", 1)
        clock = asyncio.get_running_loop()
        delivery = await peer.delivery()
        for low, high in ((40, 80), (80, 160), (80, 160)):
            asked = clock.time()
            await peer.ack(delivery, status="RETRY")
            delivery = await peer.delivery()
            waited = (clock.time() - asked) * 1000
            assert low - 2 <= waited <= high + 150

    play(script)


def test_retry_with_no_delay_comes_at_once(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", backoff_ms=60_000)
        await peer.publish("orders", 1)
        await peer.ack(await peer.delivery(), status="RETRY", delay_ms=0)
        assert (await peer.delivery())["attempt"] == 2

    play(script)


def test_drop_without_dead_letter_topic_is_counted(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        assert await peer.ack(await peer.delivery(), status="DROP", reason="no use") == []
        stats = await peer.stats("orders", "billing")
        assert (stats["dropped"], stats["backlog"], stats["dead_lettered"]) == (1, 0, 0)

    play(script)


def test_acks_without_ref_are_not_answered(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        await peer.send("ack", ids=[delivery["id"], 5])
        await peer.send("extend", ids=[delivery["id"]])
        assert await peer.ack(delivery) == [delivery["id"]]
        assert not peer._waiting

    play(script)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("ack", {}),
        ("ack", {"ids": None}),
        ("ack", {"ids": 7}),
        ("ack", {"ids": ["7"]}),
        ("ack", {"ids": [7.5]}),
        ("ack", {"ids": [True]}),
        ("ack", {"ids": [2**60]}),
        ("ack", {"ids": [1], "status": "success"}),
        ("ack", {"ids": [1], "status": None}),
        ("ack", {"ids": [1], "status": []}),
        ("ack", {"ids": [1], "status": "RETRY", "delay_ms": -1}),
        ("ack", {"ids": [1], "status": "RETRY", "delay_ms": 3_600_001}),
        ("ack", {"ids": [1], "status": "RETRY", "delay_ms": "1"}),
        ("ack", {"ids": [1], "status": "DROP", "reason": 5}),
        ("extend", {}),
        ("extend", {"ids": {}}),
        ("extend", {"ids": [1], "ack_wait_ms": 99}),
        ("extend", {"ids": [1], "ack_wait_ms": 600_001}),
        ("extend", {"ids": [1], "ack_wait_ms": True}),
    ],
)
def test_a_wrong_field_is_malformed(play: Player, kind: str, fields: dict[str, Any]) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.ask(kind, **fields)
        assert (answer["type"], answer["code"]) == ("error", "malformed")
        await peer.send(kind, **fields)
        await peer.error("malformed")

    play(script)


def test_a_malformed_ack_settles_nothing(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        assert (await peer.ask("ack", ids=[delivery["id"], "x"]))["code"] == "malformed"
        assert await peer.ack(delivery) == []

    play(script)


def test_no_ids_is_a_fine_ack(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        assert await peer.ack() == []
        assert (await peer.ask("extend", ids=[]))["stale"] == []

    play(script)


# --- deadlines --------------------------------------------------------------------------------


def test_a_missed_deadline_is_redelivered_and_the_old_id_is_stale(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", ack_wait_ms=100)
        await peer.publish("orders", 1)
        first = await peer.delivery()
        assert first["lease_ms"] == 100
        second = await peer.delivery()
        assert second["attempt"] == 2
        assert second["id"] > first["id"]
        assert await peer.ack(first) == [first["id"]]
        assert await peer.ack(second) == []
        assert (await peer.stats("orders", "billing"))["delivered"] == 2

    play(script)


def test_a_missed_deadline_goes_elsewhere_if_it_can(play: Player) -> None:
    async def script(stage: Stage) -> None:
        late, other = await stage.app("billing"), await stage.app("billing", max_in_flight=1)
        await late.subscribe("orders", ack_wait_ms=100)
        await late.publish("orders", 1)
        await late.delivery()
        await other.subscribe("orders")
        assert (await other.delivery())["attempt"] == 2
        await late.no_delivery()

    play(script)


def test_extend_keeps_the_lease(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", ack_wait_ms=100)
        await peer.publish("orders", 1, 2)
        kept, lost = await peer.deliveries(2)
        extended = await peer.ask("extend", ids=[kept["id"], 5], ack_wait_ms=10_000)
        assert (extended["type"], extended["stale"]) == ("extended", [5])
        other = await stage.app("billing")
        await other.subscribe("orders")
        again = await other.delivery()  # both first deadlines have passed by now
        assert again["event"]["id"] == lost["event"]["id"]
        assert await peer.ack(kept) == []

    play(script)


def test_extend_without_a_time_takes_the_groups(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", ack_wait_ms=100)
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        await peer.subscribe("orders", ack_wait_ms=5000)
        assert (await peer.ask("extend", ids=[delivery["id"]]))["stale"] == []
        other = await stage.app("billing")
        await other.subscribe("orders", ack_wait_ms=100)
        await other.publish("orders", 2, 3)
        got = [await other.delivery(), await peer.delivery()]
        again = await other.delivery()  # the deadlines of these have passed, so has the old one
        assert again["event"]["id"] in {one["event"]["id"] for one in got}
        assert await peer.ack(delivery) == []

    play(script)


def test_extending_a_lost_lease_names_it_stale(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", ack_wait_ms=100)
        await peer.publish("orders", 1)
        first = await peer.delivery()
        await peer.delivery()
        assert (await peer.ask("extend", ids=[first["id"]]))["stale"] == [first["id"]]

    play(script)


# --- lost connections -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_lost_connection_redelivers_at_once_as_the_next_attempt(
    play_stores: Player, how: str
) -> None:
    async def script(stage: Stage) -> None:
        first = await stage.app("billing")
        await first.subscribe("orders", backoff_ms=60_000)
        await first.publish("orders", 1, 2)
        await first.deliveries(2)
        second = await stage.app("billing")
        await second.subscribe("orders")
        if how == "close":
            await first.close()
        else:
            first.abort()
        got = await second.deliveries(2)
        assert [(one["attempt"], one["event"]["data"]) for one in got] == [(2, 1), (2, 2)]
        assert await second.ack(*got) == []

    play_stores(script)


def test_an_id_is_stale_on_the_next_connection(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first = await stage.app("billing")
        await first.subscribe("orders")
        await first.publish("orders", 1)
        old = await first.delivery()
        await first.close()
        second = await stage.app("billing")
        assert await second.ack(old) == [old["id"]]
        await second.subscribe("orders")
        assert (await second.delivery())["attempt"] == 2

    play(script)


def test_frames_received_before_a_close_are_handled_first(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", *range(100))
        for delivery in await peer.deliveries(100):
            await peer.send("ack", ids=[delivery["id"]])
        await peer.send("flow", max_in_flight=0)  # or "last" might still be delivered here
        await peer.send("publish", topic="orders", data="last")
        await peer.close()
        next_one = await stage.app("billing")
        await next_one.subscribe("orders")
        delivery = await next_one.delivery()
        assert (delivery["attempt"], delivery["event"]["data"]) == (1, "last")
        stats = await next_one.stats("orders", "billing")
        assert (stats["backlog"], stats["redelivered"]) == (1, 0)

    play_stores(script)


def test_frames_before_an_undecodable_one_are_handled_and_answered(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        await peer.send("ack", ids=[delivery["id"]])
        await peer.send("flow", max_in_flight=-1)
        await peer.raw(b"\xc1" if stage.encoding == "msgpack" else "{")
        await peer.error("malformed")
        assert await peer.closed() == 1007
        other = await stage.app("billing")
        assert (await other.stats("orders", "billing"))["backlog"] == 0

    play(script)
