"""The machine finds it when a safeguard is taken out."""

from collections.abc import Callable
from typing import Any

import pytest

from actors import group_state, retry
from actors import messages as msg
from actors.deliveries import Deliveries
from actors.endings import Endings
from actors.group_state import GroupState
from actors.instance_state import InstanceState
from actors.leases import Lease, LeaseTable
from actors.line import Line
from actors.messages import Run
from actors.reading import Reading
from actors.window import Window
from tests.properties.test_group_machine import GroupMachine, QueueMachine, play

Patch = pytest.MonkeyPatch


def leases_of_the_gone_are_forgotten(patch: Patch) -> None:
    patch.setattr(LeaseTable, "drop", lambda _self, _member: [])


def overdue_leases_live_on(patch: Patch) -> None:
    patch.setattr(Lease, "close", lambda _self, _chosen: None)


def the_window_has_no_end(patch: Patch) -> None:
    patch.setattr(Window, "room", lambda _self: 100)


def max_in_flight_is_forgotten(patch: Patch) -> None:
    patch.setattr(GroupState, "_cap", lambda _self: 100)


def retries_are_not_counted(patch: Patch) -> None:
    after = retry.after

    def careless(run: Run, ending: retry.Ending) -> Run:
        return run if ending == "retry" else after(run, ending)

    patch.setattr(retry, "after", careless)


def attempts_are_not_kept(patch: Patch) -> None:
    from actors.store_calls import StoreCalls

    patch.setattr(StoreCalls, "record", lambda *_: None)


def dead_letters_are_believed(patch: Patch) -> None:
    give_up = Endings.give_up

    def hasty(self: Endings, run: Run, reason: str, answer: Any) -> None:
        give_up(self, run, reason, None)
        self.letter_done(msg.DeadLetterDone(self.letters._token, durable=True), None)  # type: ignore[arg-type]  # not looked at

    patch.setattr(Endings, "give_up", hasty)


def what_comes_back_goes_to_the_end(patch: Patch) -> None:
    patch.setattr(Line, "put_back", lambda self, run: self.append(run))


def refused_offers_are_lost(patch: Patch) -> None:
    patch.setattr(GroupState, "_put_back", lambda _self, _runs: None)


def room_is_never_told(patch: Patch) -> None:
    patch.setattr(Deliveries, "_tell_room", lambda _self: None)


def a_dead_generation_keeps_the_window(patch: Patch) -> None:
    patch.setattr(InstanceState, "void", lambda _self, _topic, _below: [])


def failed_fetches_are_given_up(patch: Patch) -> None:
    ended = Reading.ended

    def careless(self: Reading, fetched: Any, now: Any) -> None:
        ended(self, fetched, now)
        self.behind = False

    patch.setattr(Reading, "ended", careless)


def failed_moves_are_forgotten(patch: Patch) -> None:
    handlers: dict[Any, Any] = dict(group_state._HANDLERS)
    handlers[msg.MoveDone] = lambda self, message, _now: self._moving.pop(message.position)
    patch.setattr(group_state, "_HANDLERS", handlers)


ON_A_LOG = [
    leases_of_the_gone_are_forgotten,
    overdue_leases_live_on,
    the_window_has_no_end,
    max_in_flight_is_forgotten,
    retries_are_not_counted,
    attempts_are_not_kept,
    dead_letters_are_believed,
    what_comes_back_goes_to_the_end,
    refused_offers_are_lost,
    room_is_never_told,
    a_dead_generation_keeps_the_window,
    failed_fetches_are_given_up,
]


@pytest.mark.parametrize("sabotage", ON_A_LOG)
def test_on_a_log_it_finds_that(
    sabotage: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whichever promise breaks first
        play(GroupMachine, 400, shrink=False)


def test_on_a_queue_it_finds_a_failed_move_that_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed_moves_are_forgotten(monkeypatch)
    with pytest.raises(AssertionError, match="an event is lost"):
        play(QueueMachine, 400, shrink=False)
