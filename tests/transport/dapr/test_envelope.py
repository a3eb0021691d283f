"""Dapr's envelope."""

import re
import uuid
from typing import Any

import orjson
import pytest

from actorbus.events import EventEncoder, TemplatedEvent, decode
from transport.dapr import errors
from transport.dapr.envelope import Publish, now, wrap
from transport.dapr.errors import DaprError
from transport.dapr.trace import NO_TRACE, Trace

TRACE = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")


def event_of(
    data: bytes,
    content_type: str = "",
    metadata: dict[str, str] | None = None,
    *,
    trace: Trace = NO_TRACE,
    specversion: str = "1.0",
) -> dict[str, Any]:
    request = Publish("pubsub", "orders", data, content_type, metadata or {}, "shop", trace)
    event = dict(wrap(request, specversion).event)
    EventEncoder("shop").encode(event)  # the broker takes it
    return event


def refused(data: bytes, content_type: str, metadata: dict[str, str] | None = None) -> DaprError:
    with pytest.raises(DaprError) as caught:
        event_of(data, content_type, metadata)
    return caught.value


@pytest.mark.parametrize("specversion", ["0.3", "1.0"])
def test_the_envelope_has_all_that_todays_sdks_expect(specversion: str) -> None:
    event = event_of(b'{"n":1}', "application/json", trace=TRACE, specversion=specversion)
    assert uuid.UUID(event.pop("id")).version == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", event.pop("time"))
    assert event == {
        "source": "shop",
        "type": "com.dapr.event.sent",
        "specversion": specversion,
        "datacontenttype": "application/json",
        "topic": "orders",
        "pubsubname": "pubsub",
        "traceid": TRACE.parent,
        "traceparent": TRACE.parent,
        "tracestate": "vendor=1",
        "data": {"n": 1},
    }


