"""Several components in one broker, and what is laid down for their connections."""

import asyncio
import time
from pathlib import Path

import pytest

from actorbus.errors import RefusedError, StoreUnusableError
from actors.access import Access, Policy
from tests.protocol.harness import Player, Stage
from tests.transport.http import get, upgrade
from transport.broker import Broker, Config
from transport.components import ComponentConfig, check_component_name

ORDERS = ComponentConfig(name="orders", store="memory:")


def at(stage: Stage, name: str) -> Stage:
    """The same stage behind a component's path."""
    return Stage(stage.broker, f"{stage.url}/components/{name}", stage.encoding, stage._stack)


def limited(**policy: object) -> ComponentConfig:
    return ComponentConfig(name="orders", store="memory:", policy=Policy(**policy))  # type: ignore[arg-type]  # its fields


# --- several components -----------------------------------------------------------------------


def test_components_do_not_share_topics(play: Player) -> None:
    async def script(stage: Stage) -> None:
        first = await stage.app("shop")
        second = await at(stage, "orders").app("shop")
        await first.subscribe("t")
        await second.subscribe("t")
        await second.publish("t", 2)
        await first.publish("t", 1)
        assert (await first.delivery())["event"]["data"] == 1
        assert (await second.delivery())["event"]["data"] == 2
        await first.no_delivery()

    play(script, components=(ORDERS,))


def test_the_default_is_also_served_by_its_name(play: Player) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app("shop")
        await app.subscribe("t")
        await (await at(stage, "pubsub").app("other")).publish("t", 1)
        assert (await app.delivery())["event"]["data"] == 1

    play(script)


def test_a_file_may_take_the_defaults_name(play: Player) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app("shop")
        await app.subscribe("t")
        named = await at(stage, "pubsub").app("shop")
        await named.subscribe("t")
        await named.publish("t", 1)
        assert (await named.delivery())["event"]["data"] == 1
        await app.no_delivery()

    play(script, components=(ComponentConfig(name="pubsub", store="memory:"),))


def test_without_a_store_v1_serves_the_component_named_pubsub(play: Player) -> None:
    async def script(stage: Stage) -> None:
        app = await stage.app("shop")
        await app.subscribe("t")
        await (await at(stage, "pubsub").app("other")).publish("t", 1)
        assert (await app.delivery())["event"]["data"] == 1
        assert list(stage.broker.components) == ["pubsub", "orders"]

    components = (ComponentConfig(name="pubsub", store="memory:"), ORDERS)
    play(script, store=None, components=components)


@pytest.mark.parametrize("path", ["other", "", "orders/", "Orders", "%6frders"])
def test_a_component_that_is_not_served_is_404(play: Player, path: str) -> None:
    async def script(stage: Stage) -> None:
        answer = await get(stage.url, f"/v1/components/{path}", upgrade())
        assert answer.status == 404
        assert "no component of this name is served" in answer.body

    play(script, components=(ORDERS,))


def test_the_nameless_default_has_no_path_of_its_own(play: Player) -> None:
    async def script(stage: Stage) -> None:
        assert (await get(stage.url, "/v1/components/", upgrade())).status == 404

    play(script, components=(ComponentConfig(name="pubsub", store="memory:"),))


