"""Streaming subscriptions: `SubscribeTopicEventsAlpha1`.

A stream is one instance of its app: it has a connection to the broker of its own, so several
streams of one app compete for the events, and a stream that closes leaves its group, with all that
it had not settled, to the others or to the next one.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc
import structlog
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventResponse
from dapr.proto.runtime.v1.pubsub_pb2 import (
    SubscribeTopicEventsRequestProcessedAlpha1,
    SubscribeTopicEventsResponseAlpha1,
    SubscribeTopicEventsResponseInitialAlpha1,
)

from actorbus import Bus, Delivery, Subscription
from actorbus.errors import ActorbusError
from transport.dapr.buses import Buses
from transport.dapr.call_end import CallEnd, next_request
from transport.dapr.delivery import Source, envelope, topic_event
from transport.dapr.envelope import now
from transport.dapr.in_flight import InFlight, Item
from transport.dapr.metadata import Metadata, Rule, Subscribed
from transport.dapr.setbacks import Setbacks
from transport.dapr.settling import Policy, Status, settle

log: Final = structlog.get_logger("actorbus.dapr")

Context = grpc.aio.ServicerContext[Any, SubscribeTopicEventsResponseAlpha1]
Message = SubscribeTopicEventsResponseAlpha1
Waiting = Item[Delivery, Message]

WINDOW: Final = 64
"""Events that may be in flight on one stream. A serial handler that takes the longest time allowed
for each is through within the 20 minutes that RabbitMQ lets a lease live, with half of them."""

PATH: Final = "/"
"""The route of events on streams, which have no others."""

EVENT_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024
"""Longest message that is sent: gRPC clients refuse over 4 MiB, and with it the whole stream."""

LEASE_END: Final = 0.1
"""Seconds after which the lease of a late event ends: the shortest that the protocol has."""

ACK_WAIT: Final = 30.0
"""`ack_wait` of a group that names none (protocol: subscriptions)."""

ACK_SECONDS: Final = 0.01
"""How long an acknowledgement waits for others at the most."""

STREAMS: Final = 2000
"""Streams open at a time: each has a connection to the broker."""

STOP_SECONDS: Final = 2.0
"""How long an orderly stop takes acknowledgements for what is in flight."""

RELEASE_SECONDS: Final = 1.0
"""How long an orderly stop waits for streams to give back what they held."""

_INITIAL: Final = Message(initial_response=SubscribeTopicEventsResponseInitialAlpha1())

_STATUS: Final[dict[int, Status]] = {
    TopicEventResponse.SUCCESS: "SUCCESS",
    TopicEventResponse.RETRY: "RETRY",
    TopicEventResponse.DROP: "DROP",
}


class Stream:
    """One open stream.

    Args:
        context: gRPC's side.
        source: what is subscribed to.
        policy: how its events are settled.
        setbacks: of all streams of this door.
        key: what this stream's setbacks are counted under.
    """

    def __init__(
        self,
        context: Context,
        source: Source,
        policy: Policy,
        setbacks: Setbacks,
        key: tuple[str, ...],
    ) -> None:
        self.source = source
        self.key = key
        self._context = context
        self._policy = policy
        self._setbacks = setbacks
        self._stack = AsyncExitStack()
        self._in_flight: InFlight[Delivery, Message] = InFlight()
        self._outbox: deque[Waiting] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._stopping = asyncio.Event()
        self._subscription: Subscription | None = None
        self._done: list[Delivery] = []
        self._due = asyncio.Event()
        self._flush_due: asyncio.TimerHandle | None = None

    async def serve(self, bus: Bus) -> None:
        """Serve the stream until it ends; `release` must follow.

        Args:
            bus: one of this stream's own, not yet open, whose window is 0.

        Raises:
            CallEnd: how it ended.
            ActorbusError: it could not be subscribed, or the bus has ended.
        """
        await self._stack.enter_async_context(bus)
        subscription = bus.subscribe(self.source.topic, **self._policy.options())
        await self._stack.enter_async_context(subscription)
        self._subscription = subscription
        await self._context.write(_INITIAL)
        await _until_one_ends(
            self._read(),
            self._take(bus, subscription),
            self._write(),
            self._keep(subscription),
            self._flush_when_due(),
            self._stop_in_order(bus),
        )

    async def release(self) -> None:
        """Give back what is in flight. The oldest waits for its group's back-off.

        It is the one that a serial handler was at; the others come again at once.
        """
        await self._flush()
        oldest = self._in_flight.oldest
        try:
            if oldest is not None:
                self._setbacks.broke(self.key)
                await self._put_off(oldest.delivery)
        finally:
            await self._stack.aclose()

    async def _put_off(self, delivery: Delivery) -> None:
        """Send it back with back-off; not if that were the last attempt, and nobody saw it fail."""
        options = {} if self._subscription is None else self._subscription.options
        if not 0 < (options.get("max_attempts") or 0) <= delivery.attempt:
            await delivery.retry()

    def stop(self) -> None:
        """End in order: take no more events, and acknowledgements for `STOP_SECONDS`."""
        self._stopping.set()

    async def _read(self) -> None:
        """Take acknowledgements."""
        while True:
            request = await next_request(self._context)
            if request is grpc.aio.EOF:
                # Dapr says so too; to SDKs up to 1.18.3, whose stream may end its side right
                # after the initial request, it means to try again
                raise CallEnd(grpc.StatusCode.UNKNOWN, "EOF")
            if not request.HasField("event_processed"):
                raise CallEnd(grpc.StatusCode.UNKNOWN, "duplicate initial request received")
            processed: SubscribeTopicEventsRequestProcessedAlpha1 = request.event_processed
            await self._settle(processed.id, _STATUS.get(processed.status.status, "RETRY"))

    async def _settle(self, event_id: str, status: Status) -> None:
        item, following = self._in_flight.settle(event_id, _now())
        if item is None:
            log.debug("unknown_event_settled", topic=self.source.topic)
            return
        if status == "SUCCESS":
            await self._acknowledge(item.delivery)
        else:
            await settle(item.delivery, status, self._policy)
        self._setbacks.settled(self.key)
        self._send(following)
        if not self._in_flight:
            self._idle.set()

    async def _acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge, together with what follows within `ACK_SECONDS`.

        A serial handler answers one event at a time; passed on one by one, each answer would cost
        a frame to the broker and one back with the next event. They go when there are as many as
        events in flight, which cover the time until the next ones come: by 32 with a full window,
        where a stream of the Python SDK was at 1.04 of its ceiling, and at 0.94 with 16.
        """
        self._done.append(delivery)
        if len(self._done) >= len(self._in_flight):
            await self._flush()
        elif self._flush_due is None:
            loop = asyncio.get_running_loop()
            self._flush_due = loop.call_later(ACK_SECONDS, self._due.set)

    async def _flush(self) -> None:
        if self._flush_due is not None:
            self._flush_due.cancel()
            self._flush_due = None
        done, self._done = self._done, []
        for delivery in done:
            await delivery.ack()

    async def _flush_when_due(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await self._flush()

    async def _take(self, bus: Bus, subscription: Subscription) -> None:
        """Take events from the broker."""
        await asyncio.sleep(self._setbacks.delay(self.key))
        await bus.flow(WINDOW)
        async for delivery in subscription:
            message = self._message(delivery)
            if message is None:
                await settle(delivery, "RETRY", self._policy)  # others of the app may take it
                continue
            event_id = message.event_message.id
            self._send(self._in_flight.add(Item(event_id, delivery, message, _now())))
        raise CallEnd(grpc.StatusCode.UNAVAILABLE, "the connection to the broker was closed")

    def _message(self, delivery: Delivery) -> Message | None:
        found = envelope(delivery.event, self.source, now())
        message = Message(event_message=topic_event(found, self.source, PATH))
        if message.ByteSize() > EVENT_BYTES:
            log.warning("event_too_large_for_stream", topic=self.source.topic)
            return None
        return message

    def _send(self, item: Waiting | None) -> None:
        if item is not None:
            self._outbox.append(item)
            self._filled.set()

    async def _write(self) -> None:
        """Send events; an app that does not read holds this up, and nothing else."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                item = self._outbox.popleft()
                if not item.gone:
                    await self._context.write(item.message)

    async def _keep(self, subscription: Subscription) -> None:
        """Renew leases, and end those of events that are late."""
        while True:
            ack_wait = subscription.options.get("ack_wait_ms", ACK_WAIT * 1000) / 1000
            look = self._in_flight.look(_now(), ack_wait)
            for item in look.renew:
                await item.delivery.extend(ack_wait)
            for item in look.late:
                await item.delivery.extend(LEASE_END)
            for item in look.send:
                self._send(item)
            late = sum(not item.delivery.lost for item in look.late)
            if late:
                log.warning("events_late_on_stream", topic=self.source.topic, events=late)
            await asyncio.sleep(max(look.again - _now(), 0.01))

    async def _stop_in_order(self, bus: Bus) -> None:
        await self._stopping.wait()
        await bus.flow(0)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                while self._in_flight:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            log.info("stream_ends_unsettled", topic=self.source.topic, events=len(self._in_flight))
        raise CallEnd(grpc.StatusCode.UNAVAILABLE, "the Dapr API is stopping")


class Streams:
    """All streams of a door.

    Args:
        buses: makes their connections.
        metadata: shows them.
    """

    def __init__(self, buses: Buses, metadata: Metadata) -> None:
        self._buses = buses
        self._metadata = metadata
        self._setbacks = Setbacks()
        self._streams: dict[Stream, asyncio.Future[None]] = {}
        self._releases: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def serve(self, context: Context, app_id: str, source: Source, policy: Policy) -> None:
        """Serve one stream, after its initial request.

        Raises:
            CallEnd: how it ended.
            ActorbusError: it could not be subscribed, or the broker has ended it.
        """
        if self._stopped or len(self._streams) >= STREAMS:
            raise CallEnd(grpc.StatusCode.UNAVAILABLE, "no more streams: try again later")
        key = (app_id, source.component, source.topic)
        stream = Stream(context, source, policy, self._setbacks, key)
        self._streams[stream] = asyncio.get_running_loop().create_future()
        shown = Subscribed(
            component=source.component,
            topic=source.topic,
            kind="STREAMING",
            rules=(Rule(path=PATH),),
            dead_letter_topic=policy.dead_letter_topic or "",
        )
        self._metadata.subscribe(app_id, shown)
        try:
            await stream.serve(self._buses.make(source.component, app_id, max_in_flight=0))
        finally:
            self._metadata.unsubscribe(app_id, shown)
            # in the background: when the app has cancelled the call, gRPC waits for nothing
            release = asyncio.create_task(self._release(stream))
            self._releases.add(release)
            release.add_done_callback(self._releases.discard)

    async def stop(self) -> None:
        """End all streams in order, with UNAVAILABLE. Bounded."""
        self._stopped = True
        for stream in self._streams:
            stream.stop()
        if self._streams:
            await asyncio.wait(self._streams.values(), timeout=STOP_SECONDS + RELEASE_SECONDS)

    async def _release(self, stream: Stream) -> None:
        try:
            await stream.release()
        except ActorbusError as error:  # the connection's end gives it all back as well
            log.info("stream_release_failed", topic=stream.source.topic, error=str(error))
        finally:
            self._streams.pop(stream).set_result(None)


async def _until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, then end the others; raises what the first raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        await task


def _now() -> float:
    return time.monotonic()
