"""What lasts over connections: it reconnects, subscribes again, and publishes again.

States: a session is opened once; from then on it has a link or is looking for the next one, until
it is closed or an error ends it that will not heal.
"""

import asyncio
import itertools
import traceback
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final

import msgspec
import structlog

from actorbus.client.backoff import Backoff
from actorbus.client.handshake import Address, Hello, UnreachableError, fatal, open_link
from actorbus.client.limits import NO_ANSWER
from actorbus.client.link import Link, LinkLostError
from actorbus.client.publish_batch import copy_of
from actorbus.client.publisher import Publisher
from actorbus.client.subscription import Subscription
from actorbus.errors import (
    ActorbusError,
    ConnectionLostError,
    ErrorCode,
    RefusedError,
    UnavailableError,
)
from actorbus.frame_types import Answer

log: Final = structlog.get_logger("actorbus")

RECONNECT: Final = (0.1, 5.0)
"""First and longest wait before connecting again, seconds."""

STEADY_SECONDS: Final = 5.0
"""A connection that lasted so long was a success: the next wait is the first one again."""

RETRY: Final = (0.1, 2.0)
"""First and longest wait before a request is asked again that the broker can't serve now."""

STRAY_DELAY_MS: Final = 1000
"""What comes for a topic that was left without an answer goes back; not to be here at once."""


class Settings(msgspec.Struct, frozen=True):
    """How a session connects; durations are seconds."""

    address: Address
    hello: Hello
    publish_timeout: float
    request_timeout: float
    close_timeout: float
    wait_for_broker: float

    def __repr__(self) -> str:
        return f"<Settings of {self.hello.app_id} at {self.address.url}>"


