"""The floor: a bare `websockets` relay without state or storage (`relay_server`).

The relay passes every frame on and answers it; what subscribers acknowledge, it reads and forgets.
Nothing is looked into, kept or promised: no broker over this library can be faster at such frames.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Final

import msgpack
from websockets.asyncio.client import ClientConnection, connect

from bench.peers.house import House, free_ports
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.publisher import Outlet

ANSWER: Final = b"+"
"""What a publisher gets for each of its frames."""


class Relay(Peer):
    """One event a frame, or many: `publish_many` puts all of a call in one frame."""

    def __init__(self, *, many: bool) -> None:
        self._many = many

    async def serve(self, house: House) -> Running:
        """Start the relay."""
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "bench.peers.relay_server", str(port)]
        server = await house.start("the relay", command)
        await server.answers(port)
        return Running({"ws": f"ws://127.0.0.1:{port}"}, server.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Nothing: a topic is who is connected to it."""

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Nothing is kept."""

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """Frames are answered in their order, so a queue of futures is all there is to know."""
        async with _connected(f"{address['ws']}/publish/{topic}") as connection:
            waiting: deque[asyncio.Future[None]] = deque()
            answering = asyncio.create_task(_answer(connection, waiting))
            loop = asyncio.get_running_loop()

            async def publish(frame: bytes) -> None:
                answered = loop.create_future()
                waiting.append(answered)
                await connection.send(frame)
                await answered

            async def publish_many(data: list[bytes]) -> None:
                await publish(msgpack.packb(data))

            yield Outlet(publish, publish_many)
            answering.cancel()

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """Every event has a number to be acknowledged by; those of a frame go back in one."""
        async with _connected(f"{share.address['ws']}/subscribe/{share.topic}") as connection:
            await connection.recv()  # the relay knows this subscriber now
            ready()
            numbers = count()
            async for frame in connection:
                assert isinstance(frame, bytes)
                acknowledged: list[int] = []
                for data in msgpack.unpackb(frame) if self._many else [frame]:
                    note(data)
                    acknowledged.append(next(numbers))
                await connection.send(msgpack.packb(acknowledged))


def _connected(url: str) -> AbstractAsyncContextManager[ClientConnection]:
    return connect(url, compression=None, max_size=None)


async def _answer(connection: ClientConnection, waiting: deque[asyncio.Future[None]]) -> None:
    async for _ in connection:
        waiting.popleft().set_result(None)


def open_peer(variant: str) -> Peer:
    """`single` or `many` events a frame."""
    return Relay(many=variant == "many")
