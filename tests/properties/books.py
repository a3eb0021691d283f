"""Books on leases and attempts, kept beside the group's own by the protocol's words."""

from typing import Any

import msgspec

from actorbus.store import GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors.clock import Now
from tests.properties.instance import ids
from tests.properties.model_store import Store, Truth, number


class Lease(msgspec.Struct):
    """A delivery as the books have it."""

    event: int
    started: int
    deadline: int


class Asked(msgspec.Struct, frozen=True):
    """What the answer to an ack must say."""

    stale: frozenset[int]
    events: tuple[int, ...]


class Books:
    """What the group must know, after every turn.

    Attributes:
        options: in force where the decisions are made.
        leases: (member, delivery id) → lease.
        offered: what was offered and not answered, by member.
        asked: acks that wait for an answer, by member and token.
        letters: dead letters under way, by token.
    """

    def __init__(self, store: Store, options: GroupOptions) -> None:
        self.store = store
        self.options = options
        self.leases: dict[tuple[int, int], Lease] = {}
        self.offered: dict[int, tuple[msg.Run, ...]] = {}
        self.asked: dict[tuple[int, int], Asked] = {}
        self.letters: dict[int, list[int]] = {}

    @property
    def truth(self) -> list[Truth]:
        """Of each event."""
        return self.store.truth

    def close(self) -> None:
        """The group's actor has ended: no lease is left, and what it had not done is undone."""
        for books in (self.leases, self.offered, self.asked, self.letters):
            books.clear()
        for event in self.truth:
            event.acked = event.acked and event.settled

    # --- what the group takes in --------------------------------------------------------------

    def book(self, message: msg.Message, now: Now) -> None:
        """The group is about to handle this message."""
        match message:
            case msg.Configure():
                self.options = message.options
            case msg.Taken():
                self._taken(message, now)
            case msg.Settle():
                self._settle(message)
            case msg.Extend():
                self._extend(message, now)
            case msg.Detach():
                self._detach(message)

    def _taken(self, message: msg.Taken, now: Now) -> None:
        runs = self.offered.pop(message.member, ())
        events = [number(event) for run in runs for event in run.events()]
        end = now.mono + self.lease_ms()
        for at, event in enumerate(events[: message.count]):
            lease = Lease(event, now.mono, end)
            self.leases[message.member, message.first_id + at] = lease

    def lease_ms(self) -> int:
        """How long a lease runs that is granted now."""
        longest = self.store.abilities.longest_lease_ms
        wait = self.options.ack_wait_ms
        return wait if longest is None else min(wait, longest)

    def _settle(self, message: msg.Settle) -> None:
        keys = [(message.member, identifier) for identifier in ids(message.pieces)]
        stale = frozenset(key[1] for key in keys if key not in self.leases)
        held = [self.leases.pop(key).event for key in keys if key in self.leases]
        if message.token is not None:
            self.asked[message.member, message.token] = Asked(stale, tuple(held))
        for event in held:
            self._settled_as(message.status, self.truth[event])

    def _settled_as(self, status: msg.Status, truth: Truth) -> None:
        if status == "SUCCESS":
            truth.acked = True
        elif status == "DROP":
            truth.let_go = truth.let_go or self.options.dead_letter_topic is None
        else:
            self._ended(truth, lost=False)

    def _ended(self, truth: Truth, *, lost: bool) -> None:
        truth.attempts += 1
        truth.lost += lost
        over = 0 < self.options.max_attempts <= truth.attempts
        if over and self.options.dead_letter_topic is None:
            truth.let_go = True

    def _extend(self, message: msg.Extend, now: Now) -> None:
        longest = self.store.abilities.longest_lease_ms
        end = now.mono + (message.ack_wait_ms or self.options.ack_wait_ms)
        keys = [(message.member, identifier) for identifier in ids(message.pieces)]
        for key in keys:
            if key in self.leases:
                lease = self.leases[key]
                lease.deadline = end if longest is None else min(end, lease.started + longest)
        if message.token is not None:
            stale = frozenset(key[1] for key in keys if key not in self.leases)
            self.asked[message.member, message.token] = Asked(stale, ())

    def _detach(self, message: msg.Detach) -> None:
        self.offered.pop(message.member, None)
        for key in [key for key in self.leases if key[0] == message.member]:
            lease = self.leases.pop(key)
            if message.counts:
                self._ended(self.truth[lease.event], lost=True)

    def expire(self, now: Now) -> None:
        """What is overdue when a turn ends has missed its deadline."""
        late = [key for key, lease in self.leases.items() if lease.deadline <= now.mono]
        for key in late:
            self._ended(self.truth[self.leases.pop(key).event], lost=False)

    # --- what the group does ------------------------------------------------------------------

    def offer(self, effect: fx.Deliver, now: Now, most: int) -> None:
        """The group offers: nothing that is not due, and no more than it may."""
        assert effect.member not in self.offered, "a second offer before the answer"
        for run in effect.runs:
            assert run.batch.expires_at is None or run.batch.expires_at > now.wall, "expired"
            for event in map(number, run.events()):
                self._check_offered(self.truth[event], now, alone=effect.alone)
        self.offered[effect.member] = effect.runs
        out = sum(run.count for runs in self.offered.values() for run in runs) + len(self.leases)
        assert out <= (self.options.max_in_flight or most), "max_in_flight exceeded"

    def _check_offered(self, truth: Truth, now: Now, *, alone: bool) -> None:
        assert not truth.settled, "a settled event is offered"
        assert truth.not_before <= now.wall, "offered before its time"
        left = self.options.max_attempts - truth.attempts if self.options.max_attempts else 99
        assert left > 0, "no attempt is left"
        assert alone or not (truth.lost and left == 1), "a suspect is not alone"

    def reply(self, answer: Any) -> None:
        """The group answers an ack: in time, and with the right stale ids."""
        asked = self.asked.pop((answer.member, answer.token), None)
        assert asked is not None, "answered twice"
        assert set(ids(answer.stale)) == asked.stale, "wrong stale ids"
        for event in () if answer.failed else asked.events:
            truth = self.truth[event]
            assert truth.durable or not (truth.acked or truth.settled), "answered too early"

    def settle(self, event: int, now: Now) -> None:
        """The group tells the store that it is done with an event."""
        truth, options = self.truth[event], self.options
        over = 0 < options.max_attempts <= truth.attempts or (
            truth.expires_at is not None and truth.expires_at <= now.wall
        )
        gone = truth.let_go or (over and options.dead_letter_topic is None)
        assert truth.acked or truth.letter or gone, "settled without a reason"
        assert not truth.settled, "settled twice"
        truth.settled = True
