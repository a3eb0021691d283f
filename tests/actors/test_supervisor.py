import asyncio
from typing import Any

import msgspec
import pytest

from actorbus import frames
from actorbus.errors import StoreUnavailableError
from actorbus.store import GroupOptions
from actors import cells
from actors import messages as msg
from actors.cells import Failures
from actors.runtime import tell
from tests.actors.stage import Peer, Stage, fail, play, turns, until
from transport.stores.memory import MemoryStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells.Failures, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(cells.Failures, "LONGEST_PAUSE", 0.001)


# --- a group fails --------------------------------------------------------------------------------


def test_the_pause_before_a_restart_is_under_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    failures = Failures()
    assert [failures.add(0) for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.8, None]


def test_failures_a_minute_ago_are_forgiven() -> None:
    failures = Failures(limit=1)
    assert failures.add(0) is not None
    assert failures.add(60_000) is not None
    assert failures.add(60_001) is None


def test_a_failed_group_starts_again_from_the_store() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish("held")
        [(first, _, _)] = await peer.delivered(1)
        fail(stage.group(), RuntimeError("broken"))
        [(second, attempt, data)] = await peer.delivered(1)
        assert (attempt, data) == (1, "held")  # what the broker takes back does not count
        assert second != first
        assert stage.supervisor.counters.restarts == {"group": 1}

    play(script)


def test_acks_of_the_old_generation_are_stale() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish("held")
        [(first, _, _)] = await peer.delivered(1)
        fail(stage.group(), RuntimeError("broken"))
        [(second, _, _)] = await peer.delivered(1)
        assert (await peer.ack(first))["stale"] == [first]
        assert (await peer.ack(second))["stale"] == []

    play(script)


def test_an_ack_between_failure_and_restart_is_stale() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish("held")
        [(first, _, _)] = await peer.delivered(1)
        cell = stage.supervisor.topics["orders"].groups["billing"]
        fail(stage.group(), RuntimeError("broken"))
        await until(lambda: cell.ref is None)
        assert (await peer.ack(first))["stale"] == [first]
        await peer.delivered(1)

    play(script)


def test_an_ack_that_waits_for_a_failed_group_is_answered() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish("held")
        [(first, _, _)] = await peer.delivered(1)
        group = stage.group()
        group.on_receive = lambda message: None  # type: ignore[method-assign]  # it answers nothing
        peer.say(frames.Ack("ack", [first]))
        await turns()
        fail(group, RuntimeError("broken"))
        answer = await peer.answer("ack")
        assert answer["stale"] == [first]

    play(script)


def test_a_failed_group_voids_what_unsubscribed_instances_hold() -> None:
    async def script(stage: Stage) -> None:
        leaver, stayer = stage.app(), stage.app()
        await leaver.subscribe()
        await leaver.publish(1)
        await leaver.delivered(1)
        await leaver.ask(lambda ref: frames.Unsubscribe(ref, "orders"))
        await stayer.subscribe()
        window = leaver.actor.deliveries.state.window
        assert window.in_flight == 1
        fail(stage.group(), RuntimeError("broken"))
        await stayer.delivered(1)
        assert window.in_flight == 0

    play(script)


def test_other_groups_do_not_notice() -> None:
    async def script(stage: Stage) -> None:
        peer, other = stage.app(), stage.app("stock")
        await peer.subscribe()
        await other.subscribe()
        await peer.publish("both")
        await peer.delivered(1)
        [(number, _, _)] = await other.delivered(1)
        generation = stage.group(app_id="stock").generation
        fail(stage.group(), RuntimeError("broken"))
        await peer.delivered(1)
        assert (await other.ack(number))["stale"] == []
        assert stage.group(app_id="stock").generation == generation

    play(script)


def test_a_failed_group_without_members_closes_its_feed() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        cell = stage.supervisor.topics["orders"].groups["billing"]
        await peer.ask(lambda ref: frames.Unsubscribe(ref, "orders"))
        fail(stage.group(), RuntimeError("broken"))
        await until(lambda: cell.ref is None and cell.feed is None)
        await turns()
        await peer.subscribe()
        await peer.publish(1)
        await peer.delivered(1)

    play(script)


def test_a_reset_begins_a_new_generation() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish(1)
        await peer.delivered(1)
        stage.supervisor.groups.reset(stage.group())
        assert stage.group().generation == 2
        [(_, attempt, _)] = await peer.delivered(1)
        assert attempt == 1

    play(script)


# --- a topic fails --------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """A store whose appends wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()

    def append(self, topic: str, events: tuple[bytes, ...], expires_at: int | None) -> Any:
        async def work() -> Any:
            await self.go.wait()
            return await MemoryStore.append(self, topic, events, expires_at)

        return asyncio.ensure_future(work())


