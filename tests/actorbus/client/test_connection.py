"""Connecting, reconnecting and asking, against a broker that says what it is told to."""

import asyncio
import sys
from typing import Any

import pytest

from actorbus import (
    ConnectionLostError,
    ErrorCode,
    RefusedError,
    UnavailableError,
    connect,
)
from actorbus.client import link
from actorbus.client.handshake import Hello, UnreachableError
from tests.actorbus.client.fake_broker import (
    FakeBroker,
    connected,
    run,
    subscribed,
    take,
    turns,
    until,
)


def test_hello_says_who_the_client_is() -> None:
    async def test() -> None:
        async with (
            FakeBroker() as broker,
            connected(broker, instance="one", token="s3cret", max_in_flight=0) as (_, peer),
        ):
            assert peer.hello == {
                "type": "hello",
                "app_id": "app",
                "instance": "one",
                "token": "s3cret",
                "max_in_flight": 0,
            }

    run(test())


def test_a_token_is_in_no_repr() -> None:
    bus = connect(app_id="app", token="s3cret")
    assert "s3cret" not in repr(bus._settings) + repr(Hello("app", None, "s3cret"))


@pytest.mark.parametrize(
    ("encoding", "subprotocol", "kind"),
    [("msgpack", "actorbus.v1.msgpack", bytes), ("json", "actorbus.v1.json", str)],
)
def test_the_encoding_chooses_subprotocol_and_kind_of_message(
    encoding: str, subprotocol: str, kind: type
) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker, encoding=encoding) as (bus, peer):
            assert peer.socket.subprotocol == subprotocol
            await bus.flow(3)
            assert isinstance(await peer.socket.recv(), kind)

    run(test())


