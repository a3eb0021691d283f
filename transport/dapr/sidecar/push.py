"""One subscription of the app: its events are taken from the broker, and pushed to the app."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from actorbus import Bus, Delivery, Subscription
from actorbus.errors import ActorbusError
from transport.dapr.delivery import Envelope, Source, envelope
from transport.dapr.envelope import now
from transport.dapr.resources.routes import RouteError, Routes
from transport.dapr.resources.subscription import BulkSubscribe
from transport.dapr.settling import Policy, Status, settle
from transport.dapr.sidecar import bulk
from transport.dapr.sidecar.app import NoAnswerError
from transport.dapr.sidecar.caller import Caller
from transport.dapr.sidecar.complaints import Complaints
from transport.dapr.sidecar.leases import Leases

log = structlog.get_logger("actorbus.dapr")

WINDOW: Final = 64
"""Events of one subscription that are in flight: as many calls to the app at a time."""

BULK_CALLS: Final = 4
"""Calls at a time, each with `maxMessagesCount` events, of a bulk subscription."""

ACK_WAIT_MS: Final = 30_000
"""`ack_wait_ms` of a group that names none (protocol: subscriptions)."""

STOP_SECONDS: Final = 5.0
"""What calls under way may take at an orderly stop (daprd's own default for a graceful one)."""

Answer = TypeVar("Answer")
Entries = list[tuple[Delivery, bulk.Entry]]


class Feed:
    """What a subscription is, apart from its connection.

    Args:
        source: what is subscribed to.
        routes: where events go within the app.
        policy: how they are settled.
        several: how many go in one call; None: one.
    """

    def __init__(
        self,
        source: Source,
        routes: Routes,
        policy: Policy,
        several: BulkSubscribe | None = None,
    ) -> None:
        self.source = source
        self.routes = routes
        self.policy = policy
        self.several = several

    def window(self, max_concurrency: int | None) -> int:
        """Events in flight at a time, for an app that takes so many calls at a time."""
        calls = WINDOW if self.several is None else BULK_CALLS
        if max_concurrency is not None:
            calls = min(calls, max_concurrency)
        return calls * (1 if self.several is None else self.several.max_messages)


class Push:
    """Pushes the events of one subscription.

    Args:
        caller: the app.
        feed: what to push.
        bus: a connection of its own, not yet open, with the feed's window.
    """

    def __init__(self, caller: Caller, feed: Feed, bus: Bus) -> None:
        self.feed = feed
        self._caller = caller
        self._bus = bus
        self._stack = AsyncExitStack()
        self._works: set[asyncio.Task[None]] = set()
        self._leases = Leases(ACK_WAIT_MS / 1000)
        self._complaints = Complaints()
        self._subscription: Subscription | None = None
        self._filling: asyncio.Timeout | None = None
        self._stopping = False

    async def open(self) -> None:
        """Subscribe; the group is durable when this returns.

        Raises:
            RefusedError: the broker does not take it.
            ActorbusError: the broker can't be had.
        """
        feed = self.feed
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._bus)
            subscription = self._bus.subscribe(feed.source.topic, **feed.policy.options())
            await stack.enter_async_context(subscription)
            self._stack = stack.pop_all()
        self._subscription = subscription
        self._leases = Leases(subscription.options.get("ack_wait_ms", ACK_WAIT_MS) / 1000)

    async def run(self) -> None:
        """Push events until `close`; `open` must have returned.

        Raises:
            ActorbusError: what ended the bus.
        """
        assert self._subscription is not None
        helpers = [asyncio.create_task(self._leases.run()), asyncio.create_task(self._follow())]
        try:
            await self._take(self._subscription)
        finally:
            await _end(helpers)

    async def drain(self) -> None:
        """Take nothing new, and finish what is under way. Bounded."""
        self._stopping = True
        if self._filling is not None:
            self._filling.reschedule(0)
        try:
            await self._bus.drain(STOP_SECONDS)
        except ActorbusError as error:
            log.info("push_ends_unsettled", topic=self.feed.source.topic, reason=str(error))

    async def close(self) -> None:
        """Break off what is under way, and disconnect: it is given back. Bounded."""
        await _end(self._works)
        await self._stack.aclose()

    async def _follow(self) -> None:
        """Ask for no events while the app is away."""
        presence, window = self._caller.presence, self.feed.window(self._caller.max_concurrency)
        while True:
            await presence.gone()
            await self._bus.flow(0)
            await presence.back()
            await self._bus.flow(window)

    async def _take(self, subscription: Subscription) -> None:
        """Take events; the window bounds how many are under way."""
        several = self.feed.several
        if several is None:
            async for delivery in subscription:
                self._start([delivery], self._single(delivery))
            return
        while batch := await subscription.next_batch(several.max_messages):
            self._leases.hold(batch)
            await self._fill(subscription, batch, several)
            self._start(batch, self._several(batch))

    async def _fill(
        self, subscription: Subscription, batch: list[Delivery], several: BulkSubscribe
    ) -> None:
        """Wait for more events, as long as the first one may."""
        seconds = 0 if self._stopping else several.max_await_ms / 1000
        try:
            async with asyncio.timeout(seconds) as self._filling:
                while room := several.max_messages - len(batch):
                    more = await subscription.next_batch(room)
                    if not more:
                        return
                    self._leases.hold(more)
                    batch += more
        except TimeoutError:
            return
        finally:
            self._filling = None

    def _start(self, deliveries: Sequence[Delivery], work: Coroutine[Any, Any, None]) -> None:
        self._leases.hold(deliveries)
        task = asyncio.create_task(self._guard(deliveries, work))
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    async def _guard(self, deliveries: Sequence[Delivery], work: Coroutine[Any, Any, None]) -> None:
        """Whatever happens in the handling of events, they are not left without an end."""
        try:
            await work
        except Exception:
            log.exception("push_failed", topic=self.feed.source.topic)
        finally:
            self._leases.release(deliveries)
        for delivery in deliveries:
            await delivery.retry()  # what is settled stays so

    async def _single(self, delivery: Delivery) -> None:
        source, app = self.feed.source, self._caller.app
        found = envelope(delivery.event, source, now())
        path = await self._route(delivery, found)
        if path is None:
            return
        ask = partial(app.push, found, source, path)
        await self._settle(delivery, await self._call([delivery], ask))

    async def _several(self, deliveries: Sequence[Delivery]) -> None:
        """One call for each route, or more where events are large."""
        by_path: dict[str, Entries] = {}
        for delivery in deliveries:
            found = envelope(delivery.event, self.feed.source, now())
            path = await self._route(delivery, found)
            if path is not None:
                by_path.setdefault(path, []).append((delivery, bulk.entry(found)))
        for path, entries in by_path.items():
            for call in bulk.split([one for _, one in entries]):
                await self._call_bulk(path, [entries[index] for index in call])

    async def _call_bulk(self, path: str, entries: Entries) -> None:
        deliveries = [delivery for delivery, _ in entries]
        ask = partial(
            self._caller.app.push_bulk, [one for _, one in entries], self.feed.source, path
        )
        statuses = await self._call(deliveries, ask)
        for index, delivery in enumerate(deliveries):
            await self._settle(delivery, None if statuses is None else statuses[index])
        self._leases.release(deliveries)

    async def _call(
        self, deliveries: Sequence[Delivery], ask: Callable[[], Awaitable[Answer]]
    ) -> Answer | None:
        """The app's answer; None: there is none."""
        last = any(self._is_last(delivery) for delivery in deliveries)
        try:
            return await self._caller.call(deliveries, ask, last=last)
        except NoAnswerError as error:
            self._complain("app_gave_no_answer", error.message)
            return None

    async def _route(self, delivery: Delivery, found: Envelope) -> str | None:
        """The path for an event; None: it is settled already."""
        try:
            path = self.feed.routes.route(found)
        except RouteError as error:
            self._complain("rule_failed", error.message)
            await settle(delivery, "RETRY", self.feed.policy)
            return None
        if path is None:
            await delivery.ack()  # none of the app's business
        return path

    async def _settle(self, delivery: Delivery, status: Status | None) -> None:
        """Pass the answer on; without one, the event comes again whatever the policy."""
        if status is None:
            await delivery.retry()
            return
        if status != "SUCCESS":
            self._complain("app_refused_event", status)
        await settle(delivery, status, self.feed.policy)

    def _is_last(self, delivery: Delivery) -> bool:
        options = {} if self._subscription is None else self._subscription.options
        return 0 < (options.get("max_attempts") or 0) <= delivery.attempt

    def _complain(self, complaint: str, reason: str) -> None:
        self._complaints.say(complaint, topic=self.feed.source.topic, reason=reason)


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = [*tasks]
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