def test_publishers_of_a_failed_topic_may_try_again() -> None:
    async def script(stage: Stage) -> None:
        assert isinstance(stage.store, SlowStore)
        peer = stage.app()
        await peer.subscribe()
        stage.store.go.clear()
        peer.say(frames.Publish("p", "orders", [{"data": 1}], None))
        await turns()
        fail(stage.topic(), RuntimeError("broken"))
        answer = await peer.answer("p")
        assert (answer["code"], answer["retryable"]) == ("internal", True)
        assert peer.actor.budget.held == 0
        stage.store.go.set()
        await until(lambda: stage.supervisor.topics["orders"].ref is not None)
        assert (await peer.publish(2))["groups"] == 1
        assert {data for _, _, data in await peer.delivered(2)} == {1, 2}  # durable all the same

    play(script, SlowStore())


def test_the_groups_of_a_failed_topic_go_on() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish(1)
        [(number, _, _)] = await peer.delivered(1)
        fail(stage.topic(), RuntimeError("broken"))
        await until(lambda: stage.supervisor.topics["orders"].failing)
        assert (await peer.ack(number))["stale"] == []
        assert stage.group().generation == 1

    play(script)


def test_what_waits_for_a_failed_topic_is_answered() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        topic = stage.topic()
        fail(topic, RuntimeError("broken"))
        answer = await peer.subscribe()
        assert answer["retryable"] is True

    play(script)


def test_a_publish_while_the_topic_restarts_is_retryable() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        cell = stage.supervisor.topics["orders"]
        fail(stage.topic(), RuntimeError("broken"))
        await until(lambda: cell.failing)
        answer = await peer.publish(1)
        assert (answer["code"], answer["retryable"]) == ("overloaded", True)

    play(script)


# --- escalation -----------------------------------------------------------------------------------


async def wear_out(stage: Stage, topic: str = "orders") -> None:
    """Let a group fail until its topic is restarted."""
    groups = stage.supervisor.topics[topic].groups
    for _ in range(6):
        await until(lambda: groups["billing"].ref is not None)
        fail(stage.group(topic), RuntimeError("broken"))
        await until(lambda: groups["billing"].ref is None)


def test_a_group_that_keeps_failing_takes_its_topic_with_it() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        await peer.publish("kept")
        await peer.delivered(1)
        before = stage.topic()
        await wear_out(stage)
        await until(lambda: stage.supervisor.topics["orders"].ref is not None)
        assert stage.topic() is not before
        assert stage.supervisor.counters.restarts == {"group": 6, "topic": 1}
        await until(lambda: any(frame["type"] == "deliver" for frame in peer.wire.frames))
        assert stage.fatal == []

    play(script)


def test_a_topic_that_keeps_failing_takes_the_broker_with_it_once() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        await peer.subscribe()
        cell = stage.supervisor.topics["orders"]
        for _ in range(6):
            await until(lambda: cell.ref is not None)
            fail(stage.topic(), RuntimeError("broken"))
            await until(lambda: cell.ref is None)
        assert stage.fatal == ["topic orders keeps failing"]

    play(script)


# --- an instance fails ----------------------------------------------------------------------------


def test_a_failed_instance_closes_its_connection_with_1011() -> None:
    async def script(stage: Stage) -> None:
        broken, healthy = stage.app(max_in_flight=1), stage.app(max_in_flight=1)
        await broken.subscribe()
        await broken.publish(1)
        await broken.delivered(1)
        await healthy.subscribe()
        fail(broken.actor, asyncio.CancelledError())
        assert await broken.closed() == (1011, "internal error")
        [(number, attempt, data)] = await healthy.delivered(1)
        assert (attempt, data) == (1, 1)
        assert (await healthy.ack(number))["stale"] == []
        assert healthy.wire.closed is None
        assert stage.supervisor.counters.connected == 1

    play(script)


def test_subscribed_and_gone_in_the_same_turn_harms_nobody() -> None:
    async def script(stage: Stage) -> None:
        peer, hasty = stage.app(), stage.app()
        await peer.subscribe()
        tell(stage.group().actor_ref, msg.Attach(99, hasty.ref))
        tell(stage.group().actor_ref, msg.Detach(99, counts=True))
        await peer.publish(1)
        await peer.delivered(1)
        assert stage.supervisor.counters.restarts == {}

    play(script)


# --- sleep ----------------------------------------------------------------------------------------


async def idle(stage: Stage, seconds: int) -> None:
    """Let the manual clock go on, and everybody notice."""
    stage.clock.mono += seconds * 1000
    for topic in stage.supervisor.topics.values():
        for group in topic.groups.values():
            if group.ref is not None:
                tell(group.ref, msg.Tick())
    await turns()
    stage.supervisor.sweep()


