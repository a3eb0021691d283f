"""Apps that publish and handle events over the client library, and keep a record of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Unpack

import pytest

import actorbus
from actorbus.client import session
from actorbus.client.bus import Bus
from actorbus.client.delivery import Delivery
from actorbus.client.subscribe_options import Options
from actorbus.errors import UnavailableError
from tests.faults.record import Record

RECONNECT: Final = (0.02, 0.1)
"""First and longest wait before connecting again, seconds: the real ones take most of a test."""

BACKLOG: Final = 4_000
"""Publishers wait while a group is so far behind."""

POLL_SECONDS: Final = 0.02
"""How often another process is asked for what it does not tell by itself."""

Handler = Callable[[Delivery], Coroutine[Any, Any, None]]


@contextmanager
def quick_reconnects() -> Iterator[None]:
    """Clients come back as soon as the broker does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "RECONNECT", RECONNECT)
        yield


def event(event_id: str, data: Any = None) -> dict[str, Any]:
    """A complete CloudEvent, so that its id is known before it is published."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "faults",
        "type": "test",
        "data": data,
    }


async def publish(bus: Bus, topic: str, record: Record, ids: list[str], data: Any = None) -> None:
    """Publish events with these ids and note the broker's answer."""
    record.publishing(ids)
    await bus.publish_many(topic, events=[event(event_id, data) for event_id in ids])
    record.published(ids)


async def publish_until(
    stop: asyncio.Event, bus: Bus, topic: str, name: str, record: Record, *, batch: int = 10
) -> None:
    """Publish one batch after the other until told to stop."""
    for number in itertools.count():
        await record.wait_for(lambda: stop.is_set() or record.backlog() < BACKLOG, 60)
        if stop.is_set():
            return
        ids = [f"{name}-{number}-{index}" for index in range(batch)]
        try:
            await publish(bus, topic, record, ids, {"padding": "." * 200})
        except UnavailableError:
            continue  # it may be published or not: nothing was promised


@asynccontextmanager
async def instance(
    url: str,
    app_id: str,
    topic: str,
    handle: Handler,
    *,
    window: int = 100,
    **options: Unpack[Options],
) -> AsyncIterator[Bus]:
    """An instance that handles all its deliveries at once, for as long as the `with` lasts."""
    async with (
        actorbus.connect(url, app_id=app_id, wait_for_broker=10, max_in_flight=window) as bus,
        bus.subscribe(topic, **options) as deliveries,
        asyncio.TaskGroup() as tasks,
    ):

        async def take() -> None:
            async for delivery in deliveries:
                tasks.create_task(handle(delivery))

        taker = tasks.create_task(take())
        yield bus
        taker.cancel()


def acknowledges(app_id: str, record: Record) -> Handler:
    """A handler that acknowledges everything and keeps a record of it."""

    async def handle(delivery: Delivery) -> None:
        record.delivered(app_id, delivery)
        if await delivery.ack(wait=True):
            record.settled(app_id, delivery.event["id"])

    return handle


async def eventually(check: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Ask again and again, until the answer is yes.

    Raises:
        TimeoutError: it never was.
    """
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 - another process sends us no event
            await asyncio.sleep(POLL_SECONDS)


async def worked_off(bus: Bus, topic: str, seconds: float = 30.0) -> None:
    """Wait until the broker has nothing left for any group of a topic.

    Raises:
        TimeoutError: it still has.
    """

    async def done() -> bool:
        return await backlogs(bus, topic) == 0

    await eventually(done, seconds)


async def backlogs(bus: Bus, topic: str) -> int:
    """Unsettled events, summed over the topic's groups."""
    (status,) = await bus.inspect(topic)
    return sum(group.backlog or 0 for group in status.groups)
