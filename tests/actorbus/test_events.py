import base64
import contextlib
import json
import os
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorbus.errors import InvalidEventError
from actorbus.events import (
    EventEncoder,
    Template,
    TemplatedEvent,
    dead_letter,
    decode,
    from_json_form,
    new_event_id,
    to_json,
)
from actorbus.packing import pack
from tests.actorbus.hostile import ANYTHING, DATA, HOSTILE_DATA, fuzz, nested

COMPLETE = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}
VERSIONS = ["0.3", "1.0"]


def encode(event: Any, specversion: str = "0.3", **limit: int) -> dict[str, Any]:
    event_id, canonical = EventEncoder("shop", specversion).encode(event, **limit)
    decoded = decode(canonical)
    assert decoded["id"] == event_id
    return decoded


def refusal(event: Any, **limit: int) -> InvalidEventError:
    with pytest.raises(InvalidEventError) as caught:
        EventEncoder("shop").encode(event, **limit)
    return caught.value


# wrapping


@pytest.mark.parametrize("specversion", VERSIONS)
@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        ({"a": 1}, "application/json"),
        ([], "application/json"),
        (None, "application/json"),
        (True, "application/json"),
        (1.5, "application/json"),
        ("text", "text/plain"),
        ("", "text/plain"),
        (b"\xff", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_data_alone_is_wrapped_with_exactly_these_attributes(
    specversion: str, data: Any, content_type: str
) -> None:
    event = encode({"data": data}, specversion)
    del event["id"]
    assert event == {
        "source": "shop",
        "type": "com.dapr.event.sent",
        "specversion": specversion,
        "datacontenttype": content_type,
        "data": data,
    }


@pytest.mark.parametrize("data", [1, "text", b"bytes", [None]])
def test_the_short_way_and_the_long_way_of_wrapping_agree(data: Any) -> None:
    encoder = EventEncoder("shop")
    short = encoder.encode({"id": "x", "data": data})
    assert short == encoder.encode({"id": "x", "data": data, "subject": None})


def test_every_wrapped_event_gets_an_id_of_its_own() -> None:
    encoder = EventEncoder("shop")
    ids = {encoder.encode({"data": 1})[0] for _ in range(1000)}
    assert len(ids) == 1000


@pytest.mark.parametrize("event", [{"data": 1}, {"data": 1, "subject": "s"}])
def test_an_id_that_is_null_is_made(event: dict[str, Any]) -> None:
    assert encode(event | {"id": None})["id"]


def test_what_the_publisher_set_is_kept() -> None:
    own = {
        "id": "mine",
        "source": "/other",
        "type": "order.created",
        "datacontenttype": "application/x",
        "subject": "s",
        "time": "2020-01-01T00:00:00.5+02:00",
        "traceparent": "00-a",
        "number": -(2**31),
        "flag": False,
        "empty": "",
        "raw": b"\xff",
        "data": {"a": 1},
    }
    assert encode(own) == own | {"specversion": "0.3"}


def test_an_event_without_data_gets_no_content_type() -> None:
    assert sorted(encode({"id": "1"})) == ["id", "source", "specversion", "type"]


def test_data_base64_becomes_bytes() -> None:
    event = encode({"data_base64": "/w=="})
    assert event["data"] == b"\xff"
    assert event["datacontenttype"] == "application/octet-stream"
    assert "data_base64" not in event


@pytest.mark.parametrize(
    "text",
    ["/w=", "/w", "a", "/w==x", "/w==\n", "_w==", "é", " /w==", None, 1, b"/w==", "/w==" * 2],
)
def test_what_is_not_base64_is_invalid(text: Any) -> None:
    assert "data_base64" in refusal({"data_base64": text}).message


def test_data_and_data_base64_together_are_invalid() -> None:
    assert "data_base64" in refusal({"data": None, "data_base64": "/w=="}).message


@pytest.mark.parametrize("event", [None, 1, "data", b"data", [], [["data", 1]], True])
def test_an_event_that_is_no_map_is_invalid(event: Any) -> None:
    assert "map" in refusal(event).message


# complete events


@pytest.mark.parametrize("specversion", VERSIONS)
@pytest.mark.parametrize("data", [{"a": 1}, None, "text", b"\xff"])
def test_a_complete_event_is_passed_on_unchanged(specversion: str, data: Any) -> None:
    event = COMPLETE | {"specversion": specversion, "data": data, "ext": "e", "n": 5}
    assert encode(event) == event


def test_a_complete_event_needs_no_data() -> None:
    assert encode(COMPLETE) == COMPLETE


@pytest.mark.parametrize("name", ["id", "source", "type"])
def test_a_complete_event_must_have_the_required_attributes(name: str) -> None:
    absent = {key: COMPLETE[key] for key in COMPLETE if key != name}
    for lacking in (absent, COMPLETE | {name: None}):
        assert refusal(lacking | {"data": 1}).message == f"attribute '{name}' is missing"


@pytest.mark.parametrize("version", ["0.2", "1.0.2", "", "1", 1.0, 1, True, [], {}])
def test_an_unknown_specversion_is_invalid(version: Any) -> None:
    assert "'specversion'" in refusal(COMPLETE | {"specversion": version}).message


def test_a_null_attribute_is_unset() -> None:
    assert encode(COMPLETE | {"subject": None, "ext": None, "time": None}) == COMPLETE


def test_a_null_specversion_means_wrapping() -> None:
    assert encode({"specversion": None, "data": 1})["type"] == "com.dapr.event.sent"


def test_a_null_attribute_must_have_a_valid_name() -> None:
    assert "'Bad-Name'" in refusal({"data": 1, "Bad-Name": None}).message


@pytest.mark.parametrize("base", [COMPLETE, {"data": 1}, {}])
@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "time", "datacontenttype"])
@pytest.mark.parametrize(
    "value", ["", 1, True, 1.5, b"x", [], {}, "a\nb", "\x7f", "\x85", "\ufffe", "\U0010ffff"]
)
def test_a_wrong_value_of_an_attribute_is_refused_by_name(
    base: dict[str, Any], name: str, value: Any
) -> None:
    error = refusal(base | {name: value})
    assert error.code == "invalid_event"
    assert f"'{name}'" in error.message


