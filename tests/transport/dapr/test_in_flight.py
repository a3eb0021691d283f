"""What waits for the app's answer, and until when."""

from transport.dapr.in_flight import InFlight, Item

WAIT = 30.0


class Lease:
    def __init__(self) -> None:
        self.lost = False


Flight = InFlight[Lease, str]
Waiting = Item[Lease, str]


def item(event_id: str, at: float = 0.0) -> Waiting:
    return Item(event_id, Lease(), f"message {event_id}", at)


def filled(*ids: str, at: float = 0.0) -> tuple[Flight, list[Waiting]]:
    flight = Flight()
    items = [item(event_id, at) for event_id in ids]
    for one in items:
        flight.add(one)
    return flight, items


def test_an_event_is_sent_at_once_and_settled_by_its_id() -> None:
    flight, _ = filled()
    first = item("a")
    assert flight.add(first) is first
    assert flight.settle("a", 1) == (first, None)
    assert len(flight) == 0


def test_an_unknown_id_settles_nothing() -> None:
    flight, _ = filled("a")
    assert flight.settle("b", 1) == (None, None)
    assert len(flight) == 1


def test_an_id_settles_once() -> None:
    flight, _ = filled("a")
    flight.settle("a", 1)
    assert flight.settle("a", 2) == (None, None)


def test_a_second_event_of_the_same_id_is_held_until_the_first_is_settled() -> None:
    flight, (first,) = filled("a")
    second = item("a")
    assert flight.add(second) is None
    assert flight.settle("a", 1) == (first, second)
    assert flight.settle("a", 2) == (second, None)


def test_a_held_event_is_sent_when_the_first_is_late() -> None:
    flight, (first,) = filled("a")
    second = item("a", at=20)
    flight.add(second)
    look = flight.look(30, WAIT)
    assert (look.late, look.send) == ([first], [second])


def test_an_event_that_comes_again_after_its_lease_was_lost_is_sent_at_once() -> None:
    flight, (first,) = filled("a")
    first.delivery.lost = True
    again = item("a", at=1)
    assert flight.add(again) is again
    assert flight.settle("a", 2) == (again, None)
    assert first.gone


def test_those_that_wait_behind_the_oldest_are_renewed() -> None:
    flight, items = filled("a", "b", "c")
    look = flight.look(29.9, WAIT)
    assert (look.renew, look.late) == (items, [])


def test_a_serial_handler_has_the_whole_time_for_each_event() -> None:
    flight, _ = filled(*"abcdefgh")
    for step, event_id in enumerate("abcdefgh", 1):
        assert flight.look(step * 29.0, WAIT).late == []
        flight.settle(event_id, step * 29.0)
    assert len(flight) == 0


def test_an_app_that_answers_nothing_is_late_with_all() -> None:
    flight, items = filled("a", "b", "c")
    look = flight.look(30, WAIT)
    assert (look.late, look.renew) == (items, [])
    assert len(flight) == 0


def test_what_was_sent_lately_is_not_late_with_the_oldest() -> None:
    flight, (first,) = filled("a")
    second = item("b", at=29)
    flight.add(second)
    look = flight.look(30, WAIT)
    assert (look.late, look.renew) == ([first], [second])
    assert flight.look(59.9, WAIT).late == []
    assert flight.look(60, WAIT).late == [second]


def test_an_event_that_the_app_lost_is_late_though_others_are_settled() -> None:
    flight, (lost, *_) = filled("lost", "b", "c")
    flight.settle("b", 29)
    flight.settle("c", 29.5)
    assert flight.look(30, WAIT).late == [lost]


def test_lost_events_are_late_one_after_the_other_while_others_are_settled() -> None:
    flight, (first, second, _) = filled("a", "b", "c")
    flight.settle("c", 29)
    assert flight.look(30, WAIT).late == [first]
    assert flight.look(59.9, WAIT).late == []
    assert flight.look(60, WAIT).late == [second]


def test_a_lost_lease_is_not_renewed() -> None:
    flight, (first, second) = filled("a", "b")
    first.delivery.lost = True
    look = flight.look(1, WAIT)
    assert (look.late, look.renew) == ([first], [second])


def test_the_next_look_is_a_quarter_later_or_when_an_event_is_due() -> None:
    flight, _ = filled("a")
    assert flight.look(0, WAIT).again == 7.5
    assert flight.look(29, WAIT).again == 30


def test_a_late_event_is_not_sent_any_more() -> None:
    flight, (first,) = filled("a")
    assert not first.gone
    flight.look(30, WAIT)
    assert first.gone


def test_the_oldest_is_the_one_to_blame() -> None:
    flight, (first, second) = filled("a", "b")
    assert flight.oldest is first
    flight.settle("a", 1)
    assert flight.oldest is second
    flight.settle("b", 1)
    assert flight.oldest is None