class Session:
    """One app instance's side of the protocol.

    Attributes:
        link: the connection, while there is one.
        publisher: the publishes, over all connections.
        error: why the session ended, if an error ended it.
    """

    def __init__(self, settings: Settings) -> None:
        refs = itertools.count(1)
        self.codec = settings.address.codec
        self.request_timeout = settings.request_timeout
        self.close_timeout = settings.close_timeout
        self.link: Link | None = None
        self.error: ActorbusError | None = None
        self._settings = settings
        self._hello = settings.hello
        self._next_ref = refs.__next__
        self.publisher = Publisher(self.codec.publish, settings.publish_timeout, self._next_ref)
        self._subscriptions: dict[str, Subscription] = {}
        self._draining = False
        self._closing = False
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._joins: list[asyncio.Task[None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    async def open(self) -> None:
        """Connect for the first time.

        Raises:
            RefusedError: the broker does not take this client.
            ConnectionLostError: there is no broker; tried for `wait_for_broker` seconds.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.wait_for_broker
        backoff = Backoff(*RECONNECT)
        while True:
            try:
                link = await self._connect()
            except UnreachableError:
                delay = backoff.next()
                if loop.time() + delay > give_up:
                    raise
                await asyncio.sleep(delay)
            else:
                self._attach(link)  # now, so that a `close` that comes at once finds it
                self._keeper = loop.create_task(self._keep(link))
                return

    async def close(self) -> None:
        """Wait for unanswered publishes, flush acknowledgements, disconnect. Bounded."""
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(self.close_timeout):
                await self._finish_work()
        except TimeoutError:
            log.warning("close_timed_out", seconds=self.close_timeout)
        finally:
            await self._shut(ConnectionLostError("this client has closed the connection"))

    async def request(self, frame: dict[str, Any], seconds: float | None = None) -> Answer:
        """Ask, and return the answer; over reconnects and passing faults, until the deadline.

        Raises:
            RefusedError: the broker refused it.
            UnavailableError: no answer within `seconds`, or `request_timeout`.
            ConnectionLostError: the session has ended.
        """
        seconds = self.request_timeout if seconds is None else seconds
        backoff = Backoff(*RETRY)
        failure: UnavailableError | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    link = await self._linked()
                    try:
                        return await link.request(frame)
                    except LinkLostError:
                        pass  # ask again on the next connection
                    except UnavailableError as error:
                        failure = error
                    await asyncio.sleep(backoff.next())
        except TimeoutError:
            raise failure or UnavailableError(
                NO_ANSWER, f"no answer to {frame['type']} within {seconds:g} s"
            ) from None

    async def join(self, subscription: Subscription) -> None:
        """Take a subscription in; returns once the broker has."""
        self.check()
        topic = subscription.topic
        if topic in self._subscriptions:
            raise RefusedError(
                ErrorCode.IN_USE,
                f"this bus is subscribed to {topic} already: iterate over that subscription in"
                " several tasks, or open another bus",
            )
        self._subscriptions[topic] = subscription
        if self.link is not None:
            self.start(subscription.subscribe(self.link))
        try:
            async with asyncio.timeout(self.request_timeout):
                await subscription.joined()
        except RefusedError:
            self.release(subscription)
            raise
        except BaseException as error:
            await subscription.close()  # it may have been subscribed all the same
            if isinstance(error, TimeoutError):
                raise subscription.put_off or UnavailableError(
                    NO_ANSWER, f"no answer to subscribe within {self.request_timeout:g} s"
                ) from None
            raise

    async def leave(self, subscription: Subscription) -> None:
        """Unsubscribe; the caller sets the deadline."""
        link, topic = self.link, subscription.topic
        if link is None or self._subscriptions.get(topic) is not subscription:
            return
        backoff = Backoff(*RETRY)
        while True:
            try:
                await link.request({"type": "unsubscribe", "topic": topic})
            except UnavailableError:
                await asyncio.sleep(backoff.next())
            except (LinkLostError, ActorbusError) as error:  # the connection's end does it as well
                log.debug("unsubscribe_unanswered", topic=topic, error=str(error))
                return
            else:
                return

    def release(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        if self._subscriptions.get(subscription.topic) is subscription:
            del self._subscriptions[subscription.topic]

    def flow(self, max_in_flight: int) -> None:
        """Change the window, now and for connections to come.

        Raises:
            ActorbusError: the session has ended.
        """
        self.check()
        self._hello = msgspec.structs.replace(self._hello, max_in_flight=max_in_flight)
        if self.link is not None:
            self.link.send({"type": "flow", "max_in_flight": max_in_flight})
            self.link.lane.set_window(max_in_flight)

    async def drain(self, seconds: float) -> None:
        """Take no more deliveries; returns once nothing is in flight.

        Raises: as `request`.
        """
        self._draining = True
        await self.request({"type": "drain"}, seconds)
        for subscription in self._subscriptions.values():
            subscription.finish()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background, for as long as the session lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def check(self) -> None:
        """Raise what ended the session, if it has ended."""
        if self.error is not None:
            raise copy_of(self.error)
        if self._closing:
            raise ConnectionLostError("this client has closed the connection")

    # What a link calls.

    def deliver(self, link: Link, frame: dict[str, Any]) -> None:
        """Hand a `deliver` frame to its subscription."""
        subscription = self._subscriptions.get(frame["topic"])
        if subscription is not None:
            subscription.deliver(link, frame)
        else:
            stray = [wire["id"] for wire in frame["deliveries"]]
            link.lane.settle(stray, ("RETRY", STRAY_DELAY_MS, None))

    def published(self, ref: int, errors: Sequence[dict[str, Any]]) -> None:
        """Hand an answer to the publisher."""
        self.publisher.published(ref, errors)

    def refused(self, ref: int, error: ActorbusError) -> bool:
        """Hand an error to the publisher."""
        return self.publisher.refused(ref, error)

    def publishes(self) -> Iterator[bytes]:
        """Publish frames that wait."""
        return self.publisher.frames()

    # Connections, one after the other.

    async def _connect(self) -> Link:
        return await open_link(self._settings.address, self._hello, self, self._next_ref)

    async def _keep(self, link: Link) -> None:
        """Have a connection at all times, until the session ends."""
        backoff = Backoff(*RECONNECT)
        clock = asyncio.get_running_loop().time
        try:
            while True:
                since = clock()
                try:
                    await link.run()
                finally:
                    self._detach()
                if self._closing:
                    return
                refused = fatal(link.lost)
                if refused is not None:
                    raise refused  # noqa: TRY301 - the one way out
                if clock() - since > STEADY_SECONDS:
                    backoff.reset()
                link = await self._reconnect(link, backoff)
                self._attach(link)
        except ActorbusError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - logged, but not by structlog's own tracebacks,
            # which may show local variables, so payloads and tokens
            log.error("client_failed", exception=traceback.format_exc().rstrip())  # noqa: TRY400
            self.fail(ConnectionLostError(f"the client failed: {type(error).__name__}: {error}"))

    def _attach(self, link: Link) -> None:
        """A new connection: publish on it, and subscribe again."""
        self.link = link
        self._changed.set()
        self.publisher.connected(link.wake, link.flush, link.welcome.limits)
        self._joins = [
            self.start(subscription.subscribe(link))
            for subscription in self._subscriptions.values()
            if not self._draining
        ]

    def _detach(self) -> None:
        """The connection ended."""
        self.link = None
        self._changed.clear()
        for task in self._joins:
            task.cancel()
        self.publisher.disconnected()
        for subscription in self._subscriptions.values():
            subscription.disconnected()

    async def _reconnect(self, last: Link, backoff: Backoff) -> Link:
        delay = backoff.next()
        if last.goaway is not None:
            delay += last.goaway.reconnect_after_ms / 1000
        log.warning("reconnecting", reason=str(last.lost), delay=round(delay, 3))
        while True:
            await asyncio.sleep(delay)
            try:
                return await self._connect()
            except UnreachableError as error:
                delay = backoff.next()
                log.info("broker_unreachable", error=error.message, delay=round(delay, 3))

    async def _linked(self) -> Link:
        while self.link is None:
            self.check()
            await self._changed.wait()
        return self.link

    def fail(self, error: ActorbusError) -> None:
        """End for good: everyone who waits, and who comes later, gets the error."""
        if self.error is None and not self._closing:
            self.error = error
            log.error("session_ended", error=str(error))
        self.publisher.close(error)
        for subscription in [*self._subscriptions.values()]:
            subscription.finish(None if self._closing else error)
        self._changed.set()
        self.ended.set()

    async def _finish_work(self) -> None:
        if self.error is None:
            await self.publisher.idle()
        link = self.link
        if link is not None:
            confirms = link.lane.confirm_all()
            if confirms:
                await asyncio.wait(confirms)

    async def _shut(self, error: ActorbusError) -> None:
        for task in self._tasks:
            task.cancel()
        self.fail(error)
        keeper = self._keeper
        if keeper is None or keeper.done():
            return
        if self.link is not None:
            self.link.stop()
        else:
            keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
