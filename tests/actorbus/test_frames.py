import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorbus.errors import MalformedError
from actorbus.frames import (
    Ack,
    ClientFrame,
    Drain,
    Error,
    Extend,
    Flow,
    Goaway,
    Hello,
    Inspect,
    Publish,
    Subscribe,
    Unsubscribe,
    parse,
    parse_answer,
)
from tests.actorbus.hostile import ANYTHING, fuzz

HELLO: dict[str, Any] = {"type": "hello", "app_id": "shop"}
PUBLISH: dict[str, Any] = {"type": "publish", "topic": "orders", "events": [{"data": 1}]}
SUBSCRIBE: dict[str, Any] = {"type": "subscribe", "topic": "orders"}
UNSUBSCRIBE: dict[str, Any] = {"type": "unsubscribe", "topic": "orders"}
ACK: dict[str, Any] = {"type": "ack", "ids": [1, 2]}
EXTEND: dict[str, Any] = {"type": "extend", "ids": [1, 2]}
FLOW: dict[str, Any] = {"type": "flow", "max_in_flight": 5}
DRAIN: dict[str, Any] = {"type": "drain"}
INSPECT: dict[str, Any] = {"type": "inspect"}
FRAMES = [HELLO, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, ACK, EXTEND, FLOW, DRAIN, INSPECT]


def fields(frame: dict[str, Any], **limits: int) -> dict[str, Any]:
    return msgspec.structs.asdict(parse(frame, **limits))


def refusal(frame: dict[str, Any], **limits: int) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        parse(frame, **limits)
    return caught.value


@pytest.mark.parametrize(
    ("frame", "parsed"),
    [
        (HELLO, Hello(None, "shop", None, None, 256)),
        (PUBLISH, Publish(None, "orders", [{"data": 1}], None)),
        (SUBSCRIBE, Subscribe(None, "orders", {})),
        (UNSUBSCRIBE, Unsubscribe(None, "orders", forget=False)),
        (ACK, Ack(None, [1, 2], "SUCCESS", None, None)),
        (EXTEND, Extend(None, [1, 2], None)),
        (FLOW, Flow(5)),
        (DRAIN, Drain(None)),
        (INSPECT, Inspect(None, None, None)),
    ],
)
def test_a_frame_without_optional_fields_takes_the_defaults(
    frame: dict[str, Any], parsed: Any
) -> None:
    assert parse(frame) == parsed


@pytest.mark.parametrize(
    ("frame", "parsed"),
    [
        (
            HELLO | {"ref": 1, "instance": "i", "token": "t", "max_in_flight": 0},
            Hello(1, "shop", "i", "t", 0),
        ),
        (PUBLISH | {"ref": "r", "ttl_ms": 2**53}, Publish("r", "orders", [{"data": 1}], 2**53)),
        (
            SUBSCRIBE | {"ref": 1, "options": {"x": None}},
            Subscribe(1, "orders", {"x": None}),
        ),
        (UNSUBSCRIBE | {"ref": 1, "forget": True}, Unsubscribe(1, "orders", forget=True)),
        (
            ACK | {"ref": 1, "status": "RETRY", "delay_ms": 0, "reason": "why"},
            Ack(1, [1, 2], "RETRY", 0, "why"),
        ),
        (EXTEND | {"ref": 1, "ack_wait_ms": 100}, Extend(1, [1, 2], 100)),
        (DRAIN | {"ref": 1}, Drain(1)),
        (INSPECT | {"ref": 1, "topic": "t", "after": "any text"}, Inspect(1, "t", "any text")),
    ],
)
def test_every_field_is_taken(frame: dict[str, Any], parsed: Any) -> None:
    assert parse(frame) == parsed


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["type"])
def test_unknown_keys_are_ignored(frame: dict[str, Any]) -> None:
    assert parse(frame | {"later": {"a": 1.5}, "other": None}) == parse(frame)


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        (HELLO, "app_id"),
        (PUBLISH, "topic"),
        (PUBLISH, "events"),
        (SUBSCRIBE, "topic"),
        (UNSUBSCRIBE, "topic"),
        (ACK, "ids"),
        (EXTEND, "ids"),
        (FLOW, "max_in_flight"),
    ],
)
def test_a_missing_field_is_malformed(frame: dict[str, Any], field: str) -> None:
    lacking = {name: value for name, value in frame.items() if name != field} | {"ref": 9}
    error = refusal(lacking)
    assert (error.code, error.ref) == ("malformed", 9)


