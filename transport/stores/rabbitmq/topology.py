"""Exchanges, queues and bindings: their names and their declarations.

Everything is declared on a channel that is thrown away, because RabbitMQ closes the channel when
something of that name exists with other arguments (406).

`+` occurs in no topic and no app ID, so `{app_id}+{topic}` of two groups never meet. Dapr's
`{app_id}-{topic}` may: apps `a-b` on `c` and `a` on `b-c`. AMQP can't list a queue's bindings, so
the registry of groups is what such meetings are refused by.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Queue

from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.calls import CALL_SECONDS, within
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.connections import Link, end_channel

_QUORUM: Final = {"x-queue-type": "quorum"}
_KNOWN: Final = 100_000
"""Names remembered as declared before the memory is emptied."""


def group_queue(topic: str, app_id: str, *, interop: bool) -> str:
    """The name of a group's queue."""
    return f"{app_id}-{topic}" if interop else f"{app_id}+{topic}"


def delay_queue(queue: str) -> str:
    """The name of the delay queue of a group's queue."""
    return f"{queue}+delay"


class Topology:
    """Declares what the store needs, and remembers what it declared on this connection.

    Attributes:
        link: the connection it uses.
        delay_ms: how long a delay queue keeps a message.
        faults: what RabbitMQ refused to declare, and why, by name.
    """

    def __init__(self, link: Link, timing: Timing) -> None:
        self.faults: dict[str, str] = {}
        self.link = link
        self.delay_ms = timing.delay_ms
        self._sync_seconds = timing.sync_seconds
        self._known: set[str] = set()
        link.on_up.append(self.forget)

    def forget(self) -> None:
        """Declare everything again when it is next needed."""
        self._known.clear()

    async def exchange(self, topic: str) -> None:
        """Make sure that the topic's exchange is there."""
        if topic in self._known:
            return
        async with self._channel() as channel:
            await self._exchange(channel, topic)
        self._learn(topic)

    async def group(self, topic: str, queue: str) -> None:
        """Make sure that exchange, queue and binding of a group are there, to stay."""
        await self._settled(queue, _QUORUM, topic)
        self._learn(topic)

    async def delay(self, queue: str) -> str:
        """Make sure that a group's delay queue is there; returns its name."""
        name = delay_queue(queue)
        if name not in self._known:
            await self._settled(name, _delay_arguments(queue, self.delay_ms))
            self._learn(name)
        return name

    async def stream(self, name: str, arguments: dict[str, Any]) -> None:
        """Make sure that a stream is there."""
        await self._settled(name, {"x-queue-type": "stream"} | arguments)

    async def consumers(self, queue: str) -> int:
        """How many consumers a queue has on all brokers; 0 if it does not exist."""
        found = await self._find(queue)
        return 0 if found is None else found.consumer_count or 0

    async def delete(self, *queues: str) -> None:
        """Delete queues with what is in them; those that do not exist are no error."""
        async with self._channel() as channel:
            for queue in queues:
                await self._call(queue, channel.queue_delete(queue))
                self._known.discard(queue)

    async def _settled(
        self, name: str, arguments: dict[str, Any], topic: str | None = None
    ) -> None:
        """Declare a queue, bind it, and wait until a new one survives a crash of its node."""
        found = await self._find(name)
        async with self._channel() as channel:
            await self._queue(channel, name, arguments)
            if topic is not None:
                await self._exchange(channel, topic)
                await self._call(name, channel.queue_bind(name, topic))
        if found is None:
            await asyncio.sleep(self._sync_seconds)

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

    async def _exchange(self, channel: Channel, topic: str) -> None:
        declared = channel.exchange_declare(topic, exchange_type="fanout", durable=True)
        await self._call(topic, declared)

    async def _queue(self, channel: Channel, name: str, arguments: dict[str, Any]) -> None:
        await self._call(name, channel.queue_declare(name, durable=True, arguments=arguments))

    async def _call(self, name: str, call: Any) -> Any:
        try:
            result = await within(CALL_SECONDS, f"rabbitmq did not declare {name!r}", call)
        except StoreUnavailableError as error:
            if isinstance(error.__cause__, ChannelPreconditionFailed):
                self.faults[name] = error.message
            raise
        self.faults.pop(name, None)
        return result

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Channel]:
        channel = await self.link.channel()
        try:
            yield channel
        finally:
            await end_channel(channel)

    def _learn(self, name: str) -> None:
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(name)


def _delay_arguments(queue: str, delay_ms: int) -> dict[str, Any]:
    """At-least-once dead-lettering back needs a quorum queue that refuses rather than drops."""
    return _QUORUM | {
        "x-message-ttl": delay_ms,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