def test_healthz_names_the_component_that_takes_no_work(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        store = stage.broker.components["orders"].store
        monkeypatch.setattr(store, "health", lambda: "the disk is full")
        answer = await get(stage.url, "/healthz")
        assert (answer.status, answer.body) == (503, "component orders: the disk is full\n")

    play(script, components=(ORDERS,))


def test_metrics_have_a_component_label_if_there_are_several(play: Player) -> None:
    async def script(stage: Stage) -> None:
        await (await stage.app("shop")).publish("t", 1, 2)
        await (await at(stage, "orders").app("shop")).publish("t", 1)
        text = (await get(stage.url, "/metrics")).body
        for line in (
            'actorbus_events_published_total{component="pubsub"} 2.0',
            'actorbus_events_published_total{component="orders"} 1.0',
            'actorbus_topic_published_total{component="pubsub",topic="t"} 2.0',
            'actorbus_up{component="orders"} 1.0',
        ):
            assert line in text.splitlines()

    play(script, components=(ORDERS,))


def test_metrics_have_no_component_label_if_there_is_one(play: Player) -> None:
    async def script(stage: Stage) -> None:
        text = (await get(stage.url, "/metrics")).body
        assert "component=" not in text
        assert "actorbus_up 1.0" in text.splitlines()

    play(script)


def test_a_stop_closes_every_store(tmp_path: Path) -> None:
    urls = [f"sqlite:{tmp_path}/{name}.db" for name in ("one", "two")]
    config = Config(
        port=0, store=urls[0], components=(ComponentConfig(name="orders", store=urls[1]),)
    )

    async def main() -> None:
        for _ in range(2):  # the second start finds no lock
            broker = Broker(config)
            await broker.start()
            await broker.stop()

    asyncio.run(main())


def test_a_store_that_cannot_be_opened_closes_those_before_it(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/events.db"
    twice = ComponentConfig(name="orders", store=url, place="files/orders.yaml:3")

    async def main() -> str:
        with pytest.raises(StoreUnusableError) as caught:
            await Broker(Config(port=0, store=url, components=(twice,))).start()
        broker = Broker(Config(port=0, store=url))
        await broker.start()
        await broker.stop()
        return caught.value.message

    assert asyncio.run(main()).startswith("files/orders.yaml:3: component orders: ")


def test_an_impossible_store_says_which_file_wants_it() -> None:
    component = ComponentConfig(name="orders", store="nosuch:", place="orders.yaml:3")
    with pytest.raises(StoreUnusableError, match=r"^orders\.yaml:3: component orders: unknown"):
        Broker(Config(store="memory:", components=(component,)))


def test_a_component_never_shows_its_password() -> None:
    config = ComponentConfig(name="orders", store="amqp://user:secret@host")
    assert "secret" not in repr(config)


@pytest.mark.parametrize("name", ["", "a/b", "a b", ".a", "-a", "é", "a" * 121, None])
def test_a_components_name_fits_a_path(name: object) -> None:
    with pytest.raises(RefusedError):
        check_component_name(name)


# --- policy -----------------------------------------------------------------------------------


def test_an_app_outside_the_components_scopes_is_refused(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await at(stage, "orders").open()
        refused = await peer.ask("hello", app_id="shop")
        assert (refused["code"], refused["message"]) == (
            "forbidden",
            "component orders is not for app ID shop",
        )
        await peer.hello("billing")  # the connection stays

    component = ComponentConfig(name="orders", store="memory:", scopes=frozenset({"billing"}))
    play(script, components=(component,))


def test_a_publish_that_is_not_allowed_is_forbidden_and_changes_nothing(play: Player) -> None:
    async def script(stage: Stage) -> None:
        audit = await at(stage, "orders").app("audit")
        await audit.subscribe("payments")
        shop = await at(stage, "orders").app("shop")
        refused = await shop.ask("publish", topic="payments", data=1)
        assert (refused["code"], refused["retryable"]) == ("forbidden", False)
        assert refused["message"] == "topic payments is not allowed for app id shop"
        await shop.publish("orders", 1)
        await audit.no_delivery()

    access = Access(publishing={"shop": frozenset({"orders"})})
    play(script, components=(limited(access=access),))


def test_a_subscription_that_is_not_allowed_is_forbidden_and_makes_no_group(play: Player) -> None:
    async def script(stage: Stage) -> None:
        shop = await at(stage, "orders").app("shop")
        refused = await shop.ask("subscribe", topic="payments")
        assert refused["code"] == "forbidden"
        assert refused["message"] == "topic payments is not allowed for app id shop"
        assert await shop.stats("payments", "shop") == {}
        await shop.subscribe("orders")

    access = Access(subscription={"shop": frozenset({"orders"})})
    play(script, components=(limited(access=access),))


def test_a_dead_letter_topic_that_the_app_may_not_publish_to_is_forbidden(play: Player) -> None:
    async def script(stage: Stage) -> None:
        shop = await at(stage, "orders").app("shop")
        options = {"dead_letter_topic": "failed"}
        refused = await shop.ask("subscribe", topic="orders", options=options)
        assert (refused["code"], refused["message"]) == (
            "forbidden",
            "topic failed is not allowed for app id shop",
        )

    access = Access(publishing={"shop": frozenset({"orders"})})
    play(script, components=(limited(access=access),))


def test_a_default_ttl_counts_where_a_publish_names_none(play: Player) -> None:
    async def script(stage: Stage) -> None:
        app = await at(stage, "orders").app("shop")
        await app.subscribe("t")
        await app.send("flow", max_in_flight=0)
        await app.publish("t", "expires")
        await app.publish("t", "lasts", ttl_ms=60_000)
        later = time.time() + 0.03
        await stage.until(lambda: time.time() > later)
        await app.send("flow", max_in_flight=10)
        assert (await app.delivery())["event"]["data"] == "lasts"
        await app.until_stats("t", "shop", dropped=1)

    play(script, components=(limited(ttl_ms=20),))


def test_no_connection_gets_a_larger_window_than_the_component_has(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await at(stage, "orders").open()
        assert (await peer.hello("shop", max_in_flight=100))["max_in_flight"] == 2
        await peer.subscribe("t")
        await peer.publish("t", 1, 2, 3)
        await peer.deliveries(2)
        await peer.send("flow", max_in_flight=50)
        await peer.no_delivery()

    play(script, components=(limited(max_in_flight=2),))
