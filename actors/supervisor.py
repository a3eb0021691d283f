"""Finds and starts actors by name, restarts those that fail, and escalates what keeps failing.

What must outlive an actor is kept in plain entries (`actors.cells`): who is a member of which
group, generations, counters, the open feed. A failed group is restarted from the store with the
next generation; a group that fails again and again takes its topic with it, a topic the broker.
"""

import asyncio
from collections.abc import Callable
from itertools import count

import structlog

from actorbus.frames import Hello, Limits
from actorbus.limits import (
    BATCH_EVENTS,
    EVENT_BYTES,
    FRAME_BYTES,
    GROUP_OUTSTANDING,
    GROUPS_PER_APP,
    NAME_BYTES,
    PUBLISH_BYTES,
)
from actorbus.store import Store
from actors import messages as msg
from actors.access import Policy
from actors.budget import Budget
from actors.cells import Connection, GroupCell, TopicCell
from actors.clock import Clock
from actors.counters import BrokerCounters
from actors.groups import Groups
from actors.instance import Closed, GoAway, InstanceActor
from actors.runtime import Ref, actor_of, stop, tell
from actors.topic import TopicActor
from actors.wire import Wire

__all__ = ["GroupCell", "Supervisor", "TopicCell"]

log = structlog.get_logger("actorbus.supervisor")

TOPIC_SLEEP_MS = 60_000
"""A topic without awake groups and work is put to sleep after this time."""

SWEEP_SECONDS = 15.0
"""How often the supervisor looks for topics to put to sleep."""


