"""Several events in one call."""

import base64
import json
from typing import Any

from transport.dapr.delivery import Source, envelope
from transport.dapr.sidecar import bulk

SOURCE = Source("pubsub", "orders")
RAW = Source("pubsub", "orders", raw=True)


def entries(source: Source, *data: Any) -> list[bulk.Entry]:
    event = {"id": "1", "source": "shop", "type": "t", "specversion": "1.0"}
    return [
        bulk.entry(envelope({**event, "data": one}, source, "2026-01-01T00:00:00Z")) for one in data
    ]


def test_the_body_is_daprs() -> None:
    first, second = entries(SOURCE, {"n": 1}, b"\x00")
    body = json.loads(bulk.http_body([first, second], SOURCE))
    assert {name: body[name] for name in ("type", "topic", "pubsubname", "metadata")} == {
        "type": "com.dapr.event.sent.bulk",
        "topic": "orders",
        "pubsubname": "pubsub",
        "metadata": {},
    }
    assert body["id"]
    assert [one["entryId"] for one in body["entries"]] == [first.entry_id, second.entry_id]
    assert {one["contentType"] for one in body["entries"]} == {"application/cloudevents+json"}
    assert body["entries"][0]["event"]["data"] == {"n": 1}
    assert body["entries"][1]["event"]["data_base64"] == "AA=="


def test_a_raw_subscription_gets_base64() -> None:
    (one,) = entries(RAW, {"n": 1})
    (found,) = json.loads(bulk.http_body([one], RAW))["entries"]
    assert found["contentType"] == "application/octet-stream"
    assert json.loads(base64.b64decode(found["event"]))["data"] == {"n": 1}


def test_entries_have_ids_of_their_own() -> None:
    first, second = entries(SOURCE, 1, 1)
    assert first.found["id"] == second.found["id"]
    assert first.entry_id != second.entry_id


def test_grpc_has_the_fields_of_a_single_event() -> None:
    (one,) = entries(SOURCE, {"n": 1})
    request = bulk.grpc_request([one], SOURCE, "/take")
    assert (request.topic, request.pubsub_name, request.path) == ("orders", "pubsub", "/take")
    (found,) = request.entries
    assert (found.entry_id, found.content_type) == (one.entry_id, "application/cloudevents+json")
    assert (found.cloud_event.id, found.cloud_event.data) == ("1", b'{"n":1}')
    assert found.cloud_event.extensions["pubsubname"] == "pubsub"


def test_grpc_raw_entries_are_bytes() -> None:
    (one,) = entries(RAW, {"n": 1})
    (found,) = bulk.grpc_request([one], RAW, "/take").entries
    assert found.content_type == "application/octet-stream"
    assert json.loads(found.bytes)["data"] == {"n": 1}


def test_calls_are_bounded_in_bytes() -> None:
    some = entries(SOURCE, "a" * 100, "b" * 100, "c" * 1000, "d")
    size = len(some[0].body)
    assert list(bulk.split(some, 2 * size)) == [[0, 1], [2], [3]]
    assert list(bulk.split([], size)) == []
