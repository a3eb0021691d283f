"""Bodies of bulk publishes."""

import json
from typing import Any

import pytest

from transport.dapr import errors
from transport.dapr.bulk_body import ENTRIES, read_entries
from transport.dapr.errors import DaprError
from transport.dapr.publishing import Entry


def read(*entries: Any) -> list[Entry]:
    return read_entries("pubsub", "orders", json.dumps(entries).encode())


def refused(body: bytes) -> DaprError:
    with pytest.raises(DaprError) as caught:
        read_entries("pubsub", "orders", body)
    return caught.value


@pytest.mark.parametrize(
    ("content_type", "event", "data"),
    [
        ("text/plain", "hello", b"hello"),
        ("text/html; charset=utf-8", "<p>ü", "<p>ü".encode()),
        ("application/xml", "<a/>", b"<a/>"),
        ("application/octet-stream", "AAE=", b"\x00\x01"),
        ("application/json", {"n": 1}, b'{"n": 1}'),
        ("application/json", None, b"null"),
        ("Application/JSON; charset=utf-8", [1], b"[1]"),
        ("application/cloudevents+json", {"id": "1"}, b'{"id": "1"}'),
    ],
)
def test_an_event_is_read_by_its_content_type(content_type: str, event: Any, data: bytes) -> None:
    (entry,) = read({"entryId": "1", "event": event, "contentType": content_type})
    assert entry == Entry("1", data, content_type, {})


def test_json_keeps_every_digit() -> None:
    body = b'[{"entryId":"1","event":123456789012345678901.50,"contentType":"application/json"}]'
    (entry,) = read_entries("pubsub", "orders", body)
    assert entry.data == b"123456789012345678901.50"


@pytest.mark.parametrize("name", ["entryId", "entryID", "ENTRYID"])
def test_names_of_fields_may_have_any_case(name: str) -> None:
    (entry,) = read({name: "7", "EVENT": "x", "ContentType": "text/plain", "MetaData": {"a": "b"}})
    assert entry == Entry("7", b"x", "text/plain", {"a": "b"})


def test_entries_may_be_none_at_all() -> None:
    assert read() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"entryId": "',
        b'{"entryId": ""}',
        b"null",
        b"[1]",
        b'[{"entryId": 1}]',
        b'[{"entryId": "1", "metadata": {"a": 1}}]',
        b'[{"entryId": "1", "contentType": []}]',
        b"[" * 100_000,
        b'[{"entryId": "\xff"}]',
        b"[" + b"{}," * ENTRIES + b"{}]",
    ],
)
def test_a_body_that_is_no_array_of_entries_is_refused(body: bytes) -> None:
    assert refused(body).condition is errors.UNMARSHAL_EVENTS


@pytest.mark.parametrize(
    ("content_type", "event"),
    [
        ("application/octet-stream", "no base64!"),
        ("application/octet-stream", "AAE"),
        ("application/octet-stream", 1),
        ("text/plain", {"n": 1}),
        ("text/plain", None),
        ("application/xml", 1),
        ("", "x"),
        ("application/vnd.x+json", {}),
    ],
)
def test_an_event_that_does_not_fit_its_content_type_is_refused(
    content_type: str, event: Any
) -> None:
    entry = {"entryId": "1", "event": event, "contentType": content_type}
    error = refused(json.dumps([entry]).encode())
    assert error.condition is errors.MARSHAL_ENVELOPE
    assert "entry '1'" in error.message
