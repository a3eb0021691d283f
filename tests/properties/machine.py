"""A group, its store and its instances in every order that Hypothesis can think of."""

import os
import sys
from collections.abc import Callable
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from actorbus.store import GroupOptions
from actors import messages as msg
from tests.properties.instance import Instance
from tests.properties.invariants import MOST_PUBLISHED
from tests.properties.model_store import LogStore, QueueStore, Store
from tests.properties.world import World

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "150"))
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
SOME = st.lists(PICK, min_size=1, max_size=6)
STATUS: st.SearchStrategy[msg.Status] = st.sampled_from(["SUCCESS", "RETRY", "DROP"])
DELAY = st.sampled_from([None, 0, 300, 7000])
RARELY = st.sampled_from([False, False, True])
ROUNDS = 400


class GroupMachine(RuleBasedStateMachine):
    """A group on a log store.

    Attributes:
        seen: what has happened in any of its runs.
    """

    store: Callable[[], Store] = LogStore
    seen: ClassVar[set[str]] = set()

    @initialize(options=OPTIONS, limits=st.lists(st.integers(2, 8), min_size=1, max_size=3))
    def begin(self, options: GroupOptions, limits: list[int]) -> None:
        self.world = World(type(self).store(), options)
        self.untold = False
        for limit in limits:
            self.world.connect(limit)
        self.world.publish(5, None, told=True)
        self.settle_down(8)

    def settle_down(self, rounds: int) -> bool:
        """Let all that is under way end well, for so many rounds; whether nothing is left."""
        world = self.world
        for _ in range(rounds):
            for _ in range(len(world.calls.under_way)):
                world.end_call(0, well=True)
            world.turn([0] * 30)
            busy = [instance for instance in world.here() if instance.busy()]
            for instance in busy:
                instance.turn(30)
            if not busy and (world.group is None or not world.senders()):
                return True
        return False

    def one(self, pick: int) -> Instance | None:
        here = self.world.here()
        return here[pick % len(here)] if here else None

    # --- publishing and the store -------------------------------------------------------------

    @rule(
        count=st.integers(1, MOST_PUBLISHED),
        ttl=st.sampled_from([None, None, None, 1500]),
        told=st.sampled_from([True, True, True, False]),
    )
    def publish(self, count: int, ttl: int | None, told: bool) -> None:
        if len(self.world.store.truth) < 60:
            self.world.publish(count, ttl, told=told)
            self.untold = self.untold or not told

    @rule(merge=st.booleans())
    def nudge(self, merge: bool) -> None:
        self.world.notice(msg.Notice(()), merge=merge)

    @rule(picks=st.lists(PICK, min_size=1, max_size=4), well=st.sampled_from([True, True, False]))
    def store_calls_end(self, picks: list[int], well: bool) -> None:
        for pick in picks:
            self.world.end_call(pick, well=well)

    @rule(picks=st.lists(PICK, min_size=1, max_size=4), well=st.booleans(), late=st.booleans())
    def letters_end(self, picks: list[int], well: bool, late: bool) -> None:
        for pick in picks:
            self.world.end_letter(pick, well=well, late=late)

    # --- turns and time -----------------------------------------------------------------------

    @rule(picks=st.lists(PICK, max_size=8))
    def group_turn(self, picks: list[int]) -> None:
        self.world.turn(picks)

    @rule(pick=PICK, most=st.integers(1, 5))
    def instance_turn(self, pick: int, most: int) -> None:
        instance = self.one(pick)
        if instance is not None:
            instance.turn(most)

    @rule(rounds=st.integers(1, 4))
    def all_goes_well(self, rounds: int) -> None:
        self.settle_down(rounds)

    @rule(ms=st.sampled_from([75, 1, 300, 500, 999, 1000, 3000, 6000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    # --- instances ----------------------------------------------------------------------------

    @rule(
        plan=st.lists(st.tuples(PICK, SOME, RARELY, STATUS, DELAY), min_size=1, max_size=3),
        ask=st.booleans(),
        rounds=st.integers(0, 2),
    )
    def settle(
        self,
        plan: list[tuple[int, list[int], bool, msg.Status, int | None]],
        ask: bool,
        rounds: int,
    ) -> None:
        for pick, of, old, status, delay in plan:
            instance = self.one(pick)
            known = self.known(instance, old=old)
            if instance is not None and known:
                wanted = list(dict.fromkeys(known[at % len(known)] for at in of))
                instance.ack(wanted, status, delay if status == "RETRY" else None, ask=ask)
        self.settle_down(rounds)

    @rule(status=STATUS, ask=st.booleans(), rounds=st.integers(0, 3))
    def everyone_settles(self, status: msg.Status, ask: bool, rounds: int) -> None:
        for instance in self.world.here():
            instance.ack(list(instance.live), status, None, ask=ask)
        self.settle_down(rounds)

    @rule(pick=PICK, of=SOME, wait=st.sampled_from([None, 2500]), rounds=st.integers(0, 2))
    def extend(self, pick: int, of: list[int], wait: int | None, rounds: int) -> None:
        instance = self.one(pick)
        known = self.known(instance, old=False)
        if instance is not None and known:
            instance.extend([7, *(known[at % len(known)] for at in of)], wait)
        self.settle_down(rounds)

    def known(self, instance: Instance | None, *, old: bool) -> list[int]:
        if instance is None:
            return []
        return instance.known if old else list(instance.live)

    @rule(limit=st.integers(0, 8))
    def connect(self, limit: int) -> None:
        if len(self.world.here()) < 4 and not self.world.closing:
            self.world.connect(limit)

    @rule(pick=PICK, counts=st.sampled_from([True, True, False]), back=st.sampled_from([0, 0, 4]))
    def disconnect(self, pick: int, counts: bool, back: int) -> None:
        instance = self.one(pick)
        if instance is not None:
            self.world.close(instance, counts=counts)
        if len(self.world.here()) <= 1 or back:
            self.connect(back or 6)

    @rule(pick=PICK, really=RARELY)
    def leave_or_return(self, pick: int, really: bool) -> None:
        instance = self.one(pick)
        if instance is None or self.world.closing:
            return
        if not instance.subscribed:
            self.world.subscribe(instance)
        elif really:
            self.world.leave(instance)

    @rule(pick=PICK, limit=st.integers(0, 8), congested=RARELY)
    def flow(self, pick: int, limit: int, congested: bool) -> None:
        instance = self.one(pick)
        if instance is not None:
            instance.flow(limit, congested=congested)

    # --- the group ----------------------------------------------------------------------------

    @rule(options=OPTIONS)
    def configure(self, options: GroupOptions) -> None:
        self.world.configure(options)

    @rule(rounds=st.integers(0, 8), really=st.booleans())
    def crash(self, rounds: int, really: bool) -> None:
        self.settle_down(rounds)
        if really:
            self.world.restart()

    @rule(counts=st.booleans(), fails=st.booleans(), really=RARELY)
    def shift_changes(self, counts: bool, fails: bool, really: bool) -> None:
        """What is in hand begins to go back to the store, for nobody is there; or it can't."""
        if not really or self.world.closing:
            return
        self.settle_down(8)
        self.everyone_goes(counts=counts)
        self.world.turn([0] * 30)
        self.world.connect(3)
        self.end_returns(well=not fails)

    def everyone_goes(self, *, counts: bool) -> None:
        for instance in self.world.here():
            self.world.close(instance, counts=counts)

    def end_returns(self, *, well: bool) -> None:
        for place in reversed(self.world.calls.going_back()):
            self.world.end_call(place, well=well)

    @rule(published=st.integers(0, 3), really=RARELY)
    def night_falls(self, published: int, really: bool) -> None:
        """With nobody there the group goes to sleep, and wakes with the first to come back."""
        if not really or self.world.closing:
            return
        self.everyone_goes(counts=True)
        for _ in range(ROUNDS):
            if self.world.group is None:
                break
            self.go_on()
        assert self.world.group is None, "the group does not go to sleep"
        if published:
            self.world.publish(published, None, told=True)
        self.world.connect(4)

    @rule(really=RARELY, rounds=st.integers(0, 2))
    def shut_or_reopen(self, really: bool, rounds: int) -> None:
        """The broker stops in order; and comes back."""
        if self.world.closing:
            self.world.reopen()
            self.world.seen.add("reopened")
            self.world.connect(5)
        elif really:
            self.world.shut()
            self.publish(2, None, told=True)
            self.settle_down(rounds)

    @invariant()
    def windows_are_kept(self) -> None:
        for instance in self.world.here():
            assert instance.deliveries.state.window.in_flight == len(instance.live)

    # --- the end ------------------------------------------------------------------------------

    def teardown(self) -> None:
        if hasattr(self, "world"):
            type(self).seen.update(self.world.seen)
            if sys.exception() is None:
                self.everything_gets_settled()

    def everything_gets_settled(self) -> None:
        """With clients that take and settle, nothing is left: the group's own timer must do."""
        world = self.world
        if world.closing:
            world.reopen()
        if not any(instance.subscribed for instance in world.here()):
            world.connect(5)
        for instance in world.here():
            limit = max(instance.deliveries.state.window.limit, 3)
            instance.flow(limit, congested=False)
        if self.untold:  # an append that failed and was done all the same: topics tell at its end
            world.notice(msg.Notice(()), merge=False)
        for _ in range(len(world.books.letters)):
            world.end_letter(0, well=False)
        for _ in range(ROUNDS):
            if all(event.settled for event in world.store.truth):
                break
            self.go_on()
        unsettled = [at for at, event in enumerate(world.store.truth) if not event.settled]
        assert not unsettled, f"stuck: {unsettled}"
        assert self.settle_down(ROUNDS), "messages go round for ever"
        for instance in world.here():
            assert not instance.asked, "an ack was not answered"

    def go_on(self) -> None:
        """Messages and store calls end, clients ack; then time passes until the timer."""
        world = self.world
        self.settle_down(20)
        for _ in range(len(world.books.letters)):
            world.end_letter(0, well=True)
        for instance in world.here():
            if instance.live:
                instance.ack(list(instance.live), "SUCCESS", None, ask=True)
        self.settle_down(20)
        if world.timer is not None:
            world.advance(max(world.timer - world.now.mono, 0))


class QueueMachine(GroupMachine):
    """A group on a queue store, which moves events and may lose its feed."""

    store = QueueStore
    seen: ClassVar[set[str]] = set()

    @rule(of=st.lists(PICK, min_size=1, max_size=4), fails=st.booleans())
    def evict(self, of: list[int], fails: bool) -> None:
        store = self.world.store
        if isinstance(store, QueueStore) and store.held and self.world.group is not None:
            positions = list(store.held)
            wanted = tuple({positions[at % len(positions)] for at in of})
            self.world.inboxes["store"].append(msg.Evict(wanted))
            self.world.turn([0] * 30)
            self.end_returns(well=not fails)


def play(machine: type[GroupMachine], examples: int, *, shrink: bool = True) -> None:
    """Run a machine; the same runs each time."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=False,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )
