"""Publishing with confirms: pipelined, in order, each with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final
from zlib import crc32

import msgspec
from aiormq.channel import Channel
from aiormq.exceptions import PublishError
from pamqp.commands import Basic

from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.calls import abandon, translated
from transport.stores.rabbitmq.config import Timing
from transport.stores.rabbitmq.connections import Link

LANES: Final = 8
"""Channels that topics are spread over: RabbitMQ works off one channel in one process."""

_DRAINED_BYTES: Final = 64 * 1024
"""Bodies from this size on wait until the socket has taken them, so that memory stays bounded."""

_NOWHERE: Final = "actorbus.probe"
"""A queue that does not exist: what is published to it is confirmed and kept nowhere."""


class Outgoing(msgspec.Struct, frozen=True, eq=False):
    """One message to publish."""

    exchange: str
    routing_key: str
    body: bytes
    properties: Basic.Properties


class Lane:
    """One publishing channel, opened when it is needed and again after it was closed.

    A channel is closed by RabbitMQ when a message names an exchange that does not exist.
    """

    def __init__(self, link: Link, closed: Callable[[], None]) -> None:
        self._link = link
        self._closed = closed
        self._channel: Channel | None = None
        self._order = asyncio.Lock()

    async def publish(
        self, messages: Sequence[Outgoing], ready: Callable[[], Awaitable[None]] | None
    ) -> int:
        """Publish at least one message, in the order of calls, and wait for the confirms.

        Returns how many reached a queue. The last message has no task of its own: one that comes
        alone is the case that has to be quick.
        """
        *rest, last = messages
        others: list[asyncio.Task[bool]] = []
        try:
            async with self._order:
                channel = await self._open()
                if ready is not None:
                    await ready()
                others = [asyncio.create_task(_reached(channel, message)) for message in rest]
                if others:
                    await asyncio.sleep(0)  # until each is in the channel's line
            # Nothing waits between here and the channel's line, so nobody comes in between.
            routed = int(await _reached(channel, last))
            if others:
                await asyncio.wait(others)
        finally:
            abandon(others)
        return routed + sum(other.result() for other in others)

    async def _open(self) -> Channel:
        self._link.check()
        if self._channel is None or self._channel.is_closed:
            if self._channel is not None:
                self._closed()
            self._channel = await self._link.channel(returns=True)
        return self._channel


class Publisher:
    """Publishes over a few lanes.

    Attributes:
        stalled: why the last publish had no confirm in time, None once one has again.
    """

    def __init__(self, link: Link, closed: Callable[[], None], timing: Timing) -> None:
        self.stalled: str | None = None
        self._timing = timing
        self._probe: asyncio.Task[None] | None = None
        self._lanes = [Lane(link, closed) for _ in range(LANES + 1)]

    async def close(self) -> None:
        """Stop probing."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait((self._probe,))

    async def publish(
        self,
        messages: Sequence[Outgoing],
        *,
        topic: str | None = None,
        ready: Callable[[], Awaitable[None]] | None = None,
        seconds: float | None = None,
    ) -> int:
        """Publish and wait for all confirms; returns how many messages reached a queue.

        Args:
            messages: in order.
            topic: messages of one topic keep the order of calls; None: a lane apart.
            ready: awaited before, in the same order.
            seconds: the deadline for all of it, by default the timing's.

        Raises:
            StoreUnavailableError: at least one was not confirmed; whether it was kept is unknown.
        """
        seconds = self._timing.confirm_seconds if seconds is None else seconds
        lane = self._lanes[LANES if topic is None else crc32(topic.encode()) % LANES]
        try:
            async with asyncio.timeout(seconds):
                routed = await translated(
                    "rabbitmq confirmed no message", lane.publish(messages, ready)
                )
        except TimeoutError:
            reason = self._stall(seconds)
            raise StoreUnavailableError(reason) from None
        self.stalled = None
        return routed

    def _stall(self, seconds: float) -> str:
        """Publishes hang: find out by ourselves when they work again, since perhaps nobody tries.

        A broker that says it is unhealthy may be sent no publishers.
        """
        self.stalled = f"rabbitmq confirmed nothing in {seconds:g} s (memory or disk alarm?)"
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probing(), name="rabbitmq probe")
        return self.stalled

    async def _probing(self) -> None:
        while self.stalled is not None:
            await asyncio.sleep(self._timing.probe_seconds)
            with suppress(StoreUnavailableError):  # the reason stays
                await self.publish([Outgoing("", _NOWHERE, b"", Basic.Properties())])


async def _reached(channel: Channel, message: Outgoing) -> bool:
    """Publish one message; whether it reached a queue, once it is confirmed."""
    try:
        await channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=message.properties,
            mandatory=True,
            wait=len(message.body) >= _DRAINED_BYTES,
        )
    except PublishError:
        return False
    return True
