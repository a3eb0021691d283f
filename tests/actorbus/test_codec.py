import contextlib
import itertools
import json
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorbus.codec import CODECS, JSON, MSGPACK, Codec
from actorbus.errors import InvalidEventError, MalformedError, RefusedError, UndecodableError
from actorbus.events import EventEncoder, dead_letter, decode
from actorbus.frames import (
    Acked,
    Error,
    Flow,
    GroupStatus,
    Hello,
    Inspected,
    Published,
    TopicStatus,
    parse,
    parse_answer,
)
from actorbus.limits import EVENT_BYTES, FRAME_BYTES
from tests.actorbus.hostile import ANYTHING, DATA, HOSTILE_DATA, fuzz, nested

both = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])

UNDECODABLE_JSON = {
    "empty": b"",
    "blank": b" ",
    "cut": b'{"type":"fl',
    "rest": b"{}{}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "NaN beside a long number": b'{"a":NaN,"b":18446744073709551616}',
    "1e400": b'{"a":1e400}',
    "-1e400 beside a long number": b'{"a":-1e400,"b":18446744073709551616}',
    "surrogate": b'{"a":"\\ud800"}',
    "surrogate as a key": b'{"\\udfff":1}',
    "surrogate beside a long number": b'{"a":"\\udc00","b":18446744073709551616}',
    "UTF-8": b'{"a":"\xff"}',
    "UTF-8 surrogate": b'{"a":"\xed\xa0\x80"}',
    "UTF-8 beside a long number": b'{"a":"\xff","b":18446744073709551616}',
    "control character": b'{"a":"\n"}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "comment": b"{}//",
    "comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "deep": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep beside a long number": b'{"b":18446744073709551616,"a":'
    + b"[" * 5000
    + b"]" * 5000
    + b"}",
    "array": b"[]",
    "text": b'"type"',
    "number": b"1",
    "null": b"null",
}
UNDECODABLE_MSGPACK = {
    "empty": b"",
    "cut": b"\x82\xa1a\x01",
    "rest": b"\x80\x80",
    "never used": b"\xc1",
    "never used inside": b"\x81\xa1a\xc1",
    "UTF-8": b"\x81\xa1a\xa1\xff",
    "UTF-8 surrogate": b"\x81\xa1a\xa3\xed\xa0\x80",
    "UTF-8 key": b"\x81\xa1\xff\x01",
    "deep": b"\x81\xa1a" + b"\x91" * 5000 + b"\x01",
    "deep maps": b"\x81\xa1a" * 5000 + b"\x01",
    "long array": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "long map": b"\xdf\xff\xff\xff\xff",
    "long text": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "long bytes": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "bad timestamp": b"\x81\xa1a\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "array": b"\x90",
    "text": b"\xa4type",
    "number": b"\x01",
    "nil": b"\xc0",
    "ext": b"\xd4\x05a",
    "JSON": b'{"type":"flow"}',
}


@pytest.mark.parametrize("message", UNDECODABLE_JSON.values(), ids=UNDECODABLE_JSON)
def test_json_that_is_no_frame_is_undecodable(message: bytes) -> None:
    with pytest.raises(UndecodableError):
        JSON.decode(message)


@pytest.mark.parametrize("message", UNDECODABLE_MSGPACK.values(), ids=UNDECODABLE_MSGPACK)
def test_msgpack_that_is_no_frame_is_undecodable(message: bytes) -> None:
    with pytest.raises(UndecodableError):
        MSGPACK.decode(message)


def test_text_is_no_msgpack() -> None:
    with pytest.raises(UndecodableError):
        MSGPACK.decode("{}")


def test_json_is_read_from_text_and_bytes() -> None:
    assert JSON.decode('{"a":"é"}') == JSON.decode('{"a":"é"}'.encode()) == {"a": "é"}


def test_a_lone_surrogate_in_text_is_undecodable() -> None:
    with pytest.raises(UndecodableError):
        JSON.decode('{"a":"\ud800"}')


