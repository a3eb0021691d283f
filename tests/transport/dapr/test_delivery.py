"""Events as Dapr apps get them."""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from transport.dapr.delivery import (
    Source,
    data_bytes,
    envelope,
    http_body,
    topic_event,
    trace_metadata,
)

NOW = "2026-01-02T03:04:05Z"
SOURCE = Source("pubsub", "orders")
RAW = Source("pubsub", "orders", raw=True)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def stored(**fields: Any) -> dict[str, Any]:
    """As a WebSocket app's event is stored."""
    return {
        "id": "e1",
        "source": "shop",
        "type": "com.dapr.event.sent",
        "specversion": "0.3",
        "datacontenttype": "application/json",
        **fields,
    }


def raw(data: bytes, **fields: Any) -> dict[str, Any]:
    return stored(datacontenttype="application/octet-stream", rawpayload=True, data=data, **fields)


def test_a_websocket_event_gets_the_fields_that_dapr_apps_expect() -> None:
    assert envelope(stored(data={"n": 1}), SOURCE, NOW) == {
        "id": "e1",
        "source": "shop",
        "type": "com.dapr.event.sent",
        "specversion": "0.3",
        "datacontenttype": "application/json",
        "data": {"n": 1},
        "topic": "orders",
        "pubsubname": "pubsub",
        "traceid": "",
        "traceparent": "",
        "tracestate": "",
        "time": NOW,
    }


def test_what_the_event_says_itself_stays() -> None:
    fields = {
        "topic": "first",
        "pubsubname": "other",
        "traceid": PARENT,
        "traceparent": PARENT,
        "tracestate": "a=b",
        "time": "2020-01-01T00:00:00Z",
        "subject": "s",
        "custom": 5,
    }
    found = envelope(stored(data=1, **fields), SOURCE, NOW)
    assert {name: found[name] for name in fields} == fields


@pytest.mark.parametrize("name", ["traceid", "traceparent", "tracestate", "topic", "pubsubname"])
def test_fields_that_are_no_text_are_replaced_by_text(name: str) -> None:
    assert isinstance(envelope(stored(data=1, **{name: 7}), SOURCE, NOW)[name], str)


def test_traceid_is_the_traceparent_where_only_that_is_known() -> None:
    assert envelope(stored(traceparent=PARENT), SOURCE, NOW)["traceid"] == PARENT


@pytest.mark.parametrize("version", ["0.3", "1.0"])
def test_binary_data_are_data_base64_in_either_version(version: str) -> None:
    event = stored(
        specversion=version,
        datacontenttype="application/octet-stream",
        datacontentencoding="base64",
        data=b"\x00\xff",
    )
    found = envelope(event, SOURCE, NOW)
    assert found["data_base64"] == "AP8="
    assert "data" not in found
    assert "datacontentencoding" not in found


def test_an_event_without_data_has_none() -> None:
    found = envelope(stored(), SOURCE, NOW)
    assert "data" not in found
    assert "data_base64" not in found
    assert data_bytes(found) == b""


def test_a_binary_attribute_is_base64_text() -> None:
    assert envelope(stored(sig=b"\x00"), SOURCE, NOW)["sig"] == "AA=="


def test_the_http_body_is_the_envelope_in_json() -> None:
    found = envelope(stored(data={"n": 1}), SOURCE, NOW)
    assert json.loads(http_body(found)) == found


def test_json_that_was_kept_as_bytes_is_json_again_in_the_http_body() -> None:
    text = b'{"n": 123456789012345678901234567890}'
    body = http_body(envelope(stored(data=text), SOURCE, NOW))
    assert json.loads(body)["data"] == {"n": 123456789012345678901234567890}
    assert "data_base64" not in json.loads(body)


def test_bytes_that_are_no_json_whatever_their_type_says_are_base64_in_the_http_body() -> None:
    body = http_body(envelope(stored(data=b"{nonsense"), SOURCE, NOW))
    assert json.loads(body)["data_base64"] == base64.b64encode(b"{nonsense").decode()


# --- gRPC -----------------------------------------------------------------------------------------


