"""Back-pressure both ways: a store that lags, and a client that does not read."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from actorbus.errors import StoreUnavailableError
from actorbus.store import Appended, Store
from actors.budget import Budget
from tests.protocol.harness import Player, Stage
from transport import session, wire


class Gate:
    """Holds up the appends of a store until it is opened."""

    def __init__(self, store: Store) -> None:
        self._append = store.append
        self._open = asyncio.Event()
        self.asked = 0
        store.append = self.append  # type: ignore[method-assign]  # what a lagging store does

    def open(self) -> None:
        self._open.set()

    async def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> Appended:
        self.asked += 1
        await self._open.wait()
        return await self._append(topic, events, expires_at)


def test_published_waits_for_the_store(play: Player) -> None:
    async def script(stage: Stage) -> None:
        gate = Gate(stage.broker.store)
        peer = await stage.app("billing")
        await peer.send("publish", topic="orders", data=1, ref="p")
        await peer.ask("inspect")
        await stage.until(lambda: gate.asked == 1)
        assert not peer._waiting
        gate.open()
        assert (await peer.answer("p"))["type"] == "published"

    play(script)


def test_a_connection_over_publish_bytes_is_not_read_then_overloaded(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        monkeypatch.setattr(stage.broker.supervisor, "publish_budget", lambda: Budget(2000))
        gate = Gate(stage.broker.store)
        peer, other = await stage.app("billing"), await stage.app("billing")
        for number in range(2):
            await peer.send("publish", topic="orders", data="x" * 1000, ref=number)
        clock = asyncio.get_running_loop()
        began = clock.time()
        answer = await peer.ask("publish", topic="orders", data="x")
        waited = clock.time() - began
        assert (answer["code"], answer["retryable"]) == ("overloaded", True)
        assert waited >= 0.095
        # nothing more is waited for until there is room: acknowledgements come through
        began = clock.time()
        for _ in range(20):
            assert (await peer.ask("publish", topic="orders", data="x"))["code"] == "overloaded"
        assert clock.time() - began < 1
        await other.send("publish", topic="orders", data=1, ref="other")
        gate.open()
        assert (await other.answer("other"))["type"] == "published"
        for number in range(2):
            assert (await peer.answer(number))["type"] == "published"
        assert len(await peer.publish("orders", "x")) == 1

    monkeypatch.setattr(session, "PAUSE", 0.1)
    play(script)


def test_a_publish_that_waited_for_room_is_taken(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        budget = Budget(2000)
        monkeypatch.setattr(stage.broker.supervisor, "publish_budget", lambda: budget)
        gate = Gate(stage.broker.store)
        peer = await stage.app("billing")
        for number in range(4):
            await peer.send("publish", topic="orders", data="x" * 1000, ref=number)
        await stage.until(lambda: budget.full() and gate.asked > 0)
        gate.open()
        for number in range(4):
            assert (await peer.answer(number))["type"] == "published"

    play(script)


def test_a_topic_whose_store_lags_is_overloaded_for_all(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        gate = Gate(stage.broker.store)
        peer, other = await stage.app("billing"), await stage.app("billing")
        stage.broker.supervisor.topic_budget("orders").limit = 1000
        await peer.send("publish", topic="orders", data="x" * 1000, ref="first")
        await stage.until(lambda: gate.asked == 1)
        answer = await other.ask("publish", topic="orders", data="x")
        assert (answer["code"], answer["retryable"]) == ("overloaded", True)
        gate.open()
        assert (await peer.answer("first"))["type"] == "published"
        await other.publish("orders", "x")

    monkeypatch.setattr(session, "PAUSE", 0.1)
    play(script)


def test_a_failing_store_is_store_unavailable(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        async def fail(*_: Any) -> Appended:
            raise StoreUnavailableError("the disk is full")

        peer = await stage.app("billing")
        await peer.subscribe("orders")
        with monkeypatch.context() as full_disk:
            full_disk.setattr(stage.broker.store, "append", fail)
            answer = await peer.ask("publish", topic="orders", data=1)
            assert (answer["code"], answer["retryable"]) == ("store_unavailable", True)
        await peer.publish("orders", 2)
        assert (await peer.delivery())["event"]["data"] == 2

    play(script)


def test_an_internal_error_tells_its_code_only(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        def fail(*_: Any, **__: Any) -> Awaitable[Any]:
            raise RuntimeError("secret detail")

        peer = await stage.app("billing")
        monkeypatch.setattr(stage.broker.store, "topics", fail)
        answer = await peer.ask("inspect")
        assert answer["code"] == "internal"
        assert "secret" not in str(answer)

    with pytest.raises(AssertionError, match="RuntimeError"):  # which is in the log
        play(script)


# --- a client that does not read --------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look every 40 ms: cut off after some 200 ms without progress."""
    monkeypatch.setattr(wire, "WATCH_SECONDS", 0.04)
    monkeypatch.setattr(wire, "LAST_WORD_SECONDS", 0.05)