@pytest.mark.parametrize(
    "number",
    ["18446744073709551615", "-9223372036854775808", "9223372036854775807", "1234567890123456789"],
)
def test_the_largest_integers_are_exact_in_json(number: str) -> None:
    data = JSON.decode(f'{{"data":{number}}}')["data"]
    assert type(data) is int
    assert str(data) == number


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "9" * 500])
def test_an_integer_past_64_bits_in_json_is_an_invalid_event_and_no_float(number: str) -> None:
    for data in (number, f"[{number}]", f'{{"a":{number}}}'):
        event = JSON.decode(f'{{"data":{data}}}')
        with pytest.raises(InvalidEventError, match="64 bits"):
            EventEncoder("shop").encode(event)


def test_an_integer_too_long_for_python_is_an_invalid_event() -> None:
    with pytest.raises(InvalidEventError, match="64 bits"):
        EventEncoder("shop").encode(JSON.decode(b'{"data":-' + b"1" * 10_000 + b"}"))


def test_an_integer_past_64_bits_in_a_field_is_malformed() -> None:
    frame = JSON.decode('{"type":"flow","max_in_flight":18446744073709551616,"ref":1}')
    with pytest.raises(MalformedError):
        parse(frame)


def test_long_digits_elsewhere_are_read_as_ever() -> None:
    text = '{"a":"12345678901234567890","b":0.12345678901234567890,"c":"\\ud83d\\ude00","d":-0}'
    assert JSON.decode(text) == {
        "a": "12345678901234567890",
        "b": 0.12345678901234568,
        "c": "😀",
        "d": 0,
    }


@both
def test_the_last_of_equal_keys_counts(codec: Codec) -> None:
    message = {"msgpack": b"\x82\xa1a\x01\xa1a\x02", "json": b'{"a":1,"a":2}'}[codec.name]
    assert codec.decode(message) == {"a": 2}


@pytest.mark.parametrize(
    "key", [1, None, True, b"b", 1.5, (1, 2), msgpack.ExtType(1, b"x"), msgpack.Timestamp(1)]
)
def test_keys_that_are_no_text_are_ignored_in_a_frame_and_invalid_in_an_event(key: Any) -> None:
    flow = {key: 1, "type": "flow", "max_in_flight": 3}
    assert parse(MSGPACK.decode(msgpack.packb(flow))) == Flow(3)
    for event in ({key: 1}, {key: None, "data": 1}, {"data": {key: 1}}, {"data": [{key: 1}]}):
        decoded = MSGPACK.decode(msgpack.packb(event))
        with pytest.raises(InvalidEventError):
            EventEncoder("shop").encode(decoded)


def test_keys_that_are_arrays_or_maps_are_wrong_and_not_undecodable() -> None:
    for key in (b"\x90", b"\x80", b"\x91\x80"):
        decoded = MSGPACK.decode(b"\x81\xa4data\x81" + key + b"\x01")
        with pytest.raises(InvalidEventError, match="key"):
            EventEncoder("shop").encode(decoded)


def test_only_so_many_maps_are_made_for_keys_that_are_no_text() -> None:
    wrong = b"\x81\x01\xc0"
    assert (
        len(MSGPACK.decode(b"\x81\xa1m\xdd" + (50_000).to_bytes(4) + 50_000 * wrong)["m"]) == 50_000
    )
    with pytest.raises(UndecodableError, match="keys of maps must be text"):
        MSGPACK.decode(b"\x81\xa1m\xdd" + (100_000).to_bytes(4) + 100_000 * wrong)


def test_keys_that_are_no_text_never_enter_a_dictionary() -> None:
    frame = msgpack.packb({"a": 1} | {number: number for number in range(1000)})
    assert dict[Any, Any](MSGPACK.decode(frame)) == {"a": 1, 0: True}


