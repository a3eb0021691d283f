from typing import Any

import pytest

from actorbus.errors import RefusedError
from actorbus.options import check_options

RANGES = {
    "ack_wait_ms": (100, 600_000),
    "max_attempts": (0, 2**31 - 1),
    "backoff_ms": (10, 3_600_000),
    "max_backoff_ms": (10, 3_600_000),
    "max_in_flight": (0, 65_535),
}


def test_no_options_change_nothing_and_start_new() -> None:
    assert check_options({}) == ({}, "new")


@pytest.mark.parametrize(("name", "allowed"), RANGES.items())
def test_both_ends_of_a_range_are_allowed(name: str, allowed: tuple[int, int]) -> None:
    for value in allowed:
        assert check_options({name: value}) == ({name: value}, "new")


@pytest.mark.parametrize(("name", "allowed"), RANGES.items())
def test_past_a_range_is_an_invalid_option_that_names_range_and_value(
    name: str, allowed: tuple[int, int]
) -> None:
    for value in (allowed[0] - 1, allowed[1] + 1):
        with pytest.raises(RefusedError) as caught:
            check_options({name: value})
        assert caught.value.code == "invalid_option"
        assert name in caught.value.message
        assert str(allowed[1]) in caught.value.message
        assert str(value) in caught.value.message


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("value", [True, 1000.0, "1000", [], {}, float("nan"), 2**70])
def test_what_is_no_integer_is_an_invalid_option(name: str, value: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        check_options({name: value})
    assert caught.value.code == "invalid_option"


@pytest.mark.parametrize("name", [*RANGES, "dead_letter_topic"])
def test_null_puts_an_option_back(name: str) -> None:
    assert check_options({name: None}) == ({name: None}, "new")


def test_start_is_no_change_of_the_group() -> None:
    assert check_options({"start": "earliest", "max_attempts": 3}) == (
        {"max_attempts": 3},
        "earliest",
    )


def test_start_null_is_new() -> None:
    assert check_options({"start": None}) == ({}, "new")


@pytest.mark.parametrize("value", ["latest", "", 0, True, ["new"]])
def test_any_other_start_is_an_invalid_option(value: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        check_options({"start": value})
    assert caught.value.code == "invalid_option"


@pytest.mark.parametrize("topic", ["", "a b", "amq.x", "x" * 121, 7, False, ["t"]])
def test_a_dead_letter_topic_must_be_a_topic(topic: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        check_options({"dead_letter_topic": topic})
    assert caught.value.code == "invalid_option"


def test_a_dead_letter_topic_is_taken() -> None:
    assert check_options({"dead_letter_topic": "dead"}) == ({"dead_letter_topic": "dead"}, "new")


@pytest.mark.parametrize("name", ["ackwait", "", "start ", 0])
def test_an_unknown_option_is_an_invalid_option(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_options({name: None})
    assert caught.value.code == "invalid_option"
