"""One group in a small world: its state, a model store, instances, and messages on their way.

Nothing happens by itself: whoever drives it says which inbox is emptied, which store call ends and
how, and when time passes. So each order of events that the real actors allow can be played.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from actorbus import frames
from actorbus.codec import MSGPACK
from actorbus.store import Batch, Fetched, GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors.clock import Now
from actors.counters import BrokerCounters, GroupCounters
from actors.deliveries import Deliveries
from actors.group_state import GroupState
from tests.actors.fakes import FakeRef, FakeWire, at
from tests.properties.model_store import ModelStore

TOPIC = "orders"


class Client:
    """An instance, and the app behind it.

    Attributes:
        live: delivery id → event, of what it has got and not settled.
        most: the largest number in flight, as the last offer was taken.
    """

    def __init__(self, world: "World", member: int, limit: int) -> None:
        self.world = world
        self.member = member
        self.wire = FakeWire()
        self.wire.codec = self  # type: ignore[assignment]  # it needs no bytes
        self.counters = BrokerCounters()
        self.inbox: deque[msg.Message] = deque()
        self.ref: Any = FakeRef(self.inbox.append)
        self.deliveries = Deliveries(self, limit, member * 1_000_000)  # type: ignore[arg-type]  # all that it uses is here
        self.deliveries.subscribed.add(TOPIC)
        self.live: dict[int, bytes] = {}
        self.answers: list[Any] = []
        self.joined = True
        self.awake = False

    def send(self, frame: Any) -> None:
        self.answers.append(frame)

    def fail(self, ref: Any, failure: msg.Failure) -> None:
        self.answers.append(failure)

    def wake(self) -> None:
        self.awake = True

    def deliver(
        self, topic: str, lease_ms: int, deliveries: Sequence[tuple[int, int, bytes]], limit: int
    ) -> list[bytes]:
        for number, attempt, event in deliveries:
            self.live[number] = event
            self.world.delivered(event, attempt)
        return []

    def decode(self, message: bytes) -> dict[str, Any]:
        return MSGPACK.decode(message)

    def turn(self) -> None:
        """Handle what waits, as the actor's turn does."""
        self.awake = False
        for _ in range(len(self.inbox)):
            self._take(self.inbox.popleft())
        self.deliveries.turn_end()

    def _take(self, message: msg.Message) -> None:
        window = self.deliveries.state.window
        before = window.in_flight
        match message:
            case msg.Opened():
                self.deliveries.opened(message)
            case msg.GroupDown():
                self.deliveries.down(message.topic)
            case msg.Offer():
                self.deliveries.offered(message)
                assert window.in_flight <= max(before, window.limit), "window exceeded"
            case msg.Revoke():
                self.deliveries.revoked(message)
            case msg.Settled():
                self.deliveries.settled(message)

    def ack(self, ids: list[int], status: Any, delay_ms: int | None, ref: int | None) -> None:
        self.deliveries.ack(frames.Ack(ref, ids, status, delay_ms))
        for number in ids:
            self.live.pop(number, None)