async def alone(stage: Stage) -> Peer:
    """A topic with a group, and nobody there."""
    peer = stage.app()
    await peer.subscribe()
    await peer.publish("waits")
    await peer.delivered(1)
    peer.close()
    await turns()
    return peer


def test_a_topic_and_its_groups_sleep_after_a_minute() -> None:
    async def script(stage: Stage) -> None:
        await alone(stage)
        cell = stage.supervisor.topics["orders"]
        await idle(stage, 59)
        assert cell.groups["billing"].ref is not None
        await idle(stage, 1)
        assert cell.groups["billing"].ref is None
        assert cell.ref is None

    play(script)


def test_a_name_wakes_what_sleeps() -> None:
    async def script(stage: Stage) -> None:
        await alone(stage)
        for _ in range(3):
            await idle(stage, 60)
        assert stage.supervisor.topics["orders"].ref is None
        peer = stage.app()
        assert (await peer.publish("new"))["groups"] == 1
        await peer.subscribe()
        got = [(attempt, data) for _, attempt, data in await peer.delivered(2)]
        assert got == [(2, "waits"), (1, "new")]

    play(script)


def test_a_topic_without_groups_is_forgotten_in_its_sleep() -> None:
    async def script(stage: Stage) -> None:
        await stage.app().publish("to nobody")
        await idle(stage, 60)
        assert stage.supervisor.topics == {}

    play(script)


def test_a_topic_does_not_sleep_over_a_message_that_waits() -> None:
    async def script(stage: Stage) -> None:
        await stage.app().publish("to nobody")
        stage.clock.mono += 60_000
        peer = stage.app()
        peer.say(frames.Subscribe("s", "orders", {}))
        while stage.topic().actor_inbox.empty():  # noqa: ASYNC110 - until the frame is handed on
            await asyncio.sleep(0)
        stage.supervisor.sweep()
        assert (await peer.answer("s"))["type"] == "subscribed"

    play(script)


# --- joining and forgetting -----------------------------------------------------------------------


class StickyStore(MemoryStore):
    """A store that takes a while to join and to forget."""

    async def join(self, *args: Any) -> Any:
        await asyncio.sleep(0.01)
        return await super().join(*args)

    async def forget(self, *args: Any) -> bool:
        await asyncio.sleep(0.02)
        return await super().forget(*args)


def test_what_one_connection_asks_of_a_group_happens_in_that_order() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        peer.say(frames.Subscribe(1, "orders", {"max_attempts": 3}))
        peer.say(frames.Unsubscribe(2, "orders"))
        peer.say(frames.Unsubscribe(3, "orders", forget=True))
        peer.say(frames.Subscribe(4, "orders", {"ack_wait_ms": 500}))
        peer.say(frames.Publish(5, "orders", [{"data": 1}], None))
        types = [(await peer.answer(ref))["type"] for ref in (1, 2, 3)]
        assert types == ["subscribed", "unsubscribed", "unsubscribed"]
        options = (await peer.answer(4))["options"]
        assert (options["max_attempts"], options["ack_wait_ms"]) == (0, 500)
        assert (await peer.answer(5))["groups"] == 1
        await peer.delivered(1)

    play(script, StickyStore())


def test_a_join_waits_for_the_forgetting_before_it() -> None:
    async def script(stage: Stage) -> None:
        first, second = stage.app(), stage.app()
        await first.subscribe()
        await first.ask(lambda ref: frames.Unsubscribe(ref, "orders"))
        await first.publish("forgotten")
        first.say(frames.Unsubscribe("forget", "orders", forget=True))
        await second.subscribe(max_attempts=7)
        await second.publish("kept")
        assert [data for _, _, data in await second.delivered(1)] == ["kept"]
        found = await stage.store.find("orders", "billing")
        assert found is not None
        assert found.max_attempts == 7

    play(script, StickyStore())


