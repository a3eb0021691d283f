"""One group and all around it, in a world where nothing happens by itself.

It plays the actors' shells and the supervisor: whoever drives it says which message is taken in
next, which call ends and how, and when time passes.
"""

from collections import deque
from typing import Any

from actorbus.store import GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors.clock import Now
from actors.counters import GroupCounters
from actors.group_state import GroupState
from tests.actors.fakes import at
from tests.properties.books import Books
from tests.properties.calls import Answered, Calls, NotReleased
from tests.properties.instance import TOPIC, Instance
from tests.properties.invariants import MOST_OUTSTANDING, check_group
from tests.properties.model_store import LogStore, Store, number


class World:
    """The shells, the store, the clock and the books.

    Attributes:
        cell: members by number, as the supervisor knows them.
        inboxes: what others than instances have sent to the group, by sender.
        refused: an instance among others has let some of an offer go.
        closing: the broker is stopping: nobody comes, and no group is started.
        seen: what has happened, for tests of the script itself.
    """

    def __init__(self, store: Store, options: GroupOptions) -> None:
        self.store = store
        self.options = options
        self.books = Books(store, options)
        self.seen: set[str] = set()
        self.calls = Calls(self.books, self._from_store, self.seen)
        self.now = at(0)
        self.generation = 0
        self.instances: list[Instance] = []
        self.cell: set[int] = set()
        self.inboxes: dict[str, deque[msg.Message]] = {
            name: deque() for name in ("topic", "store", "self", "letters", "supervisor")
        }
        self.refused = False
        self.closing = False
        self.group: GroupState | None = None
        self.timer: int | None = None
        self._shut = False
        self._refs: set[int] = set()

    def here(self) -> list[Instance]:
        """Who is connected."""
        return [instance for instance in self.instances if not instance.gone]

    # --- the group's life ---------------------------------------------------------------------

    def start(self) -> None:
        """The next generation, greeting the members of the one before."""
        self.generation += 1
        self.books.options = self.options
        tally = GroupCounters()
        self.group = GroupState(self.options, self.store.abilities, tally, lambda: 0.75, self.now)
        self.calls.open()
        for member in sorted(self.cell):
            self._receive(msg.Attach(member, None))
        self.turn([])

    def stop(self) -> None:
        """The actor is gone, with what it was told and not handled."""
        self.group, self.timer, self._shut = None, None, False
        for inbox in self.inboxes.values():
            inbox.clear()
        for instance in self.instances:
            old = (msg.Room, msg.Taken, msg.Settle, msg.Extend)
            late = [message for message in instance.out if isinstance(message, old)]
            instance.out.clear()
            instance.out.extend(late)
            if not instance.gone:
                instance.inbox.append(msg.GroupDown(TOPIC))
        self.calls.clear()
        self.books.close()
        self._refs.clear()
        self.store.open()

    def restart(self) -> None:
        """The actor fails, or must begin again: there is a next one if it has members."""
        if self.group is not None:
            self.stop()
            if self.cell and not self.closing:
                self.start()

    def reopen(self) -> None:
        """The broker has stopped in order, and another one starts."""
        for instance in self.here():
            self.close(instance, counts=False)
        if self.group is not None:
            self.stop()
        self.closing = False

    # --- instances ----------------------------------------------------------------------------

    def connect(self, limit: int) -> Instance:
        """A new instance subscribes."""
        instance = Instance(len(self.instances) + 1, limit, self._delivered)
        self.instances.append(instance)
        self.subscribe(instance)
        return instance

    def subscribe(self, instance: Instance) -> None:
        """An instance becomes a member (again)."""
        instance.deliveries.subscribed.add(TOPIC)
        known = instance.member in self.cell
        self.cell.add(instance.member)
        if self.group is None:
            self.start()
        elif not known:
            instance.out.append(msg.Attach(instance.member, None))

    def leave(self, instance: Instance) -> None:
        """It unsubscribes, and keeps what it holds."""
        instance.deliveries.subscribed.discard(TOPIC)
        self.cell.discard(instance.member)
        if self.group is not None:
            instance.out.append(msg.Leave(instance.member))

    def close(self, instance: Instance, *, counts: bool) -> None:
        """Its connection ends; one that the broker itself ends does not count."""
        self.refused = self.refused or len(self.here()) > 1
        instance.gone = True
        instance.inbox.clear()
        instance.live.clear()
        self.cell.discard(instance.member)
        if self.group is not None:
            instance.out.append(msg.Detach(instance.member, counts and not self.closing))

    def _delivered(self, instance: Instance, offer: msg.Offer, event: int, attempt: int) -> None:
        truth = self.store.truth[event]
        if isinstance(self.store, LogStore) and not (truth.delivered or self.refused):
            assert event > instance.newest, "first attempts out of order"
            instance.newest = event
        if offer.generation == self.generation and self.group is not None:
            assert attempt == truth.attempts + 1, "wrong attempt number"
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
        self.books.expire(self.now)
        for effect in self.group.pump(self.now):
            self._carry_out(effect)
        if self.group is not None:
            check_group(self, self.group)

    def _receive(self, message: msg.Message) -> None:
        group = self.group
        assert group is not None
        match message:
            case msg.Attach():
                self._refs.add(message.member)
            case msg.Detach():
                self._refs.discard(message.member)
            case msg.Settle() | msg.Extend() | msg.Room() | msg.Taken():
                if message.generation != self.generation:
                    self._refuse(message)
                    return
            case msg.MoveDone() if not message.moved:
                self.calls.transit.remove(self.store.at(message.position))
            case msg.Shut():
                self._shut = True
            case Answered():
                for effect in group.answered(message.answers, failed=message.failed):
                    self._carry_out(effect)
                return
            case NotReleased():
                self.seen.add("reset")
                self.restart()
                return
        self._note_refused(message)
        self.books.book(message, self.now)
        group.handle(message, self.now)

    def _note_refused(self, message: msg.Message) -> None:
        """What one of several does not take comes after what others took in the same round."""
        if isinstance(message, msg.Taken) and len(self.here()) > 1:
            offered = self.books.offered.get(message.member, ())
            self.refused = self.refused or message.count < sum(run.count for run in offered)

    def _refuse(self, message: Any) -> None:
        if isinstance(message, msg.Settle | msg.Extend) and message.token is not None:
            self._tell(message.member, msg.Settled(message.token, message.pieces))

    def _tell(self, member: int, message: msg.Message) -> bool:
        instance = self.instances[member - 1]
        if instance.gone or member not in self._refs:
            return False
        instance.inbox.append(message)
        return True

    # --- effects ------------------------------------------------------------------------------

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.Deliver():
                self._offer(effect)
            case fx.StoreCall():
                reads = isinstance(effect, fx.Fetch | fx.GiveBack)
                assert not (self._shut and reads), "reads after it was shut"
                self.calls.begin(effect, self.now)
            case fx.Reply():
                self.books.reply(effect.answer)
                answer = effect.answer
                self._tell(answer.member, msg.Settled(answer.token, answer.stale))
            case fx.SetTimer():
                self.timer = effect.at
            case fx.Open():
                ref = self.instances[effect.member - 1].group
                self._tell(effect.member, msg.Opened(TOPIC, self.generation, ref))
            case fx.Revoked():
                revoke = msg.Revoke(TOPIC, self.generation, effect.pieces)
                self._tell(effect.member, revoke)
            case fx.DeadLetter():
                self.books.letters[effect.token] = [number(one) for one in effect.run.events()]
            case fx.Sleep():
                self._sleep()

    def _sleep(self) -> None:
        assert self.group is not None
        assert not self.group.busy(), "sleeps though busy"
        if not self.cell:
            self.seen.add("slept")
            self.stop()

    def _offer(self, effect: fx.Deliver) -> None:
        assert not self._shut, "offers after it was shut"
        if effect.alone:
            self.seen.add("alone")
        self.books.offer(effect, self.now, MOST_OUTSTANDING)
        ref = self.instances[effect.member - 1].group
        wait = self.books.lease_ms()
        offer = msg.Offer(TOPIC, self.generation, ref, effect.runs, wait, effect.alone)
        if not self._tell(effect.member, offer):
            taken = msg.Taken(effect.member, self.generation, 0, 0, 0)
            self.inboxes["self"].append(taken)

    def _from_store(self, message: msg.Message) -> None:
        self.inboxes["store"].append(message)

    # --- calls, time, topic, options ----------------------------------------------------------

    def end_call(self, pick: int, *, well: bool) -> None:
        """One of the store calls under way ends."""
        self.calls.end(pick, self.options, well=well)

    def end_letter(self, pick: int, *, well: bool, late: bool = False) -> None:
        """A try to dead-letter ends; one that fails may still become durable if it is `late`."""
        letters = self.books.letters
        if not letters:
            return
        token = list(letters)[pick % len(letters)]
        events = letters[token] if late else letters.pop(token)
        if well:
            letters.pop(token, None)
            for event in events:
                self.store.truth[event].letter = True
        self.inboxes["letters"].append(msg.DeadLetterDone(token, well))

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
            self.inboxes["supervisor"].append(msg.Configure(options))

    def shut(self) -> None:
        """The broker is stopping: nothing more may be offered."""
        self.closing = True
        if self.group is not None:
            self.inboxes["supervisor"].append(msg.Shut())
