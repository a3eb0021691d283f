import base64
import json
from typing import Any

import msgpack
import pytest
from pamqp.commands import Basic

from actorbus.errors import InvalidEventError
from actorbus.events import EventEncoder, decode
from tests.transport.stores.rabbitmq.support import events
from transport.stores.rabbitmq.messages import (
    CONTENT_TYPE,
    HISTORY,
    MESSAGE_BYTES,
    RETURNS,
    BatchFormat,
    DaprFormat,
    History,
    properties,
    read,
    split,
)
from transport.stores.rabbitmq.messages import (
    EXPIRES_AT as EXPIRES_AT_HEADER,
)

EXPIRES_AT = 1_800_000_000_123


def dapr_envelope(**changes: Any) -> dict[str, Any]:
    """An envelope exactly as Dapr's runtime makes it."""
    return {
        "data": {"n": 1},
        "datacontenttype": "application/json",
        "id": "2c8d0c4b-2f1a-4d1c-8f3e-6c0b9d0a7f11",
        "pubsubname": "pubsub",
        "source": "checkout",
        "specversion": "1.0",
        "time": "2026-11-23T20:00:00+01:00",
        "topic": "orders",
        "traceid": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "",
        "type": "com.dapr.event.sent",
    } | changes


def test_our_format_is_read_back_with_expiry_and_histories() -> None:
    batch, histories = events(1, 2), (History(1, 0, 5), History(2, 1, 6))
    form = BatchFormat()
    arrived = read(form.body(batch, None), properties(form, EXPIRES_AT, histories))
    assert (arrived.events, arrived.expires_at, arrived.histories) == (
        batch,
        EXPIRES_AT,
        histories,
    )


def test_a_fresh_message_has_no_histories() -> None:
    form = BatchFormat()
    assert read(form.body(events(1), None), properties(form, None)).histories is None


def test_messages_are_persistent_and_never_share_an_id() -> None:
    first, second = (properties(BatchFormat(), None) for _ in range(2))
    assert first.delivery_mode == 2
    assert first.message_id != second.message_id


def test_a_batch_is_split_at_the_events_of_a_message() -> None:
    assert [len(part) for part in split(events(*range(250)), 100)] == [100, 100, 50]


def test_a_batch_is_split_at_the_bytes_of_a_message() -> None:
    half = b"x" * (MESSAGE_BYTES // 2)
    assert [len(part) for part in split((half, half, half, b"x"), 100)] == [2, 2]


def test_an_event_longer_than_a_message_travels_alone() -> None:
    long = b"x" * (MESSAGE_BYTES + 1)
    assert [len(part) for part in split((b"x", long, b"x"), 100)] == [1, 1, 1]


def test_dapr_s_format_is_one_cloudevent_as_json_text() -> None:
    form = DaprFormat()
    (event,) = events({"n": 1})
    assert json.loads(form.body((event,), None)) == decode(event)
    assert properties(form, None).content_type == "text/plain"


def test_dapr_s_format_says_when_the_event_expires_and_takes_it_out_again() -> None:
    form = DaprFormat()
    body = form.body(events(1), EXPIRES_AT)
    assert json.loads(body)["expiration"] == "2027-01-15T08:00:00.123Z"
    arrived = read(body, properties(form, EXPIRES_AT))
    assert arrived.expires_at == EXPIRES_AT
    assert "expiration" not in decode(arrived.events[0])


def test_a_ttl_past_the_calendar_is_left_out_of_the_envelope() -> None:
    form = DaprFormat()
    body = form.body(events(1), 2**53)
    assert "expiration" not in json.loads(body)
    assert read(body, properties(form, 2**53)).expires_at == 2**53


@pytest.mark.parametrize("specversion", ["0.3", "1.0"])
def test_binary_data_survives_dapr_s_format(specversion: str) -> None:
    form = DaprFormat()
    event = EventEncoder("tests", specversion).encode({"data": b"\x00\xff"})[1]
    (back,) = read(form.body((event,), None), properties(form, None)).events
    assert decode(back)["data"] == b"\x00\xff"


@pytest.mark.parametrize(
    "envelope",
    [
        dapr_envelope(),
        dapr_envelope(traceid="", traceparent=""),
        dapr_envelope(datacontenttype="text/plain", data="text"),
        dapr_envelope(subject="s", expiration="2027-01-15T08:00:00Z"),
    ],
)
def test_what_dapr_writes_comes_out_unchanged(envelope: dict[str, Any]) -> None:
    arrived = read(json.dumps(envelope).encode(), Basic.Properties(content_type="text/plain"))
    assert decode(arrived.events[0]) == envelope


def test_dapr_s_binary_data_comes_out_as_bytes() -> None:
    envelope = dapr_envelope(datacontenttype="application/octet-stream")
    del envelope["data"]
    envelope["data_base64"] = base64.b64encode(b"\x00\xff").decode()
    arrived = read(json.dumps(envelope).encode(), Basic.Properties())
    assert decode(arrived.events[0])["data"] == b"\x00\xff"


def test_dapr_s_expiration_counts() -> None:
    envelope = dapr_envelope(expiration="2027-01-15T08:00:00Z")
    arrived = read(json.dumps(envelope).encode(), Basic.Properties())
    assert arrived.expires_at == 1_800_000_000_000


def test_an_expiration_that_is_no_time_never_expires() -> None:
    envelope = dapr_envelope(expiration="soon")
    assert read(json.dumps(envelope).encode(), Basic.Properties()).expires_at is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"\x00raw", "application/octet-stream"),
        (b'{"not": "an event"}', "application/json"),
        (b'{"specversion": "1.0"}', "application/cloudevents+json"),
        (b"{broken", "text/plain"),
        (b"", "text/plain"),
    ],
)
def test_any_other_body_becomes_binary_data_with_its_content_type(
    body: bytes, content_type: str
) -> None:
    arrived = read(body, Basic.Properties(content_type=content_type, message_id="m-1"))
    event = decode(arrived.events[0])
    assert (event["data"], event["datacontenttype"], event["id"]) == (body, content_type, "m-1")