@pytest.mark.usefixtures("fast")
def test_a_client_that_stops_reading_is_cut_off_and_its_deliveries_go_to_others(
    play: Player,
) -> None:
    async def script(stage: Stage) -> None:
        stuck = await stage.app("billing", max_in_flight=1000)
        await stuck.subscribe("orders")
        stuck.socket.transport.pause_reading()
        publisher = await stage.app("shop")
        ids: list[str] = []
        for _ in range(20):
            ids += await publisher.publish("orders", "x" * 900_000)
        other = await stage.app("billing", max_in_flight=4)
        await other.subscribe("orders")
        got: list[str] = []
        attempts: set[int] = set()
        for _ in ids:
            delivery = await other.delivery()
            got.append(delivery["event"]["id"])
            attempts.add(delivery["attempt"])
            assert await other.ack(delivery) == []
        assert sorted(got) == sorted(ids)
        assert 2 in attempts
        counters = stage.broker.supervisor.counters
        await stage.until(lambda: counters.slow_consumers == 1)

    log = play(script)
    warnings = [entry for entry in log if entry["event"] == "slow consumer cut off"]
    assert len(warnings) == 1
    assert warnings[0]["log_level"] == "warning"


@pytest.mark.usefixtures("fast")
def test_a_client_that_goes_silent_with_nothing_unread_is_cut_off(play: Player) -> None:
    async def script(stage: Stage) -> None:
        stuck, other = await stage.app("billing"), await stage.app("billing")
        await stuck.subscribe("orders")
        await stuck.publish("orders", 1)
        await stuck.delivery()
        stuck.socket.transport.pause_reading()
        await other.subscribe("orders")
        assert (await other.delivery())["attempt"] == 2
        stuck.socket.transport.resume_reading()
        assert await stuck.closed() == 1013

    play(script)


def test_a_client_that_does_not_read_slows_no_other(play: Player) -> None:
    async def script(stage: Stage) -> None:
        stuck = await stage.app("stuck", max_in_flight=60_000)
        await stuck.subscribe("orders")
        stuck.socket.transport.pause_reading()
        reader, publisher = await stage.app("billing"), await stage.app("shop")
        await reader.subscribe("orders")
        for number in range(30):
            await publisher.publish("orders", f"{number}" + "x" * 400_000)
            assert await reader.ack(await reader.delivery()) == []
        stats = await publisher.stats("orders", "stuck")
        assert stats["backlog"] == 30
        assert 0 < stats["in_flight"] < 30  # it takes no more than its outbox holds
        assert stage.broker.supervisor.counters.slow_consumers == 0
        stuck.socket.transport.resume_reading()
        assert len(await stuck.deliveries(30)) == 30

    play(script)


def test_a_client_that_asks_and_does_not_read_is_not_read(play: Player) -> None:
    async def script(stage: Stage) -> None:
        reader = await stage.app("billing")
        for number in range(100):
            await reader.send("subscribe", topic=f"topic-{number}")
        await reader.subscribe("last")
        greedy = await stage.app("greedy")
        greedy.socket.transport.pause_reading()
        asking = asyncio.create_task(ask_for_ever(greedy.send))
        found = await stage.app("billing")
        for _ in range(30):
            await found.ask("inspect")
            sent = max(one._wire.unsent() for one in stage.broker.sessions)
            assert sent < wire.QUEUE_BYTES // 2
        asking.cancel()
        await asyncio.wait((asking,))
        greedy.abort()

    async def ask_for_ever(send: Any) -> None:
        while True:
            await send("inspect", ref=1)

    play(script)
