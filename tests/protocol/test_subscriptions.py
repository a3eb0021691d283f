"""`subscribe` and `unsubscribe`: groups, their options, their life."""

from typing import Any

import pytest

from tests.protocol.harness import Player, Stage

DEFAULTS = {
    "ack_wait_ms": 30_000,
    "max_attempts": 0,
    "backoff_ms": 1000,
    "max_backoff_ms": 60_000,
    "dead_letter_topic": None,
    "max_in_flight": 0,
}


def test_subscribed_tells_the_options_in_force(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.ask("subscribe", topic="orders")
        ref = answer.pop("ref")
        assert isinstance(ref, str)
        assert answer == {"type": "subscribed", "topic": "orders", "options": DEFAULTS}

    play_stores(script)


def test_a_subscribe_changes_what_it_names_and_null_puts_it_back(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, other = await stage.app("billing"), await stage.app("billing")
        first = await peer.subscribe("orders", ack_wait_ms=100, max_attempts=3)
        assert first["options"] == {**DEFAULTS, "ack_wait_ms": 100, "max_attempts": 3}
        second = await other.subscribe("orders", ack_wait_ms=600_000, backoff_ms=3_600_000)
        assert second["options"] == {
            **DEFAULTS,
            "ack_wait_ms": 600_000,
            "max_attempts": 3,
            "backoff_ms": 3_600_000,
        }
        third = await peer.subscribe("orders", ack_wait_ms=None, max_attempts=None)
        assert third["options"] == {**DEFAULTS, "backoff_ms": 3_600_000}
        dead = await peer.subscribe("orders", dead_letter_topic="dead", backoff_ms=None)
        assert dead["options"] == {**DEFAULTS, "dead_letter_topic": "dead"}
        assert (await peer.subscribe("orders", dead_letter_topic=None))["options"] == DEFAULTS

    play_stores(script)


def test_options_belong_to_the_group_not_to_the_app(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", max_attempts=3)
        assert (await peer.subscribe("others"))["options"] == DEFAULTS
        assert (await (await stage.app("stock")).subscribe("orders"))["options"] == DEFAULTS

    play(script)


def test_changes_apply_to_leases_that_begin_later(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        assert (await peer.delivery())["lease_ms"] == 30_000
        await peer.subscribe("orders", ack_wait_ms=45_000)
        await peer.publish("orders", 2)
        assert (await peer.delivery())["lease_ms"] == 45_000
        await peer.no_delivery()

    play(script)


@pytest.mark.parametrize(
    "options",
    [
        {"ack_wait_ms": 99},
        {"ack_wait_ms": 600_001},
        {"ack_wait_ms": "1000"},
        {"ack_wait_ms": 1000.5},
        {"ack_wait_ms": True},
        {"max_attempts": -1},
        {"max_attempts": 1.5},
        {"backoff_ms": 9},
        {"backoff_ms": 3_600_001},
        {"max_backoff_ms": 9},
        {"max_backoff_ms": 3_600_001},
        {"max_in_flight": -1},
        {"max_in_flight": 65_536},
        {"dead_letter_topic": ""},
        {"dead_letter_topic": "a b"},
        {"dead_letter_topic": "amq.x"},
        {"dead_letter_topic": 5},
        {"start": "latest"},
        {"start": 0},
        {"ack_wait": 1000},
        {"ack_wait_ms": 1000, "unknown": 1},
    ],
)
def test_a_wrong_option_is_invalid_option_and_changes_nothing(
    play: Player, options: dict[str, Any]
) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.ask("subscribe", topic="orders", options=options)
        assert (answer["type"], answer["code"]) == ("error", "invalid_option")
        assert (await peer.ask("inspect"))["topics"] == []

    play(script)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "malformed"),
        ({"topic": 5}, "malformed"),
        ({"topic": ""}, "invalid_name"),
        ({"topic": "amq.orders"}, "invalid_name"),
        ({"topic": "t", "options": []}, "malformed"),
        ({"topic": "t", "options": "x"}, "malformed"),
    ],
)
def test_a_wrong_subscribe_gets_its_code(play: Player, fields: dict[str, Any], code: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        for kind in ("subscribe", "unsubscribe") if "options" not in fields else ("subscribe",):
            assert (await peer.ask(kind, **fields))["code"] == code
            await peer.send(kind, **fields)
            await peer.error(code)

    play(script)


def test_subscribe_without_ref_is_not_answered_and_counts(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.send("subscribe", topic="orders")
        await peer.until_stats("orders", "billing", instances=1)
        await peer.publish("orders", 1)
        await peer.delivery()
        assert not peer._waiting

    play(script)


def test_a_group_keeps_what_is_published_while_nobody_is_connected(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        first = await stage.app("billing")
        await first.subscribe("orders", max_attempts=4)
        await first.close()
        publisher = await stage.app("shop")
        await publisher.publish("orders", *range(10))
        assert (await publisher.stats("orders", "billing"))["backlog"] == 10
        second = await stage.app("billing")
        assert (await second.subscribe("orders"))["options"]["max_attempts"] == 4
        got = await second.deliveries(10)
        assert [one["event"]["data"] for one in got] == list(range(10))
        assert {one["attempt"] for one in got} == {1}

    play_stores(script)


def test_a_new_group_starts_with_what_comes(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first, second = await stage.app("billing"), await stage.app("stock")
        await first.subscribe("orders")
        await first.publish("orders", "before")
        await second.subscribe("orders")
        await first.publish("orders", "after")
        assert (await second.delivery())["event"]["data"] == "after"
        await second.no_delivery()

    play(script)


def test_start_earliest_gets_what_the_store_still_has(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        first, second = await stage.app("billing"), await stage.app("stock")
        await first.subscribe("orders")
        await first.publish("orders", 1, 2)
        await first.deliveries(2)
        await second.subscribe("orders", start="earliest")
        assert [one["event"]["data"] for one in await second.deliveries(2)] == [1, 2]
        await second.subscribe("orders", start="earliest")  # counts only at creation
        await second.no_delivery()

    play_stores(script)


# --- unsubscribe ------------------------------------------------------------------------------


def test_unsubscribe_ends_deliveries_and_what_is_held_may_be_settled(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        answer = await peer.ask("unsubscribe", topic="orders")
        assert (answer["type"], answer["topic"], answer["forget"]) == (
            "unsubscribed",
            "orders",
            False,
        )
        await peer.publish("orders", 2)
        await peer.no_delivery()
        assert await peer.ack(delivery) == []
        stats = await peer.stats("orders", "billing")
        assert (stats["backlog"], stats["instances"], stats["in_flight"]) == (1, 0, 0)
        await peer.subscribe("orders")
        assert (await peer.delivery())["event"]["data"] == 2

    play(script)


def test_subscribing_again_with_something_held_goes_on(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        held = await peer.delivery()
        await peer.ask("unsubscribe", topic="orders")
        await peer.subscribe("orders")
        await peer.publish("orders", 2)
        assert (await peer.delivery())["event"]["data"] == 2
        assert await peer.ack(held) == []

    play(script)


def test_unsubscribe_without_subscription_is_not_subscribed(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        assert (await peer.ask("unsubscribe", topic="orders"))["code"] == "not_subscribed"
        await peer.subscribe("orders")
        await peer.ask("unsubscribe", topic="orders")
        assert (await peer.ask("unsubscribe", topic="orders"))["code"] == "not_subscribed"

    play(script)


def test_unsubscribe_right_behind_subscribe_is_taken_in_order(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.send("subscribe", topic="orders", ref=1)
        await peer.send("unsubscribe", topic="orders", ref=2)
        assert (await peer.answer(1))["type"] == "subscribed"
        assert (await peer.answer(2))["type"] == "unsubscribed"
        await peer.publish("orders", 1)
        await peer.no_delivery()
        assert (await peer.stats("orders", "billing"))["instances"] == 0

    play(script)


def test_forget_removes_the_group_and_its_backlog(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", max_attempts=5)
        await peer.publish("orders", 1, 2)
        held = await peer.deliveries(2)
        answer = await peer.ask("unsubscribe", topic="orders", forget=True)
        assert (answer["type"], answer["forget"]) == ("unsubscribed", True)
        assert await peer.stats("orders", "billing") == {}
        assert await peer.ack(*held) == [one["id"] for one in held]
        assert (await peer.subscribe("orders"))["options"] == DEFAULTS
        await peer.no_delivery()
        await peer.publish("orders", 3)
        assert (await peer.delivery())["event"]["data"] == 3

    play_stores(script)


def test_forget_is_allowed_without_a_subscription(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        first = await stage.app("billing")
        await first.subscribe("orders")
        await first.close()
        second = await stage.app("billing")
        await second.publish("orders", 1)
        answer = await second.ask("unsubscribe", topic="orders", forget=True)
        assert answer["type"] == "unsubscribed"
        assert await second.stats("orders", "billing") == {}
        again = await second.ask("unsubscribe", topic="orders", forget=True)
        assert again["type"] == "unsubscribed"

    play_stores(script)


def test_forget_is_in_use_while_another_instance_is_subscribed(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first, second, third = [await stage.app("billing") for _ in range(3)]
        await first.subscribe("orders")
        await second.subscribe("orders")
        for peer in (first, third):
            answer = await peer.ask("unsubscribe", topic="orders", forget=True)
            assert (answer["type"], answer["code"]) == ("error", "in_use")
        await first.publish("orders", 1)
        assert (await first.stats("orders", "billing"))["backlog"] == 1

    play(script)


def test_a_refused_forget_does_not_unsubscribe(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first, second = [await stage.app("billing") for _ in range(2)]
        await first.subscribe("orders")
        await second.subscribe("orders")
        await first.ask("unsubscribe", topic="orders", forget=True)
        assert (await first.stats("orders", "billing"))["instances"] == 2
        await second.close()
        await first.publish("orders", 1)
        await first.delivery()

    play(script)


def test_another_apps_group_is_untouched_by_forget(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first, second = await stage.app("billing"), await stage.app("stock")
        await first.subscribe("orders")
        await second.subscribe("orders")
        await first.publish("orders", 1)
        await first.ask("unsubscribe", topic="orders", forget=True)
        assert (await second.delivery())["event"]["data"] == 1
        await first.publish("orders", 2)
        assert (await second.delivery())["event"]["data"] == 2

    play(script)


@pytest.mark.parametrize("forget", [1, "yes", None])
def test_a_wrong_forget_is_malformed(play: Player, forget: object) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        answer = await peer.ask("unsubscribe", topic="orders", forget=forget)
        assert answer["code"] == "malformed"
        assert (await peer.stats("orders", "billing"))["instances"] == 1

    play(script)


def test_more_groups_than_an_app_may_have_is_limit(play: Player) -> None:
    async def script(stage: Stage) -> None:
        stage.broker.supervisor.limits = type(stage.broker.supervisor.limits)(
            8_388_608, 1_048_576, 1000, 16_777_216, 120, 2, 10_000
        )
        peer = await stage.app("billing")
        await peer.subscribe("a")
        await peer.subscribe("b")
        answer = await peer.ask("subscribe", topic="c")
        assert (answer["code"], answer["retryable"]) == ("limit", False)
        await peer.subscribe("b")
        await (await stage.app("stock")).subscribe("c")
        await peer.ask("unsubscribe", topic="a", forget=True)
        await peer.subscribe("c")

    play(script)
