from hypothesis import given
from hypothesis import strategies as st

from transport.stores.settled import SettledSet

LIMIT = 60
runs = st.lists(st.tuples(st.integers(0, LIMIT), st.integers(0, 12)), max_size=30)
floors = st.integers(0, 20)


def both(floor: int, added: list[tuple[int, int]]) -> tuple[SettledSet, set[int]]:
    settled = SettledSet(floor)
    plain = set(range(floor))
    for first, count in added:
        settled.add(first, count)
        plain.update(range(first, first + count))
    return settled, plain


def members(ranges: list[tuple[int, int]]) -> list[int]:
    return [position for start, end in ranges for position in range(start, end)]


@given(floors, runs)
def test_contains_what_a_plain_set_contains(floor: int, added: list[tuple[int, int]]) -> None:
    settled, plain = both(floor, added)
    assert [p for p in range(100) if p in settled] == sorted(plain)


@given(floors, runs)
def test_floor_is_the_lowest_position_missing(floor: int, added: list[tuple[int, int]]) -> None:
    settled, plain = both(floor, added)
    assert settled.floor == min(set(range(101)) - plain)


@given(floors, runs)
def test_ranges_are_sorted_and_never_touch(floor: int, added: list[tuple[int, int]]) -> None:
    settled, _ = both(floor, added)
    edges = [settled.floor, *(edge for pair in settled.ranges() for edge in pair)]
    assert edges == sorted(set(edges))


@given(floors, runs)
def test_above_and_top_count_from_the_floor(floor: int, added: list[tuple[int, int]]) -> None:
    settled, plain = both(floor, added)
    assert settled.above() == len([p for p in plain if p >= settled.floor])
    assert settled.top() == max(plain, default=-1) + 1


@given(floors, runs, st.integers(0, 80), st.integers(0, 80))
def test_settled_and_unsettled_divide_a_range(
    floor: int, added: list[tuple[int, int]], start: int, end: int
) -> None:
    settled, plain = both(floor, added)
    assert members(settled.settled(start, end)) == [p for p in range(start, end) if p in plain]
    assert members(settled.unsettled(start, end)) == [
        p for p in range(start, end) if p not in plain
    ]


@given(floors, runs, st.integers(0, 80))
def test_first_unsettled_is_the_next_one_missing(
    floor: int, added: list[tuple[int, int]], position: int
) -> None:
    settled, plain = both(floor, added)
    assert settled.first_unsettled(position) == min(set(range(position, 200)) - plain)


@given(floors, runs, st.integers(0, 80))
def test_around_is_the_whole_range(floor: int, added: list[tuple[int, int]], position: int) -> None:
    settled, plain = both(floor, added)
    around = settled.around(position)
    if position not in plain:
        assert around is None
        return
    assert around is not None
    start, end = around
    assert set(range(start, end)) <= plain
    assert start - 1 not in plain
    assert end not in plain


@given(floors, runs)
def test_bytes_bring_the_same_set_back(floor: int, added: list[tuple[int, int]]) -> None:
    settled, _ = both(floor, added)
    assert SettledSet.from_bytes(settled.floor, settled.to_bytes()) == settled


@given(floors, runs, runs)
def test_a_copy_is_independent(
    floor: int, added: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    settled, _ = both(floor, added)
    copy = settled.copy()
    before = repr(settled)
    for first, count in more:
        copy.add(first, count)
    assert repr(settled) == before


def test_ten_thousand_ranges_take_few_bytes() -> None:
    settled = SettledSet(0, [(n, n + 1) for n in range(1, 20_000, 2)])
    assert len(settled.ranges()) == 10_000
    assert len(settled.to_bytes()) < 20_010
