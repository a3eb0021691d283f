"""An orderly stop, as clients see it; and what a restart keeps."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors import messages as msg
from actors.topic_state import TopicState
from tests.protocol.harness import Player, Stage


def test_goaway_then_1001(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer, silent = await stage.app("billing"), await stage.open()
        await stage.broker.stop()
        goaway = await peer.expect("goaway")
        assert goaway["reason"]
        assert goaway["reconnect_after_ms"] > 0
        assert await peer.closed() == 1001
        assert await silent.closed() == 1001

    play(script)


def test_in_flight_work_may_be_acknowledged_while_the_broker_stops(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1, 2)
        first, second = await peer.deliveries(2)
        stopping = asyncio.create_task(stage.broker.stop())
        await peer.expect("goaway")
        assert await peer.ack(first) == []
        answer = await peer.ask("publish", topic="orders", data=3)
        assert (answer["code"], answer["retryable"]) == ("shutting_down", True)
        assert await peer.ack(second, status="RETRY", delay_ms=0) == []
        assert await peer.closed() == 1001
        await stopping
        assert not peer._deliveries

    play_stores(script, grace_seconds=5.0)


def test_what_would_begin_something_is_shutting_down(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        stopping = asyncio.create_task(stage.broker.stop())
        await peer.expect("goaway")
        for kind in ("publish", "subscribe"):
            answer = await peer.ask(kind, topic="more", data=1)
            assert (answer["code"], answer["retryable"]) == ("shutting_down", True)
        assert await peer.ack(delivery) == []
        await stopping

    play(script, grace_seconds=5.0)


def test_the_last_answer_is_sent_before_the_close(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        delivery = await peer.delivery()
        stopping = asyncio.create_task(stage.broker.stop())
        await peer.expect("goaway")
        await peer.send("ack", ids=[delivery["id"]], ref="last")
        assert (await peer.answer("last"))["stale"] == []
        assert await peer.closed() == 1001
        await stopping

    play(script, grace_seconds=5.0)


@pytest.mark.parametrize("count", [1, 40])
def test_publishes_that_were_taken_are_answered_before_the_close(
    play: Player, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    taken: list[msg.Publish] = []
    publish = TopicState.publish

    def take(state: TopicState, request: msg.Publish) -> None:
        taken.append(request)
        publish(state, request)

    monkeypatch.setattr(TopicState, "publish", take)

    async def script(stage: Stage) -> None:
        store, go = stage.broker.store, asyncio.Event()
        append = store.append

        def later(topic: str, events: tuple[bytes, ...], expires_at: int | None) -> Any:
            async def work() -> Any:
                await go.wait()
                return await append(topic, events, expires_at)

            return asyncio.ensure_future(work())

        peers = [await stage.app(f"app{number}") for number in range(count)]
        monkeypatch.setattr(store, "append", later)
        for peer in peers:
            await peer.send("publish", topic="orders", data=1, ref="taken")
        await stage.until(lambda: len(taken) == count)
        stopping = asyncio.create_task(stage.broker.stop())
        for peer in peers:
            await peer.expect("goaway")
        go.set()
        for peer in peers:
            assert (await peer.answer("taken"))["type"] == "published"
            assert await peer.closed() == 1001
        await stopping

    play(script)


def test_nothing_is_delivered_after_goaway(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", max_in_flight=1)
        await peer.subscribe("orders")
        await peer.publish("orders", 1, 2)
        held = await peer.delivery()
        stopping = asyncio.create_task(stage.broker.stop())
        await peer.expect("goaway")
        assert await peer.ack(held) == []
        assert await peer.closed() == 1001
        assert not peer._deliveries
        await stopping

    play(script, grace_seconds=5.0)


def test_hello_while_the_broker_stops_is_shutting_down(play: Player) -> None:
    async def script(stage: Stage) -> None:
        holder, late = await stage.app("billing"), await stage.open()
        await holder.subscribe("orders")
        await holder.publish("orders", 1)
        await holder.delivery()
        stopping = asyncio.create_task(stage.broker.stop())
        await holder.expect("goaway")
        assert (await late.ask("hello", app_id="billing"))["code"] == "shutting_down"
        assert await late.closed() == 1001
        await holder.close()
        await stopping

    play(script, grace_seconds=5.0)


def test_a_restart_keeps_groups_backlog_and_attempts(play_once: Player, tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path}/kept.db"

    async def before(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders", max_attempts=9, backoff_ms=10, max_backoff_ms=10)
        await peer.publish("orders", "settled", "tried", "held", "new")
        settled, tried, *_ = await peer.deliveries(4)
        await peer.send("flow", max_in_flight=0)
        await peer.ack(settled)
        await peer.ack(tried, status="RETRY", delay_ms=0)
        await stage.broker.stop()

    async def after(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.subscribe("orders")
        assert answer["options"]["max_attempts"] == 9
        got = {one["event"]["data"]: one["attempt"] for one in await peer.deliveries(3)}
        assert got == {"tried": 2, "held": 1, "new": 1}  # what a stop takes back does not count
        await peer.no_delivery()

    play_once(before, store=store)
    play_once(after, store=store)


def test_the_grace_period_ends(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        await peer.delivery()
        async with asyncio.timeout(2):
            await stage.broker.stop()
        assert await peer.closed() == 1001

    play(script, grace_seconds=0.1)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_a_clients_own_close_code_is_fine(play: Player, code: int) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.socket.close(code, "bye")
        await stage.works()

    play(script)
