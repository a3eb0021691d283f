"""`publish`: fields, answers, events refused one by one, order."""

from typing import Any

import pytest

from tests.protocol.harness import Player, Stage

FULL = {
    "specversion": "1.0",
    "id": "order-7",
    "source": "/shop",
    "type": "shop.order",
    "subject": "order",
    "time": "2024-05-01T12:00:00Z",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "datacontenttype": "application/json",
    "data": {"n": 7},
}


def test_published_names_ids_in_order_and_the_groups_reached(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.ask("publish", topic="orders", events=[{"data": 1}])
        assert answer["groups"] == 0
        await peer.subscribe("orders")
        other = await stage.app("stock")
        await other.subscribe("orders")
        answer = await peer.ask(
            "publish", topic="orders", events=[{"data": 1, "id": "a"}, {"data": 2}, {"id": "c"}]
        )
        assert answer["type"] == "published"
        assert (answer["ids"][0], answer["ids"][2]) == ("a", "c")
        assert answer["groups"] == 2
        assert "errors" not in answer
        for reader in (peer, other):
            got = await reader.deliveries(3)
            assert [one["event"]["id"] for one in got] == answer["ids"]
            assert {(one["topic"], one["lease_ms"], one["attempt"]) for one in got} == {
                ("orders", 30_000, 1)
            }

    play_stores(script)


def test_data_is_short_for_one_event(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        values: list[Any] = [{"n": 1}, "text", None, 2**64 - 1, -(2**63), 1.5, [], False]
        for data in values:
            answer = await peer.ask("publish", topic="orders", data=data)
            assert len(answer["ids"]) == 1
            delivery = await peer.delivery()
            assert delivery["event"]["data"] == data
            assert type(delivery["event"]["data"]) is type(data)

    play(script)


def test_a_wrapped_event_has_exactly_these_attributes(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        (first, second) = await peer.publish("orders", {"n": 1}, "text")
        events = [one["event"] for one in await peer.deliveries(2)]
        common = {"source": "billing", "type": "com.dapr.event.sent", "specversion": "0.3"}
        assert events == [
            {**common, "id": first, "datacontenttype": "application/json", "data": {"n": 1}},
            {**common, "id": second, "datacontenttype": "text/plain", "data": "text"},
        ]

    play(script)


def test_the_configured_version_is_wrapped(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1)
        assert (await peer.delivery())["event"]["specversion"] == "1.0"

    play(script, specversion="1.0")


@pytest.mark.parametrize("version", ["0.3", "1.0"])
def test_binary_data_arrives_as_its_encoding_carries_it(play: Player, version: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        data = bytes(range(256))
        await peer.ask("publish", topic="orders", events=[peer.binary_event(data)])
        event = (await peer.delivery())["event"]
        assert event["datacontenttype"] == "application/octet-stream"
        assert peer.binary_of(event) == data

    play(script, specversion=version)


def test_what_one_encoding_publishes_the_other_reads(play: Player) -> None:
    async def script(stage: Stage) -> None:
        publisher = await stage.app("shop")
        reader = await stage.app("billing", encoding="json")
        binary = await stage.app("stock", encoding="msgpack")
        for peer in (reader, binary):
            await peer.subscribe("orders")
        events = [publisher.binary_event(b"\xff\x00"), {"data": {"é": [1, None, 0.5]}}, FULL]
        await publisher.ask("publish", topic="orders", events=events)
        for peer in (reader, binary):
            first, second, third = [one["event"] for one in await peer.deliveries(3)]
            assert peer.binary_of(first) == b"\xff\x00"
            assert second["data"] == {"é": [1, None, 0.5]}
            assert third == FULL

    play(script)


def test_a_complete_event_passes_unchanged(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        old = {"specversion": "0.3", "id": "1", "source": "s", "type": "t", "data": "x", "ext": 5}
        assert (await peer.ask("publish", topic="orders", events=[FULL, old]))["ids"] == [
            "order-7",
            "1",
        ]
        assert [one["event"] for one in await peer.deliveries(2)] == [FULL, old]

    play(script)


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"data": 1, "no valid name": "x"}, "no valid name"),
        ({"data": 1, "data_base64": "eA=="}, "data"),
        ({"data_base64": "not base64!"}, "data_base64"),
        ({"data": 1, "ext": [1]}, "ext"),
        ({"data": 1, "id": ""}, "id"),
        ({"specversion": "1.0", "id": "1", "source": "s"}, "type"),
        ({"specversion": "0.3", "id": "1", "type": "s"}, "source"),
        ({"specversion": "2.0", "id": "1", "type": "s", "source": "s"}, "specversion"),
        (7, "event"),
        (None, "event"),
    ],
)
def test_an_invalid_event_is_refused_alone_and_named(play: Player, event: Any, named: str) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        answer = await peer.ask("publish", topic="orders", events=[{"data": 1}, event, {"data": 3}])
        assert answer["type"] == "published"
        assert [identifier is None for identifier in answer["ids"]] == [False, True, False]
        (error,) = answer["errors"]
        assert (error["index"], error["code"]) == (1, "invalid_event")
        assert named in error["message"]
        assert [one["event"]["data"] for one in await peer.deliveries(2)] == [1, 3]
        await peer.no_delivery()

    play(script)


def test_published_stands_even_when_all_events_are_refused(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.ask("publish", topic="orders", events=[{"id": ""}, {"id": 1}])
        assert answer["type"] == "published"
        assert answer["ids"] == [None, None]
        assert [error["index"] for error in answer["errors"]] == [0, 1]

    play(script)


def test_an_event_over_event_bytes_is_too_large_alone(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        events = [{"data": "x" * 1_048_576}, {"data": "x" * 1_040_000}]
        answer = await peer.ask("publish", topic="orders", events=events)
        assert [error["code"] for error in answer["errors"]] == ["too_large"]
        assert answer["ids"][0] is None
        assert (await peer.delivery())["event"]["data"] == events[1]["data"]

    play(script)


def test_more_than_batch_events_is_too_large_as_a_whole(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        answer = await peer.ask("publish", topic="orders", events=[{"data": 1}] * 1001)
        assert (answer["type"], answer["code"]) == ("error", "too_large")
        assert answer["retryable"] is False
        answer = await peer.ask("publish", topic="orders", events=[{"data": 1}] * 1000)
        assert len(set(answer["ids"])) == 1000
        await peer.deliveries(256)
        await peer.no_delivery()

    play(script)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": "t"}, "malformed"),
        ({"topic": "t", "events": [{"data": 1}], "data": 1}, "malformed"),
        ({"topic": "t", "events": []}, "malformed"),
        ({"topic": "t", "events": {"data": 1}}, "malformed"),
        ({"topic": "t", "events": None}, "malformed"),
        ({"data": 1}, "malformed"),
        ({"topic": 5, "data": 1}, "malformed"),
        ({"topic": "", "data": 1}, "invalid_name"),
        ({"topic": "a b", "data": 1}, "invalid_name"),
        ({"topic": "a+b", "data": 1}, "invalid_name"),
        ({"topic": "amq.x", "data": 1}, "invalid_name"),
        ({"topic": "t" * 121, "data": 1}, "invalid_name"),
        ({"topic": "t", "data": 1, "ttl_ms": 0}, "malformed"),
        ({"topic": "t", "data": 1, "ttl_ms": 2**53 + 1}, "malformed"),
        ({"topic": "t", "data": 1, "ttl_ms": 1.5}, "malformed"),
        ({"topic": "t", "data": 1, "ttl_ms": "5"}, "malformed"),
    ],
)
def test_a_wrong_frame_gets_its_code_and_the_connection_stays(
    play: Player, fields: dict[str, Any], code: str
) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        answer = await peer.ask("publish", **fields)
        assert (answer["type"], answer["code"], answer["retryable"]) == ("error", code, False)
        await peer.send("publish", **fields)
        await peer.error(code)
        assert (await peer.ask("inspect"))["topics"] == []

    play(script)


def test_without_ref_only_failures_are_answered(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.send("publish", topic="orders", data=1)
        await peer.send("publish", topic="orders", events=[{"data": 2}, {"id": ""}])
        await peer.error("invalid_event")
        assert [one["event"]["data"] for one in await peer.deliveries(2)] == [1, 2]
        assert not peer._waiting

    play(script)


def test_first_attempts_go_out_in_publish_order(play_stores: Player) -> None:
    async def script(stage: Stage) -> None:
        publisher, reader = await stage.app("shop"), await stage.app("billing", max_in_flight=900)
        await reader.subscribe("orders")
        for start in range(0, 600, 6):
            await publisher.send(
                "publish",
                topic="orders",
                events=[{"data": start + more} for more in range(6)],
                ref=start,
            )
        got = [one["event"]["data"] for one in await reader.deliveries(600)]
        assert got == list(range(600))
        answers = [await publisher.answer(start) for start in range(0, 600, 6)]
        assert {answer["type"] for answer in answers} == {"published"}

    play_stores(script)


def test_event_ids_are_unique_over_connections(play: Player) -> None:
    async def script(stage: Stage) -> None:
        ids: list[str] = []
        for _ in range(3):
            ids += await (await stage.app("billing")).publish("orders", *range(100))
        assert len(set(ids)) == 300

    play(script)


def test_large_events_go_on_as_they_are_read_though_none_is_settled(play: Player) -> None:
    """More of them than a connection may have unsent at once: it is told of room each time."""

    async def script(stage: Stage) -> None:
        publisher = await stage.app("shop", encoding="msgpack")
        reader = await stage.open(encoding=stage.encoding)
        await reader.hello("billing", max_in_flight=0)
        await reader.subscribe("orders")
        data = "x" * 900_000
        for _ in range(30):
            await publisher.publish("orders", data)
        await reader.send("flow", max_in_flight=256)
        deliveries = await reader.deliveries(30)
        assert [one["event"]["data"] == data for one in deliveries] == [True] * 30

    play(script)


def test_the_largest_events_pass_one_by_one(play: Player) -> None:
    """JSON escapes grow them sixfold: each deliver frame must still be within the limit."""

    async def script(stage: Stage) -> None:
        publisher = await stage.app("shop", encoding="msgpack")
        reader = await stage.open(encoding=stage.encoding)
        frame_bytes = (await reader.hello("billing"))["limits"]["frame_bytes"]
        reader.socket.protocol.max_message_size = frame_bytes
        await reader.subscribe("orders")
        data = "\x01" * 1_040_000
        for number in range(4):
            await publisher.send("publish", topic="orders", data=data, ref=number)
        for delivery in await reader.deliveries(4):
            assert delivery["event"]["data"] == data

    play(script)
