"""Exchanges, queues and bindings: their names and their declarations.

Everything is declared on a channel that is thrown away, because RabbitMQ closes the channel when
something of that name exists with other arguments (406).

`+` occurs in no topic and no app ID, so `{app_id}+{topic}` of two groups never meet. Dapr's
`{app_id}-{topic}` may: apps `a-b` on `c` and `a` on `b-c`. AMQP can't list a queue's bindings, so
the registry of groups is what such meetings are refused by.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from aiormq.channel import Channel
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)
from pamqp.commands import Queue

from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.calls import CALL_SECONDS, within
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.connections import Link, end_channel

_QUORUM: Final = {"x-queue-type": "quorum"}
_KNOWN: Final = 100_000
"""Names remembered as declared before the memory is emptied."""

_MAY_DIFFER: Final = ("inequivalent arg 'x-", "for exchange '")
"""How RabbitMQ says (406) that a queue's optional arguments differ, or an exchange in anything.

A queue that is not durable, or goes with its last reader, would lose what was acknowledged. An
exchange that goes is declared again, with its bindings.
"""

FAULT_SECONDS: Final = 60.0
"""A refused declaration that nobody has tried again for so long is no fault any more."""

log = structlog.get_logger("actorbus.store")


def group_queue(topic: str, app_id: str, *, interop: bool) -> str:
    """The name of a group's queue."""
    return f"{app_id}-{topic}" if interop else f"{app_id}+{topic}"


def delay_queue(queue: str) -> str:
    """The name of the delay queue of a group's queue."""
    return f"{queue}+delay"