@pytest.mark.parametrize(
    "arguments",
    [
        {"app_id": "no name"},
        {"instance": ""},
        {"max_in_flight": 65_536},
        {"max_in_flight": True},
        {"encoding": "xml"},
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(arguments: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        connect(**{"app_id": "app", **arguments})


@pytest.mark.parametrize("code", ["unauthorized", "forbidden", "invalid_name"])
def test_a_refused_hello_raises_its_code(code: str) -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            entering = asyncio.ensure_future(connect(broker.url, app_id="app").__aenter__())
            await (await broker.peer()).refuse("hello", code)
            with pytest.raises(RefusedError) as caught:
                await entering
            assert caught.value.code == code

    run(test())


def test_a_close_that_names_unauthorized_is_a_refusal() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            entering = asyncio.ensure_future(connect(broker.url, app_id="app").__aenter__())
            await (await broker.peer()).socket.close(1008, "unauthorized")
            with pytest.raises(RefusedError, match="unauthorized"):
                await entering

    run(test())


def test_nobody_there_is_one_clear_error() -> None:
    async def test() -> None:
        with pytest.raises(UnreachableError, match=r"no broker answers at ws://127\.0\.0\.1:1/v1"):
            await connect("ws://127.0.0.1:1/v1", app_id="app").__aenter__()

    run(test())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/v1",
        "nonsense",
        "ws://",
        "ws://[::1",
        "ws://127.0.0.1:99999/v1",
        "ws://127.0.0.1:port/v1",
        "ws://a..b/v1",
    ],
)
def test_a_url_that_makes_no_sense_is_one_clear_error(url: str) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionLostError, match="is no WebSocket URL"):
            await connect(url, app_id="app").__aenter__()

    run(test())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"url": None}, "url must be"),
        ({"url": ""}, "url must be"),
        ({"url": "ws://127.0.0.1\n:1/v1"}, "url must be"),
        ({"token": 5}, "token must be"),
        ({"token": "\ud800"}, "token must be"),
        ({"app_id": None}, "app_id must be"),
        ({"instance": ""}, "instance must be"),
        ({"encoding": "xml"}, "encoding must be"),
        ({"max_in_flight": -1}, "max_in_flight must be"),
        ({"connect_timeout": 0}, "connect_timeout must be"),
        ({"publish_timeout": float("nan")}, "publish_timeout must be"),
        ({"request_timeout": None}, "request_timeout must be"),
        ({"close_timeout": -1}, "close_timeout must be"),
        ({"wait_for_broker": "long"}, "wait_for_broker must be"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_at_once(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(RefusedError, match=said):
        connect(**{"app_id": "app", **arguments})


def test_an_error_shows_no_password_of_the_url() -> None:
    async def test() -> None:
        with pytest.raises(UnreachableError, match=r"at ws://127\.0\.0\.1:1/v1 "):
            await connect("ws://me:s3cret@127.0.0.1:1/v1", app_id="app").__aenter__()

    run(test())


def test_a_proxy_that_cannot_be_used_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionLostError, match=r"the proxy for ws://broker\.invalid/v1"):
            await connect("ws://broker.invalid/v1", app_id="app").__aenter__()

    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.setenv("SOCKS_PROXY", "socks5://127.0.0.1:1")
    run(test())


def test_a_broker_that_says_nothing_is_unreachable_after_the_timeout() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            with pytest.raises(UnreachableError, match=r"within 0\.1 s"):
                await connect(broker.url, app_id="app", connect_timeout=0.1).__aenter__()

    run(test())


def test_a_broker_that_comes_later_is_waited_for_if_asked() -> None:
    async def test() -> None:
        broker = FakeBroker()
        await broker.start()
        await broker.stop()
        async with asyncio.TaskGroup() as group:
            bus = connect(broker.url, app_id="app", wait_for_broker=5, close_timeout=0.1)
            entering = group.create_task(bus.__aenter__())
            await turns()
            await broker.start()
            await broker.greeted()
            await entering
            await bus.close()
            await broker.stop()

    run(test())


def test_a_bus_that_is_not_open_says_so() -> None:
    async def test() -> None:
        bus = connect(app_id="app")
        with pytest.raises(ConnectionLostError, match="use async with"):
            await bus.publish("t", 1)
        await bus.close()

    run(test())


def test_a_closed_bus_does_nothing_any_more() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            async with connected(broker) as (bus, _):
                pass
            for call in (bus.inspect, bus.drain, lambda: bus.flow(1), lambda: bus.forget("t")):
                with pytest.raises(ConnectionLostError, match="has closed"):
                    await call()
            with pytest.raises(ConnectionLostError, match="has closed"):
                await bus.subscribe("t").__aenter__()

    run(test())


def test_a_bus_closed_right_after_opening_says_goodbye() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            async with connected(broker) as (_, peer):
                pass
            await peer.closed()
            assert peer.socket.close_code == 1000

    run(test())


def test_a_refusal_at_a_reconnect_ends_the_bus_for_everyone() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            calls = asyncio.gather(
                bus.publish("t", 1),
                bus.inspect(),
                take(subscription, 1),
                bus.wait_closed(),
                return_exceptions=True,
            )
            await peer.expect("publish")
            peer.cut()
            await (await broker.peer()).refuse("hello", "unauthorized")
            assert [str(error) for error in await calls] == ["unauthorized: because"] * 4
            with pytest.raises(RefusedError, match="unauthorized"):
                await bus.publish("t", 2)
            with pytest.raises(RefusedError, match="unauthorized"):
                await bus.subscribe("other").__aenter__()

    run(test())


def test_a_broker_that_restarts_is_found_again() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            await broker.stop()
            call = asyncio.ensure_future(bus.publish("t", 1))
            await broker.start()
            await (await broker.greeted()).published()
            await call

    run(test())


def test_a_request_is_asked_again_on_the_next_connection() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.forget("t"))
            await peer.expect("unsubscribe")
            peer.cut()
            frame = await (await broker.greeted()).unsubscribed()
            assert (frame["topic"], frame["forget"]) == ("t", True)
            await call

    run(test())


def test_a_request_that_cannot_be_served_now_is_asked_again() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.forget("t"))
            await peer.refuse("unsubscribe", "store_unavailable", retryable=True)
            await peer.unsubscribed()
            await call

    run(test())


