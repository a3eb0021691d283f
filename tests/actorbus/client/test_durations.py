"""Seconds to milliseconds."""

import pytest

from actorbus.client.durations import milliseconds
from actorbus.errors import RefusedError


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1, 1000), (0.1, 100), (2.5, 2500), (0.0001, 1), (0, 0), (0.29, 290)]
)
def test_a_duration_is_rounded_up_to_whole_milliseconds(seconds: float, expected: int) -> None:
    assert milliseconds(seconds, "delay", (0, 10_000)) == expected


@pytest.mark.parametrize("seconds", [-1, 11, float("inf"), float("nan"), True, "1", None])
def test_what_is_no_duration_in_range_is_refused(seconds: float) -> None:
    with pytest.raises(RefusedError, match="delay must be"):
        milliseconds(seconds, "delay", (0, 10_000))
