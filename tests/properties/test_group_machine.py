"""A group, its store and its instances in every order that Hypothesis can think of."""

import os

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

from actorbus import frames
from actorbus.store import GroupOptions
from actors import messages as msg
from tests.properties.group_world import Client, World
from tests.properties.model_store import LogStore, ModelStore, QueueStore

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "100"))
PHASES = (Phase.generate, Phase.shrink)

PICK = st.integers(0, 1000)
ROUNDS = st.integers(0, 3)
STATUS = st.sampled_from(["SUCCESS", "SUCCESS", "RETRY", "DROP"])


class GroupMachine(RuleBasedStateMachine):
    """The rules; `STORE` says around which store."""

    STORE: type[ModelStore] = LogStore

    @initialize(
        dead=st.booleans(), max_attempts=st.integers(0, 3), max_in_flight=st.sampled_from([0, 0, 2])
    )
    def begin(self, *, dead: bool, max_attempts: int, max_in_flight: int) -> None:
        options = GroupOptions(
            ack_wait_ms=1_000,
            max_attempts=max_attempts,
            backoff_ms=100,
            max_backoff_ms=400,
            dead_letter_topic="dead" if dead else None,
            max_in_flight=max_in_flight,
        )
        self.world = World(self.STORE(), options)
        self.world.connect(4)
        self.world.go_well(3)

    def client(self, pick: int) -> Client | None:
        clients = list(self.world.clients.values())
        return clients[pick % len(clients)] if clients else None

    @rule(count=st.integers(1, 6), ttl_ms=st.sampled_from([None, None, None, 500]), rounds=ROUNDS)
    def publish(self, count: int, ttl_ms: int | None, rounds: int) -> None:
        self.world.publish(count, ttl_ms)
        self.world.go_well(rounds)

    @rule(most=st.sampled_from([1, 2, 1000]))
    def group_turn(self, most: int) -> None:
        self.world.turn(most)

    @rule(pick=PICK)
    def client_turn(self, pick: int) -> None:
        client = self.client(pick)
        if client is not None:
            client.turn()

    @rule(rounds=ROUNDS)
    def all_goes_well(self, rounds: int) -> None:
        self.world.go_well(rounds)

    @rule(
        pick=PICK,
        status=STATUS,
        share=st.integers(0, 255),
        with_ref=st.booleans(),
        delay_ms=st.sampled_from([None, 0, 300]),
    )
    def settle(
        self, pick: int, status: msg.Status, share: int, *, with_ref: bool, delay_ms: int | None
    ) -> None:
        client = self.client(pick)
        if client is None:
            return
        ids = [number for place, number in enumerate(client.live) if share >> place % 8 & 1]
        stale = [7, *ids[:1]] if share % 5 == 0 else []
        client.ack(ids + stale, status, delay_ms, 1 if with_ref else None)

    @rule(pick=PICK)
    def extend(self, pick: int) -> None:
        client = self.client(pick)
        if client is not None:
            client.deliveries.extend(frames.Extend(2, [*client.live, 7], None))

    @rule(ms=st.sampled_from([50, 500, 1_000, 6_000]))
    def time_passes(self, ms: int) -> None:
        self.world.advance(ms)

    @precondition(lambda self: len(self.world.clients) < 4)
    @rule(limit=st.integers(0, 6))
    def connect(self, limit: int) -> None:
        self.world.connect(limit)

    @rule(pick=PICK, counts=st.booleans())
    def disconnect(self, pick: int, *, counts: bool) -> None:
        client = self.client(pick)
        if client is not None:
            self.world.disconnect(client, counts=counts)

    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        client = self.client(pick)
        if client is not None and client.joined:
            self.world.leave(client)

    @rule(pick=PICK, limit=st.integers(0, 6), full=st.booleans())
    def flow(self, pick: int, limit: int, *, full: bool) -> None:
        client = self.client(pick)
        if client is not None:
            client.deliveries.state.window.limit = limit
            client.wire.unsent_bytes = 2**23 if full else 0

    @precondition(lambda self: self.world.ready_calls())
    @rule(pick=PICK, well=st.booleans())
    def store_call_ends(self, pick: int, *, well: bool) -> None:
        ready = self.world.ready_calls()
        self.world.end_call(ready[pick % len(ready)], well=well)

    @precondition(lambda self: self.world.letters)
    @rule(pick=PICK, well=st.booleans())
    def letter_ends(self, pick: int, *, well: bool) -> None:
        self.world.end_letter(pick % len(self.world.letters), well=well)

    @rule(max_attempts=st.integers(0, 3), max_in_flight=st.sampled_from([0, 1, 3]))
    def configure(self, max_attempts: int, max_in_flight: int) -> None:
        self.world.configure(max_attempts=max_attempts, max_in_flight=max_in_flight)

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @precondition(lambda self: isinstance(self.world.store, QueueStore))
    @rule(share=st.integers(0, 255))
    def evict(self, share: int) -> None:
        store = self.world.store
        assert isinstance(store, QueueStore)
        held = [number for place, number in enumerate(store._held) if share >> place % 8 & 1]
        self.world.inbox.append(msg.Evict(tuple(held)))
        self.world.turn()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle_everything()


class QueueMachine(GroupMachine):
    STORE = QueueStore


def play(machine: type[GroupMachine], examples: int, *, shrink: bool = True) -> None:
    quick = settings(
        max_examples=examples,
        stateful_step_count=40,
        phases=PHASES if shrink else PHASES[:1],
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
        print_blob=False,
    )
    run_state_machine_as_test(machine, settings=quick)


def test_a_group_on_a_log_keeps_its_promises() -> None:
    play(GroupMachine, EXAMPLES)


def test_a_group_on_a_queue_keeps_its_promises() -> None:
    play(QueueMachine, EXAMPLES)
