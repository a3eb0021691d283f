import pytest

from bench.measure import Histogram, Seen, confirmed, judge


def histogram(*nanoseconds: int) -> Histogram:
    made = Histogram()
    for each in nanoseconds:
        made.record(each)
    return made


def bits(*numbers: int) -> bytes:
    return sum(1 << number for number in numbers).to_bytes(8, "little")


@pytest.mark.parametrize("nanoseconds", [0, 1, 127, 128, 255])
def test_durations_of_a_few_nanoseconds_are_kept_exactly(nanoseconds: int) -> None:
    assert histogram(nanoseconds).percentile(50) == nanoseconds


@pytest.mark.parametrize("nanoseconds", [256, 1_000, 123_456, 999_999_999, 2**63, 2**64 - 1])
def test_any_duration_is_kept_to_within_a_128th(nanoseconds: int) -> None:
    value = histogram(nanoseconds).percentile(50)

    assert value is not None
    assert abs(value - nanoseconds) <= nanoseconds / 128


def test_half_of_the_durations_do_not_exceed_the_median() -> None:
    assert histogram(*range(100)).percentile(50) == 49


def test_the_hundredth_percentile_is_the_longest() -> None:
    assert histogram(*range(100)).percentile(100) == 99


def test_the_last_in_a_thousand_begins_beyond_percentile_99_9() -> None:
    assert histogram(*[10] * 999, 200).percentiles([99.9, 100]) == [10, 200]


def test_no_durations_have_no_percentile() -> None:
    assert histogram().percentile(50) is None


def test_counts_of_two_processes_add_up() -> None:
    both = histogram(1, 2)
    both.add(histogram(2, 3).counts)

    assert both.counts == {1: 1, 2: 2, 3: 1}


def test_an_event_counts_once_however_often_it_arrives() -> None:
    seen = Seen(1)
    for number in (0, 1, 1, 1):
        seen.add(0, number)

    assert (seen.unique, seen.repeated) == (2, 2)


def test_publishers_are_counted_apart() -> None:
    seen = Seen(2)
    seen.add(0, 7)
    seen.add(1, 7)

    assert (seen.unique, seen.repeated) == (2, 0)


def test_a_late_event_makes_the_bitmap_longer_and_keeps_the_rest() -> None:
    seen = Seen(1)
    seen.add(0, 3)
    seen.add(0, 1_000_000)

    assert int.from_bytes(seen.bitmaps[0], "little") == 1 << 3 | 1 << 1_000_000


def test_a_number_beyond_all_events_is_refused() -> None:
    with pytest.raises(ValueError, match="beyond any"):
        Seen(1).add(0, 1 << 40)


def test_all_claimed_events_but_the_failed_are_confirmed() -> None:
    assert confirmed(5, [1, 3]) == 0b10101


def test_a_group_that_got_everything_once_is_judged_so() -> None:
    verdict = judge([confirmed(4, [])], 4, [[bits(0, 2)], [bits(1, 3)]])

    assert (verdict.lost, verdict.duplicates, verdict.unconfirmed) == (0, 0, 0)


def test_an_acknowledged_event_that_reached_no_instance_is_lost() -> None:
    assert judge([confirmed(4, [])], 3, [[bits(0)], [bits(1, 3)]]).lost == 1


def test_an_event_that_reached_two_instances_is_a_duplicate() -> None:
    assert judge([confirmed(2, [])], 3, [[bits(0, 1)], [bits(1)]]).duplicates == 1


def test_a_duplicate_does_not_make_up_for_a_loss() -> None:
    verdict = judge([confirmed(3, [])], 3, [[bits(0, 1)], [bits(1)]])

    assert (verdict.lost, verdict.duplicates) == (1, 1)


def test_an_event_whose_publish_failed_is_not_lost() -> None:
    assert judge([confirmed(2, [1])], 1, [[bits(0)]]).lost == 0


def test_an_event_that_arrived_though_its_publish_failed_is_unconfirmed() -> None:
    assert judge([confirmed(2, [1])], 2, [[bits(0, 1)]]).unconfirmed == 1


def test_losses_of_all_publishers_add_up() -> None:
    assert judge([confirmed(2, []), confirmed(2, [])], 2, [[bits(0), bits(1)]]).lost == 2
