import pytest

from actorbus.store import GroupOptions
from actors import retry
from tests.actors.fakes import run

OPTIONS = GroupOptions(backoff_ms=1_000, max_backoff_ms=60_000)


@pytest.mark.parametrize(
    ("ending", "expected"), [("retry", (3, 1, 0)), ("missed", (3, 1, 2)), ("lost", (3, 2, 0))]
)
def test_an_attempt_ends_and_is_counted(
    ending: retry.Ending, expected: tuple[int, int, int]
) -> None:
    ended = retry.after(run(0, 1, attempts=2, lost=1, missed=1), ending)
    assert (ended.attempts, ended.lost, ended.missed) == expected


@pytest.mark.parametrize(
    ("attempts", "most", "expected"), [(9, 0, False), (2, 3, False), (3, 3, True), (4, 3, True)]
)
def test_attempts_are_exhausted_at_the_most(attempts: int, most: int, *, expected: bool) -> None:
    assert (
        retry.exhausted(run(0, 1, attempts=attempts), GroupOptions(max_attempts=most)) is expected
    )


@pytest.mark.parametrize(
    ("attempts", "lost", "most", "expected"),
    [(2, 1, 3, True), (2, 0, 3, False), (1, 1, 3, False), (2, 1, 0, False)],
)
def test_the_last_attempt_is_alone_if_a_connection_was_lost_before(
    attempts: int, lost: int, most: int, *, expected: bool
) -> None:
    options = GroupOptions(max_attempts=most)
    assert retry.suspect(run(0, 1, attempts=attempts, lost=lost), options) is expected


@pytest.mark.parametrize(
    ("ending", "attempts", "missed", "expected"),
    [
        ("lost", 5, 0, 0),
        ("missed", 1, 1, 0),
        ("missed", 2, 2, 1_000),
        ("missed", 4, 4, 4_000),
        ("missed", 9, 2, 1_000),
        ("retry", 1, 0, 1_000),
        ("retry", 3, 0, 4_000),
        ("retry", 99, 0, 60_000),
    ],
)
def test_back_off_doubles_up_to_its_end(
    ending: retry.Ending, attempts: int, missed: int, expected: int
) -> None:
    ended = run(0, 1, attempts=attempts, missed=missed)
    assert retry.delay_ms(ended, ending, OPTIONS, 1.0) == expected
    assert retry.delay_ms(ended, ending, OPTIONS, 0.5) == expected // 2


def test_a_shortest_pause_over_the_longest_wins() -> None:
    assert retry.backoff(5, GroupOptions(backoff_ms=5_000, max_backoff_ms=10)) == 5_000
