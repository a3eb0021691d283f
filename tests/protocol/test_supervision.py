"""An actor fails under real connections: it comes back, and nobody else notices."""

import asyncio
from typing import Any

import pytest

from actors.runtime import LoopActor, Ref, actor_of
from tests.actors.stage import fail
from tests.protocol.harness import Player, Stage

ERRORS = [
    RuntimeError("broken"),
    MemoryError(),
    RecursionError(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
]
BACK_SECONDS = 2.0


def by_name(error: BaseException) -> str:
    return type(error).__name__


def living(ref: Ref | None) -> LoopActor:
    actor = None if ref is None else actor_of(ref)
    assert actor is not None
    return actor


@pytest.mark.parametrize("error", ERRORS, ids=by_name)
def test_a_failed_group_is_back_in_time_with_one_live_lease(
    play_once: Player, error: BaseException
) -> None:
    async def script(stage: Stage) -> None:
        peer, other = await stage.app("billing"), await stage.app("stock")
        await peer.subscribe("orders")
        await other.subscribe("orders")
        await peer.publish("orders", 1)
        old, theirs = await peer.delivery(), await other.delivery()
        fail(living(stage.broker.supervisor.topics["orders"].groups["billing"].ref), error)
        async with asyncio.timeout(BACK_SECONDS):
            new = await peer.delivery()
        assert (new["attempt"], new["event"]) == (1, old["event"])
        assert await peer.ack(old) == [old["id"]]
        assert await peer.ack(new) == []
        assert await other.ack(theirs) == []
        for one in (peer, other):
            await one.no_delivery()

    play_once.failing(script, "group failed")


@pytest.mark.parametrize("error", ERRORS, ids=by_name)
def test_a_failed_topic_is_back_in_time_and_its_leases_stay(
    play_once: Player, error: BaseException
) -> None:
    async def script(stage: Stage) -> None:
        peer, other = await stage.app("billing"), await stage.app("stock")
        await peer.subscribe("orders")
        await other.subscribe("other")
        await peer.publish("orders", 1)
        held = await peer.delivery()
        fail(living(stage.broker.supervisor.topics["orders"].ref), error)
        await other.publish("other", 2)
        assert (await other.delivery())["event"]["data"] == 2
        async with asyncio.timeout(BACK_SECONDS):
            await until_published(peer, "orders")
        assert (await peer.delivery())["event"]["data"] == "again"
        assert await peer.ack(held) == []

    async def until_published(peer: Any, topic: str) -> None:
        while (answer := await peer.ask("publish", topic=topic, data="again"))["type"] == "error":
            assert answer["retryable"] is True

    play_once.failing(script, "topic failed")


@pytest.mark.parametrize("error", ERRORS, ids=by_name)
def test_a_failed_instance_closes_its_connection_alone(
    play_once: Player, error: BaseException
) -> None:
    async def script(stage: Stage) -> None:
        broken, healthy = await stage.app("billing", max_in_flight=1), await stage.app("billing")
        await broken.subscribe("orders")
        await broken.publish("orders", 1)
        held = await broken.delivery()
        await healthy.subscribe("orders")
        (connection,) = (
            one
            for one in stage.broker.supervisor.connections.values()
            if living(one.ref).deliveries.state.window.in_flight  # type: ignore[attr-defined]  # an InstanceActor
        )
        fail(living(connection.ref), error)
        assert await broken.closed() == 1011
        taken = await healthy.delivery()
        assert (taken["attempt"], taken["event"]) == (1, held["event"])
        assert await healthy.ack(taken) == []

    play_once.failing(script, "instance failed")
