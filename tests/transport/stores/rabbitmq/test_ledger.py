from actorbus.store import Attempt
from tests.transport.stores.rabbitmq.support import events, spans
from transport.stores.rabbitmq.ledger import Held, Ledger, unwanted
from transport.stores.rabbitmq.memory import MESSAGES, Memories, Memory
from transport.stores.rabbitmq.messages import Arrived, History


def filled(*counts: int) -> tuple[Ledger, list[Held]]:
    """A ledger that holds messages of so many events, with tags from 1 on."""
    ledger = Ledger()
    helds = [
        ledger.add(tag, f"m{tag}", Arrived(events(*range(count))), 0.0, None)
        for tag, count in enumerate(counts, 1)
    ]
    return ledger, helds


def test_positions_run_on_over_messages() -> None:
    ledger, helds = filled(3, 2)
    assert [held.first for held in helds] == [0, 3]
    assert ledger.position == 5


def test_a_message_is_left_until_its_last_event_is_settled() -> None:
    ledger, (held,) = filled(3)
    assert ledger.settle([(0, 1), (2, 1)]) == [held]
    assert held.left == 0b010
    assert ledger.settle([(1, 1)]) == [held]
    assert held.left == 0


def test_one_run_settles_events_of_several_messages() -> None:
    ledger, helds = filled(3, 2, 2)
    assert ledger.settle([(1, 5)]) == helds
    assert [held.left for held in helds] == [0b001, 0, 0b10]


def test_settling_twice_changes_nothing() -> None:
    ledger, _ = filled(3)
    ledger.settle([(0, 2)])
    assert ledger.settle([(0, 2)]) == []


def test_positions_of_a_removed_message_are_unknown() -> None:
    ledger, (first, second) = filled(3, 2)
    ledger.remove(first)
    assert ledger.find(1) is None
    assert ledger.find(4) == (second, 1)
    assert ledger.settle([(0, 4)]) == [second]


def test_size_and_events_follow_what_is_in_hand() -> None:
    ledger, (first, second) = filled(3, 2)
    ledger.remove(first)
    assert (ledger.size, ledger.events) == (second.size, 2)


def test_runs_break_where_histories_differ() -> None:
    ledger = Ledger()
    arrived = Arrived(
        events(1, 2, 3, 4), None, (History(1), History(1), History(2, 1, 9), History())
    )
    held = ledger.add(1, "m", arrived, 0.0, None)
    runs = held.stored(held.left)
    assert spans(runs) == [(0, 2), (2, 1), (3, 1)]
    assert [(run.attempts, run.lost, run.not_before) for run in runs] == [
        (1, 0, 0),
        (2, 1, 9),
        (0, 0, 0),
    ]


def test_a_failed_event_stays_while_others_of_its_message_are_unsettled() -> None:
    ledger, (held,) = filled(3)
    ledger.attempted([Attempt(1, 1, 0, 0)])
    assert unwanted(held, aged=False) == []


def test_a_failed_event_moves_once_the_rest_is_settled() -> None:
    ledger, (held,) = filled(3)
    ledger.attempted([Attempt(1, 1, 0, 0)])
    ledger.settle([(0, 1), (2, 1)])
    assert unwanted(held, aged=False) == [1]


def test_a_failed_event_of_an_aged_message_moves_at_once() -> None:
    ledger, (held,) = filled(3)
    ledger.attempted([Attempt(1, 1, 0, 0)])
    assert unwanted(held, aged=True) == [1]


def test_an_event_that_is_moving_is_not_asked_for_again() -> None:
    ledger, (held,) = filled(2)
    ledger.attempted([Attempt(0, 1, 0, 0), Attempt(1, 1, 0, 0)])
    held.moving = 0b01
    assert unwanted(held, aged=False) == [1]


def test_an_attempt_of_a_settled_event_is_ignored() -> None:
    ledger, _ = filled(2)
    ledger.settle([(0, 1)])
    assert ledger.attempted([Attempt(0, 1, 0, 0), Attempt(9, 1, 0, 0)]) == []


def test_only_tags_before_the_oldest_in_hand_are_acknowledged_at_once() -> None:
    ledger, (first, _, third, fourth) = filled(1, 1, 1, 1)
    for held in (first, third, fourth):
        ledger.remove(held)
    assert ledger.cumulative({1, 3, 4}) == 1
    assert ledger.cumulative({3, 4}) is None


def test_all_tags_are_acknowledged_at_once_when_nothing_is_in_hand() -> None:
    ledger, helds = filled(1, 1)
    for held in helds:
        ledger.remove(held)
    assert ledger.cumulative({1, 2}) == 2


def test_what_was_settled_in_an_earlier_hand_is_left_out() -> None:
    memory = Memory(0b101, {2: History(4)})
    held = Ledger().add(1, "m", Arrived(events(1, 2, 3)), 0.0, memory)
    runs = held.stored(held.left)
    assert spans(runs) == [(0, 1), (2, 1)]
    assert runs[1].attempts == 4


def test_a_message_with_anything_done_to_it_may_not_go_back_as_it_is() -> None:
    ledger, (whole, settled, failed) = filled(2, 2, 2)
    ledger.settle([(2, 1)])
    ledger.attempted([Attempt(4, 1, 0, 0)])
    assert [held.whole(0b11) for held in (whole, settled, failed)] == [True, False, False]


def test_a_message_goes_back_whole_only_with_all_of_its_events() -> None:
    _, (held,) = filled(2)
    assert not held.whole(0b01)


def test_a_message_that_went_back_often_may_not_go_back_as_it_is() -> None:
    held = Ledger().add(1, "m", Arrived(events(1), worn=True), 0.0, None)
    assert not held.whole(0b1)


def test_a_memory_is_taken_once() -> None:
    memories = Memories()
    memories.put("m", 1, {})
    assert memories.take("m") == Memory(1, {})
    assert memories.take("m") is None


def test_memories_are_bounded_and_the_oldest_go() -> None:
    memories = Memories()
    for number in range(MESSAGES + 1):
        memories.put(f"m{number}", 0, {})
    assert len(memories) == MESSAGES
    assert memories.take("m0") is None


def test_a_message_without_an_id_is_not_remembered() -> None:
    memories = Memories()
    memories.put(None, 0, {})
    assert (len(memories), memories.take(None)) == (0, None)
