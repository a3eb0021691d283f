"""The store: what the broker calls, handed on to the parts."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from actorbus.errors import ErrorCode, RefusedError, StoreUnavailableError, StoreUnusableError
from actorbus.store import (
    Abilities,
    Appended,
    FeedListener,
    GroupInfo,
    GroupOptions,
    Start,
    TopicInfo,
)
from transport.stores.rabbitmq.bindings import Bindings
from transport.stores.rabbitmq.calls import CALL_SECONDS, finished, within
from transport.stores.rabbitmq.config import Config, Timing, parse
from transport.stores.rabbitmq.connections import Link, Links
from transport.stores.rabbitmq.consumer import Consumer
from transport.stores.rabbitmq.feed import Feed
from transport.stores.rabbitmq.memory import Memories
from transport.stores.rabbitmq.messages import BatchFormat, DaprFormat, Format, properties, split
from transport.stores.rabbitmq.mover import Mover
from transport.stores.rabbitmq.publisher import Outgoing, Publisher
from transport.stores.rabbitmq.records import Key
from transport.stores.rabbitmq.registry import Registry
from transport.stores.rabbitmq.topology import Topology, delay_queue, group_queue

ABILITIES: Final = Abilities(
    log=False,
    earliest=False,
    exact_backlog=False,  # a queue counts messages, and a message holds many events
    shared_options=True,
    settles_singly=False,
    pipeline=2,  # what waits shares a message: p50 at 1,000 events/s 0.49 of that with 8
    return_after_ms=5_000,
    longest_lease_ms=20 * 60 * 1000,
)

TIMING = Timing()
"""Of the stores that `open_store` makes."""

_FIRST_SECONDS: Final = 10.0
"""How long `open` waits for the first connection and for the groups."""

_CLOSE_SECONDS: Final = 5.0
"""For confirms that are awaited and giving back what feeds hold, when the store closes."""

_UNUSED_SECONDS: Final = 2.0
"""How long a queue may still show a consumer of ours after its channel was closed."""

log = structlog.get_logger("actorbus.store")


def open_store(url: str) -> "RabbitStore":
    """The store for `amqp://USER:PASSWORD@HOST:PORT/VHOST[?interop=dapr]` (or `amqps`).

    Raises:
        StoreUnusableError: the URL can never work.
    """
    return RabbitStore(parse(url), timing=TIMING)


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class RabbitStore:
    """Keeps events and groups in RabbitMQ, as `actorbus.store.Store` says.

    Args:
        config: where RabbitMQ is.
        clock: the wall clock, in milliseconds.
        timing: how long things take that tests can't wait for.
    """

    abilities = ABILITIES

    def __init__(
        self,
        config: Config,
        clock: Callable[[], int] = wall_clock,
        timing: Timing = Timing(),  # noqa: B008 - frozen
    ) -> None:
        self._config = config
        self._clock = clock
        self._timing = timing
        self._format: Format = DaprFormat() if config.interop else BatchFormat()
        self._link = Link(config, "publish")
        self._links = Links(config)
        self._topology = Topology(self._link, timing, shared=config.interop)
        self._publisher = Publisher(self._link, self._topology.forget, timing)
        self._registry = Registry(
            self._links.first, self._topology, self._publisher, self._on_forget
        )
        self._bindings = Bindings(
            self._topology, self._registry, lambda key: self._queue(*key), timing
        )
        self._appends: set[asyncio.Future[Appended]] = set()
        self._feeds: dict[Key, Feed] = {}
        self._memories: defaultdict[Key, Memories] = defaultdict(Memories)
        self._open = False

    async def open(self, failed: Callable[[StoreUnusableError], None]) -> None:  # noqa: ARG002 - the port's; what fails here passes
        """Connect, and read the groups; if RabbitMQ is away, go on trying in the background."""
        self._open = True
        self._link.start()
        self._links.first.start()
        self._registry.start()
        self._bindings.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._first()
        reason = self.health()
        if reason is not None:
            log.warning("store_not_ready", reason=reason)

    async def close(self) -> None:
        """Finish appends, give back what feeds hold, and end the connections."""
        if not self._open:
            return
        self._open = False
        under_way: list[asyncio.Future[Any]] = [*self._appends]
        under_way += [asyncio.ensure_future(feed.close()) for feed in self._feeds.values()]
        if under_way:
            await finished(under_way, _CLOSE_SECONDS)
        await asyncio.gather(
            self._bindings.close(), self._publisher.close(), self._registry.close()
        )
        await asyncio.gather(self._link.close(), self._links.close())

    def health(self) -> str | None:
        """None when both connections are up and nothing is refused."""
        if not self._open:
            return "the store is closed"
        unread = None if self._registry.caught_up.is_set() else "the groups are not read yet"
        links = (link.reason for link in (self._link, *self._links.links))
        others = (self._topology.fault(), self._publisher.stalled, self._registry.reason, unread)
        return next(filter(None, (*links, *others)), None)

    def append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> "asyncio.Future[Appended]":
        """Publish a batch, as one message or several; returns when all are confirmed."""
        append = asyncio.ensure_future(
            self._append(topic, events, expires_at) if self._open else self._refuse()
        )
        self._appends.add(append)
        append.add_done_callback(self._appended)
        return append

    async def _append(
        self, topic: str, events: tuple[bytes, ...], expires_at: int | None
    ) -> Appended:
        messages = [
            Outgoing(
                topic,
                "",
                self._format.body(part, expires_at),
                properties(self._format, expires_at),
            )
            for part in split(events, self._format.events)
        ]
        routed = await self._publisher.publish(
            messages, topic=topic, ready=lambda: self._bindings.ready(topic)
        )
        if routed < len(messages):
            self._bindings.check_unrouted(topic)
        return Appended(None, None if routed else 0)

    async def join(
        self,
        topic: str,
        app_id: str,
        changes: Mapping[str, int | str | None],
        start: Start,  # noqa: ARG002 - only "new" is possible, as the abilities say
    ) -> GroupOptions:
        """Declare the group's queue, then write the change to the registry.

        Raises:
            RefusedError: with `invalid_name`, when the queue is another group's already.
        """
        self._check()
        self._registry.check()
        self._refuse_shared_queue(topic, app_id)
        joined = self._join(topic, app_id, changes)
        return await within(CALL_SECONDS, "the group was not joined", joined)

    async def _join(
        self, topic: str, app_id: str, changes: Mapping[str, int | str | None]
    ) -> GroupOptions:
        await self._topology.group(topic, self._queue(topic, app_id))
        return await self._registry.change(topic, app_id, changes)

    async def find(self, topic: str, app_id: str) -> GroupOptions | None:
        """The group's options, from the registry."""
        self._check()
        self._registry.check()
        return self._registry.groups.options((topic, app_id))

    async def forget(self, topic: str, app_id: str) -> bool:
        """Delete the group's queues and its entry; False while another broker consumes.

        AMQP tells only who consumes at this moment: a broker whose instances are all busy, and that
        has given its messages back, is not seen.
        """
        self._check()
        self._registry.check()
        if self._registry.groups.options((topic, app_id)) is None:
            return True
        forgotten = self._forget((topic, app_id))
        return await within(CALL_SECONDS, "the group was not forgotten", forgotten)

    async def _forget(self, key: Key) -> bool:
        queue = self._queue(*key)
        if not await self._unused(queue):
            return False
        await self._topology.delete(queue, delay_queue(queue))
        await self._registry.forget(key)
        return True

    async def feed(self, topic: str, app_id: str, listener: FeedListener) -> Feed:
        """Open the feed of a group; what an operator deleted is declared again.

        Raises:
            StoreUnavailableError: there is no such group, or RabbitMQ is away.
        """
        self._check()
        self._registry.check()
        if self._registry.groups.options((topic, app_id)) is None:
            raise StoreUnavailableError(f"no group of {app_id!r} on topic {topic!r}: join it first")
        queue = self._queue(topic, app_id)
        if await self._topology.group(topic, queue):
            log.error("queue_was_gone", queue=queue, topic=topic, app_id=app_id)
        return self._new_feed((topic, app_id), queue, listener)

    async def topics(
        self, *, after: str | None, limit: int, only: str | None = None
    ) -> list[TopicInfo]:
        """Topics that have groups; how much is unsettled isn't known."""
        self._check()
        self._registry.check()
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for topic, app_id in self._registry.groups.all():
            if (after is None or topic > after) and only in (None, topic):
                groups[topic].append(app_id)
        return [
            TopicInfo(
                topic, tuple(GroupInfo(app_id, None, None) for app_id in sorted(groups[topic]))
            )
            for topic in sorted(groups)[:limit]
        ]

    async def _first(self) -> None:
        await self._link.tried.wait()
        await self._links.first.tried.wait()
        if self._link.reason is None and self._links.first.reason is None:
            await self._registry.tried.wait()

    def _new_feed(self, key: Key, queue: str, listener: FeedListener) -> Feed:
        mover = Mover(queue, self._format, self._publisher, self._topology, self._clock)
        feed = Feed(
            listener,
            mover,
            self._memories[key],
            lambda ended: self._drop(key, ended),
            self._timing,
        )
        feed.consumer = Consumer(queue, self._links.channel, feed.on_message, feed.on_lost)
        self._feeds[key] = feed
        return feed

    def _drop(self, key: Key, feed: Feed) -> None:
        if self._feeds.get(key) is feed:
            del self._feeds[key]
        if not self._memories[key]:
            del self._memories[key]

    def _on_forget(self, key: Key) -> None:
        feed = self._feeds.get(key)
        if feed is not None:
            feed.on_lost("the group was forgotten by another broker")
        self._memories.pop(key, None)

    async def _unused(self, queue: str) -> bool:
        until = asyncio.get_running_loop().time() + _UNUSED_SECONDS
        while await self._topology.consumers(queue):
            if asyncio.get_running_loop().time() >= until:
                return False
            await asyncio.sleep(_UNUSED_SECONDS / 20)
        return True

    def _refuse_shared_queue(self, topic: str, app_id: str) -> None:
        """With Dapr's names two groups may come to the same queue; it would mix their topics."""
        if not self._config.interop:
            return
        queue = self._queue(topic, app_id)
        for key in self._registry.groups.all():
            if key != (topic, app_id) and self._queue(*key) == queue:
                raise RefusedError(
                    ErrorCode.INVALID_NAME,
                    f"queue {queue!r} is that of app {key[1]!r} on topic {key[0]!r} already: "
                    "choose another app id or topic",
                )

    def _queue(self, topic: str, app_id: str) -> str:
        return group_queue(topic, app_id, interop=self._config.interop)

    def _appended(self, append: "asyncio.Future[Appended]") -> None:
        self._appends.discard(append)
        if not append.cancelled():
            append.exception()  # or asyncio logs it when nobody awaits the append

    async def _refuse(self) -> Appended:
        raise StoreUnavailableError("the store is closed")

    def _check(self) -> None:
        if not self._open:
            raise StoreUnavailableError("the store is closed")