@both
def test_65_levels_in_a_message_are_an_invalid_event(codec: Codec) -> None:
    frame = codec.decode(
        {"msgpack": msgpack.packb, "json": orjson.dumps}[codec.name]({"data": nested(65)})
    )
    with pytest.raises(InvalidEventError, match="64"):
        EventEncoder("shop").encode(frame)


@pytest.mark.parametrize(
    "hostile",
    [
        {"a": b"x"},
        [msgpack.ExtType(1, b"x")],
        msgpack.Timestamp(1),
        float("nan"),
        [float("inf")],
        nested(300),
        nested(1000),
    ],
    ids=["bytes", "ext", "timestamp", "nan", "inf", "300 deep", "1000 deep"],
)
def test_what_json_can_not_carry_is_decodable_and_an_invalid_event(hostile: Any) -> None:
    decoded = MSGPACK.decode(msgpack.packb({"data": hostile}))
    with pytest.raises(InvalidEventError):
        EventEncoder("shop").encode(decoded)


@fuzz
@given(st.binary())
def test_whatever_the_bytes_only_undecodable_comes_out(message: bytes) -> None:
    for codec in (MSGPACK, JSON):
        with contextlib.suppress(UndecodableError):
            assert isinstance(codec.decode(message), dict)


@fuzz
@given(ANYTHING, st.integers(0, 100), st.binary(max_size=3))
def test_whatever_is_damaged_only_documented_errors_come_out(
    value: Any, place: int, noise: bytes
) -> None:
    with contextlib.suppress(UndecodableError, RefusedError, OverflowError):
        packed = msgpack.packb({"type": "publish", "topic": "t", "events": [{"data": value}]})
        frame = MSGPACK.decode(packed[:place] + noise + packed[place + len(noise) :])
        for event in getattr(parse(frame), "events", []):
            with contextlib.suppress(InvalidEventError):
                EventEncoder("shop").encode(event)


# control frames


@both
def test_a_none_that_means_nothing_is_left_out(codec: Codec) -> None:
    error = Error(None, "internal", "m", retryable=False)
    assert codec.decode(codec.encode(error)) == {
        "type": "error",
        "code": "internal",
        "message": "m",
        "retryable": False,
    }


@both
def test_null_is_kept_where_it_means_something(codec: Codec) -> None:
    published = Published(1, ["a", None], None)
    assert codec.decode(codec.encode(published)) == {
        "type": "published",
        "ref": 1,
        "ids": ["a", None],
        "groups": None,
    }


@both
def test_stale_is_always_there(codec: Codec) -> None:
    assert codec.decode(codec.encode(Acked("r", []))) == {"type": "acked", "ref": "r", "stale": []}


@both
def test_unknown_numbers_of_a_group_are_null(codec: Codec) -> None:
    group = GroupStatus("a", 1, None, 0, 0, 0, 0, 0, None)
    frame = codec.decode(codec.encode(Inspected(1, [TopicStatus("t", 0, [group])])))
    assert frame["topics"][0]["groups"][0]["backlog"] is None
    assert "next" not in frame


@both
def test_a_struct_survives_the_way_to_the_other_side(codec: Codec) -> None:
    hello = Hello(5, "shop", "pod", "token", 10)
    assert parse(codec.decode(codec.encode(hello))) == hello
    error = Error("r", "limit", "m", retryable=False)
    assert parse_answer(codec.decode(codec.encode(error))) == error


@both
def test_a_map_is_a_frame_too(codec: Codec) -> None:
    assert codec.decode(codec.encode({"type": "drain", "ref": None})) == {
        "type": "drain",
        "ref": None,
    }


@both
@pytest.mark.parametrize("value", ["\ud800", 2**70, object()])
def test_a_frame_that_can_not_be_encoded_is_malformed(codec: Codec, value: Any) -> None:
    with pytest.raises(MalformedError):
        codec.encode({"type": "ack", "reason": value})


def test_codecs_are_found_by_subprotocol() -> None:
    assert CODECS == {"actorbus.v1.msgpack": MSGPACK, "actorbus.v1.json": JSON}
    assert (MSGPACK.binary, JSON.binary) == (True, False)