class Topology:
    """Declares what the store needs, and remembers what it declared on this connection.

    Args:
        shared: exchanges and queues that Dapr's component declared in its own way are taken as they
            are, unless the queue would not last.

    Attributes:
        link: the connection it uses.
        delay_ms: how long a delay queue keeps a message.
    """

    def __init__(self, link: Link, timing: Timing, *, shared: bool = False) -> None:
        self.link = link
        self.delay_ms = timing.delay_ms
        self._shared = shared
        self._sync_seconds = timing.sync_seconds
        self._exchanges: set[str] = set()
        self._queues: set[str] = set()
        self._fresh: dict[str, float] = {}  # new queues, and until when a crash may lose them
        self._faults: dict[str, tuple[str, float]] = {}
        self._differing: set[str] = set()
        link.on_up.append(self.forget)

    def forget(self) -> None:
        """Declare everything again when it is next needed."""
        self._exchanges.clear()
        self._queues.clear()

    def unlearn(self, topic: str, queues: Iterable[str]) -> None:
        """Declare this topic's exchange and these queues again when they are next needed."""
        self._exchanges.discard(topic)
        self._queues.difference_update(queues)

    def knows(self, topic: str) -> bool:
        """Whether the topic's exchange and its groups' queues were there on this connection."""
        return topic in self._exchanges

    def has(self, queue: str) -> bool:
        """Whether a queue was there, and bound, on this connection."""
        return queue in self._queues

    def fault(self) -> str | None:
        """What RabbitMQ has lately refused to declare, and why."""
        now = asyncio.get_running_loop().time()
        for name, (_, until) in list(self._faults.items()):
            if until < now:
                del self._faults[name]
        return next((reason for reason, _ in self._faults.values()), None)

    async def topic(self, topic: str, queues: Iterable[str]) -> list[str]:
        """Make sure of a topic's exchange and its groups' queues; returns those that were gone."""
        await self._exchange(topic)
        gone = [
            queue
            for queue in queues
            if not await self._bound(queue, topic) and await self._place(queue, _QUORUM, topic)
        ]
        await self._grown(gone)
        _learn(self._exchanges, topic)
        return gone

    async def group(self, topic: str, queue: str) -> bool:
        """Make sure that exchange, queue and binding of a group are there, to stay.

        Returns whether the queue was missing.
        """
        missing = await self._place(queue, _QUORUM, topic)
        await self._grown((queue,))
        return missing

    async def delay(self, queue: str) -> str:
        """Make sure that a group's delay queue is there; returns its name."""
        name = delay_queue(queue)
        if name not in self._queues:
            await self._place(name, _delay_arguments(queue, self.delay_ms))
            await self._grown((name,))
        return name

    async def stream(self, name: str, arguments: dict[str, Any]) -> None:
        """Make sure that a stream is there."""
        await self._place(name, {"x-queue-type": "stream"} | arguments)
        await self._grown((name,))

    async def consumers(self, queue: str) -> int:
        """How many consumers a queue has on all brokers; 0 if it does not exist."""
        found = await self._find(queue)
        return 0 if found is None else found.consumer_count or 0

    async def delete(self, *queues: str) -> None:
        """Delete queues with what is in them; those that do not exist are no error."""
        async with self._channel() as channel:
            for queue in queues:
                await self._call(queue, channel.queue_delete(queue))
                self._queues.discard(queue)

    async def _place(self, name: str, arguments: dict[str, Any], topic: str | None = None) -> bool:
        """Declare a queue and bind it; whether it was missing."""
        missing = await self._find(name) is None
        await self._declare(
            name,
            lambda channel: channel.queue_declare(name, durable=True, arguments=arguments),
            _MAY_DIFFER[0],
        )
        if missing:
            self._fresh[name] = asyncio.get_running_loop().time() + self._sync_seconds
        if topic is not None:
            await self._exchange(topic)
            async with self._channel() as channel:
                await self._call(name, channel.queue_bind(name, topic))
        _learn(self._queues, name)
        return missing

    async def _bound(self, queue: str, topic: str) -> bool:
        """Bind a queue; False if it is missing. In few steps, for it is done time and again."""
        try:
            async with self._channel() as channel:
                await self._call(queue, channel.queue_declare(queue, passive=True))
                await self._call(queue, channel.queue_bind(queue, topic))
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                return False
            raise
        _learn(self._queues, queue)
        return True

    async def _grown(self, queues: Iterable[str]) -> None:
        """Wait until new queues survive a crash of their node, whoever declared them here."""
        names = tuple(queues)
        until = max((self._fresh.get(name, 0.0) for name in names), default=0.0)
        await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
        for name in names:
            self._fresh.pop(name, None)

    async def _find(self, queue: str) -> Queue.DeclareOk | None:
        try:
            async with self._channel() as channel:
                declared = channel.queue_declare(queue, passive=True)
                found: Queue.DeclareOk = await self._call(queue, declared)
                return found
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, ChannelNotFoundEntity):
                return None
            raise

    async def _exchange(self, topic: str) -> None:
        await self._declare(
            topic,
            lambda channel: channel.exchange_declare(topic, exchange_type="fanout", durable=True),
            _MAY_DIFFER[1],
        )

    async def _declare(
        self, name: str, declare: Callable[[Channel], Awaitable[Any]], may_differ: str
    ) -> None:
        """Declare; where Dapr has declared it otherwise in what may differ, take it as it is."""
        try:
            async with self._channel() as channel:
                await self._call(name, declare(channel))
            self._faults.pop(name, None)
        except StoreUnavailableError as error:
            if not self._shared or may_differ not in str(error.__cause__):
                raise
            self._faults.pop(name, None)
            if name not in self._differing:
                _learn(self._differing, name)
                log.warning("taken_as_it_is", name=name, reason=error.message)

    async def _call(self, name: str, call: Any) -> Any:
        try:
            return await within(CALL_SECONDS, f"rabbitmq did not declare {name!r}", call)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, (ChannelPreconditionFailed, ChannelAccessRefused)):
                until = asyncio.get_running_loop().time() + FAULT_SECONDS
                self._faults[name] = (error.message, until)
            raise

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        channel = await self.link.channel()
        try:
            yield channel
        finally:
            await end_channel(channel)


def _learn(names: set[str], name: str) -> None:
    if len(names) >= _KNOWN:
        names.clear()
    names.add(name)


def _delay_arguments(queue: str, delay_ms: int) -> dict[str, Any]:
    """At-least-once dead-lettering back needs a quorum queue that refuses rather than drops."""
    return _QUORUM | {
        "x-message-ttl": delay_ms,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