class HalfAwayStore(MemoryStore):
    """The first join fails while the second goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.joins = 0
        self.failed = asyncio.Event()

    async def join(self, *args: Any) -> Any:
        self.joins += 1
        if self.joins == 1:
            self.failed.set()
            raise StoreUnavailableError("away")
        await self.failed.wait()
        await turns()
        return await super().join(*args)


def test_a_join_that_fails_leaves_the_one_beside_it() -> None:
    async def script(stage: Stage) -> None:
        first, second = stage.app(), stage.app()
        first.say(frames.Subscribe(1, "orders", {}))
        second.say(frames.Subscribe(1, "orders", {}))
        assert (await first.answer(1))["code"] == "store_unavailable"
        assert (await second.answer(1))["type"] == "subscribed"
        await second.publish("kept")
        await second.delivered(1)
        assert stage.supervisor.counters.restarts == {}

    play(script, HalfAwayStore())


def test_a_refused_forget_leaves_the_subscription() -> None:
    async def script(stage: Stage) -> None:
        first, second = stage.app(), stage.app()
        await first.subscribe()
        await second.subscribe()
        answer = await first.ask(lambda ref: frames.Unsubscribe(ref, "orders", forget=True))
        assert answer["code"] == "in_use"
        second.close()
        await first.publish(1)
        await first.delivered(1)

    play(script)


def test_two_joins_cannot_close_a_circle_between_them() -> None:
    async def script(stage: Stage) -> None:
        peer = stage.app()
        peer.say(frames.Subscribe(1, "a", {"dead_letter_topic": "b"}))
        peer.say(frames.Subscribe(2, "b", {"dead_letter_topic": "a"}))
        answers = [await peer.answer(ref) for ref in (1, 2)]
        assert sorted(answer.get("code", "") for answer in answers) == ["", "invalid_option"]

    play(script, StickyStore())


def test_groups_of_apps_that_have_gone_are_not_in_use() -> None:
    async def script(stage: Stage) -> None:
        stage.supervisor.limits = msgspec.structs.replace(stage.supervisor.limits, groups_per_app=1)
        peer = stage.app()
        await peer.subscribe("a")
        assert (await peer.subscribe("b"))["code"] == "limit"
        peer.close()
        await turns()
        await idle(stage, 60)
        assert (await stage.app().subscribe("b"))["type"] == "subscribed"

    play(script)


# --- the store is away ----------------------------------------------------------------------------


class AwayStore(SlowStore):
    """Appends fail once they are let go."""

    def append(self, topic: str, events: tuple[bytes, ...], expires_at: int | None) -> Any:
        async def work() -> Any:
            await self.go.wait()
            raise StoreUnavailableError("away")

        return asyncio.ensure_future(work())


def test_publishes_that_wait_behind_a_failed_append_are_answered_with_it() -> None:
    async def script(stage: Stage) -> None:
        assert isinstance(stage.store, AwayStore)
        peer = stage.app()
        stage.store.go.clear()
        peer.say(frames.Publish(1, "orders", [{"data": 1}], None))
        await turns()
        peer.say(frames.Publish(2, "orders", [{"data": 2}], None))
        await turns()
        stage.store.go.set()
        codes = [(await peer.answer(ref))["code"] for ref in (1, 2)]
        assert codes == ["store_unavailable", "store_unavailable"]
        assert stage.supervisor.topics["orders"].budget.held == 0

    play(script, AwayStore())


# --- a group that takes long to be created ----------------------------------------------------


class SlowJoins(MemoryStore):
    """A store that creates groups only when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.go = asyncio.Event()

    async def join(self, *arguments: Any) -> GroupOptions:
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return await super().join(*arguments)


def test_what_others_publish_does_not_wait_for_a_new_group() -> None:
    store = SlowJoins()

    async def script(stage: Stage) -> None:
        peer, shop = stage.app(), stage.app("shop")
        peer.say(frames.Subscribe("s", "orders", {}))
        await turns()
        assert (await shop.publish("before"))["groups"] == 0
        store.go.set()
        await peer.answer("s")
        await shop.publish("after")
        assert [data for _, _, data in await peer.delivered(1)] == ["after"]

    play(script, store)


def test_what_is_published_behind_ones_own_subscribe_reaches_the_new_group() -> None:
    store = SlowJoins()

    async def script(stage: Stage) -> None:
        peer = stage.app()
        peer.say(frames.Subscribe("s", "orders", {}))
        peer.say(frames.Publish("p", "orders", [{"data": "mine"}], None))
        await turns()
        assert [frame["type"] for frame in peer.wire.frames] == ["welcome"]
        store.go.set()
        assert (await peer.answer("p"))["groups"] == 1
        assert [data for _, _, data in await peer.delivered(1)] == ["mine"]

    play(script, store)


def test_what_was_held_for_a_group_that_could_not_be_created_is_refused_with_it() -> None:
    store = SlowJoins(StoreUnavailableError("away"))

    async def script(stage: Stage) -> None:
        peer = stage.app()
        peer.say(frames.Subscribe("s", "orders", {}))
        peer.say(frames.Publish("p", "orders", [{"data": "mine"}], None))
        await turns()
        store.go.set()
        for ref in ("s", "p"):
            assert (await peer.answer(ref))["code"] == "store_unavailable"
        assert stage.topic().cell.budget.held == 0

    play(script, store)
