from typing import Any

import pytest

from actorbus.limits import GROUP_OUTSTANDING, GROUP_READ_AHEAD_BYTES
from actorbus.store import Attempt, Batch, Fetched, GroupOptions, Stored
from actors import effects as fx
from actors import messages as msg
from actors.counters import GroupCounters
from actors.group_state import SLEEP_AFTER_MS, GroupState
from actors.reading import FETCH_PAUSE_MS
from tests.actors.fakes import LOG, QUEUE, at, batch, spans

OPTIONS: dict[str, Any] = {"ack_wait_ms": 1_000, "backoff_ms": 100, "max_backoff_ms": 400}


class Group:
    """A group whose feed is open and read to its end, and member 1 with room for ten."""

    def __init__(self, *, log: bool = True, rooms: tuple[int, ...] = (10,), **options: Any) -> None:
        self.time = 0
        self.tally = GroupCounters()
        self.options = GroupOptions(**{**OPTIONS, **options})
        abilities = LOG if log else QUEUE
        self.state = GroupState(self.options, abilities, self.tally, lambda: 1.0, at(0))
        self.ids = 100
        self.tell(msg.FeedOpen(type("Feed", (), {"position": 0}), self.options))
        for member, room in enumerate(rooms, 1):
            self.tell(msg.Attach(member, None))
            self.tell(msg.Room(member, 1, room))
        if log and rooms:
            self.tell(msg.FetchDone(Fetched((), 0)))

    def tell(self, *messages: msg.Message) -> list[fx.Effect]:
        """One turn."""
        for message in messages:
            self.state.handle(message, at(self.time))
        return [
            effect
            for effect in self.state.pump(at(self.time))
            if not isinstance(effect, fx.SetTimer)
        ]

    def tick(self, time: int) -> list[fx.Effect]:
        """The timer goes off at this time."""
        self.time = time
        return self.tell(msg.Tick())

    def publish(self, first: int, count: int, **settings: Any) -> list[fx.Effect]:
        """A notice of a batch."""
        return self.tell(msg.Notice((batch(first, count, **settings),)))

    def take(self, offer: fx.Effect, count: int | None = None, room: int = 10) -> list[fx.Effect]:
        """The instance takes an offer, or so much of it; its first id is `self.ids`."""
        assert isinstance(offer, fx.Deliver)
        number = sum(run.count for run in offer.runs) if count is None else count
        self.ids += 100
        return self.tell(msg.Taken(offer.member, 1, self.ids, number, room))

    def lease(self, first: int, count: int, **settings: Any) -> int:
        """Publish and take a batch; its first id."""
        [offer] = self.publish(first, count, **settings)
        assert self.take(offer) == []
        return self.ids

    def settle(self, first_id: int, offset: int = 0, count: int = 1, **how: Any) -> list[fx.Effect]:
        piece = ((first_id, offset, count),)
        how = {"status": "SUCCESS", **how}
        return self.tell(msg.Settle(1, 1, piece, room=10, **how))