@pytest.mark.parametrize(
    "body", [b"\xc1", msgpack.packb([]), msgpack.packb([1]), msgpack.packb({"a": 1})]
)
def test_a_body_that_only_says_it_is_ours_becomes_data(body: bytes) -> None:
    arrived = read(body, Basic.Properties(content_type=CONTENT_TYPE))
    assert decode(arrived.events[0])["data"] == body


def test_a_foreign_body_that_can_be_no_event_is_refused() -> None:
    with pytest.raises(InvalidEventError, match="longer than"):
        read(b"x" * (2 * 1024 * 1024), Basic.Properties())


@pytest.mark.parametrize("history", [None, "x", [1, 2], ["a", 0, 0], [1, 0, 0, 0]])
def test_a_history_that_is_none_is_ignored(history: Any) -> None:
    form = BatchFormat()
    props = properties(form, None)
    props.headers = {HISTORY: history}
    assert read(form.body(events(1), None), props).histories is None


@pytest.mark.parametrize(("returns", "worn"), [(RETURNS - 1, False), (RETURNS, True)])
def test_a_message_that_went_back_often_is_worn(returns: int, worn: bool) -> None:
    form = BatchFormat()
    props = properties(form, None)
    props.headers = {"x-delivery-count": returns}
    assert read(form.body(events(1), None), props).worn is worn


@pytest.mark.parametrize("value", [-1, -(10**18), True, "1", 1.5, [1], 2**63 - 1])
def test_an_expiry_that_can_not_be_ours_is_none(value: Any) -> None:
    body = json.dumps(dapr_envelope(expiration="2020-01-01T00:00:00Z")).encode()
    arrived = read(body, Basic.Properties(headers={EXPIRES_AT_HEADER: value}))
    assert arrived.expires_at == 1_577_836_800_000


@pytest.mark.parametrize(
    "history", [[-1, 0, 0], [1, -1, 0], [1, 0, -5], [True, False, 0], [2**63] * 3]
)
def test_a_history_that_can_not_be_ours_is_none(history: list[Any]) -> None:
    props = Basic.Properties(content_type=CONTENT_TYPE, headers={HISTORY: history})
    assert read(BatchFormat().body(events(1), None), props).histories is None


@pytest.mark.parametrize(
    "event", [b"junk", b"\xc1", b"", msgpack.packb([1]), msgpack.packb({"id": "1"})]
)
def test_a_body_of_ours_with_what_is_no_event_is_raw_data(event: bytes) -> None:
    body = msgpack.packb([*events(1), event])
    (raw,) = read(body, Basic.Properties(content_type=CONTENT_TYPE)).events
    assert decode(raw)["data"] == body
