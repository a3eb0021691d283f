"""What the tests of the RabbitMQ store share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel

from actorbus.events import EventEncoder, decode
from actorbus.store import Stored
from transport.stores.rabbitmq.config import Timing, parse
from transport.stores.rabbitmq.feed import Feed
from transport.stores.rabbitmq.store import RabbitStore, wall_clock

T = TypeVar("T")

TEST_SECONDS = 50.0
EVENT_SECONDS = 20.0
ALL_BYTES = 1 << 30

QUICK = Timing(sync_seconds=0)
"""For nodes that no test kills."""

_encoder = EventEncoder("tests")


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine, with a deadline."""
    return asyncio.run(asyncio.wait_for(test, TEST_SECONDS))


async def soon(awaitable: Any) -> Any:
    """The result of something that is to happen shortly."""
    return await asyncio.wait_for(awaitable, EVENT_SECONDS)


def events(*data: Any) -> tuple[bytes, ...]:
    """Canonical events with these data."""
    return tuple(_encoder.encode({"data": value})[1] for value in data)


def data(runs: Sequence[Stored]) -> list[Any]:
    """The data of the events in these runs."""
    return [
        decode(event)["data"]
        for run in runs
        for event in run.batch.events[run.index : run.index + run.count]
    ]


def spans(runs: Sequence[Stored]) -> list[tuple[int, int]]:
    """The runs as (position, count), for settling."""
    return [(run.batch.first + run.index, run.count) for run in runs]


class Listener:
    """Notes what a feed asks for."""

    def __init__(self) -> None:
        self.evicted: list[int] = []
        self.resets = 0
        self.was_evicted = asyncio.Event()
        self.was_reset = asyncio.Event()

    def evict(self, positions: Sequence[int]) -> None:
        self.evicted += positions
        self.was_evicted.set()

    def reset(self) -> None:
        self.resets += 1
        self.was_reset.set()


class Clock:
    """A wall clock that a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


@asynccontextmanager
async def opened(
    url: str, clock: Callable[[], int] = wall_clock, timing: Timing | None = None
) -> AsyncIterator[RabbitStore]:
    """An open store."""
    store = RabbitStore(parse(url), clock, timing or QUICK)
    await store.open(_never)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def operator(url: str) -> AsyncIterator[AbstractChannel]:
    """A channel of somebody else's."""
    connection = await aio_pika.connect(url)
    async with connection:
        yield await connection.channel()


async def healthy(store: RabbitStore) -> bool:
    return store.health() is None


async def take(feed: Feed, count: int) -> list[Stored]:
    """Fetch until `count` events have come."""
    runs: list[Stored] = []
    while sum(run.count for run in runs) < count:
        fetched = await soon(feed.fetch(0, ALL_BYTES))
        runs += fetched.runs
    return runs


async def backlog(channel: AbstractChannel, queue: str) -> int:
    """How many messages wait in a queue."""
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.message_count or 0


async def declared(url: str, queue: str) -> bool:
    """Whether a queue is there."""
    async with operator(url) as channel:
        try:
            await channel.declare_queue(queue, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            return False
        return True


async def holds(channel: AbstractChannel, queue: str, count: int) -> None:
    """Return once so many messages wait in a queue: RabbitMQ takes back closed channels' later."""

    async def condition() -> bool:
        return await backlog(channel, queue) == count

    await reaches(condition)


async def reaches(condition: Callable[[], Any]) -> None:
    """Return once a condition holds that nothing announces."""

    async def poll() -> None:
        while not await condition():  # noqa: ASYNC110 - RabbitMQ announces nothing
            await asyncio.sleep(0.02)

    await soon(poll())


class Proxy:
    """A TCP proxy in front of RabbitMQ, to cut connections with."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing: list[asyncio.Event] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._url.replace(f":{self._target[1]}", f":{port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        for flowing in self._flowing:
            flowing.set()
        self._flowing.clear()

    def mute(self) -> None:
        """Pass nothing on any more, as a dead link would; new connections work."""
        for flowing in self._flowing:
            flowing.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection(*self._target)
        self._writers |= {writer, out}
        flowing = asyncio.Event()
        flowing.set()
        self._flowing.append(flowing)
        try:
            await asyncio.gather(_copy(reader, out, flowing), _copy(there, writer, flowing))
        finally:
            self._writers -= {writer, out}


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
) -> None:
    try:
        while chunk := await reader.read(65536):
            await flowing.wait()
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()  # the other side was cut
    finally:
        writer.close()


def _never(error: BaseException) -> None:
    raise AssertionError(error)
