"""Groups by name: their members, actors, generations and feeds.

A group's actor comes and goes; what must outlive it is in its cell (`actors.cells`). A restarted
group takes the next generation, and every instance that may hold a lease is told that the one
before has ended.
"""

import asyncio
from typing import TYPE_CHECKING

import structlog

from actorbus.errors import ErrorCode, RefusedError, StoreUnavailableError
from actorbus.store import CALL_SECONDS, Feed, FeedListener, GroupOptions
from actors import messages as msg
from actors.cells import Connection, GroupCell, TopicCell
from actors.group import GroupActor
from actors.runtime import actor_of, stop, tell

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from actors.supervisor import Supervisor

log = structlog.get_logger("actorbus.supervisor")


class Groups:
    """All groups of one broker.

    Args:
        supervisor: has the store and the topics.
    """

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._store = supervisor.store
        self._in_use: dict[str, int] = {}
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    # --- cells --------------------------------------------------------------------------------

    def reserve(self, topic: TopicCell, app_id: str) -> None:
        """Make room for a group that is about to be joined; `recount` gives it back.

        Raises:
            RefusedError: the app has `groups_per_app` in use.
        """
        group = topic.groups.get(app_id)
        if group is not None and group.in_use:
            return
        most = self._supervisor.limits.groups_per_app
        if self._in_use.get(app_id, 0) >= most:
            raise RefusedError(
                ErrorCode.LIMIT,
                f"app {app_id} has {most} groups in use at this broker, the most that it may have",
            )
        if group is None:
            group = topic.groups[app_id] = GroupCell(topic.name, app_id)
        self._count(group, used=True)

    def recount(self, topic: TopicCell, app_id: str) -> None:
        """After a join or a restart: a group that is not awake is not in use."""
        group = topic.groups.get(app_id)
        if group is None or group.awake():
            return
        self._count(group, used=False)
        if not group.generation:
            del topic.groups[app_id]

    def _count(self, group: GroupCell, *, used: bool) -> None:
        if group.in_use == used:
            return
        group.in_use = used
        left = self._in_use.get(group.app_id, 0) + (1 if used else -1)
        if left:
            self._in_use[group.app_id] = left
        else:
            del self._in_use[group.app_id]

    # --- members ------------------------------------------------------------------------------

    def attach(
        self,
        topic: TopicCell,
        app_id: str,
        member: int,
        connection: Connection | None,
        options: GroupOptions | None,
    ) -> None:
        """Make an instance (unless it has gone) a member of a group that exists in the store."""
        group = topic.groups[app_id]
        if group.ref is not None and options is not None:
            tell(group.ref, msg.Configure(options))
        if connection is None:
            return
        known = member in group.members
        group.members[member] = group.holders[member] = connection.ref
        group.counters.instances = len(group.members)
        connection.groups.add(group)
        if group.ref is None:
            self._start(group, options)
        elif not known:
            tell(group.ref, msg.Attach(member, connection.ref))

    def leave(self, group: GroupCell, member: int) -> None:
        """An instance has unsubscribed; it may settle what it holds."""
        group.members.pop(member, None)
        group.counters.instances = len(group.members)
        if group.ref is not None:
            tell(group.ref, msg.Leave(member))

    def detach(self, group: GroupCell, member: int, *, counts: bool) -> None:
        """An instance has gone; what it holds goes to others."""
        group.members.pop(member, None)
        group.holders.pop(member, None)
        group.counters.instances = len(group.members)
        if group.ref is not None:
            tell(group.ref, msg.Detach(member, counts and not self._stopping))

    async def forget(self, topic: TopicCell, app_id: str) -> None:
        """Remove a group and its backlog from the store.

        Raises:
            RefusedError: another broker uses it.
            StoreUnavailableError: a passing fault.
        """
        group = topic.groups.get(app_id)
        if group is not None:
            self.stop(group)
            await self.close_feed(group)
        gone = False
        try:
            gone = await self._store.forget(topic.name, app_id)
        finally:
            if group is not None:
                self._forgotten(topic, group, gone=gone)
        if not gone:
            raise RefusedError(ErrorCode.IN_USE, f"group {app_id} is in use at another broker")

    def _forgotten(self, topic: TopicCell, group: GroupCell, *, gone: bool) -> None:
        if not gone:
            self.restart(group)
            return
        self.stop(group)  # its topic's restart may have started it in the meantime
        group.members.clear()
        group.counters.instances = 0
        self._count(group, used=False)
        if topic.groups.get(group.app_id) is group:
            del topic.groups[group.app_id]

    # --- actors -------------------------------------------------------------------------------

    def _start(self, group: GroupCell, options: GroupOptions | None) -> None:
        if self._stopping:
            return
        self._count(group, used=True)
        group.generation += 1
        group.ref = GroupActor.start(
            group, group.generation, options, self._supervisor, crash=self._crashed
        )

    def restart(self, group: GroupCell) -> None:
        """Start a group again if it has members and no actor."""
        if group.ref is not None:
            return
        if group.members:
            self._start(group, None)
        else:  # nobody there to read its feed
            self._count(group, used=False)
            self._spawn(self.close_feed(group))

    def stop(self, group: GroupCell) -> None:
        """Stop a group's actor: its leases are void, and instances are told so."""
        ref, group.ref = group.ref, None
        if ref is None:
            return
        stop(ref)
        self._down(group)

    def _down(self, group: GroupCell) -> None:
        group.counters.in_flight = group.counters.delayed = 0
        for holder in group.holders.values():
            tell(holder, msg.GroupDown(group.topic))

    def sleeps(self, actor: GroupActor) -> None:
        """A group without members and work may go."""
        group = actor.cell
        if group.members or group.ref is not actor.actor_ref:
            return
        self.stop(group)
        self._count(group, used=False)
        self._spawn(self.close_feed(group))

    def reset(self, actor: GroupActor) -> None:
        """The store has taken everything unsettled back: begin a new generation."""
        group = actor.cell
        if group.ref is not actor.actor_ref:
            return
        log.warning("group starts again from the store", topic=group.topic, app_id=group.app_id)
        self.stop(group)
        self.restart(group)

    def _crashed(self, actor: GroupActor, error: BaseException) -> None:
        group = actor.cell
        actor.on_stop()
        if group.ref is not actor.actor_ref:
            return  # stopped in the same turn
        group.ref = None
        self._down(group)
        log.error("group failed", topic=group.topic, app_id=group.app_id, exc_info=error)
        self._supervisor.counters.restart("group")
        pause = group.failures.add(self._supervisor.clock.now().mono)
        if pause is None:
            self._supervisor.group_keeps_failing(group)
        else:
            asyncio.get_running_loop().call_later(pause, self.restart, group)

    # --- feeds --------------------------------------------------------------------------------

    async def open_feed(
        self, group: GroupCell, generation: int, listener: FeedListener
    ) -> tuple[Feed, GroupOptions]:
        """Open a generation's feed, once the one before is closed.

        Raises:
            StoreUnavailableError: a passing fault, or the generation is over.
        """
        async with group.feed_lock:
            await self._close_feed(group)
            if group.generation != generation or group.ref is None:
                raise StoreUnavailableError("a newer generation of the group has started")
            options = await self._store.find(group.topic, group.app_id)
            if options is None:
                options = await self._store.join(group.topic, group.app_id, {}, "new")
            group.feed = await self._store.feed(group.topic, group.app_id, listener)
            return group.feed, options

    async def close_feed(self, group: GroupCell) -> None:
        """Close the feed of a group without actor, if it is open."""
        async with group.feed_lock:
            if group.ref is None:
                await self._close_feed(group)

    async def _close_feed(self, group: GroupCell) -> None:
        feed, group.feed = group.feed, None
        if feed is None:
            return
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await feed.close()
        except (StoreUnavailableError, TimeoutError) as error:
            log.warning(
                "feed did not close", topic=group.topic, app_id=group.app_id, reason=repr(error)
            )

    # --- the end ------------------------------------------------------------------------------

    def shut(self) -> None:
        """The broker is stopping: no group offers anything more, and none is started."""
        self._stopping = True
        for group in self._all():
            if group.ref is not None:
                tell(group.ref, msg.Shut())

    async def close_feeds(self) -> None:
        """Wait until what was settled is durable and answered, then close all feeds."""
        await asyncio.gather(*map(self._close_durably, self._all()))

    async def _close_durably(self, group: GroupCell) -> None:
        actor = None if group.ref is None else actor_of(group.ref)
        if isinstance(actor, GroupActor):
            await actor.quiet()
        self.stop(group)
        await self.close_feed(group)

    def end(self) -> None:
        """Stop what is left."""
        self._stopping = True
        for group in self._all():
            self.stop(group)
        for task in self._tasks:
            task.cancel()

    def _all(self) -> list[GroupCell]:
        return [
            group for topic in self._supervisor.topics.values() for group in topic.groups.values()
        ]

    def _spawn(self, work: "Coroutine[None, None, None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