def kinds(effects: list[fx.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def of(kind: type[Any], effects: list[fx.Effect]) -> Any:
    """The one effect of this kind."""
    [found] = [effect for effect in effects if isinstance(effect, kind)]
    return found


# --- offers ---------------------------------------------------------------------------------------


def test_a_noticed_batch_is_offered_at_once() -> None:
    [offer] = Group().publish(0, 3)
    assert isinstance(offer, fx.Deliver)
    assert (offer.member, spans(offer.runs), offer.alone) == (1, [(0, 3)], False)


def test_nothing_is_offered_before_the_member_has_told_its_room() -> None:
    group = Group(rooms=())
    assert kinds(group.tell(msg.Attach(7, None))) == ["Open", "Fetch"]
    group.tell(msg.FetchDone(Fetched((), 0)))
    assert group.publish(0, 1) == []
    assert kinds(group.tell(msg.Room(7, 1, 1))) == ["Deliver"]


def test_no_more_is_offered_than_there_is_room() -> None:
    [offer] = Group(rooms=(4,)).publish(0, 9)
    assert spans(offer.runs) == [(0, 4)]  # type: ignore[attr-defined]  # a Deliver


def test_a_run_is_split_over_instances_with_room() -> None:
    offers = Group(rooms=(2, 2)).publish(0, 4)
    assert sorted(position for offer in offers for position, _ in spans(offer.runs)) == [0, 1, 2, 3]  # type: ignore[attr-defined]  # Delivers
    assert {offer.member for offer in offers} == {1, 2}  # type: ignore[attr-defined]  # same


def test_the_next_round_waits_for_all_answers() -> None:
    group = Group(rooms=(5, 5))
    first, second = group.publish(0, 2)
    assert group.publish(2, 2) == []
    assert group.take(first) == []
    assert kinds(group.take(second)) == ["Deliver", "Deliver"]


def test_what_is_not_taken_is_offered_again_in_order() -> None:
    group = Group()
    [offer] = group.publish(0, 5)
    assert group.take(offer, 2, room=0) == []
    [again] = group.tell(msg.Room(1, 1, 10))
    assert isinstance(again, fx.Deliver)
    assert spans(again.runs) == [(2, 3)]


def test_leases_never_exceed_max_in_flight() -> None:
    group = Group(max_in_flight=2)
    [offer] = group.publish(0, 5)
    assert spans(offer.runs) == [(0, 2)]  # type: ignore[attr-defined]  # a Deliver
    assert group.take(offer) == []
    effects = group.settle(group.ids)
    assert spans(of(fx.Deliver, effects).runs) == [(2, 1)]


def test_leased_and_delayed_events_never_exceed_the_bound() -> None:
    group, room = Group(rooms=(60_000,)), 60_000
    for first in range(0, GROUP_OUTSTANDING, 1_000):
        [offer] = group.publish(first, 1_000)
        group.take(offer, room=room)
        pieces = ((group.ids, 0, 1_000),)
        group.tell(msg.Settle(1, 1, pieces, "RETRY", room, 5_000))
    assert group.publish(GROUP_OUTSTANDING, 5) == []
    assert group.state.outstanding() == GROUP_OUTSTANDING
    offer = of(fx.Deliver, group.tick(5_000))
    assert sum(run.count for run in offer.runs) == GROUP_OUTSTANDING


def test_an_unsubscribed_member_gets_nothing_more_and_may_settle() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    group.tell(msg.Leave(1))
    assert group.publish(1, 1) == []
    assert of(fx.SettleRuns, group.settle(first_id)).runs == ((0, 1),)
    assert len(group.state.members) == 0


# --- settling -------------------------------------------------------------------------------------


def test_settled_events_go_to_the_store_as_runs() -> None:
    group = Group()
    first_id = group.lease(0, 5)
    assert of(fx.SettleRuns, group.settle(first_id, 1, 3)).runs == ((1, 3),)


def test_an_answer_waits_until_the_settling_is_durable() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    effects = group.settle(first_id, token=7)
    assert kinds(effects) == ["SettleRuns"]
    [reply] = group.state.answered(of(fx.SettleRuns, effects).answers, failed=False)
    answer = of(fx.Reply, [reply]).answer
    assert (answer.token, answer.stale, answer.failed) == (7, (), False)


def test_an_answer_tells_that_the_store_failed() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    call = of(fx.SettleRuns, group.settle(first_id, token=7))
    [reply] = group.state.answered(call.answers, failed=True)
    assert of(fx.Reply, [reply]).answer.failed


def test_what_is_stale_is_answered_at_once() -> None:
    group = Group()
    [reply] = group.settle(55, token=7)
    assert of(fx.Reply, [reply]).answer.stale == ((55, 0, 1),)


def test_many_acks_of_one_turn_are_one_call() -> None:
    group = Group()
    first_id = group.lease(0, 2)
    settle = [msg.Settle(1, 1, ((first_id, n, 1),), "SUCCESS", 10, token=n) for n in (0, 1)]
    effects = group.tell(*settle)
    call = of(fx.SettleRuns, effects)
    assert (call.runs, len(call.answers)) == (((0, 1), (1, 1)), 2)


# --- redelivery -----------------------------------------------------------------------------------


def test_a_retry_comes_back_after_its_delay_with_its_attempt_kept() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    effects = group.settle(first_id, status="RETRY", delay_ms=250)
    assert of(fx.RecordAttempts, effects).attempts == (Attempt(0, 1, 0, at(250).wall),)
    assert group.tick(249) == []
    offer = of(fx.Deliver, group.tick(250))
    assert [(run.position, run.attempts) for run in offer.runs] == [(0, 1)]


def test_a_retry_without_a_delay_backs_off() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    group.settle(first_id, status="RETRY")
    assert group.tick(99) == []
    assert kinds(group.tick(100)) == ["Deliver"]


def test_a_missed_deadline_revokes_and_redelivers_at_once() -> None:
    group = Group()
    first_id = group.lease(0, 2)
    assert group.tick(999) == []
    effects = group.tick(1_000)
    assert of(fx.Revoked, effects).pieces == ((first_id, 0, 2),)
    assert [(run.attempts, run.missed) for run in of(fx.Deliver, effects).runs] == [(1, 1)]


def test_who_missed_a_deadline_gets_one_until_it_settles_in_time() -> None:
    group = Group()
    group.lease(0, 3)
    offer = of(fx.Deliver, group.tick(1_000))
    assert [run.count for run in offer.runs] == [1]
    assert group.take(offer) == []
    effects = group.settle(group.ids)
    assert sum(run.count for run in of(fx.Deliver, effects).runs) == 2


def test_an_extended_lease_lives_on() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    group.time = 900
    [reply] = group.tell(msg.Extend(1, 1, ((first_id, 0, 1), (7, 0, 1)), None, 3))
    assert of(fx.Reply, [reply]).answer.stale == ((7, 0, 1),)
    assert group.tick(1_899) == []
    assert "Revoked" in kinds(group.tick(1_900))


def test_a_lost_connection_counts_and_redelivers_at_once() -> None:
    group = Group(rooms=(10, 0))
    group.lease(0, 2)
    group.tell(msg.Room(2, 1, 10))
    effects = group.tell(msg.Detach(1, counts=True))
    assert of(fx.RecordAttempts, effects).attempts == (Attempt(0, 1, 1, 0), Attempt(1, 1, 1, 0))
    assert of(fx.Deliver, effects).member == 2


def test_what_the_broker_takes_back_does_not_count() -> None:
    group = Group(rooms=(10, 0))
    group.lease(0, 2)
    group.tell(msg.Room(2, 1, 10))
    effects = group.tell(msg.Detach(1, counts=False))
    assert kinds(effects) == ["Deliver"]
    assert {run.attempts for run in of(fx.Deliver, effects).runs} == {0}


def test_an_offer_to_who_has_gone_goes_to_others() -> None:
    group = Group(rooms=(10, 0))
    [offer] = group.publish(0, 1)
    assert offer.member == 1  # type: ignore[attr-defined]  # a Deliver
    group.tell(msg.Room(2, 1, 10))
    assert of(fx.Deliver, group.tell(msg.Detach(1, counts=True))).member == 2
    group.tell(msg.Taken(1, 1, 900, 1, 5))
    assert group.state.leases.count == 0  # an answer that came too late grants nothing


def test_the_last_attempt_after_lost_connections_is_alone() -> None:
    group = Group(rooms=(10, 0), max_attempts=2)
    group.lease(0, 2)
    group.tell(msg.Room(2, 1, 10))
    effects = group.tell(msg.Detach(1, counts=True))
    offer = of(fx.Deliver, effects)
    assert (offer.alone, spans(offer.runs)) == (True, [(0, 1)])


def test_new_options_make_a_suspect_travel_alone() -> None:
    group = Group(rooms=(10, 0))
    group.lease(0, 1)
    assert kinds(group.tell(msg.Detach(1, counts=True))) == ["RecordAttempts"]
    group.tell(msg.Configure(GroupOptions(max_attempts=2)))
    assert of(fx.Deliver, group.tell(msg.Room(2, 1, 10))).alone


# --- giving up ------------------------------------------------------------------------------------


def test_dropped_events_without_a_dead_letter_topic_are_settled_and_counted() -> None:
    group = Group()
    first_id = group.lease(0, 2)
    assert kinds(group.settle(first_id, 0, 2, status="DROP")) == ["SettleRuns"]
    assert group.tally.dropped == 2


def test_a_dropped_event_is_settled_once_its_letter_is_durable() -> None:
    group = Group(dead_letter_topic="dead")
    first_id = group.lease(0, 1)
    letter = of(fx.DeadLetter, group.settle(first_id, status="DROP", reason="bad", token=3))
    assert (letter.topic, letter.reason, letter.run.attempts) == ("dead", "bad", 1)
    effects = group.tell(msg.DeadLetterDone(letter.token, durable=True))
    [call] = effects
    assert isinstance(call, fx.SettleRuns)
    [reply] = group.state.answered(call.answers, failed=False)
    assert of(fx.Reply, [reply]).answer.token == 3
    assert group.tally.dead_lettered == 1


def test_a_letter_that_fails_is_tried_again_with_back_off() -> None:
    group = Group(dead_letter_topic="dead")
    first_id = group.lease(0, 1)
    letter = of(fx.DeadLetter, group.settle(first_id, status="DROP"))
    for start, pause in ((0, 100), (100, 200), (300, 400), (700, 400)):
        assert group.tell(msg.DeadLetterDone(letter.token, durable=False)) == []
        assert group.tick(start + pause - 1) == []
        assert kinds(group.tick(start + pause)) == ["DeadLetter"]


def test_a_letter_that_is_durable_after_all_is_not_tried_again() -> None:
    group = Group(dead_letter_topic="dead")
    first_id = group.lease(0, 1)
    letter = of(fx.DeadLetter, group.settle(first_id, status="DROP"))
    group.tell(msg.DeadLetterDone(letter.token, durable=False))
    assert kinds(group.tell(msg.DeadLetterDone(letter.token, durable=True))) == ["SettleRuns"]
    assert group.tick(100) == []


def test_the_last_attempt_of_an_event_that_dies_is_recorded() -> None:
    """So a crash before the letter is durable does not deliver it once more."""
    group = Group(dead_letter_topic="dead", max_attempts=1)
    first_id = group.lease(0, 1)
    effects = group.settle(first_id, status="RETRY")
    assert of(fx.DeadLetter, effects).reason == "max_attempts"
    assert of(fx.RecordAttempts, effects).attempts == (Attempt(0, 1, 0, 0),)


def test_an_event_from_the_store_without_attempts_left_is_not_delivered() -> None:
    group = Group(dead_letter_topic="dead", max_attempts=2)
    group.tell(msg.Notice(()))
    stored = Stored(batch(0, 1), 0, 1, attempts=2)
    effects = group.tell(msg.FetchDone(Fetched((stored,), 1)))
    assert of(fx.DeadLetter, effects).run.attempts == 2
    assert "Deliver" not in kinds(effects)


def test_an_expired_event_is_not_delivered() -> None:
    group = Group(rooms=(0,))
    group.publish(0, 2, expires_at=at(500).wall)
    group.time = 499
    group.publish(2, 1)
    group.time = 500
    effects = group.tell(msg.Room(1, 1, 10))
    assert spans(of(fx.Deliver, effects).runs) == [(2, 1)]
    assert of(fx.SettleRuns, effects).runs == ((0, 2),)
    assert group.tally.dropped == 2


# --- reading --------------------------------------------------------------------------------------


def test_a_gap_in_the_notices_is_read() -> None:
    group = Group()
    [fetch] = group.publish(5, 1)
    assert isinstance(fetch, fx.Fetch)
    assert fetch.position == 0


def test_who_comes_to_a_group_without_members_makes_it_look_for_what_it_was_not_told() -> None:
    group = Group()
    group.tell(msg.Leave(1))
    assert "Fetch" in kinds(group.tell(msg.Attach(2, None)))


def test_a_notice_during_a_fetch_leads_to_another() -> None:
    group = Group()
    assert kinds(group.publish(5, 1)) == ["Fetch"]
    assert group.publish(6, 1) == []
    assert kinds(group.tell(msg.FetchDone(Fetched((), 6)))) == ["Fetch"]


def test_a_failed_fetch_is_tried_again_after_a_pause() -> None:
    group = Group()
    group.publish(5, 1)
    assert group.tell(msg.FetchDone(None)) == []
    assert group.tick(FETCH_PAUSE_MS - 1) == []
    assert kinds(group.tick(FETCH_PAUSE_MS)) == ["Fetch"]


def test_reading_stops_when_enough_is_in_hand() -> None:
    group = Group(rooms=(0,))
    half = GROUP_READ_AHEAD_BYTES // 2
    for first in range(3):
        large = Batch(first, (b"x",), half)
        group.tell(msg.Notice((large,)))
    assert [run.position for run in group.state.line.fresh] == [0, 1]
    effects = group.tell(msg.Room(1, 1, 1))
    assert kinds(effects) == ["Deliver", "Fetch"]


def test_stored_histories_come_along() -> None:
    group = Group()
    group.publish(9, 1)
    later = Stored(batch(0, 1), 0, 1, attempts=2, not_before=at(50).wall)
    again = Stored(batch(1, 1), 0, 1, attempts=1, lost=1)
    effects = group.tell(msg.FetchDone(Fetched((later, again), 2)))
    assert [run.attempts for run in of(fx.Deliver, effects).runs] == [1]
    assert group.state.line.next_due() == 50


def test_a_group_without_members_gives_back_what_it_holds() -> None:
    group = Group(rooms=(0,))
    group.publish(0, 3)
    effects = group.tell(msg.Leave(1))
    assert of(fx.GiveBack, effects).runs == ((0, 3),)
    assert group.tell(msg.Released(0)) == []
    effects = group.tell(msg.Attach(2, None))
    assert kinds(effects) == ["Open", "Fetch"]


def test_histories_are_recorded_before_events_are_given_back() -> None:
    group = Group()
    group.lease(0, 1)
    assert kinds(group.tell(msg.Detach(1, counts=True))) == ["RecordAttempts", "GiveBack"]


def test_a_log_is_given_back_only_when_nothing_is_leased() -> None:
    group = Group(rooms=(1,))
    [offer] = group.publish(0, 3)
    group.take(offer, room=0)
    assert group.tell(msg.Leave(1)) == []
    assert kinds(group.settle(group.ids)) == ["SettleRuns", "GiveBack"]


def queue(**settings: Any) -> Group:
    """A group on a queue store with three events in hand and no room."""
    group = Group(log=False, rooms=(1,), **settings)
    stored = [Stored(batch(number, 1), 0, 1) for number in range(4)]
    effects = group.tell(msg.FetchDone(Fetched(tuple(stored), 4)))
    assert group.take(of(fx.Deliver, effects), room=0) == []
    return group


def test_a_queue_gets_back_what_found_no_window_for_a_while() -> None:
    group = queue(ack_wait_ms=60_000)
    assert group.tick(4_999) == []
    [back] = group.tick(5_000)
    assert isinstance(back, fx.GiveBack)
    assert back.runs == ((1, 1), (2, 1), (3, 1))


def test_a_queue_gets_back_what_max_in_flight_keeps_waiting() -> None:
    group = queue(ack_wait_ms=60_000, max_in_flight=1)
    group.tell(msg.Room(1, 1, 10))
    assert kinds(group.tick(5_000)) == ["GiveBack"]
    assert group.tell(msg.Released(4)) == []  # and no more is fetched meanwhile


def test_a_queue_keeps_what_moves() -> None:
    group = queue(ack_wait_ms=60_000)
    group.tick(4_000)
    effects = group.tell(msg.Settle(1, 1, ((group.ids, 0, 1),), "SUCCESS", 1))
    assert group.take(of(fx.Deliver, effects), room=0) == []
    assert group.tick(8_999) == []
    assert kinds(group.tick(9_000)) == ["GiveBack"]


def test_evicted_events_move_unless_they_are_leased() -> None:
    group = queue(ack_wait_ms=60_000)
    effects = group.tell(msg.Evict((0, 2)))
    assert of(fx.MoveEvent, effects).attempt == Attempt(2, 0, 0, 0)
    assert group.state.outstanding() == 2  # the leased one and the moving one
    group.tell(msg.MoveDone(2, moved=True))
    assert group.state.outstanding() == 1


def test_an_event_that_did_not_move_is_the_groups_again_where_it_was() -> None:
    group = queue(ack_wait_ms=60_000)
    group.tell(msg.Evict((2,)))
    group.tell(msg.MoveDone(2, moved=False))
    assert spans(list(group.state.line.fresh)) == [(1, 1), (2, 1), (3, 1)]


def test_a_delayed_event_that_did_not_move_is_delayed_still() -> None:
    group = queue(ack_wait_ms=60_000)
    group.settle(group.ids, status="RETRY", delay_ms=500)
    group.tell(msg.Evict((0,)))
    group.tell(msg.MoveDone(0, moved=False))
    assert group.state.line.next_due() == 500


def test_no_lease_on_a_queue_is_longer_than_it_allows() -> None:
    group = queue(ack_wait_ms=600_000)
    for time in (500_000, 1_000_000):
        group.time = time
        group.tell(msg.Extend(1, 1, ((group.ids, 0, 1),), 600_000))
    assert group.state.leases.next_deadline() == 1_200_000


# --- the rest -------------------------------------------------------------------------------------


def test_a_shut_group_offers_and_reads_nothing_but_settles() -> None:
    group = Group()
    first_id = group.lease(0, 1)
    group.tell(msg.Shut())
    assert group.publish(1, 1) == []
    assert group.publish(9, 1) == []
    assert kinds(group.settle(first_id)) == ["SettleRuns"]


def test_a_group_without_members_and_work_falls_asleep() -> None:
    group = Group(rooms=())
    assert group.tick(SLEEP_AFTER_MS - 1) == []
    assert kinds(group.tick(SLEEP_AFTER_MS)) == ["Sleep"]


@pytest.mark.parametrize("message", [msg.Attach(1, None), msg.Notice((batch(0, 1),))])
def test_what_happens_meanwhile_is_slept_over_only_by_who_is_alone(message: msg.Message) -> None:
    group = Group(rooms=())
    group.time = 59_999
    group.tell(message)
    assert ("Sleep" in kinds(group.tick(60_000))) is isinstance(message, msg.Notice)


def test_the_timer_is_set_for_what_comes_first_and_not_moved_for_less() -> None:
    group = Group()
    group.publish(0, 1)
    group.state.handle(msg.Taken(1, 1, 100, 1, 10), at(0))
    assert [e.at for e in group.state.pump(at(0)) if isinstance(e, fx.SetTimer)] == [1_000]
    group.state.handle(msg.Settle(1, 1, ((100, 0, 1),), "RETRY", 10, 300), at(10))
    assert [e.at for e in group.state.pump(at(10)) if isinstance(e, fx.SetTimer)] == [310]
    group.state.handle(msg.Settle(1, 1, ((100, 0, 1),), "SUCCESS", 10), at(20))
    assert [e for e in group.state.pump(at(20)) if isinstance(e, fx.SetTimer)] == []


def test_the_tally_is_kept() -> None:
    group = Group()
    first_id = group.lease(0, 3)
    group.settle(first_id, status="RETRY", delay_ms=0)
    assert (group.tally.delivered, group.tally.in_flight, group.tally.redelivered) == (3, 2, 0)
    group.tell(msg.Taken(1, 1, 900, 1, 10))
    assert (group.tally.delivered, group.tally.redelivered) == (4, 1)
