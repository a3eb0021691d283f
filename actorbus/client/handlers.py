"""The handler form: a coroutine function called with each delivery."""

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog

from actorbus.client.delivery import Delivery
from actorbus.client.session import Session
from actorbus.client.subscription import Subscription
from actorbus.errors import ActorbusError, ConnectionLostError, ErrorCode, RefusedError

log: Final = structlog.get_logger("actorbus")

Handler = Callable[[Delivery], Awaitable[object]]


class NoHandlerError(RefusedError):
    """What was registered as a handler is none."""

    def __init__(self, topic: str, outcome: object) -> None:
        super().__init__(
            ErrorCode.INVALID_OPTION,
            f"the handler of {topic} must be a coroutine function (async def),"
            f" not one that returns a value of type {type(outcome).__name__}",
        )


class Registration(msgspec.Struct, frozen=True):
    """A handler and what it is called for."""

    topic: str
    changes: dict[str, Any]
    handler: Handler
    concurrency: int


class Handlers:
    """The handlers of one bus: registered at any time, running while the bus is open."""

    def __init__(self) -> None:
        self._waiting: list[Registration] = []
        self._session: Session | None = None
        self._running: dict[asyncio.Task[None], Subscription] = {}
        self._joining: set[asyncio.Future[None]] = set()

    def add(self, topic: str, changes: dict[str, Any], handler: Handler, concurrency: int) -> None:
        """Register a handler, and start it if the bus is open.

        Raises:
            RefusedError: `in_use`: the topic has a handler.
            ActorbusError: the bus has ended.
        """
        taken = [it.topic for it in self._waiting] + [it.topic for it in self._running.values()]
        if topic in taken:
            raise RefusedError(
                ErrorCode.IN_USE,
                f"{topic} has a handler already: raise its concurrency, or open another bus",
            )
        registration = Registration(topic, changes, handler, concurrency)
        if self._session is None:
            self._waiting.append(registration)
        else:
            self._session.check()
            self._run(self._session, registration)

    def start(self, session: Session) -> None:
        """The bus is open."""
        self._session = session
        for registration in self._waiting:
            self._run(session, registration)
        self._waiting.clear()

    async def ready(self) -> None:
        """Return once every handler registered so far is subscribed (or has ended in an error)."""
        if self._joining:
            await asyncio.wait(tuple(self._joining))

    async def stop(self, seconds: float) -> None:
        """Start no more events; those under way may end within `seconds`, then they are cut off."""
        for subscription in self._running.values():
            subscription.discard()
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _run(self, session: Session, registration: Registration) -> None:
        subscription = Subscription(session, registration.topic, registration.changes)
        loop = asyncio.get_running_loop()
        joined: asyncio.Future[None] = loop.create_future()
        self._joining.add(joined)
        joined.add_done_callback(self._joining.discard)
        task = loop.create_task(
            run_handler(subscription, registration.handler, registration.concurrency, joined)
        )
        self._running[task] = subscription
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        topic = self._running.pop(task).topic
        if task.cancelled() or self._session is None:
            return
        error = task.exception()
        if error is not None:
            ended = _as_error(error)
            log.error("handler_ended", topic=topic, error=str(ended))
            self._session.fail(ended)


async def run_handler(
    subscription: Subscription, handler: Handler, concurrency: int, joined: asyncio.Future[None]
) -> None:
    """Feed a subscription to a handler until either the bus or the subscription ends.

    A handler that is cut off sends its event back, to be delivered again. `joined` is done once
    the subscription is in force, or can't be.

    Raises:
        ActorbusError: the subscription was refused, or the bus ended with an error.
    """
    try:
        async with subscription, asyncio.TaskGroup() as group:
            joined.set_result(None)
            for _ in range(concurrency):
                group.create_task(_work(subscription, handler))
    finally:
        if not joined.done():
            joined.set_result(None)


async def _work(subscription: Subscription, handler: Handler) -> None:
    async for delivery in subscription:
        await handle(delivery, handler)


async def handle(delivery: Delivery, handler: Handler) -> None:
    """One event: the handler's return acknowledges it, an exception sends it back.

    What the handler has settled itself stays as it is.

    Raises:
        NoHandlerError: it is no coroutine function; the event goes back.
    """
    try:
        await _call(handler, delivery)
    except NoHandlerError:
        await delivery.retry(delay=0)
        raise
    except asyncio.CancelledError as error:
        if _cut_off():
            await delivery.retry(delay=0)
            raise
        await _failed(delivery, error)  # of something that it waited for, not its own
    except Exception as error:  # noqa: BLE001 - it is logged
        await _failed(delivery, error)
    else:
        await delivery.ack()


def _cut_off() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _failed(delivery: Delivery, error: BaseException) -> None:
    log.error(  # without `exc_info`: structlog's tracebacks may show local variables, so payloads
        "handler_failed",
        topic=delivery.topic,
        event_id=delivery.event.get("id"),
        attempt=delivery.attempt,
        exception="".join(traceback.format_exception(error)).rstrip(),
    )
    await delivery.retry()


async def _call(handler: Handler, delivery: Delivery) -> None:
    outcome: object = handler(delivery)
    if not inspect.isawaitable(outcome):
        raise NoHandlerError(delivery.topic, outcome)
    await outcome


def _as_error(error: BaseException) -> ActorbusError:
    """The error of ours in what a task group raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ActorbusError):
        return error
    return ConnectionLostError(f"the client failed: {type(error).__name__}: {error}")