TEXTS: list[Any] = [1, True, None, [], {}, b"a", 1.5]
INTEGERS: list[Any] = ["1", True, None, [], {}, 1.0, -1, 2**70]
WRONG: list[Any] = [
    *((HELLO, "app_id", value) for value in TEXTS),
    *((HELLO, "instance", value) for value in TEXTS),
    *((HELLO, "token", value) for value in TEXTS),
    *((HELLO, "max_in_flight", value) for value in [*INTEGERS, 65_536]),
    *((PUBLISH, "topic", value) for value in TEXTS),
    *((PUBLISH, "events", value) for value in [1, "a", None, {}, {"data": 1}, [], b"x"]),
    *((PUBLISH, "ttl_ms", value) for value in [*INTEGERS, 0, 2**53 + 1]),
    *((SUBSCRIBE, "topic", value) for value in TEXTS),
    *((SUBSCRIBE, "options", value) for value in [1, "a", None, [], True]),
    *((UNSUBSCRIBE, "forget", value) for value in [1, 0, "true", None, [], {}]),
    *((ACK, "ids", value) for value in [1, "1", None, {}, {"1": 1}]),
    *((ACK, "ids", [1, wrong]) for wrong in ("1", True, None, 1.0, (), 2**53 + 1, 2**70)),
    *((ACK, "status", value) for value in ["success", "", None, 1, ["DROP"], {"a": 1}]),
    *((ACK, "delay_ms", value) for value in [*INTEGERS, 3_600_001]),
    *((ACK, "reason", value) for value in TEXTS),
    *((EXTEND, "ids", value) for value in [1, None, ["1"], [True], [1.0], [2**70]]),
    *((EXTEND, "ack_wait_ms", value) for value in [*INTEGERS, 99, 600_001]),
    *((FLOW, "max_in_flight", value) for value in [*INTEGERS, 65_536]),
    *((INSPECT, "topic", value) for value in TEXTS),
    *((INSPECT, "after", value) for value in TEXTS),
]


@pytest.mark.parametrize(("frame", "field", "value"), WRONG)
def test_a_field_of_the_wrong_type_or_out_of_range_is_malformed(
    frame: dict[str, Any], field: str, value: Any
) -> None:
    error = refusal(frame | {field: value, "ref": "r"})
    assert (error.code, error.ref) == ("malformed", "r")


@pytest.mark.parametrize("ref", ["", "x" * 64, "é" * 32, 0, 2**53, -(2**53)])
def test_a_ref_is_echoed_in_frame_and_refusal(ref: Any) -> None:
    assert fields(PUBLISH | {"ref": ref})["ref"] == ref
    assert refusal({"type": "nonsense", "ref": ref}).ref == ref


@pytest.mark.parametrize(
    "ref", ["x" * 65, "é" * 33, True, 1.0, None, [], {}, 2**53 + 1, -(2**53) - 1, b"r"]
)
def test_a_bad_ref_is_malformed_and_answered_without_it(ref: Any) -> None:
    error = refusal(PUBLISH | {"ref": ref})
    assert (error.code, error.ref) == ("malformed", None)


@pytest.mark.parametrize("kind", [None, 1, True, ["ack"], {}, b"ack"])
def test_a_type_that_is_no_text_is_malformed(kind: Any) -> None:
    assert refusal({"type": kind, "ref": 1}).code == "malformed"


def test_a_frame_without_type_is_malformed() -> None:
    assert refusal({"ref": 1}).code == "malformed"


@pytest.mark.parametrize("kind", ["", "welcome", "deliver", "Publish", "pong"])
def test_any_other_type_is_unknown(kind: Any) -> None:
    error = refusal({"type": kind, "ref": 1})
    assert (error.code, error.ref) == ("unknown_type", 1)


@pytest.mark.parametrize(
    "frame",
    [
        HELLO | {"app_id": ""},
        HELLO | {"app_id": "a b"},
        HELLO | {"instance": ""},
        HELLO | {"instance": "a\nb"},
        PUBLISH | {"topic": "amq.x"},
        SUBSCRIBE | {"topic": "x" * 121},
        UNSUBSCRIBE | {"topic": "ö"},
        INSPECT | {"topic": "a*"},
    ],
)
def test_a_name_of_the_wrong_form_is_an_invalid_name(frame: dict[str, Any]) -> None:
    error = refusal(frame | {"ref": 7})
    assert (error.code, error.ref) == ("invalid_name", 7)


@pytest.mark.parametrize("data", [None, 0, "text", b"bytes", {"a": 1}])
def test_data_is_short_for_one_event(data: Any) -> None:
    frame = {"type": "publish", "topic": "t", "data": data}
    assert parse(frame) == Publish(None, "t", [{"data": data}], None)


@pytest.mark.parametrize("extra", [{"events": [{"data": 1}], "data": None}, {}])
def test_both_or_neither_of_events_and_data_is_malformed(extra: Any) -> None:
    assert refusal({"type": "publish", "topic": "t"} | extra).code == "malformed"


@pytest.mark.parametrize("frame", [ACK, EXTEND], ids=lambda frame: frame["type"])
def test_more_ids_than_a_connection_can_hold_are_malformed(frame: dict[str, Any]) -> None:
    assert len(fields(frame | {"ids": [1] * 65_535})["ids"]) == 65_535
    assert refusal(frame | {"ids": [1] * 65_536}).code == "malformed"


def test_a_batch_at_the_limit_is_taken_and_one_more_is_too_large() -> None:
    assert len(fields(PUBLISH | {"events": [{}] * 3}, batch_events=3)["events"]) == 3
    error = refusal(PUBLISH | {"events": [{}] * 4, "ref": 1}, batch_events=3)
    assert (error.code, error.ref) == ("too_large", 1)


