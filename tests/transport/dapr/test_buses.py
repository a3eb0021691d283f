"""The door's connections."""

import asyncio

import pytest

from actorbus.errors import ActorbusError, ConnectionLostError
from tests.transport.dapr.harness import DoorPlayer, House, tokens_of
from transport.dapr import buses as module
from transport.dapr.buses import Buses
from transport.dapr.config import DoorConfig


@pytest.fixture
def play(caplog: pytest.LogCaptureFixture) -> DoorPlayer:
    """These are about connections over sockets; `test_local_bus` is about those without."""
    return DoorPlayer(caplog, within=False)


def test_calls_at_the_same_time_share_one_opening(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        buses = house.door.buses
        found = await asyncio.gather(*(buses.get("pubsub", "bank") for _ in range(10)))
        assert len(set(map(id, found))) == 1
        assert len(house.broker.sessions) == 2  # and the door's own app ID has one

    play(script)


def test_a_caller_that_gives_up_leaves_the_opening_to_the_others(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        buses = house.door.buses
        first = asyncio.create_task(buses.get("pubsub", "bank"))
        second = asyncio.create_task(buses.get("pubsub", "bank"))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).connected

    play(script)


def test_a_bus_that_has_ended_is_opened_again(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        await (await house.door.buses.get("pubsub", "shop")).close()
        answer = await house.post("/v1.0/publish/pubsub/orders", "x")
        assert (answer.status, answer.code) == (500, "ERR_PUBSUB_PUBLISH_MESSAGE")
        await house.publish("x")

    play(script)


def test_there_are_only_so_many(play: DoorPlayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)

    async def script(house: House) -> None:
        for token in ("one", "two"):
            await house.publish("x", dapr_api_token=token)
        answer = await house.post("/v1.0/publish/pubsub/orders", "x", dapr_api_token="three")
        assert answer.status == 500
        assert "overloaded" in answer.json()["message"]
        await house.publish("x", dapr_api_token="one")

    play(script, tokens=tokens_of(one="a", two="b", three="c"))


def test_a_broker_that_does_not_take_the_app_fails_the_call(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.post("/v1.0/publish/pubsub/orders", "x", dapr_api_token="one")
        assert (answer.status, answer.code) == (500, "ERR_PUBSUB_PUBLISH_MESSAGE")

    play(script, tokens=tokens_of(one="a"), broker_token="wrong")


def test_a_door_without_its_broker_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0)

    async def run() -> None:
        config = DoorConfig(components={"pubsub": "ws://127.0.0.1:9/v1"}, app_id="shop")
        buses = Buses(config)
        with pytest.raises(ConnectionLostError):
            await buses.get("pubsub", "shop")
        assert buses.health() is None

    asyncio.run(run())


def test_after_a_stop_nothing_is_opened(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        buses = house.door.buses
        await buses.stop()
        assert buses.health() == "the door is stopping"
        with pytest.raises(ActorbusError):
            await buses.get("pubsub", "bank")
        await buses.stop()

    play(script)


def test_health_names_the_component_whose_broker_is_away(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        buses = house.door.buses
        bus = await buses.get("pubsub", "shop")
        assert buses.health() is None
        await bus.close()
        assert buses.health() == "component pubsub has no connection to its broker"
        answer = await house.ask("GET", "/v1.0/healthz")
        assert (answer.status, answer.code) == (500, "ERR_HEALTH_NOT_READY")

    play(script)