def test_topic_event_names_the_subscription_and_carries_the_rest_as_extensions() -> None:
    event = stored(data={"n": 1}, subject="s", topic="first", traceparent=PARENT, big=True)
    request = topic_event(envelope(event, SOURCE, NOW), SOURCE, "/path")
    assert (request.id, request.source, request.type) == ("e1", "shop", "com.dapr.event.sent")
    assert (request.spec_version, request.data_content_type) == ("0.3", "application/json")
    assert (request.topic, request.pubsub_name, request.path) == ("orders", "pubsub", "/path")
    assert json.loads(request.data) == {"n": 1}
    assert MessageToDict(request.extensions) == {
        "topic": "first",
        "pubsubname": "pubsub",
        "traceid": PARENT,
        "traceparent": PARENT,
        "tracestate": "",
        "time": NOW,
        "subject": "s",
        "big": True,
    }


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("application/json", {"n": 1}, b'{"n":1}'),
        ("application/json", "text", b'"text"'),
        ("application/json; charset=utf-8", [1], b"[1]"),
        ("Application/JSON", 0, b"0"),
        ("application/json", None, b""),
        ("application/cloudevents+json", {"id": "x"}, b'{"id":"x"}'),
        ("text/plain", "caf\u00e9", "caf\u00e9".encode()),
        ("text/plain; charset=utf-8", "hi", b"hi"),
        ("text/plain", 5, b"5"),
        ("application/xml", "<a/>", b"<a/>"),
        ("application/octet-stream", b"\x00\x01", b"\x00\x01"),
        ("text/plain", b"\xff", b"\xff"),
        ("foo/bar", b"\xff", b"\xff"),
        ("application/vnd.api+json", '{"a":1}', b'{"a":1}'),
        ("application/vnd.api+json", {"a": 1}, b'{"a":1}'),
        ("foo/bar", "text", b""),
    ],
)
def test_data_by_content_type(kind: str, data: Any, expected: bytes) -> None:
    assert data_bytes(envelope(stored(datacontenttype=kind, data=data), SOURCE, NOW)) == expected


def test_data_without_a_content_type_are_json() -> None:
    event = stored(data="text")
    del event["datacontenttype"]
    request = topic_event(envelope(event, SOURCE, NOW), SOURCE, "/")
    assert (request.data, request.data_content_type) == (b'"text"', "application/json")


# --- raw ------------------------------------------------------------------------------------------


def test_a_raw_subscription_gets_raw_bytes_wrapped() -> None:
    assert envelope(raw(b"\x00\xff", traceparent=PARENT), RAW, NOW) == {
        "id": "e1",
        "specversion": "0.3",
        "datacontenttype": "application/octet-stream",
        "source": "Dapr",
        "type": "com.dapr.event.sent",
        "topic": "orders",
        "pubsubname": "pubsub",
        "data_base64": "AP8=",
        "traceid": PARENT,
        "traceparent": PARENT,
        "tracestate": "",
    }


def test_a_raw_subscription_gets_a_wrapped_event_as_bytes() -> None:
    event = stored(data={"n": 1})
    found = envelope(event, RAW, NOW)
    assert json.loads(base64.b64decode(found["data_base64"])) == envelope(event, SOURCE, NOW)
    assert (found["id"], found["datacontenttype"]) == ("e1", "application/octet-stream")


def test_another_subscription_gets_a_raw_cloud_event_as_it_was_sent() -> None:
    sent = {"id": "own", "specversion": "1.0", "source": "s", "type": "t", "data": {"n": 1}}
    assert envelope(raw(json.dumps(sent).encode()), SOURCE, NOW) == sent


def test_a_raw_json_object_without_an_id_gets_the_stored_one() -> None:
    assert envelope(raw(b'{"order": 1}'), SOURCE, NOW) == {"order": 1, "id": "e1"}


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[1]",
        b"",
        b'{"data_base64": 5}',
        b'{"data_base64": "&"}',
        b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_raw_bytes_that_are_no_envelope_come_wrapped_to_another_subscription(
    payload: bytes,
) -> None:
    event = raw(payload)
    assert envelope(event, SOURCE, NOW) == envelope(event, RAW, NOW)


def test_a_deeply_nested_raw_envelope_can_be_read_by_grpc_clients() -> None:
    deep = b'{"a": ' + b'{"b":' * 19 + b"1" + b"}" * 19 + b"}"
    request = topic_event(envelope(raw(deep), SOURCE, NOW), SOURCE, "/")
    assert type(request).FromString(request.SerializeToString()) == request


def test_trace_metadata_are_those_that_the_event_has() -> None:
    assert trace_metadata({"traceparent": PARENT, "tracestate": ""}) == {"traceparent": PARENT}
    assert trace_metadata({"traceparent": 5}) == {}


@pytest.mark.parametrize("parent", ["é", "a\nb", "not a parent", ""])
def test_a_trace_that_could_be_no_header_is_left_out(parent: str) -> None:
    assert trace_metadata({"traceparent": parent, "tracestate": "vendor=1"}) == {}


@pytest.mark.parametrize("state", ["é", "a\nb"])
def test_a_state_that_could_be_no_header_is_left_out(state: str) -> None:
    assert trace_metadata({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT}
