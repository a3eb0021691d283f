import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import bits


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [(0, 0, 0), (0, 3, 0b111), (2, 2, 0b1100), (0, 1000, 2**1000 - 1)],
)
def test_a_mask_has_the_bits_of_its_range(offset: int, count: int, expected: int) -> None:
    assert bits.mask(offset, count) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, []), (0b1, [(0, 1)]), (0b110111, [(0, 3), (4, 2)]), (1 << 999, [(999, 1)])],
)
def test_runs_are_maximal_and_in_order(number: int, expected: list[tuple[int, int]]) -> None:
    assert list(bits.runs(number)) == expected


@given(st.integers(0, 2**200))
def test_runs_add_up_to_the_number(number: int) -> None:
    found = list(bits.runs(number))
    assert sum(bits.mask(*run) for run in found) == number
    assert all(a + b < c for (a, b), (c, _) in itertools.pairwise(found))
