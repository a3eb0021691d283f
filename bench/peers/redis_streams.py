"""Redis Streams with `appendfsync always`, by `redis-py`: over TCP, since it has no WebSocket."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis

from bench.peers.house import House, free_ports, plain_environment
from bench.peers.peer import Address, Note, Peer, Running, Share
from bench.publisher import Outlet

SERVER: Final = Path("/usr/bin/redis-server")

CONFIG: Final = """
port {port}
bind 127.0.0.1
dir {directory}
appendonly yes
appendfsync always
save ""
"""

CONNECTIONS: Final = 200
"""An XADD occupies its connection until it is answered, and Redis syncs once for what all of them
have sent meanwhile: tried with 500 in flight, 10,300 deliveries/s, and 8,300 with redis-py's 50."""

READ: Final = 500
"""Entries a XREADGROUP."""

BLOCK_MS: Final = 1000

FIELD: Final = b"data"


class Streams(Peer):
    """XADD, XREADGROUP, XACK; a consumer group a group."""

    async def serve(self, house: House) -> Running:
        """Start `redis-server` with nothing but the append-only file."""
        (port,) = free_ports(1)
        config = house.directory("redis") / "redis.conf"
        config.write_text(CONFIG.format(port=port, directory=config.parent))
        server = await house.start("redis-server", [SERVER, config], plain_environment())
        await server.answers(port)
        return Running({"redis": f"redis://127.0.0.1:{port}"}, server.usage)

    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Make the stream and its groups."""
        async with _connected(address, 1) as client:
            for group in groups:
                await client.xgroup_create(topic, group, id="0", mkstream=True)

    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Delete the stream; its groups go with it."""
        async with _connected(address, 1) as client:
            await client.unlink(topic)

    @asynccontextmanager
    async def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AsyncIterator[Outlet]:
        """One XADD an event, over a pool of connections."""
        async with _connected(address, min(CONNECTIONS, in_flight)) as client:

            async def publish(data: bytes) -> None:
                await client.xadd(topic, {FIELD: data})

            yield Outlet(publish)

    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """What one XREADGROUP brings is acknowledged by one XACK an event, in one pipeline."""
        topic, group = share.topic, share.group
        async with _connected(share.address, 1) as client:
            ready()
            while True:
                found = await client.xreadgroup(
                    group, "app", {topic: ">"}, count=READ, block=BLOCK_MS
                )
                for _, entries in found or ():
                    async with client.pipeline(transaction=False) as acks:
                        for entry, fields in entries:
                            note(fields[FIELD])
                            acks.xack(topic, group, entry)
                        await acks.execute()


@asynccontextmanager
async def _connected(address: Address, connections: int) -> AsyncIterator[Any]:
    pool = BlockingConnectionPool.from_url(address["redis"], max_connections=connections)
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()


def open_peer(variant: str) -> Peer:
    """With appendfsync `always`, the one variant."""
    assert variant == "always"
    return Streams()
