import datetime as dt
import enum
import math
import uuid
from typing import Any

import pytest
from hypothesis import given

from actorbus.data import pack_data
from actorbus.errors import InvalidEventError
from actorbus.packing import unpack
from tests.actorbus.hostile import DATA, HOSTILE_DATA, fuzz, nested


@fuzz
@given(DATA)
def test_allowed_data_comes_back_as_it_was(data: Any) -> None:
    assert unpack(pack_data(data)) == data


@pytest.mark.parametrize(("data", "why"), HOSTILE_DATA)
def test_hostile_data_is_refused_with_the_reason(data: Any, why: str) -> None:
    with pytest.raises(InvalidEventError, match=why) as caught:
        pack_data(data)
    assert caught.value.code == "invalid_event"


@pytest.mark.parametrize(("data", "why"), HOSTILE_DATA)
def test_hostile_data_is_refused_inside_an_array_and_a_map(data: Any, why: str) -> None:
    for inside in ([1, [data]], {"a": {"b": data}}):
        with pytest.raises(InvalidEventError, match=why):
            pack_data(inside)


def test_bytes_are_allowed_at_the_top_only() -> None:
    assert pack_data(b"\xff") == b"\xc4\x01\xff"
    with pytest.raises(InvalidEventError, match="bytes"):
        pack_data([b"\xff"])


@pytest.mark.parametrize("kind", ["array", "map", "mixed"])
def test_64_levels_are_allowed_and_65_are_not(kind: Any) -> None:
    assert unpack(pack_data(nested(64, kind))) == nested(64, kind)
    with pytest.raises(InvalidEventError, match="deeper than 64"):
        pack_data(nested(65, kind))


@pytest.mark.parametrize("depth", [65, 66, 254, 255, 600, 1024, 5000])
def test_deeper_data_never_escapes_as_another_error(depth: int) -> None:
    with pytest.raises(InvalidEventError, match="deeper than 64"):
        pack_data(nested(depth))


def test_a_wide_and_shallow_document_is_allowed() -> None:
    data = [{"a": [1]} for _ in range(1000)]
    assert unpack(pack_data(data)) == data


def test_one_deep_branch_in_a_wide_document_is_found() -> None:
    with pytest.raises(InvalidEventError, match="deeper than 64"):
        pack_data([*[{}] * 500, nested(64), *[{}] * 500])


def test_a_circular_document_is_too_deep() -> None:
    data: list[object] = []
    data.append(data)
    with pytest.raises(InvalidEventError, match="deeper than 64"):
        pack_data(data)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, -math.nan])
def test_a_number_that_is_not_finite_is_found_beside_nulls_and_text(number: float) -> None:
    for data in (number, [None, number], {"null": number}, ["x" * 500, number]):
        with pytest.raises(InvalidEventError, match="finite"):
            pack_data(data)


@pytest.mark.parametrize("number", [1.7976931348623157e308, -1.7976931348623157e308, 5e-324])
def test_the_largest_and_smallest_numbers_are_allowed_beside_null(number: float) -> None:
    assert unpack(pack_data([None, number])) == [None, number]


def test_text_that_looks_like_a_wrong_number_is_allowed() -> None:
    data = ["null", None, 0xCB7FF0, "\u02ff", -3.5]
    assert unpack(pack_data(data)) == data


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "data",
    [
        uuid.UUID(int=1),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        Colour.RED,
        {1, 2},
        object(),
        1j,
    ],
)
def test_python_values_without_a_json_type_are_refused(data: Any) -> None:
    for value in (data, [data]):
        with pytest.raises(InvalidEventError):
            pack_data(value)


def test_a_tuple_is_an_array() -> None:
    assert pack_data({"a": (1, 2)}) == pack_data({"a": [1, 2]})


def test_only_so_many_values_are_looked_through_for_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actorbus.data._LOOKED_THROUGH", 10)
    with pytest.raises(InvalidEventError, match="is no JSON type"):
        pack_data([1] * 9 + [b"x"])
    with pytest.raises(InvalidEventError, match="data contains bytes"):
        pack_data([1] * 8 + [b"x"])
