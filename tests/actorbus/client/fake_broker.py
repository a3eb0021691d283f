"""A broker that says what the test tells it to, over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from actorbus.client.bus import Bus, connect
from actorbus.client.delivery import Delivery
from actorbus.client.subscription import Subscription
from actorbus.codec import CODECS, Codec
from actorbus.limits import FRAME_BYTES

SECONDS = 5.0
LIMITS = {
    "frame_bytes": FRAME_BYTES,
    "event_bytes": FRAME_BYTES // 8,
    "batch_events": 1000,
    "publish_bytes": 16 * 1024 * 1024,
    "name_bytes": 120,
    "groups_per_app": 1000,
    "group_outstanding": 10_000,
}

Frame = dict[str, Any]


class Peer:
    """The broker's end of one connection."""

    def __init__(self, socket: ServerConnection, limits: dict[str, int]) -> None:
        self.socket = socket
        self.limits = limits
        self.hello: Frame = {}
        self.seen: list[Frame] = []
        self._kept: list[Frame] = []
        self._next_id = 100

    @property
    def codec(self) -> Codec:
        return CODECS[str(self.socket.subprotocol)]

    async def send(self, frame: Frame) -> None:
        await self.socket.send(self.codec.encode(frame), text=not self.codec.binary)

    async def receive(self) -> Frame:
        async with asyncio.timeout(SECONDS):
            frame = self.codec.decode(await self.socket.recv(decode=False))
        self.seen.append(frame)
        return frame

    async def expect(self, kind: str) -> Frame:
        """The next frame of a kind; others are kept for later."""
        for frame in self._kept:
            if frame["type"] == kind:
                self._kept.remove(frame)
                return frame
        while True:
            frame = await self.receive()
            if frame["type"] == kind:
                return frame
            self._kept.append(frame)

    async def welcome(self) -> Frame:
        self.hello = await self.expect("hello")
        await self.send(
            {
                "type": "welcome",
                "version": 1,
                "connection": "c1",
                "instance": "i1",
                "max_in_flight": 256,
                "limits": self.limits,
            }
        )
        return self.hello

    async def subscribed(self, **options: Any) -> Frame:
        frame = await self.expect("subscribe")
        await self.send(
            {
                "type": "subscribed",
                "ref": frame["ref"],
                "topic": frame["topic"],
                "options": options,
            }
        )
        return frame

    async def unsubscribed(self) -> Frame:
        frame = await self.expect("unsubscribe")
        await self.send(
            {
                "type": "unsubscribed",
                "ref": frame["ref"],
                "topic": frame["topic"],
                "forget": frame.get("forget", False),
            }
        )
        return frame

    async def published(self, **changes: Any) -> Frame:
        frame = await self.expect("publish")
        ids = [event["id"] for event in frame["events"]]
        await self.send(
            {"type": "published", "ref": frame["ref"], "ids": ids, "groups": 1, **changes}
        )
        return frame

    async def refuse(self, kind: str, code: str, *, retryable: bool = False) -> Frame:
        frame = await self.expect(kind)
        await self.error(frame.get("ref"), code, retryable=retryable)
        return frame

    async def error(self, ref: object, code: str, *, retryable: bool = False) -> None:
        await self.send(
            {
                "type": "error",
                **({} if ref is None else {"ref": ref}),
                "code": code,
                "message": "because",
                "retryable": retryable,
            }
        )

    async def deliver(
        self, topic: str, *data: Any, lease_ms: int = 30_000, attempt: int = 1
    ) -> list[int]:
        """Deliver events with this data; returns the delivery ids."""
        first = self._next_id
        self._next_id += len(data)
        deliveries = [
            {"id": first + n, "attempt": attempt, "event": {"id": f"e{first + n}", "data": value}}
            for n, value in enumerate(data)
        ]
        await self.send(
            {"type": "deliver", "topic": topic, "lease_ms": lease_ms, "deliveries": deliveries}
        )
        return [first + n for n in range(len(data))]

    async def acked(self, *stale: int, answer: bool = True) -> Frame:
        frame = await self.expect("ack")
        if answer and "ref" in frame:
            await self.send({"type": "acked", "ref": frame["ref"], "stale": list(stale)})
        return frame

    async def closed(self) -> None:
        async with asyncio.timeout(SECONDS):
            await self.socket.wait_closed()

    def cut(self) -> None:
        """Break the connection without a closing handshake."""
        self.socket.transport.abort()


class FakeBroker:
    """Accepts connections; each is handed to the test by `peer` or `greeted`."""

    def __init__(self) -> None:
        self.limits = dict(LIMITS)
        self.url = ""
        self._peers: asyncio.Queue[Peer] = asyncio.Queue()
        self._server: Server | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await serve(
            self._accept,
            "127.0.0.1",
            self._port,
            subprotocols=[Subprotocol(name) for name in CODECS],
            compression=None,
            max_size=FRAME_BYTES,
            close_timeout=0.2,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{self._port}/v1"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close(close_connections=True)
            await self._server.wait_closed()
            self._server = None

    async def peer(self) -> Peer:
        async with asyncio.timeout(SECONDS):
            return await self._peers.get()

    async def greeted(self) -> Peer:
        peer = await self.peer()
        await peer.welcome()
        return peer

    async def _accept(self, socket: ServerConnection) -> None:
        await self._peers.put(Peer(socket, self.limits))
        await socket.wait_closed()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run one test on a loop that reports forgotten awaits and slow callbacks' tracebacks."""

    async def within() -> None:
        async with asyncio.timeout(4 * SECONDS):
            await test

    asyncio.run(within(), debug=True)


@asynccontextmanager
async def connected(broker: FakeBroker, **options: Any) -> AsyncIterator[tuple[Bus, Peer]]:
    """A bus that has said hello, and the broker's end of its connection."""
    bus = connect(broker.url, app_id="app", **{"close_timeout": 0.3, **options})
    greeting = asyncio.ensure_future(broker.greeted())
    async with bus:
        yield bus, await greeting


async def subscribed(
    bus: Bus, peer: Peer, in_force: dict[str, Any] | None = None, **options: Any
) -> Subscription:
    """A subscription to "t" that the broker has answered."""
    subscription = bus.subscribe("t", **options)
    entering = asyncio.ensure_future(subscription.__aenter__())
    await peer.subscribed(**(in_force or {}))
    return await entering


async def take(subscription: Subscription, count: int) -> list[Delivery]:
    """The next deliveries."""
    async with asyncio.timeout(SECONDS):
        return [await anext(subscription) for _ in range(count)]


async def turns(count: int = 5) -> None:
    """Let the loop run what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that happens on this loop and tells nobody."""
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
