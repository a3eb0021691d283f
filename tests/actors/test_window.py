import pytest

from actors.window import Window, consecutive
from tests.actors.fakes import run


def window() -> Window:
    """Ids 10 to 14 of `a` in generation 1, then 15 and 16 of `b` in generation 2."""
    found = Window(8, 10)
    found.grant("a", 1, run(0, 5))
    found.grant("b", 2, run(0, 2))
    return found


def test_ids_rise_by_one_from_the_first() -> None:
    found = Window(100, 7)
    assert [found.grant("a", 1, run(0, 3)), found.grant("a", 1, run(3, 1))] == [7, 10]
    assert found.next_id() == 11


def test_room_is_what_is_left_of_the_limit() -> None:
    found = window()
    assert (found.room(), found.in_flight) == (1, 7)
    found.limit = 3
    assert found.room() == 0


def test_settled_ids_are_pieces_of_their_grants_by_topic() -> None:
    found = window()
    assert found.settle([11, 12, 15]) == ({"a": [(10, 1, 2)], "b": [(15, 0, 1)]}, [])
    assert found.in_flight == 4


def test_one_run_of_ids_may_span_grants() -> None:
    assert window().settle(list(range(10, 17))) == ({"a": [(10, 0, 5)], "b": [(15, 0, 2)]}, [])


def test_unknown_and_settled_ids_are_stale() -> None:
    found = window()
    found.settle([11])
    assert found.settle([9, 10, 11, 12, 99]) == ({"a": [(10, 0, 1), (10, 2, 1)]}, [9, 11, 99])


def test_an_id_named_twice_is_stale_the_second_time() -> None:
    assert window().settle([10, 10]) == ({"a": [(10, 0, 1)]}, [10])


def test_ids_in_any_order_are_found() -> None:
    pieces, stale = window().settle([16, 12, 10])
    assert pieces == {"b": [(15, 1, 1)], "a": [(10, 2, 1), (10, 0, 1)]}
    assert stale == []


def test_looking_settles_nothing() -> None:
    found = window()
    assert found.held([10, 11, 99]) == ({"a": [(10, 0, 2)]}, [99])
    assert found.in_flight == 7


def test_revoked_ids_are_stale() -> None:
    found = window()
    found.revoke("a", 1, [(10, 0, 3)])
    assert found.in_flight == 4
    assert found.settle([10, 13]) == ({"a": [(10, 3, 1)]}, [10])


@pytest.mark.parametrize(("topic", "generation"), [("a", 2), ("b", 1)])
def test_a_revoke_of_another_group_changes_nothing(topic: str, generation: int) -> None:
    found = window()
    found.revoke(topic, generation, [(10, 0, 5)])
    assert found.in_flight == 7


def test_a_topic_is_forgotten_up_to_a_generation() -> None:
    found = window()
    found.forget("b", 2)
    assert found.in_flight == 7
    found.forget("b", 3)
    assert found.topics() == {"a"}
    found.forget("a")
    assert (found.in_flight, found.topics()) == (0, set())


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], []),
        ([5], [(5, 1)]),
        ([5, 6, 7], [(5, 3)]),
        ([5, 7, 6], [(5, 1), (7, 1), (6, 1)]),
        ([5, 6, 6, 7], [(5, 2), (6, 2)]),
        ([-1, 0, 2**80], [(-1, 2), (2**80, 1)]),
    ],
)
def test_neighbours_are_found_in_the_order_given(
    ids: list[int], expected: list[tuple[int, int]]
) -> None:
    assert consecutive(ids) == expected