def test_events_are_not_judged_one_by_one() -> None:
    assert fields(PUBLISH | {"events": [None, 1, {"a": 0}]})["events"] == [
        None,
        1,
        {"a": 0},
    ]


def test_an_ack_may_name_no_id() -> None:
    assert fields(ACK | {"ids": []})["ids"] == []


def test_a_reason_is_cut_to_256_printable_characters() -> None:
    assert fields(ACK | {"reason": "\x00é\n" * 300})["reason"] == "é" * 256


def test_a_reason_without_printable_characters_is_none() -> None:
    assert fields(ACK | {"reason": "\n\x00\u2028"})["reason"] is None


def test_a_wrong_token_is_not_in_the_message() -> None:
    assert "80008" not in refusal(HELLO | {"token": 80008}).message


def test_a_hello_does_not_show_its_token() -> None:
    hello = Hello(None, "shop", None, "topsecret")
    assert "topsecret" not in repr(hello)
    assert "topsecret" not in str(hello.__rich_repr__())


def test_the_message_of_a_wrong_field_names_field_range_and_value() -> None:
    assert refusal(FLOW | {"max_in_flight": 70_000}).message == (
        "expected `int` <= 65535 - at `flow.max_in_flight`, not 70000"
    )


ANSWERS: list[dict[str, Any]] = [
    {
        "type": "welcome",
        "ref": 1,
        "version": 1,
        "connection": "c",
        "instance": "i",
        "max_in_flight": 256,
        "limits": {
            "frame_bytes": 1,
            "event_bytes": 1,
            "batch_events": 1,
            "publish_bytes": 1,
            "name_bytes": 1,
            "groups_per_app": 1,
            "group_outstanding": 1,
        },
    },
    {"type": "published", "ref": 1, "ids": ["a", None], "groups": None},
    {
        "type": "published",
        "ref": 1,
        "ids": [None],
        "groups": 2,
        "errors": [{"index": 0, "code": "too_large", "message": "m"}],
    },
    {"type": "subscribed", "ref": 1, "topic": "t", "options": {"max_attempts": 0}},
    {"type": "unsubscribed", "ref": 1, "topic": "t", "forget": False},
    {"type": "acked", "ref": 1, "stale": []},
    {"type": "extended", "ref": 1, "stale": [5]},
    {"type": "drained", "ref": "r"},
    {
        "type": "inspected",
        "ref": 1,
        "topics": [
            {
                "topic": "t",
                "published": 0,
                "groups": [
                    {
                        "app_id": "a",
                        "instances": 1,
                        "backlog": None,
                        "in_flight": 0,
                        "delivered": 0,
                        "redelivered": 0,
                        "dead_lettered": 0,
                        "dropped": 0,
                        "oldest_ms": None,
                    }
                ],
            }
        ],
        "next": "t",
    },
    {"type": "inspected", "ref": 1, "topics": []},
    {"type": "error", "ref": 1, "code": "limit", "message": "m", "retryable": False},
    {"type": "goaway", "reason": "stopping", "reconnect_after_ms": 10},
]


@pytest.mark.parametrize("frame", ANSWERS, ids=lambda frame: frame["type"])
def test_an_answer_is_read_and_written_unchanged(frame: dict[str, Any]) -> None:
    assert msgspec.to_builtins(parse_answer(frame)) == frame


def test_an_answer_without_ref_has_none() -> None:
    frame = {"type": "error", "code": "internal", "message": "m", "retryable": False}
    assert parse_answer(frame) == Error(None, "internal", "m", retryable=False)


def test_keys_of_later_brokers_are_ignored() -> None:
    frame = {"type": "goaway", "reason": "r", "reconnect_after_ms": 1, "later": 1}
    assert parse_answer(frame) == Goaway("r", 1)


@pytest.mark.parametrize("kind", ["later", "deliver", None, 3, []])
def test_an_answer_of_an_unknown_type_says_so(kind: Any) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_answer({"type": kind})
    assert caught.value.code == "unknown_type"


def test_a_broken_answer_is_malformed() -> None:
    with pytest.raises(MalformedError) as caught:
        parse_answer(ANSWERS[0] | {"limits": {}})
    assert caught.value.code == "malformed"


FIELDS = st.sampled_from(
    (
        *("ref", "topic", "events", "data", "ttl_ms", "app_id", "instance", "token"),
        *("max_in_flight", "options", "forget", "ids", "status", "delay_ms", "reason"),
        *("ack_wait_ms", "after", "later"),
    )
)


@fuzz
@given(st.sampled_from(FRAMES), st.dictionaries(FIELDS, ANYTHING, max_size=5))
def test_whatever_the_fields_hold_only_malformed_comes_out(
    frame: dict[str, Any], changes: dict[str, Any]
) -> None:
    with contextlib.suppress(MalformedError):
        assert isinstance(parse(frame | changes), ClientFrame)
