"""`max_attempts`, time to live, dead letters."""

import asyncio
from typing import Any

import pytest

from tests.protocol.harness import Frame, Peer, Player, Stage


async def with_dead_letters(stage: Stage, **options: Any) -> tuple[Peer, Peer]:
    """A subscriber whose group has a dead-letter topic, and one that reads that."""
    peer = await stage.app("billing")
    await peer.subscribe("orders", dead_letter_topic="dead", **options)
    reader = await stage.app("billing")
    return peer, reader


def letter_of(delivery: Frame) -> dict[str, Any]:
    """The attributes that a dead letter has and its original has not."""
    event = delivery["event"]
    return {name: event[name] for name in event if name.startswith("deadletter")}


def test_drop_goes_to_the_dead_letter_topic_with_its_reason(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage)
        event = {"specversion": "1.0", "id": "7", "source": "s", "type": "t", "data": {"n": 1}}
        await peer.ask("publish", topic="orders", events=[{**event, "ext": "kept"}])
        assert await peer.ack(await peer.delivery(), status="DROP", reason="bad\nvalue") == []
        await reader.subscribe("dead")
        dead = await reader.delivery()
        assert dead["attempt"] == 1
        assert dead["event"] == {
            **event,
            "ext": "kept",
            "deadletterreason": "badvalue",
            "deadlettertopic": "orders",
            "deadletterattempts": 1,
        }
        stats = await peer.stats("orders", "billing")
        assert (stats["dead_lettered"], stats["dropped"], stats["backlog"]) == (1, 0, 0)

    play_stores(script)


@pytest.mark.parametrize(
    ("reason", "told"),
    [({}, "dropped"), ({"reason": ""}, "dropped"), ({"reason": "x" * 300}, "x" * 256)],
)
def test_the_reason_of_a_drop(play: Player, reason: dict[str, str], told: str) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage)
        await peer.publish("orders", 1)
        await peer.ack(await peer.delivery(), status="DROP", **reason)
        await reader.subscribe("dead")
        assert letter_of(await reader.delivery()) == {
            "deadletterreason": told,
            "deadlettertopic": "orders",
            "deadletterattempts": 1,
        }

    play(script)


def test_max_attempts_by_retry_is_exact(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage, max_attempts=3)
        await peer.publish("orders", 1)
        for attempt in (1, 2, 3):
            delivery = await peer.delivery()
            assert delivery["attempt"] == attempt
            await peer.ack(delivery, status="RETRY", delay_ms=0)
        await reader.subscribe("dead")
        assert letter_of(await reader.delivery()) == {
            "deadletterreason": "max_attempts",
            "deadlettertopic": "orders",
            "deadletterattempts": 3,
        }
        await peer.no_delivery()
        assert (await peer.stats("orders", "billing"))["delivered"] == 3

    play_stores(script)