@pytest.mark.parametrize(
    ("version", "name"),
    [("0.3", "schemaurl"), ("0.3", "datacontentencoding"), ("1.0", "dataschema")],
)
def test_each_version_has_its_own_optional_attributes(version: str, name: str) -> None:
    event = COMPLETE | {"specversion": version}
    assert f"'{name}'" in refusal(event | {name: 5}).message
    other = "1.0" if version == "0.3" else "0.3"
    assert encode(event | {"specversion": other, name: 5})[name] == 5


@pytest.mark.parametrize(
    "time",
    [
        "2020-01-01T00:00:00Z",
        "2020-01-01t00:00:00z",
        "2020-02-29T23:59:60Z",
        "2020-01-01T00:00:00.123456789012+05:30",
        "2020-01-01T00:00:00-00:00",
    ],
)
def test_a_time_of_rfc_3339_is_passed_on_as_text(time: str) -> None:
    assert encode({"data": 1, "time": time})["time"] == time


@pytest.mark.parametrize(
    "time",
    [
        "2020-01-01",
        "2020-01-01T00:00:00",
        "2020-01-01 00:00:00Z",
        "2019-02-29T00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:00:00+24:00",
        "2020-01-01T00:00Z",
        "20200101T000000Z",
        "2020-W01-1T00:00:00Z",
        "٢٠٢٠-01-01T00:00:00Z",
        "now",
    ],
)
def test_any_other_time_is_invalid(time: str) -> None:
    assert "'time'" in refusal({"data": 1, "time": time}).message


@pytest.mark.parametrize("name", ["Upper", "a_b", "a-b", "a.b", "ä", "", "a\n", "a b", 0, b"ext"])
def test_a_wrong_name_of_an_extension_is_invalid(name: Any) -> None:
    for base in (COMPLETE, {"data": 1}, {"data": 1, "id": "1"}):
        assert "attribute name" in refusal(base | {name: "v"}).message


@pytest.mark.parametrize("name", ["a", "0", "x" * 40, "dataschema"])
def test_a_name_of_letters_and_digits_is_valid(name: str) -> None:
    assert encode({"data": 1, name: "v"})[name] == "v"


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**64, 1.0, [], {}, ["a"], "\n", "\ufdd0"])
def test_a_wrong_value_of_an_extension_is_refused_by_name(value: Any) -> None:
    assert "'ext'" in refusal({"data": 1, "ext": value}).message


# data and size


@pytest.mark.parametrize(("data", "why"), HOSTILE_DATA)
@pytest.mark.parametrize("base", [{}, {"id": "1"}, {"subject": "s"}, COMPLETE])
def test_hostile_data_is_invalid_on_every_way(data: Any, why: str, base: dict[str, Any]) -> None:
    error = refusal(base | {"data": data})
    assert error.code == "invalid_event"
    assert why in error.message


@pytest.mark.parametrize("base", [{}, COMPLETE])
def test_data_64_deep_is_allowed_and_65_deep_is_not(base: dict[str, Any]) -> None:
    assert encode(base | {"data": nested(64)})["data"] == nested(64)
    assert "64" in refusal(base | {"data": nested(65)}).message


