from typing import Any

from actors.instance_state import InstanceState, PendingAck
from actors.messages import Failure, Offer, Run
from tests.actors.fakes import batch, run, spans

PLENTY = 10**9


def offer(*runs: Run, topic: str = "orders", generation: int = 1, alone: bool = False) -> Offer:
    return Offer(topic, generation, None, runs, 30_000, alone)


def test_an_offer_is_taken_up_to_the_room() -> None:
    state = InstanceState(5, 100)
    first_id, taken = state.take(offer(run(0, 3), run(3, 4)), PLENTY)
    assert (first_id, spans(taken)) == (100, [(0, 3), (3, 2)])
    assert (state.room("orders"), state.window.in_flight) == (0, 5)


def test_an_offer_is_taken_up_to_the_bytes() -> None:
    state = InstanceState(100, 0)
    _, taken = state.take(offer(Run(batch(0, 10, size=10), 0, 10)), 35)
    assert spans(taken) == [(0, 4)]


def test_one_event_goes_however_large() -> None:
    _, taken = InstanceState(100, 0).take(offer(Run(batch(0, 3, size=50), 0, 3)), 1)
    assert spans(taken) == [(0, 1)]


def test_nothing_is_taken_without_room_for_bytes() -> None:
    assert InstanceState(100, 0).take(offer(run(0, 1)), 0)[1] == []


def test_who_drains_takes_nothing() -> None:
    state = InstanceState(100, 0)
    state.draining = True
    assert state.room("orders") == 0
    assert state.take(offer(run(0, 1)), PLENTY)[1] == []


def test_a_lone_event_is_taken_with_nothing_else_in_flight() -> None:
    state = InstanceState(100, 0)
    assert spans(state.take(offer(run(0, 1), alone=True), PLENTY)[1]) == [(0, 1)]
    assert state.room("orders") == 0
    assert state.take(offer(run(5, 1), topic="other"), PLENTY)[1] == []
    state.window.settle([0])
    assert state.room("other") == 100


def test_a_lone_event_waits_until_the_rest_is_settled() -> None:
    state = InstanceState(100, 0)
    state.take(offer(run(0, 1), topic="other"), PLENTY)
    assert state.take(offer(run(7, 1), alone=True), PLENTY)[1] == []
    assert (state.room("other"), state.turn()) == (0, None)
    state.window.settle([0])
    assert state.turn() == "orders"
    assert (state.room("other"), state.room("orders")) == (0, 100)
    assert spans(state.take(offer(run(7, 1), alone=True), PLENTY)[1]) == [(7, 1)]
    assert not state.waits_to_be_alone()


def test_a_turn_that_is_not_used_passes() -> None:
    state = InstanceState(100, 0)
    state.take(offer(run(0, 1)), PLENTY)
    for topic in ("a", "b"):
        state.take(offer(run(1, 1), topic=topic, alone=True), PLENTY)
    state.window.settle([0])
    assert [state.turn(), state.turn(), state.turn()] == ["a", "b", None]
    assert state.room("orders") == 100


def test_a_group_that_ends_gives_its_turn_up() -> None:
    state = InstanceState(100, 0)
    state.take(offer(run(0, 1), topic="other"), PLENTY)
    state.take(offer(run(1, 1), alone=True), PLENTY)
    state.void("orders", None)
    assert state.room("other") == 99


def ack(state: InstanceState, *topics: str, generation: int = 1) -> tuple[PendingAck, list[int]]:
    pending = PendingAck("ack", 1, [3])
    tokens = [state.wait_for(pending, topic, generation, [(10, 0, 2)]) for topic in topics]
    return pending, tokens


def test_an_ack_is_complete_when_every_group_has_answered() -> None:
    state = InstanceState(1, 0)
    pending, (first, second) = ack(state, "a", "b")
    assert state.answered(first, [(10, 1, 1)]) is None
    assert state.answered(second, []) is pending
    assert pending.stale == [3, 11]


def test_an_answer_counts_once() -> None:
    state = InstanceState(1, 0)
    _, (first, _) = ack(state, "a", "b")
    state.answered(first, [])
    assert state.answered(first, []) is None


def test_a_failure_of_one_group_is_the_acks() -> None:
    state = InstanceState(1, 0)
    pending, (first, second) = ack(state, "a", "b")
    failure = Failure("store_unavailable", "away")
    state.answered(first, [], failure)
    assert state.answered(second, []) is pending
    assert pending.failure is failure


def test_a_group_that_ends_makes_its_share_stale() -> None:
    state = InstanceState(1, 0)
    pending, _ = ack(state, "a")
    assert state.void("a", None) == [pending]
    assert pending.stale == [3, 10, 11]


def test_a_group_that_is_opened_again_still_owes_its_answers() -> None:
    state = InstanceState(1, 0)
    pending, _ = ack(state, "a", generation=4)
    assert state.void("a", 4) == []
    assert state.void("a", 5) == [pending]


def test_leases_of_an_ended_generation_leave_the_window() -> None:
    state = InstanceState(5, 0)
    state.take(offer(run(0, 3), generation=1), PLENTY)
    state.void("orders", 2)
    assert state.room("orders") == 5


def test_values_are_cut_from_the_front() -> None:
    state: Any = InstanceState(2, 0)
    _, taken = state.take(offer(run(0, 1), run(1, 5)), PLENTY)
    assert spans(taken) == [(0, 1), (1, 1)]