def test_max_attempts_by_missed_deadlines_is_exact(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(
            stage, max_attempts=2, ack_wait_ms=100, backoff_ms=10
        )
        await peer.publish("orders", 1)
        assert [one["attempt"] for one in await peer.deliveries(2)] == [1, 2]
        await reader.subscribe("dead")
        assert letter_of(await reader.delivery())["deadletterattempts"] == 2
        await peer.no_delivery()

    play(script)


def test_max_attempts_by_lost_connections_is_exact(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage, max_attempts=2)
        await peer.publish("orders", 1)
        for attempt in (1, 2):
            assert (await peer.delivery())["attempt"] == attempt
            peer.abort()
            peer = await stage.app("billing")
            await peer.subscribe("orders")
        await reader.subscribe("dead")
        assert letter_of(await reader.delivery()) == {
            "deadletterreason": "max_attempts",
            "deadlettertopic": "orders",
            "deadletterattempts": 2,
        }

    play(script)


def test_a_neighbour_of_what_ends_connections_is_not_given_up(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", max_attempts=2)
        await peer.publish("orders", "poison", "neighbour")
        await peer.deliveries(2)
        peer.abort()
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        alone = await peer.delivery()
        await peer.no_delivery()
        if alone["event"]["data"] == "poison":
            peer.abort()
            peer = await stage.app("billing")
            await peer.subscribe("orders")
            alone = await peer.delivery()
        assert (alone["event"]["data"], alone["attempt"]) == ("neighbour", 2)
        assert await peer.ack(alone) == []

    play(script)


def test_without_dead_letter_topic_the_last_attempt_drops(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", max_attempts=1)
        await peer.publish("orders", 1)
        await peer.ack(await peer.delivery(), status="RETRY")
        await peer.no_delivery()
        stats = await peer.stats("orders", "billing")
        assert (stats["dropped"], stats["backlog"]) == (1, 0)

    play(script)


# --- time to live -----------------------------------------------------------------------------


def test_an_expired_event_is_not_delivered_but_dead_lettered(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage)
        await peer.send("flow", max_in_flight=0)
        await peer.publish("orders", "stale", ttl_ms=1)
        await peer.publish("orders", "fresh", ttl_ms=2**53)
        await wait_past(0.01)
        await peer.send("flow", max_in_flight=5)
        assert (await peer.delivery())["event"]["data"] == "fresh"
        await reader.subscribe("dead")
        dead = await reader.delivery()
        assert dead["event"]["data"] == "stale"  # and the ttl has not travelled
        assert letter_of(dead) == {
            "deadletterreason": "expired",
            "deadlettertopic": "orders",
            "deadletterattempts": 0,
        }
        await peer.no_delivery()

    play_stores(script)


def test_an_expired_event_without_dead_letter_topic_is_counted(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.send("flow", max_in_flight=0)
        await peer.publish("orders", "stale", ttl_ms=1)
        await wait_past(0.01)
        await peer.send("flow", max_in_flight=5)
        await peer.no_delivery()
        stats = await peer.stats("orders", "billing")
        assert (stats["dropped"], stats["backlog"], stats["delivered"]) == (1, 0, 0)

    play(script)


def test_an_event_that_expires_between_attempts_is_not_tried_again(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage)
        await peer.publish("orders", 1, ttl_ms=150)
        await peer.ack(await peer.delivery(), status="RETRY", delay_ms=200)
        await reader.subscribe("dead")
        assert letter_of(await reader.delivery())["deadletterreason"] == "expired"
        await peer.no_delivery()

    play(script)


async def wait_past(seconds: float) -> None:
    """Let the wall clock go on: a time to live has no other sign of its end."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done


# --- the dead-letter topic --------------------------------------------------------------------


def test_naming_a_dead_letter_topic_creates_its_group(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", dead_letter_topic="dead")
        stats = await peer.stats("dead", "billing")
        assert (stats["instances"], stats["backlog"]) == (0, 0)
        await peer.publish("orders", 1)
        await peer.ack(await peer.delivery(), status="DROP")
        assert (await peer.stats("dead", "billing"))["backlog"] == 1
        await peer.no_delivery()

    play_stores(script)


def test_a_dead_letter_reaches_every_group_of_its_topic(play: Player) -> None:
    async def script(stage: Stage) -> None:
        auditor = await stage.app("auditor")
        await auditor.subscribe("dead")
        peer, reader = await with_dead_letters(stage)
        await reader.subscribe("dead")
        await peer.publish("orders", 1)
        await peer.ack(await peer.delivery(), status="DROP")
        for one in (auditor, reader):
            assert (await one.delivery())["event"]["data"] == 1

    play(script)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_dead_letter_circle_is_refused(play: Player, length: int) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        for number in range(length - 1):
            await peer.subscribe(f"t{number}", dead_letter_topic=f"t{number + 1}")
        answer = await peer.ask(
            "subscribe", topic=f"t{length - 1}", options={"dead_letter_topic": "t0"}
        )
        assert answer["code"] == "invalid_option"
        other = await stage.app("stock")  # the circle would not be in this app ID's groups
        await other.subscribe(f"t{length}", dead_letter_topic="t0")

    play(script)


def test_circles_asked_for_at_once_are_refused_too(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first, second = [await stage.app("billing") for _ in "ab"]
        answers = await asyncio.gather(
            first.ask("subscribe", topic="a", options={"dead_letter_topic": "b"}),
            second.ask("subscribe", topic="b", options={"dead_letter_topic": "a"}),
        )
        kinds = sorted(answer["type"] for answer in answers)
        assert kinds == ["error", "subscribed"]

    play(script)


def test_a_second_death_replaces_the_attributes_of_the_first(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage)
        await reader.subscribe("dead", dead_letter_topic="deader")
        await peer.publish("orders", 1)
        await peer.ack(await peer.delivery(), status="DROP", reason="first")
        once = await reader.delivery()
        await reader.ack(once, status="RETRY", delay_ms=0)
        await reader.ack(await reader.delivery(), status="DROP", reason="second")
        last = await stage.app("billing")
        await last.subscribe("deader")
        assert letter_of(await last.delivery()) == {
            "deadletterreason": "second",
            "deadlettertopic": "dead",
            "deadletterattempts": 2,
        }

    play(script)


def test_binary_data_survives_its_dead_letter(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, reader = await with_dead_letters(stage)
        await peer.ask("publish", topic="orders", events=[peer.binary_event(b"\x00\xff")])
        await peer.ack(await peer.delivery(), status="DROP")
        await reader.subscribe("dead")
        assert reader.binary_of((await reader.delivery())["event"]) == b"\x00\xff"

    play(script)