class Supervisor:
    """All actors of one broker.

    Args:
        store: open.
        specversion: of the events that the broker wraps, "0.3" or "1.0".
        fatal: called once when a topic keeps failing: the broker should stop.
        policy: of all connections; nothing is laid down unless given.
        clock: the machine's, unless a test has its own.
    """

    def __init__(
        self,
        store: Store,
        *,
        specversion: str = "0.3",
        fatal: Callable[[str], None],
        policy: Policy | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.store = store
        self.specversion = specversion
        self.policy = policy or Policy()
        self.clock = clock or Clock()
        self.counters = BrokerCounters()
        self.topics: dict[str, TopicCell] = {}
        self.connections: dict[int, Connection] = {}
        self.groups = Groups(self)
        self.dead_letter_lock = asyncio.Lock()
        self.limits = Limits(
            FRAME_BYTES,
            EVENT_BYTES,
            BATCH_EVENTS,
            PUBLISH_BYTES,
            NAME_BYTES,
            GROUPS_PER_APP,
            GROUP_OUTSTANDING,
        )
        self._fatal: Callable[[str], None] | None = fatal
        self._members = count(1)
        self._ended = False
        self._sweeper: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look for topics that may sleep."""
        self.sweep()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self.start)

    # --- connections --------------------------------------------------------------------------

    def connect(self, hello: Hello, wire: Wire) -> Ref:
        """Start the actor of a connection that has said `hello`."""
        member = next(self._members)
        ref = InstanceActor.start(member, hello, wire, self, crash=self._instance_crashed)
        self.connections[member] = Connection(ref, hello.app_id)
        self.counters.connections += 1
        self.counters.connected += 1
        return ref

    def disconnect(self, member: int, *, counts: bool) -> None:
        """A connection has ended: its groups take its leases back."""
        connection = self.connections.pop(member, None)
        if connection is None:
            return
        self.counters.connected -= 1
        for group in connection.groups:
            self.groups.detach(group, member, counts=counts)

    def publish_budget(self) -> Budget:
        """The bound on one connection's unanswered publishes."""
        return Budget(PUBLISH_BYTES)

    def _instance_crashed(self, actor: InstanceActor, error: BaseException) -> None:
        log.error("instance failed", app_id=actor.app_id, exc_info=error)
        self.counters.restart("instance")
        actor.wire.close(1011, "internal error")
        self.disconnect(actor.member, counts=False)

    # --- topics -------------------------------------------------------------------------------

    def topic(self, name: str) -> TopicCell:
        """The entry of a topic, its actor started unless it is about to be restarted."""
        cell = self.topics.get(name)
        if cell is None:
            cell = self.topics[name] = TopicCell(name)
        if cell.ref is None and not cell.failing:
            self._start_topic(cell)
        return cell

    def publish(self, topic: str, request: msg.Publish) -> bool:
        """Hand a publish to its topic; False if it lags too far behind."""
        cell = self.topic(topic)
        if cell.budget.full() or cell.ref is None or not tell(cell.ref, request):
            return False
        cell.budget.add(request.size)
        return True

    def tell_topic(self, topic: str, message: msg.Subscribe | msg.Unsubscribe) -> None:
        """Hand any other request to its topic."""
        cell = self.topic(topic)
        if cell.ref is None or not tell(cell.ref, message):
            tell(message.reply_to, msg.TopicDown(topic))

    def topic_budget(self, topic: str) -> Budget:
        """The bound on what waits for a topic's store."""
        return self.topic(topic).budget

    def _start_topic(self, cell: TopicCell) -> None:
        cell.ref = TopicActor.start(cell, self, crash=self._topic_crashed)

    def group_keeps_failing(self, group: GroupCell) -> None:
        """Restart a whole topic for one of its groups."""
        log.error("group keeps failing; its topic is restarted", topic=group.topic)
        self._restart_topic(self.topics[group.topic])

    def _topic_crashed(self, actor: TopicActor, error: BaseException) -> None:
        log.error("topic failed", topic=actor.cell.name, exc_info=error)
        if actor.cell.ref is actor.actor_ref:
            self._restart_topic(actor.cell)

    def _restart_topic(self, cell: TopicCell) -> None:
        self.counters.restart("topic")
        if cell.ref is not None:
            stop(cell.ref)
        cell.ref = None
        cell.failing = True
        for connection in self.connections.values():
            tell(connection.ref, msg.TopicDown(cell.name))
        pause = cell.failures.add(self.clock.now().mono)
        if pause is not None:
            asyncio.get_running_loop().call_later(pause, self._topic_returns, cell)
            return
        fatal, self._fatal = self._fatal, None
        if fatal is not None:
            fatal(f"topic {cell.name} keeps failing")

    def _topic_returns(self, cell: TopicCell) -> None:
        if self._ended:
            return
        cell.failing = False
        cell.budget.release(cell.budget.held)
        self._start_topic(cell)
        for group in list(cell.groups.values()):
            self.groups.restart(group)
            self.groups.recount(cell, group.app_id)

    # --- sleep --------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Put topics to sleep that have had nothing to do for a while; their names wake them."""
        now = self.clock.now().mono
        for cell in list(self.topics.values()):
            self._put_to_sleep(cell, now)

    def _put_to_sleep(self, cell: TopicCell, now: int) -> None:
        if cell.ref is None or cell.budget.held:
            return
        actor = actor_of(cell.ref)
        if not isinstance(actor, TopicActor) or not actor.idle():
            return
        if now - actor.idle_since < TOPIC_SLEEP_MS:
            return
        stop(cell.ref)
        cell.ref = None
        if not cell.groups:
            del self.topics[cell.name]

    # --- the end ------------------------------------------------------------------------------

    def go_away(self, reason: str, reconnect_after_ms: int) -> None:
        """Tell every client that the broker is stopping; nothing more is delivered."""
        for connection in self.connections.values():
            tell(connection.ref, GoAway(reason, reconnect_after_ms))
        self.groups.shut()

    async def flushed(self) -> None:
        """Wait until every topic has answered its publishes."""
        while held := [cell.budget for cell in self.topics.values() if cell.budget.held > 0]:
            await held[0].emptied()

    async def close_feeds(self) -> None:
        """Close all feeds, once what was settled is durable."""
        await self.groups.close_feeds()

    def close_connections(self) -> None:
        """End what connections are left; the broker takes their leases back."""
        for connection in list(self.connections.values()):
            tell(connection.ref, Closed(counts=False))

    def stop(self) -> None:
        """Stop what is left."""
        self._ended = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        self.groups.end()
        for cell in self.topics.values():
            if cell.ref is not None:
                stop(cell.ref)
        for connection in self.connections.values():
            stop(connection.ref)