def test_without_a_trace_its_fields_are_empty_text() -> None:
    event = event_of(b"x")
    assert (event["traceid"], event["traceparent"], event["tracestate"]) == ("", "", "")


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("", b'{"n":1}', '{"n":1}'),
        ("text/plain", b"x", "x"),
        ("text/plain; charset=utf-8", "ü".encode(), "ü"),
        ("application/xml", b"<a/>", "<a/>"),
        ("foo/bar", b"x", "x"),
        ("application/vnd.x+json", b'{"n":1}', '{"n":1}'),
        ("application/json", b'"x"', "x"),
        ("application/json", b"null", None),
        ("APPLICATION/JSON; charset=utf-8", b"[1, 2.5]", [1, 2.5]),
        ("application/json", b"{no json", "{no json"),
        ("application/json", b"", ""),
        ("application/octet-stream", b"\x00\xff", b"\x00\xff"),
        ("application/octet-stream", b"plain", b"plain"),
        ("application/cloudevents+protobuf", b"x", b"x"),
        ("text/plain", b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_data_follow_the_content_type(content_type: str, body: bytes, data: Any) -> None:
    event = event_of(body, content_type)
    assert event["data"] == data
    assert event["datacontenttype"] == (content_type or "text/plain")


@pytest.mark.parametrize(
    "body",
    [b"123456789012345678901234567890", b'{"n": 18446744073709551616}', b"[" * 65 + b"]" * 65],
)
def test_json_that_data_cant_carry_stays_the_bytes_it_is(body: bytes) -> None:
    event = event_of(body, "application/json")
    assert (event["data"], event["datacontenttype"]) == (body, "application/json")


def test_overrides_replace_what_dapr_lets_them_replace() -> None:
    names = ("id", "source", "type", "subject", "traceparent", "tracestate", "topic", "time")
    event = event_of(b"x", "", {f"cloudevent.{name}": f"my {name}" for name in names}, trace=TRACE)
    assert [event[name] for name in names[:4]] == ["my id", "my source", "my type", "my subject"]
    assert event["traceid"] == event["traceparent"] == "my traceparent"
    assert event["tracestate"] == "my tracestate"
    assert event["topic"] == "orders"
    assert "my" not in event["time"]


def test_a_trace_id_overrides_both_fields() -> None:
    event = event_of(b"x", "", {"cloudevent.traceid": "mine"}, trace=TRACE)
    assert (event["traceid"], event["traceparent"]) == ("mine", "mine")


def test_a_time_to_live_goes_to_the_broker() -> None:
    request = Publish("pubsub", "orders", b"x", "", {"ttlInSeconds": "60"}, "shop")
    envelope = wrap(request, "1.0")
    assert envelope.ttl == 60
    assert "expiration" not in envelope.event


def test_a_raw_payload_is_bytes_with_a_mark() -> None:
    event = event_of(b'{"n":1}', "application/json", {"rawPayload": "true"}, trace=TRACE)
    assert event["data"] == b'{"n":1}'
    assert event["rawpayload"] is True
    assert event["datacontenttype"] == "application/octet-stream"
    assert event["traceparent"] == TRACE.parent


def test_metadata_that_cant_be_read_are_refused() -> None:
    error = refused(b"x", "", {"rawPayload": "maybe"})
    assert error.condition is errors.METADATA
    assert error.message == (
        "failed deserializing metadata. Error: rawPayload value must be a valid boolean:"
        " actual is 'maybe'"
    )
    assert refused(b"x", "", {"ttlInSeconds": "soon"}).condition is errors.METADATA


OWN = "application/cloudevents+json"


def test_an_event_of_ones_own_keeps_what_it_says() -> None:
    body = (
        b'{"specversion":"1.0","id":"7","source":"mine","type":"t","datacontenttype":"text/html",'
        b'"subject":"s","time":"2020-01-01T00:00:00Z","ext":"e","num":3,"data":"<p>",'
        b'"topic":"other","pubsubname":"other"}'
    )
    assert event_of(body, OWN, {"cloudevent.id": "8"}, specversion="0.3") == {
        "specversion": "1.0",
        "id": "7",
        "source": "mine",
        "type": "t",
        "datacontenttype": "text/html",
        "subject": "s",
        "time": "2020-01-01T00:00:00Z",
        "ext": "e",
        "num": 3,
        "data": "<p>",
        "topic": "orders",
        "pubsubname": "pubsub",
        "traceid": "",
        "traceparent": "",
        "tracestate": "",
    }


def test_an_event_of_ones_own_gets_what_it_lacks() -> None:
    event = event_of(b'{"data":1,"source":"","id":null,"subject":""}', OWN, trace=TRACE)
    assert uuid.UUID(event.pop("id"))
    assert event.pop("time") <= now()
    assert event == {
        "source": "Dapr",
        "type": "com.dapr.event.sent",
        "specversion": "1.0",
        "topic": "orders",
        "pubsubname": "pubsub",
        "traceid": TRACE.parent,
        "traceparent": TRACE.parent,
        "tracestate": "vendor=1",
        "data": 1,
    }


def test_trace_fields_that_are_no_text_are_replaced() -> None:
    event = event_of(b'{"traceid":1,"traceparent":{},"tracestate":[],"data":1}', OWN, trace=TRACE)
    assert (event["traceid"], event["traceparent"]) == (TRACE.parent, TRACE.parent)
    assert event["tracestate"] == "vendor=1"


def test_a_trace_id_of_ones_own_is_kept() -> None:
    event = event_of(b'{"traceid":"mine","data":1}', OWN, trace=TRACE)
    assert (event["traceid"], event["traceparent"]) == ("mine", "mine")


@pytest.mark.parametrize(
    "body",
    [
        b'{"specversion":"1.0","data_base64":"AAE="}',
        b'{"specversion":"0.3","datacontentencoding":"base64","data":"AAE="}',
    ],
)
def test_binary_data_of_an_event_of_ones_own_become_bytes(body: bytes) -> None:
    assert event_of(body, OWN)["data"] == b"\x00\x01"


@pytest.mark.parametrize("body", [b'{"}', b"", b"[]", b"[{}]", b"1", b"\xff"])
def test_an_event_of_ones_own_that_is_no_json_map_is_refused(body: bytes) -> None:
    assert refused(body, OWN).condition is errors.CLOUD_EVENT


@pytest.mark.parametrize("body", [b'{"data_base64":"no!"}', b'{"data":1,"data_base64":"AAE="}'])
def test_an_event_of_ones_own_with_wrong_data_is_refused(body: bytes) -> None:
    assert refused(body, OWN).condition is errors.MARSHAL_ENVELOPE


BODIES = [b"null", b"1", b'{"a":[1]}', b'"x"']
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_events_of_one_second_share_a_template_whatever_their_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transport.dapr.envelope.now", lambda: "2026-01-01T00:00:00Z")
    requests = [Publish("pubsub", "t", body, "application/json", {}, "shop") for body in BODIES]
    events = [wrap(request, "1.0").event for request in requests]
    assert all(type(event) is TemplatedEvent for event in events)
    assert len({id(event._template) for event in events}) == 1  # type: ignore[attr-defined]
    assert len({event["id"] for event in events}) == len(events)
    for event, body in zip(events, BODIES, strict=True):
        event_id, canonical = EventEncoder("shop").encode(dict(event))
        assert event.encode() == canonical  # type: ignore[attr-defined]
        assert event.id == event_id  # type: ignore[attr-defined]
        assert decode(canonical)["data"] == orjson.loads(body)


@pytest.mark.parametrize("trace", [Trace(), Trace(PARENT), Trace(PARENT, "vendor=1")])
def test_a_template_is_not_shared_by_other_traces(trace: Trace) -> None:
    event = wrap(Publish("pubsub", "t", b"x", "", {}, "shop", trace), "1.0").event
    assert (event["traceparent"], event["traceid"]) == (trace.parent, trace.parent)
    assert event["tracestate"] == trace.state


@pytest.mark.parametrize(
    ("topic", "content_type"), [("t", "text/\x01plain"), ("t" * 600, "text/plain")]
)
def test_what_no_template_is_made_of_goes_as_it_is(topic: str, content_type: str) -> None:
    event = wrap(Publish("pubsub", topic, b"x", content_type, {}, "shop"), "1.0").event
    assert type(event) is dict
    assert (event["topic"], event["datacontenttype"], event["data"]) == (topic, content_type, "x")
