"""Safeguards taken out, one at a time: each breaks a promise that the machines must notice."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from actors import group_state, retry
from actors import messages as msg
from actors.clock import Now
from actors.dead_letters import DeadLetters
from actors.deliveries import Deliveries
from actors.endings import Endings
from actors.group_state import GroupState
from actors.instance_state import InstanceState
from actors.leases import LeaseTable
from actors.line import Line
from actors.messages import Run
from actors.offers import Offers
from actors.reading import Reading
from actors.store_calls import StoreCalls
from actors.window import Window

Patch = pytest.MonkeyPatch
Sabotage = Callable[[Patch], None]


def handle(patch: Patch, message: type[msg.Message], handler: Callable[..., None]) -> None:
    """Let the group handle a message in another way."""
    handlers: dict[type[msg.Message], Callable[..., None]] = group_state._HANDLERS
    patch.setitem(handlers, message, handler)


def ignore(patch: Patch, message: type[msg.Message]) -> None:
    """Let the group not handle a message."""
    handle(patch, message, lambda *_: None)


# --- leases -----------------------------------------------------------------------------------


def settled_leases_stay_open(patch: Patch) -> None:
    def settle(self: LeaseTable, member: int, pieces: Iterable[msg.Piece]) -> object:
        stale: list[msg.Piece] = []
        found = self._find(member, pieces, stale)
        return [run for lease, held in found for run in lease.runs(held)], stale

    patch.setattr(LeaseTable, "settle", settle)


def leases_of_the_gone_are_forgotten(patch: Patch) -> None:
    def drop(self: LeaseTable, member: int) -> list[Run]:
        self._leases.pop(member, None)
        self.count -= self.held.pop(member, 0)
        return []

    patch.setattr(LeaseTable, "drop", drop)


def leases_never_end(patch: Patch) -> None:
    patch.setattr(LeaseTable, "expire", lambda _self, _now: ())


def no_timer_is_set_for_deadlines(patch: Patch) -> None:
    patch.setattr(LeaseTable, "next_deadline", lambda _self: None)


# --- the line and offers ----------------------------------------------------------------------


def no_timer_is_set_for_delays(patch: Patch) -> None:
    patch.setattr(Line, "next_due", lambda _self: None)


def what_was_offered_and_not_taken_is_lost(patch: Patch) -> None:
    patch.setattr(Line, "put_back", lambda _self, _run: None)


def what_comes_back_goes_to_the_end(patch: Patch) -> None:
    patch.setattr(Line, "put_back", lambda self, run: self.append(run))


def answered_offers_stay(patch: Patch) -> None:
    patch.setattr(Offers, "pop", lambda self, member: self._runs.get(member, ()))


def max_in_flight_is_forgotten(patch: Patch) -> None:
    patch.setattr(GroupState, "_cap", lambda _self: 100)


def suspects_travel_in_company(patch: Patch) -> None:
    patch.setattr(retry, "suspect", lambda _run, _options: False)


# --- attempts and endings ---------------------------------------------------------------------


def retries_are_not_counted(patch: Patch) -> None:
    after = retry.after

    def careless(run: Run, ending: retry.Ending) -> Run:
        return run if ending == "retry" else after(run, ending)

    patch.setattr(retry, "after", careless)


def attempts_are_not_kept(patch: Patch) -> None:
    patch.setattr(StoreCalls, "record", lambda *_: None)


def dead_letters_are_believed(patch: Patch) -> None:
    def hasty(self: Endings, run: Run, _reason: str, answer: Any) -> None:
        self.calls.settle(run, answer)

    patch.setattr(Endings, "give_up", hasty)


def dead_letters_are_done_with_twice(patch: Patch) -> None:
    patch.setattr(DeadLetters, "durable", lambda self, token: self._dying.get(token))


def dead_letters_are_tried_once(patch: Patch) -> None:
    patch.setattr(DeadLetters, "failed", lambda _self, _token: None)


# --- the window -------------------------------------------------------------------------------


def the_window_has_no_end(patch: Patch) -> None:
    patch.setattr(Window, "room", lambda _self: 100)


def room_is_never_told(patch: Patch) -> None:
    patch.setattr(Deliveries, "_tell_room", lambda _self: None)


def a_dead_generation_keeps_the_window(patch: Patch) -> None:
    patch.setattr(InstanceState, "void", lambda _self, _topic, _below: [])


def lost_leases_keep_the_window(patch: Patch) -> None:
    patch.setattr(Window, "revoke", lambda *_: None)


# --- reading ----------------------------------------------------------------------------------


def what_was_not_read_is_skipped(patch: Patch) -> None:
    def follows(self: Reading, batch: Any) -> bool:
        self.position = batch.first + len(batch.events)
        return True

    patch.setattr(Reading, "follows", follows)


def failed_fetches_are_given_up(patch: Patch) -> None:
    ended = Reading.ended

    def careless(self: Reading, fetched: Any, now: Now) -> None:
        ended(self, fetched, now)
        self.behind = False

    patch.setattr(Reading, "ended", careless)


def what_went_back_is_not_read_again(patch: Patch) -> None:
    def released(self: Reading, _position: int) -> None:
        self.releasing = False

    patch.setattr(Reading, "released", released)


# --- the group's life -------------------------------------------------------------------------


def a_group_never_sleeps(patch: Patch) -> None:
    patch.setattr(GroupState, "_sleepy", lambda _self, _now: False)


def a_group_sleeps_though_busy(patch: Patch) -> None:
    patch.setattr(GroupState, "_sleepy", lambda self, _now: not len(self.members))


def a_shut_group_goes_on(patch: Patch) -> None:
    ignore(patch, msg.Shut)


# --- of a queue store -------------------------------------------------------------------------


def failed_moves_are_forgotten(patch: Patch) -> None:
    def forget(self: GroupState, message: msg.MoveDone, _now: Now) -> None:
        self._moving.pop(message.position)

    handle(patch, msg.MoveDone, forget)


def what_moves_stays_in_the_line(patch: Patch) -> None:
    evict = Line.evict

    def keep(self: Line, positions: Iterable[int], now: int) -> object:
        found = evict(self, positions, now)
        for run, _ in found:
            self.put_back(run)
        return found

    patch.setattr(Line, "evict", keep)


def moves_are_not_begun(patch: Patch) -> None:
    evict = Line.evict

    def none_to_move(self: Line, positions: Iterable[int], now: int) -> object:
        evict(self, positions, now)
        return []

    patch.setattr(Line, "evict", none_to_move)


def leases_outlast_the_store(patch: Patch) -> None:
    patch.setattr(GroupState, "lease_ms", lambda self: self.options.ack_wait_ms)


def extensions_outlast_the_store(patch: Patch) -> None:
    extend: Callable[..., list[msg.Piece]] = LeaseTable.extend

    def for_ever(self: LeaseTable, *arguments: Any) -> list[msg.Piece]:
        return extend(self, *arguments[:-1], None)

    patch.setattr(LeaseTable, "extend", for_ever)


ANYWHERE: list[Sabotage] = [
    settled_leases_stay_open,
    leases_of_the_gone_are_forgotten,
    leases_never_end,
    no_timer_is_set_for_deadlines,
    no_timer_is_set_for_delays,
    what_was_offered_and_not_taken_is_lost,
    answered_offers_stay,
    max_in_flight_is_forgotten,
    suspects_travel_in_company,
    retries_are_not_counted,
    attempts_are_not_kept,
    dead_letters_are_believed,
    dead_letters_are_done_with_twice,
    dead_letters_are_tried_once,
    the_window_has_no_end,
    room_is_never_told,
    a_dead_generation_keeps_the_window,
    lost_leases_keep_the_window,
    failed_fetches_are_given_up,
    a_group_never_sleeps,
    a_group_sleeps_though_busy,
    a_shut_group_goes_on,
]
ON_A_LOG = [
    *ANYWHERE,
    what_comes_back_goes_to_the_end,
    what_was_not_read_is_skipped,
    what_went_back_is_not_read_again,
]
ON_A_QUEUE = [
    *ANYWHERE,
    failed_moves_are_forgotten,
    what_moves_stays_in_the_line,
    moves_are_not_begun,
    leases_outlast_the_store,
    extensions_outlast_the_store,
]
