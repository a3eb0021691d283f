"""Delays between attempts."""

from actorbus.client.backoff import Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 0.5, draw=lambda: 1.0)
    assert [backoff.next() for _ in range(5)] == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_jitter_takes_at_most_half() -> None:
    backoff = Backoff(1.0, 4.0, draw=lambda: 0.0)
    assert [backoff.next() for _ in range(4)] == [0.5, 1.0, 2.0, 2.0]


def test_a_reset_begins_again() -> None:
    backoff = Backoff(1.0, 4.0, draw=lambda: 1.0)
    backoff.next()
    backoff.reset()
    assert backoff.next() == 1.0
