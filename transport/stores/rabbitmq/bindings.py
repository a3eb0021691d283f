"""The queues of known groups, kept bound to their topics' exchanges.

An operator can delete an exchange, a queue or a binding at any time, and RabbitMQ then confirms
messages that reach no group. So whatever the registry knows is declared before the first publish of
each connection, again when a publish reached no queue at all, and in slow rounds for those groups
that lose their queue while others keep theirs and nobody reads.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.records import Key
from transport.stores.rabbitmq.registry import Registry
from transport.stores.rabbitmq.topology import Topology

_GROUP_SECONDS: Final = 0.1
"""The patrol's pause for each group: a group costs some 2 ms, so this takes 2 % of a processor."""

log = structlog.get_logger("actorbus.store")


class Bindings:
    """Sees to it that what is published reaches every known group.

    Args:
        queue_of: a group's queue.
    """

    def __init__(
        self,
        topology: Topology,
        registry: Registry,
        queue_of: Callable[[Key], str],
        timing: Timing,
    ) -> None:
        self._topology = topology
        self._registry = registry
        self._queue_of = queue_of
        self._seconds = timing.patrol_seconds
        self._patrolling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the rounds."""
        self._patrolling = asyncio.create_task(self._patrol(), name="rabbitmq patrol")

    async def close(self) -> None:
        """End the rounds."""
        if self._patrolling is not None:
            self._patrolling.cancel()
            await asyncio.wait((self._patrolling,))

    async def ready(self, topic: str) -> None:
        """Make a topic ready to be published to.

        Raises:
            StoreUnavailableError: it isn't known yet which groups there are.
        """
        if self._topology.knows(topic):
            return
        if not self._registry.read_once:
            self._registry.check()
        await self._bind(topic, afresh=False)

    def check_unrouted(self, topic: str) -> None:
        """A message of this topic reached no queue: raise if there are groups to be reached."""
        keys = self._registry.groups.of(topic)
        if not keys:
            return
        self._topology.unlearn(topic, map(self._queue_of, keys))
        raise StoreUnavailableError(
            f"the groups of topic {topic!r} had lost their queues: they are bound again"
        )

    async def _bind(self, topic: str, *, afresh: bool) -> None:
        """Declare what is not known to be there (a call that is cut off goes on so), or all."""
        keys = {self._queue_of(key): key for key in self._registry.groups.of(topic)}
        queues = [queue for queue in keys if afresh or not self._topology.has(queue)]
        for queue in await self._topology.topic(topic, queues):
            if self._registry.groups.options(keys[queue]) is None:  # forgotten in the meantime
                await self._topology.delete(queue)
            else:
                log.error("queue_was_gone", queue=queue, topic=topic, app_id=keys[queue][1])

    async def _patrol(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            for topic in self._registry.groups.topics():
                groups = len(self._registry.groups.of(topic))
                try:
                    await self._bind(topic, afresh=True)
                except StoreUnavailableError as error:
                    log.debug("not_patrolled", topic=topic, reason=error.message)
                await asyncio.sleep(min(self._seconds, _GROUP_SECONDS * groups))
