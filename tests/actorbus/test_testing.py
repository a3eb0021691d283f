"""The broker for apps' tests."""

import asyncio
from pathlib import Path

import pytest

from actorbus import ConnectionLostError, connect
from actorbus.testing import TestBroker
from tests.actorbus.client.fake_broker import run


def test_a_broker_runs_for_as_long_as_the_with_block() -> None:
    async def round_trip(url: str) -> object:
        async with connect(url, app_id="app") as bus, bus.subscribe("t") as deliveries:
            await bus.publish("t", {"n": 1})
            delivery = await anext(deliveries)
            assert await delivery.ack(wait=True)
            return delivery.data

    with TestBroker() as broker:
        assert asyncio.run(round_trip(broker.url)) == {"n": 1}
    with pytest.raises(ConnectionLostError):
        asyncio.run(round_trip(broker.url))


def test_a_client_waits_for_a_broker_that_restarts_on_its_port(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            TestBroker(store=f"sqlite:{tmp_path}/events.db") as broker,
            connect(broker.url, app_id="app") as bus,
            bus.subscribe("t") as deliveries,
        ):
            await asyncio.to_thread(broker.kill)
            call = asyncio.ensure_future(bus.publish("t", "kept"))
            await asyncio.to_thread(broker.start)
            await call
            delivery = await anext(deliveries)
            assert delivery.data == "kept"
            await delivery.ack()

    run(test())


def test_a_broker_that_does_not_start_shows_why() -> None:
    with pytest.raises(ConnectionLostError, match="nonsense"), TestBroker(store="nonsense:"):
        pass