@pytest.mark.parametrize("base", [{"id": "1"}, {"id": "1", "subject": "s"}])
def test_an_event_of_the_limit_is_taken_and_one_byte_more_is_too_large(
    base: dict[str, Any],
) -> None:
    event = base | {"data": "x" * 1000}
    size = len(EventEncoder("shop").encode(event)[1])
    assert encode(event, limit=size)["data"] == event["data"]
    assert refusal(event, limit=size - 1).code == "too_large"


@pytest.mark.parametrize(
    "event",
    [
        {"data": [[1]] * 1000},
        {"data": [[1]] * 1000, "subject": "s"},
        {"data": 1} | {f"a{number}": 1 for number in range(700)},
    ],
    ids=["data", "data beside an attribute", "attributes"],
)
def test_what_is_too_large_is_not_looked_through(
    event: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = EventEncoder("shop")
    monkeypatch.setattr("actorbus.data._check_depth", None)
    monkeypatch.setattr("actorbus.events.check_attributes", None)
    with pytest.raises(InvalidEventError) as caught:
        encoder.encode(event, limit=2000)
    assert caught.value.code == "too_large"


def test_the_event_given_is_not_changed() -> None:
    event = COMPLETE | {"subject": None, "time": "2020-01-01T00:00:00Z", "data": 1}
    before = dict(event)
    encode(event)
    assert event == before


@fuzz
@given(DATA, st.sampled_from(VERSIONS), st.booleans())
def test_what_is_encoded_comes_back_by_every_road(
    data: Any, specversion: str, has_subject: bool
) -> None:
    given_event = {"data": data} | ({"subject": "s"} if has_subject else {})
    _, canonical = EventEncoder("shop", specversion).encode(given_event)
    decoded = decode(canonical)
    assert decoded["data"] == data
    strict = json.loads(to_json(canonical), parse_constant=pytest.fail)
    assert from_json_form(strict) == decoded


@fuzz
@given(
    st.dictionaries(
        st.sampled_from(["id", "source", "data", "data_base64", "specversion", "time", "ext", "X"])
        | st.text(max_size=3),
        ANYTHING,
        max_size=5,
    )
    | ANYTHING
)
def test_whatever_comes_in_only_an_invalid_event_comes_out(event: Any) -> None:
    with contextlib.suppress(InvalidEventError):
        _, canonical = EventEncoder("shop").encode(event)
        assert json.loads(to_json(canonical), parse_constant=pytest.fail)["id"]


# JSON


def test_binary_data_of_1_0_is_data_base64_in_json() -> None:
    _, canonical = EventEncoder("shop", "1.0").encode({"id": "1", "data": b"\xff\x00"})
    assert json.loads(to_json(canonical)) == {
        "id": "1",
        "source": "shop",
        "type": "com.dapr.event.sent",
        "specversion": "1.0",
        "datacontenttype": "application/octet-stream",
        "data_base64": "/wA=",
    }


def test_binary_data_of_0_3_is_base64_data_with_its_encoding_in_json() -> None:
    _, canonical = EventEncoder("shop", "0.3").encode({"id": "1", "data": b"\xff\x00"})
    assert json.loads(to_json(canonical)) == {
        "id": "1",
        "source": "shop",
        "type": "com.dapr.event.sent",
        "specversion": "0.3",
        "datacontenttype": "application/octet-stream",
        "datacontentencoding": "base64",
        "data": "/wA=",
    }


def test_a_binary_extension_is_base64_text_in_json() -> None:
    _, canonical = EventEncoder("shop").encode({"data": 1, "ext": b"\xff"})
    assert json.loads(to_json(canonical))["ext"] == "/w=="


@pytest.mark.parametrize("text", ["/wA=", "no base64!"])
def test_text_named_base64_by_its_0_3_publisher_is_passed_on_unchanged(text: str) -> None:
    event = COMPLETE | {"specversion": "0.3", "datacontentencoding": "base64", "data": text}
    _, canonical = EventEncoder("shop").encode(event)
    assert decode(canonical) == event
    assert json.loads(to_json(canonical)) == event


def test_text_that_is_no_base64_survives_the_json_form() -> None:
    event = COMPLETE | {"specversion": "0.3", "datacontentencoding": "base64", "data": "no!"}
    assert from_json_form(event) == event


def test_bytes_with_another_encoding_are_invalid_in_0_3() -> None:
    event = COMPLETE | {"specversion": "0.3", "datacontentencoding": "gzip", "data": b"x"}
    assert "'datacontentencoding'" in refusal(event).message


def test_an_encoding_is_a_mere_extension_in_1_0() -> None:
    event = COMPLETE | {"datacontentencoding": "base64", "data": "/wA="}
    assert from_json_form(event) == event


def test_wrong_data_base64_in_the_json_form_is_an_invalid_event() -> None:
    with pytest.raises(InvalidEventError, match="data_base64"):
        from_json_form(COMPLETE | {"data_base64": "!"})


WORST = {
    "control characters": "\x00" * 100_000,
    "booleans": [False] * 100_000,
    "control characters in keys": {chr(i): False for i in range(32)},
    "negative integers": [-32] * 100_000,
    "long numbers": [-2.2250738585072014e-308] * 10_000,
    "large integers": [-(2**63)] * 10_000,
    "empty texts": [""] * 100_000,
    "quotes": '"\\' * 50_000,
    "bytes": b"\xff" * 100_000,
    "empty maps": [{}] * 100_000,
}


@pytest.mark.parametrize("specversion", VERSIONS)
@pytest.mark.parametrize("data", WORST.values(), ids=WORST)
def test_json_is_at_most_six_times_as_long_and_100_bytes(specversion: str, data: Any) -> None:
    _, canonical = EventEncoder("shop", specversion).encode({"data": data})
    assert len(to_json(canonical)) <= 6 * len(canonical) + 100


# dead letters


def test_a_dead_letter_is_unchanged_but_for_its_three_attributes() -> None:
    event = COMPLETE | {"data": b"\xff", "ext": "e"}
    letter = dead_letter(pack(event), reason="dropped", topic="orders", attempts=3)
    assert decode(letter) == event | {
        "deadletterreason": "dropped",
        "deadlettertopic": "orders",
        "deadletterattempts": 3,
    }


def test_a_second_dead_letter_replaces_the_attributes_of_the_first() -> None:
    first = dead_letter(pack(COMPLETE), reason="dropped", topic="a", attempts=1)
    second = dead_letter(first, reason="expired", topic="b", attempts=2)
    assert second == dead_letter(pack(COMPLETE), reason="expired", topic="b", attempts=2)


def test_a_dead_letter_may_be_published_again() -> None:
    letter = dead_letter(pack(COMPLETE), reason="why é", topic="a", attempts=1)
    assert encode(decode(letter)) == decode(letter)


# ids and encoders


def test_event_ids_are_unique_and_printable() -> None:
    ids = {new_event_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(event_id.isascii() and event_id.isprintable() for event_id in ids)


def test_a_forked_process_makes_other_ids() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # the child must not return into pytest
        os.write(writer, new_event_id().encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    prefix = os.read(reader, 100).decode().partition("-")[0]
    os.close(reader)
    os.close(writer)
    assert prefix != new_event_id().partition("-")[0]


@pytest.mark.parametrize(("source", "version"), [("", "1.0"), ("a\nb", "1.0"), ("a", "0.9")])
def test_an_encoder_whose_template_is_no_cloudevent_is_refused(source: str, version: str) -> None:
    with pytest.raises(InvalidEventError):
        EventEncoder(source, version)


def test_base64_of_a_large_event_comes_back() -> None:
    data = os.urandom(100_000)
    event = encode({"data_base64": base64.b64encode(data).decode()})
    assert event["data"] == data


# templates


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 12, 40])
@given(event_id=st.text(min_size=1, max_size=300).filter(str.isprintable), data=DATA)
def test_a_template_makes_what_the_encoder_makes(count: int, event_id: str, data: Any) -> None:
    """Whatever the length of the map's head: 15 attributes are the most of the shortest one."""
    attributes = {**COMPLETE, **{f"x{number}": "\xa2id\xa0" for number in range(count)}}
    del attributes["id"]
    event = TemplatedEvent(Template(attributes), event_id, data)
    assert dict(event) == {"id": event_id, **attributes, "data": data}
    assert len(event) == len(attributes) + 2
    assert (event.id, event.encode()) == EventEncoder("shop").encode(dict(event))


@pytest.mark.parametrize(
    "attributes",
    [
        {"source": "/s", "type": "t"},
        {"source": "/s", "type": "", "specversion": "1.0"},
        {"source": "/s", "type": "t", "specversion": "1.0", "X": "y"},
        {"source": "/s", "type": "t", "specversion": "0.3", "datacontentencoding": "gzip"},
    ],
)
def test_a_template_that_breaks_a_rule_is_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises(InvalidEventError):
        Template(attributes)


@pytest.mark.parametrize(
    ("event_id", "data", "code"),
    [
        ("", 1, "invalid_event"),
        ("\n", 1, "invalid_event"),
        (1, 1, "invalid_event"),
        ("1", float("nan"), "invalid_event"),
        ("1", "x" * 100, "too_large"),
        ("1", [1] * 100, "too_large"),
    ],
)
def test_a_templated_event_that_breaks_a_rule_is_refused(
    event_id: Any, data: Any, code: str
) -> None:
    template = Template({"source": "/s", "type": "t", "specversion": "1.0"})
    with pytest.raises(InvalidEventError) as caught:
        TemplatedEvent(template, event_id, data).encode(limit=100)
    assert caught.value.code == code