# deliver


def events(count: int, data: Any = "x") -> list[bytes]:
    encoder = EventEncoder("shop", "1.0")
    return [encoder.encode({"id": str(number), "data": data})[1] for number in range(count)]


def deliveries(batch: list[bytes], first: int = 2**52) -> list[tuple[int, int, bytes]]:
    return [(first + index, index + 1, event) for index, event in enumerate(batch)]


def received(codec: Codec, messages: list[bytes]) -> list[dict[str, Any]]:
    return list(itertools.chain(*(codec.decode(message)["deliveries"] for message in messages)))


@both
@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000, 65_536])
def test_deliveries_arrive_in_one_frame_as_they_were_sent(codec: Codec, count: int) -> None:
    sent = deliveries(events(count))
    (message,) = codec.deliver("orders", 30_000, sent, 2**30)
    frame = codec.decode(message)
    assert {name: frame[name] for name in ("type", "topic", "lease_ms")} == {
        "type": "deliver",
        "topic": "orders",
        "lease_ms": 30_000,
    }
    assert frame["deliveries"] == [
        {"id": number, "attempt": attempt, "event": decode(event)}
        for number, attempt, event in sent
    ]


@both
def test_nothing_to_deliver_is_no_frame(codec: Codec) -> None:
    assert codec.deliver("t", 1, [], FRAME_BYTES) == []


@both
@pytest.mark.parametrize("limit", [400, 1000, 1001, 1002, 4096])
def test_frames_are_split_under_the_limit_without_loss_or_disorder(
    codec: Codec, limit: int
) -> None:
    batch = [event for size in range(50) for event in events(1, "x" * size)]
    sent = deliveries(batch, first=0)
    messages = codec.deliver("t" * 120, 600_000, sent, limit)
    assert max(map(len, messages)) <= limit
    assert [item["id"] for item in received(codec, messages)] == list(range(50))


@both
def test_a_frame_of_exactly_the_limit_is_not_split(codec: Codec) -> None:
    sent = deliveries(events(20))
    (message,) = codec.deliver("t", 1, sent, FRAME_BYTES)
    size = len(message) + 5  # room that a longer batch's array head would take
    assert len(codec.deliver("t", 1, sent, size)) == 1
    assert len(codec.deliver("t", 1, sent, len(message) - 1)) == 2


@both
def test_no_frame_could_have_taken_the_next_event(codec: Codec) -> None:
    sent = deliveries(events(100), first=0)
    messages = codec.deliver("t", 1, sent, 2000)
    one = max(len(codec.deliver("t", 1, [item], 2000)[0]) for item in sent)
    assert all(len(message) + one > 2000 for message in messages[:-1])


@both
def test_the_worst_event_of_the_limit_fits_even_as_a_dead_letter(codec: Codec) -> None:
    encoder = EventEncoder("s" * 120)
    size = len(encoder.encode({"data": "\x00" * 500_000})[1])
    text = "\x00" * (500_000 + EVENT_BYTES - size - 8)
    worst = encoder.encode({"data": text})[1]
    letter = dead_letter(worst, reason="😀" * 256, topic="t" * 120, attempts=2**31 - 1)
    messages = codec.deliver("t" * 120, 600_000, [(2**53, 2**31, letter)] * 3, FRAME_BYTES)
    assert max(map(len, messages)) <= FRAME_BYTES
    assert len(received(codec, messages)) == 3


@both
def test_an_event_that_fits_no_frame_gets_one_of_its_own(codec: Codec) -> None:
    sent = deliveries([*events(1), *events(1, "x" * 5000), *events(1)], first=0)
    messages = codec.deliver("t", 1, sent, 1000)
    assert [len(codec.decode(message)["deliveries"]) for message in messages] == [1, 1, 1]


