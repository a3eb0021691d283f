"""How the app is called, and waited for."""

import asyncio
from typing import Any

import pytest

from transport.dapr.sidecar.app import AppAwayError, NoAnswerError
from transport.dapr.sidecar.caller import Caller


class Presence:
    """An app that comes back when a test says so."""

    def __init__(self) -> None:
        self.here = True
        self.waits = 0
        self.returns_after = 1

    def lost(self) -> None:
        self.here = False

    async def back(self, _: float) -> bool:
        if not self.here:
            self.waits += 1
            self.here = self.waits >= self.returns_after
        return self.here


class Delivery:
    lost = False


def call(
    presence: Presence, answers: list[Any], *, last: bool = False, delivery: Any = None
) -> Any:
    """The outcome of a call whose attempts end so."""

    async def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    anything: Any = presence
    caller = Caller(anything, anything, 1, hold=0.1)
    deliveries: Any = [delivery or Delivery()]
    return asyncio.run(caller.call(deliveries, ask, last=last))


def test_an_answer_is_returned() -> None:
    assert call(Presence(), ["yes"]) == "yes"


def test_an_app_that_is_away_is_called_again_when_it_is_back() -> None:
    presence = Presence()
    assert call(presence, [AppAwayError("away"), "yes"]) == "yes"
    assert presence.waits == 1


def test_an_app_that_stays_away_gives_no_answer() -> None:
    presence = Presence()
    presence.returns_after = 5
    assert call(presence, [AppAwayError("away")]) is None
    assert presence.waits == 1


def test_before_the_last_attempt_is_given_up_the_app_is_waited_for() -> None:
    presence = Presence()
    presence.returns_after = 5
    assert call(presence, [AppAwayError("away"), "yes"], last=True) == "yes"
    assert presence.waits == 5


def test_a_call_that_was_begun_is_not_made_again() -> None:
    with pytest.raises(NoAnswerError):
        call(Presence(), [NoAnswerError("reset"), "never"])


def test_events_whose_leases_are_lost_are_not_for_this_app_any_more() -> None:
    delivery = Delivery()
    delivery.lost = True
    assert call(Presence(), [], delivery=delivery) is None
