"""One group and all around it, in a world where nothing happens by itself.

It plays the actors' shells, and keeps books of its own on leases and attempts, which the group's
must equal after every turn.
"""

from collections import deque
from types import SimpleNamespace
from typing import Any

import msgspec

from actorbus.store import Attempt, Fetched, GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors.clock import Now
from actors.counters import GroupCounters
from actors.group_state import GroupState
from tests.properties.invariant_instance import TOPIC, Instance, ids
from tests.properties.invariant_stores import (
    EVENT_BYTES,
    LogStore,
    QueueStore,
    Store,
    Truth,
    number,
)

WALL = 1_700_000_000_000
MOST_OUTSTANDING = 12
READ_AHEAD = 60
MOST_PUBLISHED = 6


class Lease(msgspec.Struct):
    """A delivery as the books have it."""

    event: int
    started: int
    deadline: int


class Asked(msgspec.Struct, frozen=True):
    """What the answer to an ack must say."""

    stale: frozenset[int]
    events: tuple[int, ...]


class Call(msgspec.Struct, frozen=True):
    """A store call under way."""

    kind: str
    answers: tuple[fx.Answer, ...] = ()
    events: tuple[int, ...] = ()
    message: msg.Message | None = None
    attempt: Attempt | None = None


class World:
    """The shells, the store, the clock and the books.

    Attributes:
        cell: members by number, as the supervisor knows them.
        inboxes: what others than instances have sent to the group, by sender.
        leases: (member, delivery id) → lease, by the books.
        letters: dead letters under way, by token.
    """

    def __init__(self, store: Store, options: GroupOptions) -> None:
        self.store = store
        self.options = options
        self.now = Now(0, WALL)
        self.generation = 0
        self.instances: list[Instance] = []
        self.cell: set[int] = set()
        self.inboxes: dict[str, deque[msg.Message]] = {
            name: deque() for name in ("topic", "store", "self", "letters", "options")
        }
        self.calls: list[Call] = []
        self.letters: dict[int, list[int]] = {}
        self.leases: dict[tuple[int, int], Lease] = {}
        self.offered: dict[int, tuple[msg.Run, ...]] = {}
        self.asked: dict[tuple[int, int], Asked] = {}
        self.transit: list[int] = []
        self.refused = False
        self.group: GroupState | None = None
        self.timer: int | None = None
        self._refs: set[int] = set()
        self._unsafe: list[int] = []

    @property
    def truth(self) -> list[Truth]:
        """Of each event."""
        return self.store.truth

    # --- the group's life ---------------------------------------------------------------------

    def start(self) -> None:
        """The next generation, greeting the members of the one before."""
        self.generation += 1
        tally = GroupCounters()
        self.group = GroupState(self.options, self.store.abilities, tally, lambda: 0.75, self.now)
        self.calls.append(Call("open"))
        for member in sorted(self.cell):
            self._receive(msg.Attach(member, None))
        self.turn([])

    def stop(self) -> None:
        """The actor is gone, with what it was told and not handled."""
        self.group, self.timer = None, None
        for inbox in self.inboxes.values():
            inbox.clear()
        for instance in self.instances:
            old = (msg.Room, msg.Taken, msg.Settle, msg.Extend)
            instance.out = deque(one for one in instance.out if isinstance(one, old))
            if not instance.gone:
                instance.inbox.append(msg.GroupDown(TOPIC))
        for books in (self.calls, self.letters, self.leases, self.offered, self.asked):
            books.clear()
        self.transit.clear()
        self._refs.clear()
        self.store.open()
        for event in self.truth:
            event.acked = event.acked and event.settled

    def crash(self) -> None:
        """The actor fails and is restarted."""
        if self.group is not None:
            self.stop()
            if self.cell:
                self.start()

    # --- instances ----------------------------------------------------------------------------

    def connect(self, limit: int) -> Instance:
        """A new instance subscribes."""
        instance = Instance(len(self.instances) + 1, limit)
        self.instances.append(instance)
        self.subscribe(instance)
        return instance

    def subscribe(self, instance: Instance) -> None:
        """An instance becomes a member (again)."""
        instance.subscribed = True
        known = instance.member in self.cell
        self.cell.add(instance.member)
        if self.group is None:
            self.start()
        elif not known:
            instance.out.append(msg.Attach(instance.member, None))

    def leave(self, instance: Instance) -> None:
        """It unsubscribes, and keeps what it holds."""
        instance.subscribed = False
        self.cell.discard(instance.member)
        if self.group is not None:
            instance.out.append(msg.Leave(instance.member))

    def close(self, instance: Instance, *, counts: bool) -> None:
        """Its connection ends."""
        instance.gone = True
        instance.inbox.clear()
        instance.live.clear()
        self.cell.discard(instance.member)
        if self.group is not None:
            instance.out.append(msg.Detach(instance.member, counts))

    def instance_turn(self, instance: Instance, most: int) -> None:
        """It takes in messages."""
        for offer, runs in instance.turn(most):
            taken, offered = (sum(run.count for run in of) for of in (runs, offer.runs))
            self.refused = self.refused or taken < offered
            for run in runs:
                self._delivered(instance, offer, run)

    def _delivered(self, instance: Instance, offer: msg.Offer, run: msg.Run) -> None:
        for event in map(number, run.events()):
            truth = self.truth[event]
            # what one instance did not take may come after what others took in the same round
            if isinstance(self.store, LogStore) and not (truth.delivered or self.refused):
                assert event > instance.newest, "first attempts out of order"
                instance.newest = event
            if offer.generation == self.generation and self.group is not None:
                assert run.attempts == truth.attempts, "wrong attempt number"
                assert run.lost == truth.lost, "wrong number of lost connections"
            truth.delivered = True

    # --- the group's turn ---------------------------------------------------------------------

    def senders(self) -> list[deque[msg.Message]]:
        """Who has something for the group: first in, first out from each."""
        outs = [instance.out for instance in self.instances]
        return [queue for queue in (*self.inboxes.values(), *outs) if queue]

    def turn(self, picks: list[int]) -> None:
        """The group takes in messages, each from a sender of our choice, then acts."""
        for pick in picks:
            senders = self.senders()
            if not senders or self.group is None:
                break
            self._receive(senders[pick % len(senders)].popleft())
        if self.group is None:
            return
        self._expire()
        for effect in self.group.pump(self.now):
            self._carry_out(effect)
        if self.group is not None:
            self.check()

    def _receive(self, message: msg.Message) -> None:
        group = self.group
        assert group is not None
        match message:
            case msg.Attach():
                self._refs.add(message.member)
            case msg.Detach():
                self._refs.discard(message.member)
                self._detached(message)
            case msg.Settle() | msg.Extend() | msg.Room() | msg.Taken():
                if message.generation != self.generation:
                    self._refuse(message)
                    return
                self._book(message)
            case msg.MoveDone():
                if not message.moved:
                    self.transit.remove(self.store.at(message.position))
            case _Answered():
                for effect in group.answered(message.answers, failed=message.failed):
                    self._carry_out(effect)
                return
        group.handle(message, self.now)

    def _refuse(self, message: Any) -> None:
        if isinstance(message, msg.Settle | msg.Extend) and message.token is not None:
            self._tell(message.member, msg.Settled(message.token, message.pieces))

    def _tell(self, member: int, message: msg.Message) -> bool:
        instance = self.instances[member - 1]
        if instance.gone or member not in self._refs:
            return False
        instance.inbox.append(message)
        return True

    # --- the books ----------------------------------------------------------------------------

    def _book(self, message: msg.Settle | msg.Extend | msg.Room | msg.Taken) -> None:
        match message:
            case msg.Taken():
                runs = self.offered.pop(message.member, ())
                events = [number(event) for run in runs for event in run.events()]
                end = self.now.mono + self._wait()
                for at, event in enumerate(events[: message.count]):
                    lease = Lease(event, self.now.mono, end)
                    self.leases[message.member, message.first_id + at] = lease
            case msg.Settle():
                held, stale = self._held(message)
                if message.token is not None:
                    self.asked[message.member, message.token] = Asked(stale, tuple(held))
                for event in held:
                    self._settled(message, event)
            case msg.Extend():
                self._extended(message)

    def _wait(self) -> int:
        longest = self.store.abilities.longest_lease_ms
        wait = self.options_at_group.ack_wait_ms
        return wait if longest is None else min(wait, longest)

    @property
    def options_at_group(self) -> GroupOptions:
        """In force where the decisions are made."""
        assert self.group is not None
        return self.group.options

    def _held(self, message: msg.Settle) -> tuple[list[int], frozenset[int]]:
        asked = [(message.member, identifier) for identifier in ids(message.pieces)]
        stale = frozenset(key[1] for key in asked if key not in self.leases)
        return [self.leases.pop(key).event for key in asked if key in self.leases], stale

    def _settled(self, message: msg.Settle, event: int) -> None:
        truth, options = self.truth[event], self.options_at_group
        if message.status == "SUCCESS":
            truth.acked = True
        elif message.status == "DROP":
            truth.let_go = truth.let_go or options.dead_letter_topic is None
        else:
            self._ended(truth, lost=False)

    def _ended(self, truth: Truth, *, lost: bool) -> None:
        options = self.options_at_group
        truth.attempts += 1
        truth.lost += lost
        if 0 < options.max_attempts <= truth.attempts and options.dead_letter_topic is None:
            truth.let_go = True

    def _extended(self, message: msg.Extend) -> None:
        longest = self.store.abilities.longest_lease_ms
        wait = message.ack_wait_ms or self.options_at_group.ack_wait_ms
        keys = [(message.member, identifier) for identifier in ids(message.pieces)]
        for key in keys:
            if key in self.leases:
                lease = self.leases[key]
                end = self.now.mono + wait
                lease.deadline = end if longest is None else min(end, lease.started + longest)
        if message.token is not None:
            stale = frozenset(key[1] for key in keys if key not in self.leases)
            self.asked[message.member, message.token] = Asked(stale, ())

    def _detached(self, message: msg.Detach) -> None:
        self.refused = self.refused or message.member in self.offered
        self.offered.pop(message.member, None)
        for key in [key for key in self.leases if key[0] == message.member]:
            lease = self.leases.pop(key)
            if message.counts:
                self._ended(self.truth[lease.event], lost=True)

    def _expire(self) -> None:
        late = [key for key, lease in self.leases.items() if lease.deadline <= self.now.mono]
        for key in late:
            self._ended(self.truth[self.leases.pop(key).event], lost=False)

    # --- effects ------------------------------------------------------------------------------

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Deliver():
                self._offer(effect)
            case fx.StoreCall():
                self._call(effect)
            case fx.Reply():
                self._reply(effect.answer)
            case fx.SetTimer():
                self.timer = effect.at
            case fx.Open():
                self._tell(effect.member, msg.Opened(TOPIC, self.generation, None))
            case fx.Revoked():
                revoke = msg.Revoke(TOPIC, self.generation, effect.pieces)
                self._tell(effect.member, revoke)
            case fx.DeadLetter():
                self.letters[effect.token] = [number(one) for one in effect.run.events()]
            case fx.Sleep():
                assert self.group is not None
                assert not self.group.busy(), "sleeps though busy"
                if not self.cell:
                    self.stop()

    def _offer(self, effect: fx.Deliver) -> None:
        assert effect.member not in self.offered, "a second offer before the answer"
        options = self.options_at_group
        for run in effect.runs:
            assert run.batch.expires_at is None or run.batch.expires_at > self.now.wall, "expired"
            for event in map(number, run.events()):
                self._check_offered(event, options, alone=effect.alone)
        self.offered[effect.member] = effect.runs
        out = sum(run.count for runs in self.offered.values() for run in runs) + len(self.leases)
        assert out <= (options.max_in_flight or MOST_OUTSTANDING), "max_in_flight exceeded"
        offer = msg.Offer(TOPIC, self.generation, None, effect.runs, self._wait(), effect.alone)
        if not self._tell(effect.member, offer):
            taken = msg.Taken(effect.member, self.generation, 0, 0, 0)
            self.inboxes["self"].append(taken)

    def _check_offered(self, event: int, options: GroupOptions, *, alone: bool) -> None:
        truth = self.truth[event]
        assert not truth.settled, "a settled event is offered"
        assert truth.not_before <= self.now.wall, "offered before its time"
        left = options.max_attempts - truth.attempts if options.max_attempts else 99
        assert left > 0, "no attempt is left"
        assert alone or not (truth.lost and left == 1), "a suspect is not alone"

    def _reply(self, answer: fx.Answer) -> None:
        asked = self.asked.pop((answer.member, answer.token), None)
        assert asked is not None, "answered twice"
        assert set(ids(answer.stale)) == asked.stale, "wrong stale ids"
        if not answer.failed:
            for event in asked.events:
                truth = self.truth[event]
                assert truth.durable or not (truth.acked or truth.settled), "answered too early"
        self._tell(answer.member, msg.Settled(answer.token, answer.stale))

    # --- the store ----------------------------------------------------------------------------

    def _call(self, effect: fx.StoreCall) -> None:
        match effect:
            case fx.SettleRuns():
                events = [
                    self.store.at(at)
                    for first, count in effect.runs
                    for at in range(first, first + count)
                ]
                for event in events:
                    self._settle(self.truth[event])
                self.calls.append(Call("settle", effect.answers, tuple(events)))
            case fx.RecordAttempts():
                self.store.keep(effect.attempts)
                self.calls.append(Call("keep", effect.answers))
            case fx.Fetch():
                assert not any(call.kind == "fetch" for call in self.calls), "two fetches"
                fetched = None
                if isinstance(self.store, LogStore):
                    fetched = self.store.fetch(effect.position, effect.max_bytes)
                message = None if fetched is None else msg.FetchDone(fetched)
                self.calls.append(Call("fetch", message=message))
            case fx.GiveBack():
                self._give_back(effect)
            case fx.MoveEvent():
                event = self.store.at(effect.attempt.position)
                self.transit.append(event)
                assert event not in [lease.event for lease in self.leases.values()]
                self.calls.append(Call("move", attempt=effect.attempt))

    def _settle(self, truth: Truth) -> None:
        options = self.options_at_group
        over = 0 < options.max_attempts <= truth.attempts or (
            truth.expires_at is not None and truth.expires_at <= self.now.wall
        )
        gone = truth.let_go or (over and options.dead_letter_topic is None)
        assert truth.acked or truth.letter or gone, "settled without a reason"
        assert not truth.settled, "settled twice"
        truth.settled = True

    def _give_back(self, effect: fx.GiveBack) -> None:
        if isinstance(self.store, LogStore):
            used = self.leases or self.letters or self.offered
            assert not used, "gives back what is in use"
            assert not any(call.kind == "fetch" for call in self.calls)
        for at, call in enumerate(self.calls):
            if call.kind == "fetch" and isinstance(self.store, QueueStore):
                del self.calls[at]
                empty = msg.FetchDone(Fetched((), 0))
                self.inboxes["store"].append(empty)
                break
        position = self.store.release(effect.runs)
        self.calls.append(Call("release", message=msg.Released(position)))

    def end_call(self, pick: int, *, well: bool) -> None:
        """One of the calls under way ends."""
        if not self.calls:
            return
        call = self.calls.pop(pick % len(self.calls))
        match call.kind:
            case "open":
                feed = SimpleNamespace(position=self.store.open())
                self._from_store(msg.FeedOpen(feed, self.options))
            case "fetch":
                self._end_fetch(call, well=well)
            case "release":
                assert call.message is not None
                self._from_store(call.message)
            case "move":
                self._end_move(call, well=well)
            case _:
                self._end_settling(call, well=well)

    def _end_fetch(self, call: Call, *, well: bool) -> None:
        if not well:
            self._from_store(msg.FetchDone(None))
        elif isinstance(self.store, LogStore):
            assert call.message is not None
            self._from_store(call.message)
        else:
            fetched = self.store.fetch(0, 0)
            if fetched is None:
                self.calls.append(call)
            else:
                self._from_store(msg.FetchDone(fetched))

    def _end_move(self, call: Call, *, well: bool) -> None:
        assert isinstance(self.store, QueueStore)
        assert call.attempt is not None
        position = call.attempt.position
        if well:
            self.transit.remove(self.store.at(position))
            self.store.move(call.attempt)
        self._from_store(msg.MoveDone(position, well))

    def _end_settling(self, call: Call, *, well: bool) -> None:
        self._unsafe += call.events
        if well:
            for event in self._unsafe:
                self.truth[event].durable = True
            self._unsafe.clear()
        self._from_store(_Answered(call.answers, not well))

    def _from_store(self, message: msg.Message) -> None:
        self.inboxes["store"].append(message)

    def end_letter(self, pick: int, *, well: bool, late: bool = False) -> None:
        """A try to dead-letter ends; one that fails may still become durable if it is `late`."""
        if not self.letters:
            return
        token = list(self.letters)[pick % len(self.letters)]
        events = self.letters[token] if late else self.letters.pop(token)
        if well:
            self.letters.pop(token, None)
            for event in events:
                self.truth[event].letter = True
        self.inboxes["letters"].append(msg.DeadLetterDone(token, well))

    # --- time, topic, options -----------------------------------------------------------------

    def advance(self, ms: int) -> None:
        """Time passes; the group's timer goes off if it is due."""
        self.now = Now(self.now.mono + ms, self.now.wall + ms)
        if self.timer is not None and self.timer <= self.now.mono:
            self.timer = None
            self.inboxes["self"].append(msg.Tick())

    def publish(self, count: int, ttl_ms: int | None, *, told: bool) -> None:
        """A batch is appended, and the group is told of it, or not."""
        expires_at = None if ttl_ms is None else self.now.wall + ttl_ms
        batch = self.store.publish(count, expires_at)
        if told:
            self.notice(msg.Notice(() if batch is None else (batch,)), merge=False)

    def notice(self, notice: msg.Notice, *, merge: bool) -> None:
        """The topic tells the group; waiting notices may collapse into one."""
        if self.group is None:
            return
        inbox = self.inboxes["topic"]
        last = inbox.pop() if merge and inbox else None
        inbox.append(notice.merge(last) if isinstance(last, msg.Notice) else notice)

    def configure(self, options: GroupOptions) -> None:
        """Other options."""
        self.options = options
        if self.group is not None:
            self.inboxes["options"].append(msg.Configure(options))

    # --- invariants ---------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold after a turn of the group."""
        group = self.group
        assert group is not None
        self._check_leases(group)
        self._check_places(group)
        self._check_histories()
        self._check_instances()
        # events that a store wants moved count while they move, and were first attempts before
        most = MOST_OUTSTANDING
        if isinstance(self.store, QueueStore):
            most += READ_AHEAD // EVENT_BYTES + MOST_PUBLISHED
        assert group.outstanding() <= most, "too much outstanding"

    def _check_leases(self, group: GroupState) -> None:
        theirs = {
            (member, lease.first_id + at): (number(lease.run.events()[at]), deadline)
            for member, mine in group.leases._leases.items()
            for lease in mine.values()
            for deadline, part in lease.terms
            for at in range(lease.run.count)
            if part >> at & 1
        }
        ours = {key: (lease.event, lease.deadline) for key, lease in self.leases.items()}
        assert theirs == ours, "leases differ from the books"
        assert group.leases.count == len(ours), "leases are miscounted"
        held = [event for event, _ in ours.values()]
        assert len(held) == len(set(held)), "two leases of one event"

    def _check_places(self, group: GroupState) -> None:
        """Each unsettled event that has been read is in exactly one place."""
        inside = self.inside(group)
        assert len(inside) == len(set(inside)), "an event is in two places"
        assert not any(self.truth[event].settled for event in inside), "a settled event is kept"
        reading = group._reading
        if isinstance(self.store, QueueStore):
            every = inside + self.store.outside() + self._fetched() + self.transit
            wanted = [at for at, event in enumerate(self.truth) if not event.settled]
            assert sorted(every) == wanted, "an event is lost, or in two places"
        elif reading.position is not None:
            read = 0 if reading.releasing else reading.position
            wanted = [at for at in range(read) if not self.truth[at].settled]
            assert sorted(inside) == wanted, "an event is lost"

    def _fetched(self) -> list[int]:
        return [
            number(event)
            for message in self.inboxes["store"]
            if isinstance(message, msg.FetchDone) and message.fetched is not None
            for run in message.fetched.runs
            for event in run.batch.events[run.index : run.index + run.count]
        ]

    def inside(self, group: GroupState) -> list[int]:
        """Every event in the group's hands, but for those being moved."""
        line = group.line
        runs = [*line.fresh, *line.again, *line.alone, *(one[2] for one in line._delayed)]
        runs += [run for offer in group._offers._runs.values() for run in offer]
        runs += [dying.run for dying in group._endings.letters._dying.values()]
        leased = [lease.event for lease in self.leases.values()]
        return leased + [number(event) for run in runs for event in run.events()]

    def _check_histories(self) -> None:
        for event in self.truth:
            if not event.settled:
                kept = (event.kept_attempts, event.kept_lost)
                assert kept == (event.attempts, event.lost), "attempts are miscounted"

    def _check_instances(self) -> None:
        """What instances hold is leased, about to be, or about to be taken from them."""
        holders: dict[int, int] = {}
        for instance in [one for one in self.instances if not one.gone]:
            assert instance.state.window.in_flight == len(instance.live), "window miscounted"
            doomed = {
                identifier
                for message in instance.inbox
                if isinstance(message, msg.Revoke) and message.generation == self.generation
                for identifier in ids(message.pieces)
            }
            for identifier, held in instance.live.items():
                if held.generation != self.generation or identifier in doomed:
                    continue
                other = holders.setdefault(held.event, instance.member)
                assert other == instance.member, "two instances hold one event"


class _Answered(msg.Message, frozen=True):
    """A store call that replies wait for has ended."""

    answers: tuple[fx.Answer, ...]
    failed: bool
