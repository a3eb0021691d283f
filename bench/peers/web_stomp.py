"""RabbitMQ Web STOMP: quorum queues again, over WebSocket, by a few lines on `websockets`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.options import BenchError
from bench.peers import rabbitmq_server
from bench.peers.house import House
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.peers.rabbitmq_server import queue_name
from bench.peers.stomp_frames import Frame, decode, encode
from bench.publisher import Outlet


class WebStomp(Peer):
    """A receipt for every event published, an ACK for every one taken, each in its own frame."""

    async def serve(self, house: House) -> Running:
        """Share the house's node."""
        server = await rabbitmq_server.rabbitmq(house)
        return Running({"amqp": server.amqp, "stomp": server.stomp}, server.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """An exchange, and a queue a group."""
        await rabbitmq_server.declare(address["amqp"], topic, groups)

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Delete them."""
        await rabbitmq_server.delete(address["amqp"], topic, groups)

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """RabbitMQ sends the receipt of a SEND when the queues have confirmed it."""
        async with _connected(address) as connection:
            waiting: dict[str, asyncio.Future[None]] = {}
            receiving = asyncio.create_task(_take_receipts(connection, waiting))
            loop, numbers = asyncio.get_running_loop(), count()

            async def publish(data: bytes) -> None:
                receipt = str(next(numbers))
                received = waiting[receipt] = loop.create_future()
                headers = {
                    "destination": f"/exchange/{topic}",
                    "persistent": "true",
                    "receipt": receipt,
                    "content-length": str(len(data)),
                }
                await connection.send(encode("SEND", headers, data))
                await received

            yield Outlet(publish)
            receiving.cancel()

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """`client-individual` acknowledgement, with a prefetch."""
        async with _connected(share.address) as connection:
            headers = {
                "id": "0",
                "destination": f"/amq/queue/{queue_name(share.topic, share.group)}",
                "ack": "client-individual",
                "prefetch-count": str(share.in_flight),
                "receipt": "subscribed",
            }
            await connection.send(encode("SUBSCRIBE", headers))
            async for frame in _frames(connection):
                if frame.command == "MESSAGE":
                    note(frame.body)
                    await connection.send(encode("ACK", {"id": frame.headers["ack"]}))
                else:
                    ready()


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[ClientConnection]:
    connecting = connect(
        address["stomp"], subprotocols=[Subprotocol("v12.stomp")], compression=None, max_size=None
    )
    async with connecting as connection:
        headers = {"accept-version": "1.2", "host": "/", "login": "bench", "passcode": "bench"}
        await connection.send(encode("CONNECT", headers))
        await anext(_frames(connection))
        yield connection


async def _frames(connection: ClientConnection) -> AsyncIterator[Frame]:
    async for message in connection:
        for frame in decode(message if isinstance(message, bytes) else message.encode()):
            if frame.command == "ERROR":
                raise BenchError(f"web stomp: {frame.headers.get('message', frame.body[:200])}")
            yield frame


async def _take_receipts(
    connection: ClientConnection, waiting: dict[str, asyncio.Future[None]]
) -> None:
    async for frame in _frames(connection):
        waiting.pop(frame.headers["receipt-id"]).set_result(None)


def open_peer(variant: str) -> Peer:
    """On `quorum` queues, the one variant."""
    assert variant == "quorum"
    return WebStomp()