class World:
    """Everything around one group.

    Attributes:
        published: every event.
        acked: those that a client has settled with success, as far as the group knows.
        dead: those whose dead letters are durable.
        attempts: attempts that have ended, by event, as the protocol counts them.
        calls: store calls under way.
        letters: dead letters under way.
    """

    def __init__(self, store: ModelStore, options: GroupOptions) -> None:
        self.store = store
        self.options = options
        self.time = 0
        self.published: list[bytes] = []
        self.acked: set[bytes] = set()
        self.dead: list[bytes] = []
        self.attempts: dict[bytes, int] = {}
        self.clients: dict[int, Client] = {}
        self.calls: list[fx.StoreCall] = []
        self.letters: list[fx.DeadLetter] = []
        self.tally = GroupCounters()
        self.generation = 0
        self.members = 0
        self.start()

    def now(self) -> Now:
        return at(self.time)

    # --- the group's shell --------------------------------------------------------------------

    def start(self) -> None:
        """A new generation, from the store."""
        self.generation += 1
        self.inbox: deque[msg.Message] = deque()
        self.ref: Any = FakeRef(self.inbox.append)
        self.timer: int | None = None
        self.calls.clear()
        self.letters.clear()
        self.state = GroupState(
            self.options, self.store.abilities, self.tally, lambda: 1.0, self.now()
        )
        for client in self.clients.values():
            if client.joined:
                self.inbox.append(msg.Attach(client.member, client.ref))
        feed = type("Feed", (), {"position": self.store.open()})
        self.inbox.append(msg.FeedOpen(feed, self.options))

    def crash(self) -> None:
        """The group fails: what its leases were is void, its inbox is lost."""
        self.ref.dead = True
        for client in self.clients.values():
            client.inbox.append(msg.GroupDown(TOPIC))
        self.start()

    def turn(self, most: int = 1000) -> None:
        """Handle some of what waits, then pump."""
        for _ in range(min(len(self.inbox), most)):
            message = self.inbox.popleft()
            self._count_endings(message)
            self.state.handle(message, self.now())
        before = self._leases()
        effects = self.state.pump(self.now())
        for effect in effects:
            self._act(effect, before)
        if any(isinstance(effect, fx.Deliver) for effect in effects):
            out = self.state.leases.count + self.state._offers.count
            assert out <= (self.state.options.max_in_flight or out), "max_in_flight exceeded"

    def _leases(self) -> dict[tuple[int, int], bytes]:
        """The event of every live lease, by member and delivery id."""
        found: dict[tuple[int, int], bytes] = {}
        for member, leases in self.state.leases._leases.items():
            for lease in leases.values():
                opened = lease.open()
                for offset, event in enumerate(lease.run.events()):
                    if opened >> offset & 1:
                        found[member, lease.first_id + offset] = event
        return found

    def _count_endings(self, message: msg.Message) -> None:
        """Keep the books of attempts and acks beside the group."""
        held = self._leases()
        if isinstance(message, msg.Detach) and message.counts:
            for (member, _), event in held.items():
                if member == message.member:
                    self._attempt_ended(event)
        if not isinstance(message, msg.Settle):
            return
        for first_id, offset, count in message.pieces:
            for number in range(first_id + offset, first_id + offset + count):
                settled = held.get((message.member, number))
                if settled is not None and message.status == "RETRY":
                    self._attempt_ended(settled)
                elif settled is not None and message.status == "SUCCESS":
                    self.acked.add(settled)

    def _attempt_ended(self, event: bytes) -> None:
        self.attempts[event] = self.attempts.get(event, 0) + 1

    def _act(self, effect: fx.Effect, before: dict[tuple[int, int], bytes]) -> None:
        match effect:
            case fx.StoreCall():
                self._call_store(effect)
            case fx.Deliver():
                self._offer(effect)
            case fx.DeadLetter():
                self.letters.append(effect)
            case fx.Open():
                self._tell(effect.member, msg.Opened(TOPIC, self.generation, self.ref))
            case fx.Revoked():
                self._revoke(effect, before)
            case fx.SetTimer():
                self.timer = effect.at
            case fx.Reply():
                answer = effect.answer
                self._tell(answer.member, msg.Settled(answer.token, answer.stale))

    def _call_store(self, effect: fx.StoreCall) -> None:
        match effect:
            case fx.SettleRuns():
                self._settled(effect)
            case fx.RecordAttempts():
                self.store.attempted(effect.attempts)
                self._reply(effect.answers)
            case _:
                self.calls.append(effect)

    def _revoke(self, effect: fx.Revoked, before: dict[tuple[int, int], bytes]) -> None:
        for first_id, offset, count in effect.pieces:
            for number in range(first_id + offset, first_id + offset + count):
                self._attempt_ended(before[effect.member, number])
        self._tell(effect.member, msg.Revoke(TOPIC, self.generation, effect.pieces))

    def _offer(self, effect: fx.Deliver) -> None:
        offer = msg.Offer(
            TOPIC, self.generation, self.ref, effect.runs, self.state.lease_ms(), effect.alone
        )
        if not self._tell(effect.member, offer):
            self.inbox.append(msg.Taken(effect.member, self.generation, 0, 0, 0))

    def _settled(self, effect: fx.SettleRuns) -> None:
        for event in self.store.settle(effect.runs):
            if event not in self.acked and self.options.dead_letter_topic is not None:
                assert event in self.dead, "settled before its dead letter was durable"
        self._reply(effect.answers)

    def _reply(self, answers: tuple[fx.Answer, ...]) -> None:
        for effect in self.state.answered(answers, failed=False):
            self._act(effect, {})

    def _tell(self, member: int, message: msg.Message) -> bool:
        client = self.clients.get(member)
        if client is None:
            return False
        client.inbox.append(message)
        return True

    def delivered(self, event: bytes, attempt: int) -> None:
        """A client has got an event."""
        assert attempt == self.attempts.get(event, 0) + 1, "attempts are not exact"

    # --- what can happen ----------------------------------------------------------------------

    def publish(self, count: int, ttl_ms: int | None) -> None:
        start = len(self.published)
        events = tuple(f"event {number}".encode() for number in range(start, start + count))
        self.published += events
        expires_at = None if ttl_ms is None else self.now().wall + ttl_ms
        batch: Batch | None = self.store.publish(events, expires_at)
        if batch is not None:
            self.inbox.append(msg.Notice((batch,)))

    def ready_calls(self) -> list[fx.StoreCall]:
        """The store calls that may end now: a queue's fetch waits for something to come."""
        waits = not self.store.abilities.log and not self.store.unread(None)
        return [call for call in self.calls if not (waits and isinstance(call, fx.Fetch))]

    def end_call(self, call: fx.StoreCall, *, well: bool) -> None:
        """A store call ends."""
        self.calls.remove(call)
        match call:
            case fx.Fetch():
                fetched = self.store.fetch(call.position) if well else None
                self.inbox.append(msg.FetchDone(fetched))
            case fx.GiveBack():
                self.inbox.append(msg.Released(self.store.release(call.runs)))
                for fetch in [one for one in self.calls if isinstance(one, fx.Fetch)]:
                    self.calls.remove(fetch)
                    self.inbox.append(msg.FetchDone(Fetched((), fetch.position)))
            case fx.MoveEvent():
                if well:
                    self.store.move(call.attempt)
                self.inbox.append(msg.MoveDone(call.attempt.position, well))

    def _end_calls(self) -> None:
        while ready := self.ready_calls():
            self.end_call(ready[0], well=True)

    def end_letter(self, index: int, *, well: bool) -> None:
        """A dead letter becomes durable, or does not."""
        letter = self.letters.pop(index)
        if well:
            self.dead += letter.run.events()
        self.inbox.append(msg.DeadLetterDone(letter.token, well))

    def go_well(self, rounds: int) -> None:
        """All actors get their turns, and store calls succeed."""
        for _ in range(rounds):
            self.turn()
            self._end_calls()
            for client in self.clients.values():
                client.turn()

    def connect(self, limit: int) -> None:
        self.members += 1
        client = self.clients[self.members] = Client(self, self.members, limit)
        self.inbox.append(msg.Attach(client.member, client.ref))

    def leave(self, client: Client) -> None:
        client.joined = False
        client.deliveries.subscribed.discard(TOPIC)
        self.inbox.append(msg.Leave(client.member))

    def disconnect(self, client: Client, *, counts: bool) -> None:
        client.turn()
        del self.clients[client.member]
        self.inbox.append(msg.Detach(client.member, counts))

    def configure(self, **changes: Any) -> None:
        self.options = msgspec.structs.replace(self.options, **changes)
        self.inbox.append(msg.Configure(self.options))

    def advance(self, ms: int) -> None:
        """Time passes; the timer goes off when it is due."""
        self.time += ms
        if self.timer is not None and self.timer <= self.time:
            self.timer = None
            self.inbox.append(msg.Tick())

    # --- what must hold -----------------------------------------------------------------------

    def places(self) -> list[bytes]:
        """Every event that the group has in hand, as often as it has it."""
        state = self.state
        runs = [*state.line.fresh, *state.line.again, *state.line.alone]
        runs += [entry[2] for entry in state.line._delayed]
        runs += [run for offered in state._offers._runs.values() for run in offered]
        runs += [dying.run for dying in state._endings.letters._dying.values()]
        runs += [run for run, _ in state._moving.values()]
        return [event for run in runs for event in run.events()] + list(self._leases().values())

    def check(self) -> None:
        """No event is lost or in two places; no bound is exceeded."""
        found = self.places()
        assert len(found) == len(set(found)), "an event is in two places"
        assert not set(found) & set(self.store.settled), "a settled event came back"
        assert len(self.store.settled) == len(set(self.store.settled))
        if not self.state._reading.releasing:
            unread = self.store.unread(self.state._reading.position)
            reachable = {*found, *self.store.settled, *unread, *self._fetched()}
            assert reachable == set(self.published), "an event is lost"
        leased = self.state.leases
        assert leased.count == len(self._leases())
        assert sum(leased.held.values()) == leased.count
        self._check_bounds()

    def _fetched(self) -> list[bytes]:
        """What is on its way from the store to the group."""
        answers = [message for message in self.inbox if isinstance(message, msg.FetchDone)]
        return [
            event
            for answer in answers
            if answer.fetched is not None
            for stored in answer.fetched.runs
            for event in stored.batch.events[stored.index : stored.index + stored.count]
        ]

    def _check_bounds(self) -> None:
        line, leases = self.state.line, self.state.leases
        fresh = [run.position for run in line.fresh]
        assert fresh == sorted(fresh), "first attempts are out of order"
        assert line.again_count == sum(run.count for run in line.again)
        assert line.fresh_bytes >= 0
        assert leases.next_deadline() is None or self.timer is not None or self.inbox

    # --- calm ---------------------------------------------------------------------------------

    def settle_everything(self, rounds: int = 400) -> None:
        """Every call succeeds, everyone acks, time passes: everything must end."""
        if not any(client.joined for client in self.clients.values()):
            self.connect(5)
        for client in self.clients.values():
            client.deliveries.state.window.limit = max(client.deliveries.state.window.limit, 3)
            client.wire.unsent_bytes = 0
        for _ in range(rounds):
            self._calm_round()
            if len(self.store.settled) == len(self.published):
                return
        raise AssertionError(f"{len(self.published) - len(self.store.settled)} are stuck")

    def _calm_round(self) -> None:
        self.turn()
        self._end_calls()
        while self.letters:
            self.end_letter(0, well=True)
        for client in self.clients.values():
            client.turn()
            client.ack(list(client.live), "SUCCESS", None, None)
        if not self.inbox and not any(c.inbox or c.awake for c in self.clients.values()):
            self._jump()

    def _jump(self) -> None:
        if self.timer is not None:
            self.advance(max(self.timer - self.time, 0))
