"""NATS JetStream over WebSocket, by `nats-py`: a stream on disk, a durable consumer a group."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StorageType

from bench.peers.house import House, free_ports
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.publisher import Outlet

SERVER: Final = Path(sys.executable).with_name("nats-server")

CONFIG: Final = """
listen: "127.0.0.1:{port}"
websocket {{ listen: "127.0.0.1:{ws_port}", no_tls: true, compression: false }}
jetstream {{ store_dir: "{directory}"{sync} }}
"""

SYNC_ALWAYS: Final = ", sync_interval: always"
"""Every message is synced before it is answered; by default that happens every two minutes."""

PENDING_BYTES: Final = 256 * 1024 * 1024
"""What the client may buffer in each direction: the default of 2 MiB refuses to publish 50 events
of 64 KiB at once."""


class Jetstream(Peer):
    """One stream a topic, file storage.

    Args:
        always: sync every message.
    """

    def __init__(self, *, always: bool) -> None:
        self._always = always

    async def serve(self, house: House) -> Running:
        """Start `nats-server`."""
        port, ws_port = free_ports(2)
        directory = house.directory("nats")
        config = directory / "nats.conf"
        sync = SYNC_ALWAYS if self._always else ""
        config.write_text(
            CONFIG.format(port=port, ws_port=ws_port, directory=directory / "js", sync=sync)
        )
        server = await house.start("nats-server", [SERVER, "-c", config])
        await server.answers(ws_port)
        return Running({"ws": f"ws://127.0.0.1:{ws_port}"}, server.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Make the stream; subscribing makes the consumers."""
        async with _connected(address) as client:
            stream = client.jetstream()
            await stream.add_stream(name=_stream(topic), subjects=[topic], storage=StorageType.FILE)

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Delete the stream; its consumers go with it."""
        async with _connected(address) as client:
            await client.jetstream().delete_stream(_stream(topic))

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """`publish_async`, then its future: by a sixth faster than `publish` when tried."""
        async with _connected(address) as client:
            stream = client.jetstream(publish_async_max_pending=in_flight + 1)

            async def publish(data: bytes) -> None:
                await (await stream.publish_async(topic, data))

            yield Outlet(publish)

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """A push consumer: about twice as fast as fetching batches of 500 when tried."""
        async with _connected(share.address) as client:
            config = ConsumerConfig(
                durable_name=share.group,
                ack_policy=AckPolicy.EXPLICIT,
                max_ack_pending=share.in_flight,
                deliver_policy=DeliverPolicy.ALL,
            )
            subscription = await client.jetstream().subscribe(
                share.topic,
                durable=share.group,
                config=config,
                manual_ack=True,
                pending_bytes_limit=PENDING_BYTES,
            )
            ready()
            async for message in subscription.messages:
                note(message.data)
                await message.ack()


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[Any]:
    client = await nats.connect(address["ws"], pending_size=PENDING_BYTES)
    try:
        yield client
    finally:
        await asyncio.shield(client.close())


def _stream(topic: str) -> str:
    return topic.replace(".", "-")  # a dot would make it part of a subject


def open_peer(variant: str) -> Peer:
    """With the default `sync_interval`, or `always`."""
    return Jetstream(always=variant == "always")
