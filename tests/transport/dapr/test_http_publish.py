"""Publishing over Dapr's HTTP API, over real sockets."""

import asyncio
import json
from typing import Any

import pytest

from tests.transport.dapr.harness import DoorPlayer, House

PUBLISH = "/v1.0/publish/pubsub/orders"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_published_event_reaches_an_app_on_websocket(play: DoorPlayer, method: str) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        answer = await house.ask(method, PUBLISH, '{"n":1}', content_type="application/json")
        assert (answer.status, answer.body) == (204, b"")
        event = await reader.event()
        assert event["data"] == {"n": 1}
        assert (event["source"], event["specversion"]) == ("shop", "0.3")
        assert (event["topic"], event["pubsubname"]) == ("orders", "pubsub")

    play(script)


def test_the_envelopes_version_is_the_doors(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        await house.publish("x")
        assert (await reader.event())["specversion"] == "1.0"

    play(script, specversion="1.0")


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        (None, b"plain", "plain"),
        ("text/plain", b'{"n":1}', '{"n":1}'),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
        ("foo/bar", b"x", "x"),
    ],
)
def test_data_follow_the_content_type(
    play: DoorPlayer, content_type: str | None, body: bytes, data: Any
) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        headers = {} if content_type is None else {"content_type": content_type}
        await house.publish(body, **headers)
        event = await reader.event()
        assert event["data"] == data
        assert event["datacontenttype"] == (content_type or "text/plain")

    play(script)


def test_an_incoming_trace_travels_with_the_event(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        await house.publish("x", traceparent=PARENT, tracestate="vendor=1")
        event = await reader.event()
        assert event["traceparent"] == event["traceid"] == PARENT
        assert event["tracestate"] == "vendor=1"

    play(script)


def test_the_query_carries_metadata_and_the_first_of_a_name_counts(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        await house.publish("x", "?metadata.cloudevent.type=a%20b&metadata.cloudevent.type=c&x=y")
        assert (await reader.event())["type"] == "a b"

    play(script)


@pytest.mark.parametrize("name", ["priority", "routingKey", "delay", "partitionKey"])
def test_metadata_that_mean_nothing_here_are_ignored(play: DoorPlayer, name: str) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        await house.publish("x", f"?metadata.{name}=5")
        event = await reader.event()
        assert event["data"] == "x"
        assert name.lower() not in event

    play(script)


def test_a_star_is_no_topic_and_no_pattern_of_topics(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.ask("POST", "/v1.0/publish/pubsub/orders*", "x")
        assert (answer.status, answer.code) == (400, "ERR_PUBSUB_PUBLISH_MESSAGE")

    play(script)


def test_a_bare_question_mark_is_no_query(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        await house.publish("x", "?")

    play(script)


def test_a_raw_payload_reaches_an_app_on_websocket_as_bytes(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        await house.publish('{"n":1}', "?metadata.rawPayload=true", content_type="application/json")
        event = await reader.event()
        assert (event["data"], event["rawpayload"]) == (b'{"n":1}', True)

    play(script)


def test_an_expired_event_is_not_delivered(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        late = await house.reader("orders", app_id="late")
        del late  # its group has what it never read
        await house.publish("short", "?metadata.ttlInSeconds=1ms")
        await house.publish("long", "?metadata.ttlInSeconds=60")
        events = [await reader.event()]
        if events[0]["data"] == "short":  # delivered within its millisecond
            events.append(await reader.event())
        assert events[-1]["data"] == "long"

    play(script)


def test_an_event_of_ones_own_is_passed_on(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        own = {
            "specversion": "1.0",
            "id": "7",
            "source": "mine",
            "type": "t",
            "data": 1,
            "ext": "e",
        }
        await house.publish(json.dumps(own), content_type="application/cloudevents+json")
        event = await reader.event()
        assert {name: event[name] for name in own} == own

    play(script)


@pytest.mark.parametrize(
    ("body", "data", "content_type"),
    [('{"n":1}', {"n": 1}, "application/json"), ("no json", "no json", "text/plain")],
)
def test_the_early_form_finds_out_what_a_body_is(
    play: DoorPlayer, body: str, data: Any, content_type: str
) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        form = "application/x-www-form-urlencoded"  # what curl says
        answer = await house.post("/v1.0/publish/orders", body, content_type=form)
        assert answer.status == 204
        event = await reader.event()
        assert (event["data"], event["datacontenttype"]) == (data, content_type)

    play(script)


def test_the_early_form_passes_an_event_on(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        own = {"specversion": "0.3", "id": "7", "datacontenttype": "text/plain", "data": "x"}
        answer = await house.post("/v1.0/publish/orders", json.dumps(own))
        assert answer.status == 204
        event = await reader.event()
        assert (event["id"], event["data"], event["source"]) == ("7", "x", "Dapr")

    play(script)


def test_events_of_many_connections_are_all_there(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        await asyncio.gather(*(house.publish(str(number)) for number in range(100)))
        found = [(await reader.event())["data"] for _ in range(100)]
        assert sorted(map(int, found)) == list(range(100))

    play(script)
