"""Consuming one queue: the channel, the prefetch and the acknowledgements."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from actorbus.errors import StoreUnavailableError
from transport.stores.rabbitmq.calls import CALL_SECONDS, directly, explain, within

T = TypeVar("T")

PREFETCH: Final = 8
"""Messages in hand per group at first; full ones hold 800 events. Demand widens it once more."""

PREFETCH_MOST: Final = 256
"""Messages in hand when they hold little; `PREFETCH` of them would starve the group."""

_STEP: Final = 4


class Consumer:
    """One queue's channel, opened by `start`; `close` gives back what is not acknowledged.

    Attributes:
        prefetch: messages that RabbitMQ sends ahead; 0 while nothing is consumed.
    """

    def __init__(
        self,
        queue: str,
        open_channel: Callable[[], Awaitable[Channel]],
        on_message: Callable[[DeliveredMessage], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.prefetch = 0
        self._queue = queue
        self._open_channel = open_channel
        self._on_message = on_message
        self._on_lost = on_lost
        self._channel: Channel | None = None
        self._tags: list[str] = []

    async def start(self) -> None:
        """Consume, on the channel that is open or a new one."""
        if self._channel is None:
            channel = await self._open_channel()
            self._channel = channel
            channel.closing.add_done_callback(partial(self._on_closing, channel))
            channel.on_consumer_cancel_callbacks.add(partial(self._on_cancelled, channel))
        await self._consume(self._channel, PREFETCH)

    async def widen(self) -> None:
        """Let RabbitMQ send more ahead: a further consumer adds its prefetch to the others'."""
        assert self._channel is not None
        wider = min(self.prefetch * _STEP, PREFETCH_MOST)
        await self._consume(self._channel, wider - self.prefetch)

    async def cancel(self) -> None:
        """Stop consuming; every message that was sent before has been handed over."""
        tags, self._tags, self.prefetch = self._tags, [], 0
        if self._channel is not None:
            for tag in tags:
                await self._call("cancelled no consumer", self._channel.basic_cancel(tag))

    async def close(self) -> None:
        """Close the channel: what is not acknowledged goes back to the front of the queue."""
        channel, self._channel = self._channel, None
        self._tags, self.prefetch = [], 0
        if channel is not None:
            await self._call("closed no channel", channel.close())

    async def ack(self, upto: int | None, singles: Iterable[int]) -> None:
        """Acknowledge all messages up to a tag, and single ones; returns once it is written."""
        written = self._ack(upto, sorted(singles))
        await directly(CALL_SECONDS, "rabbitmq took no acknowledgement", written)

    async def requeue(self, tags: Iterable[int]) -> None:
        """Give messages back; they go to the end of the queue."""
        for tag in tags:
            await self._call("took nothing back", self._wire().basic_nack(tag, wait=False))

    async def reject(self, tag: int) -> None:
        """Refuse a message for good."""
        refused = self._wire().basic_reject(tag, requeue=False, wait=False)
        await self._call("took no rejection", refused)

    def _wire(self) -> Channel:
        if self._channel is None:
            raise StoreUnavailableError(f"queue {self._queue!r} is not consumed")
        return self._channel

    async def _ack(self, upto: int | None, singles: list[int]) -> None:
        channel = self._wire()
        if upto is not None:
            await channel.basic_ack(upto, multiple=True, wait=not singles)
        for tag in singles:
            await channel.basic_ack(tag, wait=tag == singles[-1])

    async def _consume(self, channel: Channel, prefetch: int) -> None:
        what = f"let nobody consume {self._queue!r}"
        await self._call(what, channel.basic_qos(prefetch_count=prefetch))
        callback = partial(self._deliver, channel)
        started = await self._call(what, channel.basic_consume(self._queue, callback))
        self._tags.append(str(started.consumer_tag))
        self.prefetch += prefetch

    @staticmethod
    async def _call(what: str, call: Awaitable[T]) -> T:
        return await within(CALL_SECONDS, f"rabbitmq {what}", call)

    async def _deliver(self, channel: Channel, message: DeliveredMessage) -> None:
        if channel is self._channel:
            self._on_message(message)

    def _on_closing(self, channel: Channel, closing: "asyncio.Future[None]") -> None:
        if channel is self._channel:
            self._channel = None
            self._on_lost(explain(None if closing.cancelled() else closing.exception()))

    def _on_cancelled(self, channel: Channel, _frame: object) -> None:
        if channel is self._channel:
            self._on_lost(f"rabbitmq cancelled the consumer of {self._queue!r}")
