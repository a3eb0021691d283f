"""Streams that break one after the other."""

from transport.dapr.setbacks import FIRST, LONGEST, REMEMBERED, Setbacks


def after(breaks: int) -> float:
    setbacks = Setbacks()
    for _ in range(breaks):
        setbacks.broke("a")
    return setbacks.delay("a")


def test_the_first_break_delays_nothing() -> None:
    assert (after(0), after(1)) == (0, 0)


def test_from_the_second_break_on_the_delay_doubles() -> None:
    assert [after(breaks) for breaks in (2, 3, 4)] == [FIRST, 2 * FIRST, 4 * FIRST]


def test_the_delay_has_a_bound() -> None:
    assert (after(50), after(100)) == (LONGEST, LONGEST)


def test_a_settled_event_ends_the_row() -> None:
    setbacks = Setbacks()
    setbacks.broke("a")
    setbacks.broke("a")
    setbacks.settled("a")
    assert setbacks.delay("a") == 0


def test_one_app_does_not_delay_another() -> None:
    setbacks = Setbacks()
    setbacks.broke("a")
    setbacks.broke("a")
    assert setbacks.delay("b") == 0


def test_only_so_many_are_remembered_the_latest() -> None:
    setbacks = Setbacks()
    for number in range(REMEMBERED + 5):
        setbacks.broke(number)
        setbacks.broke(number)
    assert len(setbacks) == REMEMBERED
    assert setbacks.delay(0) == 0
    assert setbacks.delay(REMEMBERED + 4) == FIRST
