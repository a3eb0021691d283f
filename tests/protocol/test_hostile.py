"""Frames that break a naive broker: each gets its code or close, and the groups go on."""

import contextlib
import json
from typing import Any

import msgpack
import pytest
from websockets.exceptions import ConnectionClosed

from tests.protocol.harness import Peer, Player, Stage


def nested(depth: int) -> Any:
    """An array in an array, so deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def publish_of(event: bytes) -> bytes:
    """A MessagePack publish frame with an event of raw bytes between two good ones."""
    good = msgpack.packb({"data": "good"})
    head = msgpack.packb({"type": "publish", "topic": "orders", "ref": 1, "events": []})
    return b"".join((head[:-1], b"\x93", good, event, good))


def data_of(value: bytes) -> bytes:
    """An EVENT map with data of raw bytes."""
    return b"\x81\xa4data" + value


BAD_EVENTS = {
    "bytes inside a map": data_of(b"\x81\xa1k\xc4\x01\xff"),
    "bytes inside an array": data_of(b"\x91\xc4\x01\xff"),
    "nan": data_of(msgpack.packb(float("nan"))),
    "infinity": data_of(msgpack.packb(float("-inf"))),
    "nan inside a map": data_of(msgpack.packb({"k": float("nan")})),
    "65 levels deep": data_of(msgpack.packb(nested(65))),
    "integer keys": data_of(msgpack.packb({1: 2})),
    "nil key": data_of(b"\x81\xc0\x01"),
    "ext type": data_of(msgpack.packb(msgpack.ExtType(5, b"x"))),
    "timestamp": data_of(msgpack.packb(msgpack.Timestamp(1))),
    "not a map": b"\xc3",
    "attribute name not text": b"\x81\x01\x02",
    "control characters in an attribute": msgpack.packb({"data": 1, "subject": "a\x00b"}),
    "integer attribute of 64 bits": msgpack.packb({"data": 1, "ext": 2**40}),
}

UNDECODABLE = {
    "invalid utf-8": publish_of(data_of(b"\xa2\xff\xfe")),
    "invalid utf-8 in a key": publish_of(data_of(b"\x81\xa1\xff\x01")),
    "lone surrogate": publish_of(data_of(b"\xa3\xed\xa0\x80")),
    "reserved byte": b"\xc1",
    "cut short": msgpack.packb({"type": "drain", "ref": 1})[:-1],
    "more behind it": msgpack.packb({"type": "drain"}) + b"\x01",
    "not a map": b"\x93\x01\x02\x03",
    "nil": b"\xc0",
    "empty": b"",
    "array of 2^32": b"\xdd\xff\xff\xff\xff",
    "2000 levels deep": b"\x91" * 2000 + b"\x01",
}


async def binary_app(stage: Stage) -> Peer:
    peer = await stage.app("billing", encoding="msgpack")
    await peer.subscribe("orders")
    return peer


async def readers(stage: Stage) -> list[Peer]:
    """A reader of the same topic in each encoding, in groups of their own."""
    found = []
    for encoding in ("json", "msgpack"):
        peer = await stage.app(f"reader-{encoding}", encoding=encoding)
        await peer.subscribe("orders")
        found.append(peer)
    return found


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_a_hostile_event_is_refused_alone_and_both_encodings_go_on(
    play_once: Player, name: str
) -> None:
    async def script(stage: Stage) -> None:
        peer = await binary_app(stage)
        others = await readers(stage)
        await peer.raw(publish_of(BAD_EVENTS[name]))
        answer = await peer.answer(1)
        assert answer["type"] == "published", answer
        assert [error["index"] for error in answer["errors"]] == [1]
        assert answer["errors"][0]["code"] == "invalid_event"
        for one in (peer, *others):
            got = await one.deliveries(2)
            assert [delivery["event"]["data"] for delivery in got] == ["good", "good"]
            assert await one.ack(*got) == []
            await one.no_delivery()
        await stage.works(topic="orders")

    play_once(script)


@pytest.mark.parametrize("name", UNDECODABLE)
def test_an_undecodable_message_closes_its_connection_alone(play_once: Player, name: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await binary_app(stage)
        others = await readers(stage)
        await peer.raw(UNDECODABLE[name])
        assert await peer.closed() == 1007
        for one in others:
            await one.no_delivery()
        await stage.works(topic="orders")

    play_once(script)


JSON_BAD = {
    "int past 64 bits": "18446744073709551616",
    "int below 64 bits": "-9223372036854775809",
    "65 levels deep": "[" * 65 + "]" * 65,
}


@pytest.mark.parametrize("name", JSON_BAD)
def test_hostile_json_data_is_refused_alone(play_once: Player, name: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", encoding="json")
        others = await readers(stage)
        events = '[{"data":"good"},{"data":' + JSON_BAD[name] + '},{"data":"good"}]'
        await peer.raw('{"type":"publish","topic":"orders","ref":1,"events":' + events + "}")
        answer = await peer.answer(1)
        assert [error["code"] for error in answer["errors"]] == ["invalid_event"]
        assert answer["errors"][0]["index"] == 1
        for one in others:
            assert len(await one.deliveries(2)) == 2
            await one.no_delivery()
        await stage.works(topic="orders")

    play_once(script)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "1e400",
        "-Infinity",
        '"\\ud800"',
        '{"\\udc00":1}',
        "[1,]",
        "01",
        "\u0001",
        "[" * 5000 + "]" * 5000,
    ],
)
def test_json_that_is_no_json_closes_with_1007(play_once: Player, text: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", encoding="json")
        await peer.raw('{"type":"publish","topic":"orders","ref":1,"data":' + text + "}")
        assert await peer.closed() == 1007
        await stage.works()

    play_once(script)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '"hello"', "{", "{}x", "\ufeff{}"])
def test_a_json_message_that_is_no_map_closes_with_1007(play_once: Player, text: str) -> None:
    async def script(stage: Stage) -> None:
        before, after = await stage.open(), await stage.app("billing")
        for peer in (before, after):
            await peer.raw(text)
            assert await peer.closed() == 1007
        await stage.works()

    play_once(script)


def test_invalid_utf8_in_a_text_message_closes_with_1007(play_once: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing", encoding="json")
        await peer.socket.send(b'{"type":"drain","ref":"\xff"}', text=True)
        assert await peer.closed() == 1007
        await stage.works()

    play_once(script)


@pytest.mark.parametrize("said_hello", [True, False])
def test_the_wrong_message_kind_closes_with_1003(play: Player, said_hello: bool) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        if said_hello:
            await peer.hello("billing")
        hello = {"type": "hello", "app_id": "billing"}
        wrong = json.dumps(hello) if stage.encoding == "msgpack" else msgpack.packb(hello)
        await peer.raw(wrong)
        assert await peer.closed() == 1003
        await stage.works()

    play(script)


def test_a_message_over_frame_bytes_closes_with_1009(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        with contextlib.suppress(ConnectionClosed):  # it may be closed with half of it sent
            await peer.send("publish", topic="orders", data="x" * 8_388_608)
        assert await peer.closed() == 1009
        assert (await (await stage.app("x")).ask("inspect"))["topics"] == []
        await stage.works()

    play(script)


def test_a_message_of_exactly_frame_bytes_is_taken(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        padding = 8_388_608 - len(peer.encode({"type": "inspect", "ref": 1, "x": "x" * 70_000}))
        message = peer.encode({"type": "inspect", "ref": 1, "x": "x" * (70_000 + padding)})
        assert len(message) == 8_388_608
        await peer.raw(message)
        assert (await peer.answer(1))["type"] == "inspected"

    play(script)


def test_a_message_in_fragments_is_one_frame(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        whole = peer.encode({"type": "publish", "topic": "orders", "data": "é", "ref": 1})
        await peer.socket.send([whole[place : place + 1] for place in range(len(whole))])
        assert (await peer.answer(1))["type"] == "published"

    play(script)


FRAMING = {
    "unmasked": (b"\x81\x02{}", 1002),
    "reserved bit": (b"\xc1\x80" + bytes(4), 1002),
    "unknown opcode": (b"\x83\x80" + bytes(4), 1002),
    "nothing to continue": (b"\x80\x80" + bytes(4), 1002),
    "ping of 126 bytes": (b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),
    "close code 1005": (b"\x88\x82" + bytes(4) + b"\x03\xed", 1002),
    "2^62 bytes": (b"\x81\xff\x3f" + b"\xff" * 7 + bytes(4), 1009),
}


@pytest.mark.parametrize("name", FRAMING)
def test_what_breaks_the_rules_of_websocket_closes_alone(play_once: Player, name: str) -> None:
    async def script(stage: Stage) -> None:
        sent, code = FRAMING[name]
        peer = await stage.app("billing")
        peer.socket.transport.write(sent)
        assert await peer.closed() == code
        await stage.works()

    play_once(script)


def test_the_last_of_two_keys_counts(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("second")
        if stage.encoding == "json":
            await peer.raw('{"type":"publish","topic":"first","topic":"second","ref":1,"data":1}')
        else:
            pairs = [("type", "publish"), ("topic", "first"), ("topic", "second"), ("data", 1)]
            packed = [msgpack.packb(part) for pair in [*pairs, ("ref", 1)] for part in pair]
            await peer.raw(b"\x85" + b"".join(packed))
        assert (await peer.answer(1))["groups"] == 1
        assert (await peer.delivery())["event"]["data"] == 1

    play(script)


def test_many_ids_in_one_ack_are_malformed(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        ids = list(range(0, 131_072, 2))
        assert (await peer.ask("ack", ids=ids[:65_535]))["stale"] == ids[:65_535]
        for kind in ("ack", "extend"):
            assert (await peer.ask(kind, ids=ids))["code"] == "malformed"

    play(script)


@pytest.mark.parametrize(
    "ref", ["x" * 65, "é" * 33, 2**53 + 1, -(2**53) - 1, 1.5, [], {}, True, None]
)
def test_a_bad_ref_is_malformed_and_answered_without_it(play: Player, ref: object) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        for kind in ("drain", "publish", "ack", "nonsense", "hello"):
            await peer.send(kind, ref=ref, topic="orders", data=1, ids=[])
            await peer.error("malformed")
        assert (await peer.ask("inspect"))["topics"] == []

    play(script)


@pytest.mark.parametrize("ref", ["", "x" * 64, "é" * 32, 2**53, -(2**53), 0])
def test_a_good_ref_is_echoed(play: Player, ref: str | int) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.send("publish", topic="orders", data=1, ref=ref)
        assert (await peer.answer(ref))["type"] == "published"
        await peer.send("publish", topic="orders", ref=ref)
        assert (await peer.answer(ref))["code"] == "malformed"

    play(script)


@pytest.mark.parametrize("kind", ["nonsense", "welcome", "deliver", "Publish", ""])
def test_an_unknown_type_gets_its_code(play: Player, kind: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        assert (await peer.ask(kind))["code"] == "unknown_type"
        await peer.send(kind)
        await peer.error("unknown_type")

    play(script)


@pytest.mark.parametrize("kind", [5, None, ["publish"], {}])
def test_a_type_that_is_no_text_is_malformed(play: Player, kind: object) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.raw(peer.encode({"type": kind, "ref": 1}))
        assert (await peer.answer(1))["code"] == "malformed"
        await peer.raw(peer.encode({"ref": 2}))
        assert (await peer.answer(2))["code"] == "malformed"

    play(script)


def test_unknown_keys_of_a_frame_are_ignored(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        await peer.hello("billing", colour="red", lease={"x": [1]})
        answer = await peer.ask("subscribe", topic="orders", colour="red")
        assert answer["type"] == "subscribed"
        assert (await peer.ask("publish", topic="orders", data=1, colour=5))["type"] == "published"
        await peer.send("ack", ids=[(await peer.delivery())["id"]], colour=None, ref=1)
        assert (await peer.answer(1))["stale"] == []

    play(script)


def test_deliveries_that_would_outgrow_a_frame_are_split(play: Player) -> None:
    async def script(stage: Stage) -> None:
        reader = await stage.open()
        limits = (await reader.hello("billing"))["limits"]
        assert limits["event_bytes"] <= limits["frame_bytes"] // 8
        reader.socket.protocol.max_message_size = limits["frame_bytes"]
        publisher = await stage.app("shop", encoding="msgpack")
        await reader.subscribe("orders")
        await reader.send("flow", max_in_flight=0)
        data = "\x01" * 340_000  # six bytes each in JSON: two megabytes
        for _ in range(3):
            await publisher.ask(
                "publish", topic="orders", events=[{"data": data} for _ in range(3)]
            )
        await reader.send("flow", max_in_flight=100)
        got = await reader.deliveries(9)
        assert [one["event"]["data"] == data for one in got] == [True] * 9
        ids = [one["id"] for one in got]
        assert ids == list(range(ids[0], ids[0] + 9))
        assert await reader.ack(*got) == []

    play(script)


def test_a_peer_that_vanishes_at_any_point_leaves_no_traceback(play: Player) -> None:
    async def script(stage: Stage) -> None:
        (await stage.open()).abort()
        for _ in range(3):
            peer = await stage.app("billing")
            await peer.subscribe("orders")
            await peer.send("publish", topic="orders", events=[{"data": "x" * 1000}] * 500)
            await peer.send("inspect", ref=5)
            await peer.send("unsubscribe", topic="orders", forget=True)
            peer.abort()
        await stage.works(topic="orders")

    play(script)
