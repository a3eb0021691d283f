"""Whatever happens, and in whatever order: no event is lost, stuck or leased twice.

Three safeguards are taken out in turn, to see that these machines would notice.
"""

import sys
from collections.abc import Callable, Iterable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from actorbus.store import Batch, GroupOptions
from actors import group_state, line
from actors import messages as msg
from actors.dead_letters import DeadLetters, Dying
from actors.leases import LeaseTable
from actors.offers import Offers
from actors.reading import Reading
from tests.properties.invariant_instance import Instance
from tests.properties.invariant_stores import LogStore, QueueStore, Store
from tests.properties.invariant_world import MOST_OUTSTANDING, MOST_PUBLISHED, READ_AHEAD, World

PICK = st.integers(0, 40)
OPTIONS = st.builds(
    GroupOptions,
    ack_wait_ms=st.sampled_from([1000, 3000]),
    max_attempts=st.sampled_from([0, 3, 2, 1]),
    backoff_ms=st.just(100),
    max_backoff_ms=st.just(400),
    dead_letter_topic=st.sampled_from([None, "dead"]),
    max_in_flight=st.sampled_from([0, 0, 6, 1]),
)
RARELY = st.sampled_from([False, False, True])
ROUNDS = 400


class GroupMachine(RuleBasedStateMachine):
    """A group on a log store."""

    store: Callable[[], Store] = LogStore

    @initialize(options=OPTIONS, limits=st.lists(st.integers(2, 8), min_size=1, max_size=3))
    def begin(self, options: GroupOptions, limits: list[int]) -> None:
        self.world = World(type(self).store(), options)
        for limit in limits:
            self.world.connect(limit)
        self.world.publish(5, None, told=True)
        self.settle_down(8)

    def settle_down(self, rounds: int) -> bool:
        """Let all that is under way end well, for so many rounds; whether nothing is left."""
        world = self.world
        for _ in range(rounds):
            for _ in range(len(world.calls)):
                world.end_call(0, well=True)
            world.turn([0] * 30)
            busy = bool(world.senders())
            for instance in self.here():
                busy = busy or bool(instance.inbox) or instance.awake
                if instance.inbox or instance.awake:
                    world.instance_turn(instance, 30)
            if not busy:
                return True
        return False

    def here(self) -> list[Instance]:
        return [instance for instance in self.world.instances if not instance.gone]

    def one(self, pick: int) -> Instance | None:
        here = self.here()
        return here[pick % len(here)] if here else None

    # --- publishing and the store -------------------------------------------------------------

    @rule(
        count=st.integers(1, MOST_PUBLISHED),
        ttl=st.sampled_from([None, None, None, 1500]),
        told=st.sampled_from([True, True, True, False]),
    )
    def publish(self, count: int, ttl: int | None, told: bool) -> None:
        if len(self.world.truth) < 60:
            self.world.publish(count, ttl, told=told)

    @rule(merge=st.booleans())
    def nudge(self, merge: bool) -> None:
        self.world.notice(msg.Notice(()), merge=merge)

    @rule(picks=st.lists(PICK, min_size=1, max_size=4), well=st.sampled_from([True, True, False]))
    def store_calls_end(self, picks: list[int], well: bool) -> None:
        for pick in picks:
            self.world.end_call(pick, well=well)

    @rule(pick=PICK, well=st.booleans(), late=st.booleans())
    @precondition(lambda self: self.world.letters)
    def letter_ends(self, pick: int, well: bool, late: bool) -> None:
        self.world.end_letter(pick, well=well, late=late)

    # --- turns and time -----------------------------------------------------------------------

    @rule(picks=st.lists(PICK, max_size=8))
    def group_turn(self, picks: list[int]) -> None:
        self.world.turn(picks)

    @rule(pick=PICK, most=st.integers(1, 5))
    def instance_turn(self, pick: int, most: int) -> None:
        instance = self.one(pick)
        if instance is not None:
            self.world.instance_turn(instance, most)

    @rule(rounds=st.integers(1, 4))
    def all_goes_well(self, rounds: int) -> None:
        self.settle_down(rounds)

    @rule(ms=st.sampled_from([75, 1, 300, 500, 999, 1000, 3000, 6000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    # --- instances ----------------------------------------------------------------------------

    @rule(
        pick=PICK,
        of=st.lists(PICK, min_size=1, max_size=6),
        old=st.sampled_from([False, False, True]),
        status=st.sampled_from(["SUCCESS", "SUCCESS", "RETRY", "RETRY", "DROP"]),
        delay=st.sampled_from([None, 0, 7000]),
        ask=st.booleans(),
    )
    def settle(  # noqa: PLR0917 - hypothesis passes them by name
        self, pick: int, of: list[int], old: bool, status: msg.Status, delay: int | None, ask: bool
    ) -> None:
        instance = self.one(pick)
        known = self.known(instance, old=old)
        if instance is not None and known:
            wanted = [known[at % len(known)] for at in of]
            instance.ack(wanted, status, delay if status == "RETRY" else None, ask=ask)

    @rule(pick=PICK, of=st.lists(PICK, min_size=1, max_size=6), wait=st.sampled_from([None, 2500]))
    def extend(self, pick: int, of: list[int], wait: int | None) -> None:
        instance = self.one(pick)
        known = self.known(instance, old=False)
        if instance is not None and known:
            instance.extend([known[at % len(known)] for at in of], wait)

    def known(self, instance: Instance | None, *, old: bool) -> list[int]:
        if instance is None:
            return []
        return instance.known if old else list(instance.live)

    @rule(limit=st.integers(1, 8))
    def connect(self, limit: int) -> None:
        if len(self.here()) < 4:
            self.world.connect(limit)

    @rule(pick=PICK, counts=st.sampled_from([True, True, False]), back=st.sampled_from([0, 0, 4]))
    def disconnect(self, pick: int, counts: bool, back: int) -> None:
        instance = self.one(pick)
        if instance is not None:
            self.world.close(instance, counts=counts)
        if len(self.here()) <= 1 or back:
            self.connect(back or 6)

    @rule(pick=PICK, really=RARELY)
    def leave_or_return(self, pick: int, really: bool) -> None:
        instance = self.one(pick)
        if instance is not None and not instance.subscribed:
            self.world.subscribe(instance)
        elif instance is not None and really:
            self.world.leave(instance)

    @rule(pick=PICK, limit=st.integers(1, 8), congested=RARELY)
    def flow(self, pick: int, limit: int, congested: bool) -> None:
        instance = self.one(pick)
        if instance is not None:
            instance.state.window.limit = limit
            instance.congested = congested
            instance.tell_room()

    # --- the group ----------------------------------------------------------------------------

    @rule(options=OPTIONS)
    def configure(self, options: GroupOptions) -> None:
        self.world.configure(options)

    @rule(really=RARELY)
    def crash(self, really: bool) -> None:
        if really:
            self.world.crash()
        else:
            self.settle_down(8)

    @invariant()
    def windows_are_kept(self) -> None:
        for instance in self.here():
            assert instance.state.window.in_flight == len(instance.live)

    def teardown(self) -> None:
        if sys.exception() is None and hasattr(self, "world"):
            self.everything_gets_settled()

    def everything_gets_settled(self) -> None:
        """With one good instance, nothing is left over: the group's own timer must suffice."""
        self.world.connect(100)
        for instance in self.here():
            instance.congested = False
            instance.tell_room()
        self.world.notice(msg.Notice(()), merge=False)
        for _ in range(ROUNDS):
            if all(event.settled for event in self.world.truth):
                break
            self._go_on()
        unsettled = [at for at, event in enumerate(self.world.truth) if not event.settled]
        assert not unsettled, f"stuck: {unsettled}"
        assert self.settle_down(ROUNDS), "messages go round for ever"
        for instance in self.here():
            assert not instance.unanswered, "an ack was not answered"

    def _go_on(self) -> None:
        """Messages and store calls end, clients ack; then time passes until the timer."""
        world = self.world
        self.settle_down(20)
        for _ in range(len(world.letters)):
            world.end_letter(0, well=True)
        for instance in self.here():
            if instance.live:
                instance.ack(list(instance.live), "SUCCESS", None, ask=True)
                instance.tell_room()
        self.settle_down(20)
        if world.timer is not None:
            world.advance(max(world.timer - world.now.mono, 0))


class QueueMachine(GroupMachine):
    """A group on a queue store, which moves events and may lose its feed."""

    store = QueueStore

    @rule(of=st.lists(PICK, min_size=1, max_size=4))
    def evict(self, of: list[int]) -> None:
        store = self.world.store
        if isinstance(store, QueueStore) and store.held and self.world.group is not None:
            positions = list(store.held)
            wanted = tuple({positions[at % len(positions)] for at in of})
            self.world.inboxes["store"].append(msg.Evict(wanted))


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few events reach them."""
    monkeypatch.setattr(group_state, "GROUP_OUTSTANDING", MOST_OUTSTANDING)
    monkeypatch.setattr(group_state, "GROUP_READ_AHEAD_BYTES", READ_AHEAD)


def play(machine: type[GroupMachine], examples: int, *, shrink: bool = True) -> None:
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            derandomize=True,
            database=None,
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_group_on_a_log_keeps_its_invariants() -> None:
    play(GroupMachine, 200)


def test_a_group_on_a_queue_keeps_its_invariants() -> None:
    play(QueueMachine, 200)


def forget_nothing_settled(
    self: LeaseTable, member: int, pieces: Iterable[msg.Piece]
) -> tuple[list[msg.Run], list[msg.Piece]]:
    """`LeaseTable.settle` that leaves the leases open."""
    stale: list[msg.Piece] = []
    found = self._find(member, pieces, stale)
    return [run for lease, held in found for run in lease.runs(held)], stale


def lose(self: line.Line, run: msg.Run) -> None:
    """`Line.put_back` that loses the run."""


def drop_nothing(self: LeaseTable, member: int) -> list[msg.Run]:
    """`LeaseTable.drop` that forgets the events."""
    self._leases.pop(member, None)
    self.count -= self.held.pop(member, 0)
    return []


def ended_twice(self: DeadLetters, token: int) -> Dying | None:
    """`DeadLetters.durable` that does not forget what is done."""
    return self._dying.get(token)


def settle_at_once(self: DeadLetters, token: int) -> Dying | None:
    """`DeadLetters.failed` that never tries again."""
    return None


def never_due(self: line.Line) -> None:
    """`Line.next_due` that sets no timer for a delay."""


def keep_offer(self: Offers, member: int) -> tuple[msg.Run, ...]:
    """`Offers.pop` that still has what was answered."""
    return self._runs.get(member, ())


def always_follows(self: Reading, batch: Batch) -> bool:
    """`Reading.follows` that skips what it has not read."""
    self.position = batch.first + len(batch.events)
    return True


SAFEGUARDS = [
    (LeaseTable, "settle", forget_nothing_settled),
    (LeaseTable, "drop", drop_nothing),
    (line.Line, "put_back", lose),
    (line.Line, "next_due", never_due),
    (Offers, "pop", keep_offer),
    (Reading, "follows", always_follows),
    (DeadLetters, "durable", ended_twice),
    (DeadLetters, "failed", settle_at_once),
]


@pytest.mark.parametrize(("owner", "name", "broken"), SAFEGUARDS)
def test_a_group_without_one_of_its_safeguards_is_found_out(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, broken: Callable[..., object]
) -> None:
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        play(GroupMachine, 200, shrink=False)