@both
@fuzz
@given(data=DATA, specversion=st.sampled_from(["0.3", "1.0"]))
def test_an_event_is_delivered_as_it_was_meant(codec: Codec, data: Any, specversion: str) -> None:
    _, canonical = EventEncoder("shop", specversion).encode({"data": data})
    (message,) = codec.deliver("t", 1, [(1, 1, canonical)], FRAME_BYTES)
    (delivery,) = codec.decode(message)["deliveries"]
    assert codec.event(delivery["event"]) == decode(canonical)


# publish


@both
@pytest.mark.parametrize("ttl_ms", [None, 5])
@pytest.mark.parametrize("count", [1, 15, 16, 1000])
def test_a_publish_frame_is_parsed_as_it_was_meant(
    codec: Codec, ttl_ms: int | None, count: int
) -> None:
    batch = [{"id": str(index), "data": {"n": index}} for index in range(count)]
    message = codec.publish("orders", 7, [codec.encode_event(event) for event in batch], ttl_ms)
    frame = parse(codec.decode(message))
    assert frame.__struct_fields__ == ("ref", "topic", "events", "ttl_ms")
    assert [getattr(frame, name) for name in frame.__struct_fields__] == [
        7,
        "orders",
        batch,
        ttl_ms,
    ]


@both
@fuzz
@given(data=DATA)
def test_data_reaches_the_broker_as_it_was_meant(codec: Codec, data: Any) -> None:
    event = codec.decode(codec.encode_event({"id": "1", "data": data, "ext": "e"}))
    assert decode(EventEncoder("shop").encode(event)[1])["data"] == data


@both
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_kind_of_bytes_is_binary_data(codec: Codec, kind: Any) -> None:
    event = codec.decode(codec.encode_event({"data": kind(b"\xff\x00")}))
    assert decode(EventEncoder("shop").encode(event)[1])["data"] == b"\xff\x00"


@both
def test_an_event_of_many_attributes_is_encoded(codec: Codec) -> None:
    event: dict[str, Any] = {f"ext{number}": number for number in range(40)}
    assert codec.decode(codec.encode_event(event)) == event


@both
@pytest.mark.parametrize(("data", "why"), HOSTILE_DATA)
def test_hostile_data_is_refused_before_it_is_sent(codec: Codec, data: Any, why: str) -> None:
    with pytest.raises(InvalidEventError, match=why):
        codec.encode_event({"data": data})


@both
@pytest.mark.parametrize(
    "attributes",
    [
        {"ext": 1.5},
        {"ext": float("nan")},
        {"ext": []},
        {"ext": object()},
        {"ext": "\ud800"},
        {"\ud800": "x"},
        {"ext": 2**64},
        {1: "x"},
        {"data_base64": "/w=="},
    ],
)
def test_an_attribute_that_would_break_the_frame_is_refused(
    codec: Codec, attributes: dict[Any, Any]
) -> None:
    with pytest.raises(InvalidEventError):
        codec.encode_event({"data": b"x"} | attributes)


@both
@pytest.mark.parametrize("value", [None, 1, "x", []])
def test_a_delivery_without_an_event_is_undecodable(codec: Codec, value: Any) -> None:
    with pytest.raises(UndecodableError):
        codec.event(value)


def test_json_frames_are_strict_json() -> None:
    (message,) = JSON.deliver("t", 1, deliveries(events(3, {"a": [1.5, None, "é\x00"]})), 10_000)
    assert len(json.loads(message, parse_constant=pytest.fail)["deliveries"]) == 3


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.name)
@pytest.mark.parametrize("data", [None, 1, "é", {"n": [1, 2.5]}])
def test_data_alone_is_encoded_as_an_event_of_it(codec: Codec, data: Any) -> None:
    assert codec.encode_data("7", data) == codec.encode_event({"id": "7", "data": data})


def test_data_alone_is_checked_as_that_of_an_event() -> None:
    with pytest.raises(InvalidEventError, match="no JSON type"):
        MSGPACK.encode_data("7", {"n": object()})
