"""The orderly stop: its steps, their order, their deadlines."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog

from tests.protocol.harness import Player, Stage
from transport import broker as broker_module
from transport.broker import AddressError, Broker, Config

STEPS = [
    "wait for acknowledgements",
    "flush publishes",
    "make settlements durable",
    "close connections",
    "close the store",
]


def test_each_step_is_logged_in_order(play: Player) -> None:
    async def script(stage: Stage) -> None:
        await stage.works()

    log = play(script)
    assert [entry["step"] for entry in log if entry["event"] == "shutdown"] == STEPS


def test_a_stop_without_work_is_quick(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        async with asyncio.timeout(1):
            await asyncio.gather(stage.broker.stop(), peer.closed())

    play(script, grace_seconds=5.0)


def test_a_stop_waits_for_acknowledgements_no_longer_than_it_must(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        stopping = asyncio.create_task(stage.broker.stop())
        await peer.expect("goaway")
        assert not stopping.done()
        await peer.send("ack", ids=[delivery["id"]])
        async with asyncio.timeout(1):
            await asyncio.gather(stopping, peer.closed())

    log = play(script, grace_seconds=30.0)
    assert not [entry for entry in log if entry["log_level"] == "warning" and "step" in entry]


def test_the_port_is_closed_first(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        await peer.delivery()
        stopping = asyncio.create_task(stage.broker.stop())
        await peer.expect("goaway")
        with pytest.raises(OSError, match=r"refused|failed"):
            await stage.open()
        await peer.close()
        await stopping

    play(script, grace_seconds=5.0)


def test_a_client_that_does_not_read_does_not_hold_up_the_stop(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", max_in_flight=1000)
        await peer.subscribe("orders")
        peer.socket.transport.pause_reading()
        publisher = await stage.app("shop")
        for _ in range(20):
            await publisher.publish("orders", "x" * 900_000)
        async with asyncio.timeout(8):
            await stage.broker.stop()
        assert not stage.broker.sessions

    play(script, grace_seconds=0.2)


def test_a_step_that_hangs_is_given_up(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    step = broker_module._step

    async def hasty(name: str, work: Coroutine[Any, Any, object], seconds: float) -> None:
        await step(name, work, min(seconds, 0.05))

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    async def script(stage: Stage) -> None:
        monkeypatch.setattr(broker_module, "_step", hasty)
        monkeypatch.setattr(stage.broker.supervisor, "flushed", hang)
        await stage.broker.stop()

    log = play(script)
    late = [entry["step"] for entry in log if entry["event"] == "shutdown step took too long"]
    assert "flush publishes" in late
    assert [entry["step"] for entry in log if entry["event"] == "shutdown"][:5] == STEPS


def test_a_store_that_fails_stops_the_broker_with_its_exit_status() -> None:
    from actorbus.errors import StoreUnusableError

    async def run() -> int:
        broker = Broker(Config(port=0, store="memory:"))
        await broker.start()
        broker._store_failed(StoreUnusableError("disk I/O error", exit_status=70))
        async with asyncio.timeout(2):
            await broker.wait()
        await broker.stop()
        return broker.exit_status

    with structlog.testing.capture_logs():
        assert asyncio.run(run()) == 70


def test_a_topic_that_keeps_failing_stops_the_broker() -> None:
    async def run() -> int:
        broker = Broker(Config(port=0, store="memory:"))
        await broker.start()
        broker._fatal("topic orders keeps failing")
        async with asyncio.timeout(2):
            await broker.wait()
        await broker.stop()
        return broker.exit_status

    with structlog.testing.capture_logs():
        assert asyncio.run(run()) == 70


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "256.1.1.1"])
def test_an_address_that_cannot_be_had_is_named_and_the_store_closed(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[bool] = []

    async def run() -> None:
        broker = Broker(Config(host=host, port=0, store="memory:"))
        close = broker.store.close

        async def noted() -> None:
            closed.append(True)
            await close()

        monkeypatch.setattr(broker.store, "close", noted)
        with pytest.raises(AddressError, match="can't listen on") as error:
            await broker.start()
        assert host in error.value.message
        assert "\n" not in error.value.message

    with structlog.testing.capture_logs():
        asyncio.run(run())
    assert closed == [True]
