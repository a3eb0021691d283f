"""The relay's server: `python -m bench.peers.relay_server PORT`."""

import asyncio
import sys
from collections import defaultdict

from websockets.asyncio.server import ServerConnection, serve

from bench.app import run
from bench.peers.relay import ANSWER


class Topics:
    """Who is connected to what."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[str, set[ServerConnection]] = defaultdict(set)

    async def handle(self, connection: ServerConnection) -> None:
        """One connection, from `/publish/TOPIC` or `/subscribe/TOPIC`."""
        assert connection.request is not None
        _, role, topic = connection.request.path.split("/")
        if role == "publish":
            await self._relay(connection, self._subscribers[topic])
        else:
            await self._join(connection, self._subscribers[topic])

    async def _relay(
        self, connection: ServerConnection, subscribers: set[ServerConnection]
    ) -> None:
        async for frame in connection:
            for subscriber in subscribers:
                await subscriber.send(frame)
            await connection.send(ANSWER)

    async def _join(self, connection: ServerConnection, subscribers: set[ServerConnection]) -> None:
        subscribers.add(connection)
        try:
            await connection.send(ANSWER)
            async for _ in connection:
                pass  # acknowledgements
        finally:
            subscribers.discard(connection)


async def main(port: int) -> None:
    """Serve until the process is ended."""
    async with serve(Topics().handle, "127.0.0.1", port, compression=None, max_size=None):
        await asyncio.Event().wait()


if __name__ == "__main__":
    run(main(int(sys.argv[1])))
