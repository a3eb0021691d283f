"""`max_in_flight`, `flow`, `drain` and the group's own cap."""

import asyncio

import pytest

from tests.protocol.harness import Player, Stage


def test_never_more_than_max_in_flight_over_all_topics(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", max_in_flight=3)
        for topic in ("a", "b"):
            await peer.subscribe(topic)
            await peer.publish(topic, *range(5))
        seen = 0
        held = await peer.deliveries(3)
        while seen < 7:
            await peer.no_delivery()
            await peer.ack(held.pop(0))
            held += await peer.deliveries(1)
            seen += 1
        assert await peer.ack(*held) == []
        for topic in ("a", "b"):
            assert (await peer.stats(topic, "billing"))["backlog"] == 0

    play(script)


def test_flow_zero_pauses_and_more_goes_on(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.send("flow", max_in_flight=0)
        await peer.publish("orders", 1, 2, 3)
        await peer.no_delivery()
        await peer.send("flow", max_in_flight=2)
        await peer.deliveries(2)
        await peer.no_delivery()
        await peer.send("flow", max_in_flight=65_535)
        await peer.delivery()

    play(script)


def test_max_in_flight_zero_from_hello(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", max_in_flight=0)
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        await peer.no_delivery()
        await peer.send("flow", max_in_flight=1)
        await peer.delivery()

    play(script)


def test_lowering_the_window_takes_nothing_back(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", *range(6))
        first, second, third, *_ = await peer.deliveries(6)
        await peer.send("flow", max_in_flight=4)
        await peer.publish("orders", "later")
        assert await peer.ack(first, second) == []
        await peer.no_delivery()
        assert await peer.ack(third) == []
        assert (await peer.delivery())["event"]["data"] == "later"

    play(script)


@pytest.mark.parametrize("value", [-1, 65_536, "5", None, 1.5, True])
def test_a_wrong_flow_is_malformed_and_changes_nothing(play: Player, value: object) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", max_in_flight=1)
        await peer.subscribe("orders")
        await peer.send("flow", max_in_flight=value)
        await peer.error("malformed")
        await peer.send("flow")
        await peer.error("malformed")
        assert (await peer.ask("flow", max_in_flight=value))["code"] == "malformed"
        await peer.publish("orders", 1, 2)
        await peer.delivery()
        await peer.no_delivery()

    play(script)


def test_another_instance_takes_what_a_full_one_cannot(play: Player) -> None:
    async def script(stage: Stage) -> None:
        full, other = [await stage.app("billing", max_in_flight=2) for _ in "ab"]
        await full.subscribe("orders")
        await full.publish("orders", *range(4))
        first = await full.deliveries(2)
        await other.subscribe("orders")
        second = await other.deliveries(2)
        got = [one["event"]["data"] for one in first + second]
        assert got == [0, 1, 2, 3]
        assert {one["attempt"] for one in first + second} == {1}

    play(script)


def test_the_groups_cap_holds_over_its_instances(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peers = [await stage.app("billing") for _ in range(3)]
        for peer in peers:
            await peer.subscribe("orders", max_in_flight=2)
        await peers[0].publish("orders", *range(5))
        stats = await peers[0].stats("orders", "billing")
        assert (stats["in_flight"], stats["backlog"]) == (2, 5)
        total = 0
        while total < 5:
            for peer in peers:
                await peer.ask("inspect")
                while peer._deliveries:
                    assert await peer.ack(await peer.delivery()) == []
                    total += 1
                stats = await peer.stats("orders", "billing")
                assert stats["in_flight"] <= 2
        assert (await peers[0].stats("orders", "billing"))["backlog"] == 0

    play(script)


# --- drain ------------------------------------------------------------------------------------


def test_drain_is_answered_once_nothing_is_in_flight(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1, 2)
        first, second = await peer.deliveries(2)
        await peer.send("drain", ref="d")
        await peer.publish("orders", 3)
        await peer.ack(first)
        await peer.no_delivery()
        assert not any(frame["type"] == "drained" for frame in peer._waiting)
        await peer.ack(second)
        assert await peer.answer("d") == {"type": "drained", "ref": "d"}
        await peer.no_delivery()
        assert len(await peer.publish("orders", 4)) == 1  # the connection stays open

    play(script)


def test_drain_with_nothing_in_flight_is_answered_at_once(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        assert (await peer.ask("drain"))["type"] == "drained"
        assert (await peer.ask("drain"))["type"] == "drained"

    play(script)


def test_a_lost_lease_counts_as_done_for_drain(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", ack_wait_ms=100)
        await peer.publish("orders", 1)
        await peer.delivery()
        assert (await peer.ask("drain"))["type"] == "drained"

    play(script)


def test_what_a_drained_connection_does_not_take_goes_elsewhere(play: Player) -> None:
    async def script(stage: Stage) -> None:
        leaving, other = await stage.app("billing"), await stage.app("billing")
        await leaving.subscribe("orders")
        await leaving.ask("drain")
        await leaving.publish("orders", 1)
        await leaving.no_delivery()
        await other.subscribe("orders")
        assert (await other.delivery())["attempt"] == 1

    play(script)


def test_drain_without_ref_is_not_answered(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.send("drain")
        await peer.no_delivery()
        assert not peer._waiting

    play(script)


# --- sharing ----------------------------------------------------------------------------------


def test_each_app_gets_every_event_once_and_its_instances_share(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        got: dict[str, list[list[int]]] = {"billing": [[], []], "stock": [[], []]}
        enough = {"billing": asyncio.Event(), "stock": asyncio.Event()}

        async def work(app_id: str, number: int) -> None:
            peer = await stage.app(app_id, instance=f"{number}")
            await peer.subscribe("orders")
            joined.release()
            while True:
                delivery = await peer.delivery()
                assert delivery["attempt"] == 1
                got[app_id][number].append(delivery["event"]["data"])
                await peer.ack(delivery)
                if sum(map(len, got[app_id])) == 400:
                    enough[app_id].set()

        joined = asyncio.Semaphore(0)
        workers = [asyncio.create_task(work(app_id, number)) for app_id in got for number in (0, 1)]
        for _ in workers:
            await joined.acquire()
        publisher = await stage.app("shop")
        for start in range(0, 400, 8):
            await publisher.publish("orders", *range(start, start + 8))
        for app_id in got:
            await enough[app_id].wait()
            stats = await publisher.stats("orders", app_id)
            assert (stats["instances"], stats["redelivered"]) == (2, 0)
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        for first, second in got.values():
            assert sorted(first + second) == list(range(400))
            assert min(len(first), len(second)) >= 100

    play_stores(script)


def test_the_one_with_the_most_room_is_chosen(play: Player) -> None:
    async def script(stage: Stage) -> None:
        small, large = await stage.app("billing", max_in_flight=2), await stage.app("billing")
        for peer in (small, large):
            await peer.subscribe("orders")
        for number in range(10):
            await large.publish("orders", number)
        assert len(await large.deliveries(10)) == 10
        await small.no_delivery()

    play(script)


def test_equals_take_turns(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peers = [await stage.app("billing") for _ in range(2)]
        for peer in peers:
            await peer.subscribe("orders")
        for number in range(10):
            await peers[0].publish("orders", number)
        for peer in peers:
            assert len(await peer.deliveries(5)) == 5

    play(script)


def test_leased_events_of_a_group_stay_within_group_outstanding(play_once: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        limits = (await peer.hello("billing", max_in_flight=65_535))["limits"]
        assert limits["group_outstanding"] == 10_000
        await peer.subscribe("orders")
        for _ in range(11):
            await peer.publish("orders", *range(1000))
        first, *_ = await peer.deliveries(10_000)
        await peer.no_delivery()
        assert await peer.ack(first) == []
        await peer.delivery()
        await peer.no_delivery()

    play_once(script)
