"""Publishing within the broker's process."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

import actorbus
from actorbus.errors import ConnectionLostError, InvalidEventError, RefusedError, UnavailableError
from actorbus.events import decode
from actors import instance
from actors.access import Access, Policy
from actors.instance import InstanceActor
from actors.instance_messages import Encoded
from actors.runtime import actor_of
from tests.actors.stage import turns, until
from transport import local_bus
from transport.broker import Broker, Config
from transport.components import ComponentConfig
from transport.dapr.buses import PublishingBus
from transport.local_bus import LocalBus

SECONDS = 10.0

Script = Callable[[Broker, str], Awaitable[None]]


def event(data: Any = 1, **attributes: Any) -> dict[str, Any]:
    whole = {"id": "1", "source": "s", "type": "t", "specversion": "1.0"}
    return {**whole, **attributes, "data": data}


def run(script: Script, **component: Any) -> None:
    """Run a script against a broker whose default component is as asked for."""

    async def work() -> None:
        config = ComponentConfig(name="pubsub", store="memory:", **component)
        broker = Broker(Config(port=0, store=None, components=(config,), grace_seconds=0))
        url = await broker.start()
        try:
            async with asyncio.timeout(SECONDS):
                await script(broker, url)
        finally:
            await broker.stop()

    uvloop.run(work())


def actor(bus: LocalBus) -> InstanceActor:
    assert bus._ref is not None
    found = actor_of(bus._ref)
    assert isinstance(found, InstanceActor)
    return found


async def told(bus: actorbus.Bus, topic: str, publish: Awaitable[Any], count: int) -> list[Any]:
    """The data of what a subscriber gets of a publish."""
    async with bus.subscribe(topic) as deliveries:
        await publish
        found = []
        for _ in range(count):
            delivery = await anext(deliveries)
            await delivery.ack()
            found.append(delivery.data)
        return found


def test_it_offers_what_the_clients_bus_offers() -> None:
    for name in ("publish", "publish_many", "close"):
        ours = inspect.signature(getattr(LocalBus, name)).parameters
        assert ours.keys() == inspect.signature(getattr(PublishingBus, name)).parameters.keys()
        assert ours.keys() <= inspect.signature(getattr(actorbus.Bus, name)).parameters.keys()


def test_an_event_reaches_a_subscriber_unchanged() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        connection = actorbus.connect(url, app_id="reader")
        async with connection as reader, reader.subscribe("t") as deliveries:
            assert await bus.publish("t", event=event({"n": 1}, x="y")) == "1"
            delivery = await anext(deliveries)
            assert delivery.event == event({"n": 1}, x="y")
            await delivery.ack()
        await bus.close()

    run(script)


@contextmanager
def messages() -> Iterator[list[list[int]]]:
    """The data of each message that an actor gets, as long as the context lasts."""
    seen: list[list[int]] = []
    original = InstanceActor._on_encoded

    def count(self: InstanceActor, message: Any) -> None:
        seen.append([decode(one)["data"] for one in message.events])
        original(self, message)

    instance._HANDLERS[Encoded] = count
    try:
        yield seen
    finally:
        instance._HANDLERS[Encoded] = original


def test_events_keep_their_order_and_share_a_message() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")

        async def publish() -> None:
            await asyncio.gather(*(bus.publish("t", event=event(n)) for n in range(16)))

        with messages() as seen:
            async with actorbus.connect(url, app_id="reader") as reader:
                assert await told(reader, "t", publish(), 16) == list(range(16))
        assert seen == [list(range(16))]
        await bus.close()

    run(script)


class SlowAppends:
    """Appends of a store that wait until they are let go, in order."""

    def __init__(self, store: Any) -> None:
        self.append = store.append
        self.waiting: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self.sizes: list[int] = []
        store.append = self.hold

    def hold(self, *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sizes.append(len(arguments[1]))
        self.waiting.put_nowait(lambda: future.set_result(self.append(*arguments).result()))
        return future

    async def let_go(self) -> None:
        (await self.waiting.get())()


def test_what_is_published_while_a_message_is_under_way_shares_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_bus, "LINGER_SECONDS", 2 * SECONDS)

    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        store = SlowAppends(broker.supervisor.store)
        with messages() as seen:
            publishes = []
            for n in range(5):
                publishes.append(asyncio.create_task(bus.publish("t", event=event(n))))
                await turns(10)
            assert seen == [[0]]
            await store.let_go()
            assert await publishes[0] == "1"
            assert seen == [[0], [1, 2, 3, 4]]
            await store.let_go()
            await asyncio.gather(*publishes)
        await bus.close()

    run(script)


def test_callers_that_are_in_step_fall_into_two_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_bus, "LINGER_SECONDS", 2 * SECONDS)

    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        store = SlowAppends(broker.supervisor.store)

        async def caller() -> None:
            for n in range(4):
                await bus.publish("t", event=event(n))

        callers = asyncio.gather(*(caller() for _ in range(100)))
        for _ in range(8):
            await store.let_go()
        await callers
        assert store.sizes == [64, 36, 64, 36, 64, 36, 64, 36]  # whole messages of 16
        await bus.close()

    run(script)


def test_a_message_that_hangs_holds_up_the_others_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        store = SlowAppends(broker.supervisor.store)
        hanging = asyncio.create_task(bus.publish("hangs", event=event()))
        await until(lambda: store.waiting.qsize() == 1)
        let_hanging_go = store.waiting.get_nowait()
        first = asyncio.create_task(bus.publish("t", event=event()))
        await store.let_go()
        assert await first == "1"
        monkeypatch.setattr(local_bus, "LINGER_SECONDS", 2 * SECONDS)
        for _ in range(3):
            next_one = asyncio.create_task(bus.publish("t", event=event()))
            await store.let_go()
            assert await next_one == "1"
        let_hanging_go()
        assert await hanging == "1"
        await bus.close()

    run(script)


def test_all_that_waits_goes_once_a_message_hangs() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        store = SlowAppends(broker.supervisor.store)
        publishes = [asyncio.create_task(bus.publish("hangs", event=event()))]
        await until(lambda: store.waiting.qsize() == 1)
        publishes += [asyncio.create_task(bus.publish(f"t{n}", event=event())) for n in range(64)]
        await until(lambda: store.waiting.qsize() == 65)
        for _ in publishes:
            await store.let_go()
        await asyncio.gather(*publishes)
        await bus.close()

    run(script)


def test_many_events_go_in_order() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        events = [event(n, id=str(n)) for n in range(1500)]
        async with actorbus.connect(url, app_id="reader") as reader:
            publish = bus.publish_many("t", events=events)
            assert await told(reader, "t", publish, 1500) == list(range(1500))
        await bus.close()

    run(script)


def test_an_event_that_breaks_a_rule_is_refused_and_counted() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        with pytest.raises(InvalidEventError, match="'X'"):
            await bus.publish("t", event=event(X=1))
        with pytest.raises(InvalidEventError):
            await bus.publish_many("t", events=[event(), event(type="")])
        with pytest.raises(InvalidEventError) as caught:
            await bus.publish("t", event=event("x" * 5_000_000))
        assert caught.value.code == "too_large"
        assert broker.supervisor.counters.refused == {"invalid_event": 2, "too_large": 1}
        await bus.close()

    run(script)


def test_what_is_no_topic_is_refused() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        with pytest.raises(RefusedError) as caught:
            await bus.publish("a b", event=event())
        assert caught.value.code == "invalid_name"
        await bus.close()

    run(script)


def test_scopes_hold() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        with pytest.raises(RefusedError, match="topic t is not allowed for app id shop") as caught:
            await bus.publish("t", event=event())
        assert caught.value.code == "forbidden"
        await bus.publish("u", event=event())
        with pytest.raises(RefusedError, match="not for app ID bank"):
            broker.open_bus("pubsub", "bank")
        await bus.close()

    policy = Policy(access=Access(allowed=frozenset({"u"})))
    run(script, policy=policy, scopes=frozenset({"shop"}))


def test_an_event_expires_after_its_time_or_the_components() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        async with actorbus.connect(url, app_id="reader") as reader:
            async with reader.subscribe("t"):
                pass
            await bus.publish("t", event=event("short"), ttl=0.001)
            await bus.publish("t", event=event("long"), ttl=60)
            await bus.publish("t", event=event("default"))
            await asyncio.sleep(0.05)  # what must have expired by then
            async with reader.subscribe("t") as deliveries:
                assert (await anext(deliveries)).data == "long"
        await bus.close()

    run(script, policy=Policy(ttl_ms=1))


def test_a_broker_that_is_full_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        budget = broker.supervisor.topic_budget("t")
        budget.add(budget.limit)
        publish = asyncio.create_task(bus.publish("t", event=event()))
        await until(lambda: bool(broker.supervisor.counters.refused))
        budget.release(budget.limit)
        assert await publish == "1"
        await bus.close()

    run(script)


def test_a_publish_that_is_never_taken_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_bus, "PUBLISH_SECONDS", 0.05)

    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        budget = broker.supervisor.topic_budget("t")
        budget.add(budget.limit)
        with pytest.raises(UnavailableError):
            await bus.publish("t", event=event())
        budget.release(budget.limit)
        await bus.close()

    run(script)


def test_what_a_failed_actor_left_unanswered_is_published_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_bus, "RECONNECT", (0.01, 0.01))

    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        first = actor(bus)

        def fail(_: object) -> None:
            raise ValueError

        first.on_receive = fail  # type: ignore[method-assign,assignment]
        async with actorbus.connect(url, app_id="reader") as reader:
            assert await told(reader, "t", bus.publish("t", event=event(7)), 1) == [7]
        assert actor(bus) is not first
        assert broker.supervisor.counters.restarts == {"instance": 1}
        await bus.close()

    run(script)


def test_a_bus_whose_actor_has_ended_finds_out_with_the_next_publish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_bus, "RECONNECT", (0.01, 0.01))

    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        actor(bus).stop()
        assert await bus.publish("t", event=event()) == "1"
        assert bus.connected
        await bus.close()

    run(script)


def test_a_close_waits_for_answers_and_gives_the_connection_back() -> None:
    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        assert broker.supervisor.counters.connected == 1
        publish = asyncio.create_task(bus.publish("t", event=event()))
        await asyncio.sleep(0)
        await bus.close()
        assert await publish == "1"
        assert not bus.connected
        await asyncio.sleep(0)
        assert broker.supervisor.counters.connected == 0
        await bus.close()
        with pytest.raises(ConnectionLostError):
            await bus.publish("t", event=event())

    run(script)


def test_a_close_gives_up_what_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_bus, "CLOSE_SECONDS", 0.01)

    async def script(broker: Broker, url: str) -> None:
        bus = broker.open_bus("pubsub", "shop")
        budget = broker.supervisor.topic_budget("t")
        budget.add(budget.limit)
        publish = asyncio.create_task(bus.publish("t", event=event()))
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(ConnectionLostError):
            await publish
        budget.release(budget.limit)

    run(script)