def test_a_request_that_is_never_served_fails_with_the_brokers_reason() -> None:
    async def test() -> None:
        async with (
            FakeBroker() as broker,
            connected(broker, request_timeout=0.2) as (bus, peer),
        ):
            call = asyncio.ensure_future(bus.forget("t"))
            await peer.refuse("unsubscribe", "store_unavailable", retryable=True)
            with pytest.raises(UnavailableError, match="store_unavailable"):
                await call
            with pytest.raises(UnavailableError, match="no answer to inspect"):
                await bus.inspect()

    run(test())


def test_a_refused_request_raises() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.forget("t"))
            await peer.refuse("unsubscribe", "in_use")
            with pytest.raises(RefusedError) as caught:
                await call
            assert caught.value.code == ErrorCode.IN_USE

    run(test())


def test_inspect_asks_for_every_page() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.inspect())
            asked = []
            for topic, following in (("a", "a"), ("b", None)):
                frame = await peer.expect("inspect")
                asked.append(frame.get("after"))
                await peer.send(
                    {
                        "type": "inspected",
                        "ref": frame["ref"],
                        "topics": [{"topic": topic, "published": 1, "groups": []}],
                        **({"next": following} if following else {}),
                    }
                )
            assert [status.topic for status in await call] == ["a", "b"]
            assert asked == [None, "a"]

    run(test())


def test_a_changed_window_outlives_the_connection() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            await bus.flow(5)
            assert await peer.expect("flow") == {"type": "flow", "max_in_flight": 5}
            peer.cut()
            assert (await broker.greeted()).hello["max_in_flight"] == 5
            with pytest.raises(RefusedError):
                await bus.flow(-1)

    run(test())


def test_draining_ends_iterations_once_the_broker_says_so() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            subscription = await subscribed(bus, peer)
            await peer.deliver("t", 1)
            draining = asyncio.ensure_future(bus.drain())
            frame = await peer.expect("drain")
            (delivery,) = await take(subscription, 1)
            await delivery.ack()
            await peer.expect("ack")
            assert not draining.done()
            await peer.send({"type": "drained", "ref": frame["ref"]})
            await draining
            assert [d async for d in subscription] == []

    run(test())


def test_frames_of_a_later_version_are_ignored() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            await peer.send({"type": "news", "of": "tomorrow"})
            await peer.error(None, "internal")
            await peer.error(4711, "internal")
            await peer.send({"type": "published", "ref": 4711, "ids": [], "groups": 0})
            call = asyncio.ensure_future(bus.publish("t", 1))
            await peer.published()
            await call

    run(test())


@pytest.mark.parametrize(
    "message",
    [b"\xc1", b"\x90", b"\x80", b"\x81\xa4type\xa7deliver", b"\x81\xa4type\xa5acked"],
    ids=["undecodable", "no map", "no type", "no topic", "no stale"],
)
def test_a_broken_frame_costs_the_connection_not_the_client(message: bytes) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            await peer.socket.send(message)
            second = await broker.greeted()
            call = asyncio.ensure_future(bus.publish("t", 1))
            await second.published()
            await call

    run(test())


def test_a_broker_that_stops_reading_is_left_for_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "SEND_SECONDS", 0.2)

    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            peer.socket.transport.pause_reading()
            call = asyncio.ensure_future(bus.publish_many("t", ["x" * 1_000_000] * 8))
            second = await broker.greeted()
            for _ in range(8):
                await second.published()
            assert len(await call) == 8
            peer.cut()

    run(test())


def test_a_bus_opens_once() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            with pytest.raises(ConnectionLostError, match="opens once"):
                await bus.__aenter__()

    run(test())


def test_closing_is_bounded_when_the_broker_answers_nothing() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            async with connected(broker, close_timeout=0.1) as (bus, peer):
                subscription = await subscribed(bus, peer)
                await peer.deliver("t", 1)
                (delivery,) = await take(subscription, 1)
                call = asyncio.ensure_future(bus.publish("t", 1))
                await asyncio.sleep(0)
                await delivery.ack()
            with pytest.raises(ConnectionLostError):
                await call

    run(test())


def test_closing_while_the_broker_is_away_ends_at_once() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            peer.cut()
            await broker.stop()
            await until(lambda: bus._opened().link is None)

    run(test())
