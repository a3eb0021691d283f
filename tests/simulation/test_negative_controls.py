"""Each safeguard that is taken out breaks a promise that the simulation names."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.deliveries import Deliveries
from actors.endings import Endings
from actors.leases import Lease, LeaseTable
from actors.messages import Failure, Publish, Run
from actors.store_calls import StoreCalls
from actors.topic import TopicActor
from actors.window import Window
from tests.simulation.test_whole_broker import play
from transport.stores.memory import MemoryStore

SEEDS = 20
"""Each control is found by most seeds; so many leave no room for bad luck."""

answer_publishes = TopicActor._answer_publishes


def tell_no_room(self: Deliveries) -> None:
    """`Deliveries._tell_room` that loses the wake-up."""


def notify_nobody(self: TopicActor, appended: object) -> None:
    """`TopicActor._notify` that forgets the groups."""


def publish_unsafely(
    self: TopicActor, requests: tuple[Publish, ...], groups: int | None, _failure: Failure | None
) -> None:
    """`TopicActor._answer_publishes` that says `published` of what may not be durable."""
    answer_publishes(self, requests, groups or 0, None)


def endless(self: Window) -> int:
    """`Window.room` without a limit."""
    return 100


def keep_no_history(self: StoreCalls, run: Run, not_before: int, answer: object) -> None:
    """`StoreCalls.record` that does not count."""


def discard(self: Endings, run: Run, reason: str, answer: Any) -> None:
    """`Endings.give_up` that settles without a dead letter."""
    self.calls.settle(run, answer)


def leave_overdue(self: LeaseTable, now: int) -> Iterator[tuple[Lease, int]]:
    """`LeaseTable.expire` that redelivers and leaves the old lease open."""
    while self._deadlines and self._deadlines[0][0] <= now:
        _, member, first_id = self._deadlines.pop(0)
        lease = self._get(member, first_id)
        late = 0 if lease is None else lease.overdue(now)
        if lease is not None and late:
            yield lease, late


def drop_nothing(self: LeaseTable, member: int) -> list[Run]:
    """`LeaseTable.drop` that forgets the events."""
    self._leases.pop(member, None)
    self.count -= self.held.pop(member, 0)
    return []


def settle_nothing(self: MemoryStore, topic: object, group: object, runs: object) -> None:
    """`MemoryStore._settle` that answers and does nothing."""


CONTROLS = [
    (Deliveries, "_tell_room", tell_no_room, "stuck"),
    (TopicActor, "_notify", notify_nobody, "stuck"),
    (TopicActor, "_answer_publishes", publish_unsafely, "lost"),
    (Window, "room", endless, "no window is exceeded"),
    (StoreCalls, "record", keep_no_history, "no attempt is forgotten"),
    (Endings, "give_up", discard, "lost"),
    (LeaseTable, "expire", leave_overdue, "one live lease|settled once|does not come back|stuck"),
    (LeaseTable, "drop", drop_nothing, "stuck"),
    (MemoryStore, "_settle", settle_nothing, "does not come back|stuck"),
]


def play_some() -> None:
    for seed in range(SEEDS):
        play(seed)


@pytest.mark.parametrize(("owner", "name", "broken", "promise"), CONTROLS)
def test_the_simulation_finds_a_safeguard_that_is_taken_out(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    broken: Callable[..., object],
    promise: str,
) -> None:
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError, match=promise):
        play_some()
