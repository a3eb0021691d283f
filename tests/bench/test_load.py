import msgspec
import pytest

from bench.load import allowed_seconds, per_second, publisher_task
from bench.options import LoadOptions

URL = "ws://127.0.0.1:1/v1"


def shares(options: LoadOptions) -> list[int | None]:
    return [
        publisher_task(options, number, URL, "t").events for number in range(options.publishers)
    ]


def test_publishers_share_the_events_to_the_last() -> None:
    assert shares(LoadOptions(publishers=3, events=11)) == [4, 4, 3]


def test_publishers_by_duration_have_no_number_of_events() -> None:
    assert shares(LoadOptions(publishers=2)) == [None, None]


def test_publishers_share_the_rate_and_are_not_in_step() -> None:
    options = LoadOptions(publishers=2, rate=1000.0)
    tasks = [publisher_task(options, number, URL, "t") for number in range(2)]

    assert [(task.rate, task.phase) for task in tasks] == [(500.0, 0.0), (500.0, 0.5)]


def test_a_slow_rate_is_given_its_time() -> None:
    assert allowed_seconds(LoadOptions(events=1000, rate=10.0)) > 100


def test_a_run_by_duration_is_given_time_for_its_last_answers() -> None:
    options = LoadOptions(duration=10.0)

    assert allowed_seconds(options) > allowed_seconds(msgspec.structs.replace(options, duration=5))


@pytest.mark.parametrize(("ended", "rate"), [(2_000_000_000, 5.0), (0, 0.0)])
def test_a_rate_needs_time(ended: int, rate: float) -> None:
    assert per_second(10, 0, ended) == rate
