"""A broker, an app with routes, and the part of a sidecar that pushes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import msgspec
import structlog
import uvloop
from starlette.types import Receive, Scope, Send

import actorbus
from transport.broker import Broker, Config
from transport.dapr.door import Door
from transport.dapr.http_server import HttpServer
from transport.dapr.resources.load import Resources
from transport.dapr.sidecar.config import SidecarConfig
from transport.dapr.sidecar.subscriber import Subscriber

DEADLINE: Final = 10.0
"""Seconds that any one thing may take to come."""

SCRIPT_DEADLINE: Final = 40.0
"""Seconds that a whole test may take."""

WINDOW_OF_NONE: Final = 0.2
"""Seconds in which something that must not come would have come."""


class Call(msgspec.Struct, frozen=True):
    """A request that the app got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The data of a CloudEvent."""
        return self.json["data"]


Reply = tuple[int, Any]
Handler = Callable[[Call], Awaitable[Reply] | Reply]


class WebApp:
    """An app that speaks HTTP.

    Attributes:
        calls: what it got, except for the question what it subscribes to.
        handler: what it answers.
        most: how many calls it had at a time at the most.
    """

    def __init__(self, subscriptions: Any, handler: Handler) -> None:
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        self.asked: list[Call] = []
        self.handler = handler
        self.most = 0
        self._now = 0
        self._subscriptions = subscriptions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        call = Call(scope["method"], scope["raw_path"].decode(), headers, body)
        status, value = await self._answer(call)
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        length = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": length})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, call: Call) -> Reply:
        if call.path == "/dapr/subscribe":
            self.asked.append(call)
            found = self._subscriptions
            return found if isinstance(found, tuple) else (200, found)
        self.calls.put_nowait(call)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            reply = self.handler(call)
            return await reply if isinstance(reply, Awaitable) else reply
        finally:
            self._now -= 1

    async def call(self) -> Call:
        async with asyncio.timeout(DEADLINE):
            return await self.calls.get()

    async def idle(self) -> None:
        """Nothing more comes."""
        await asyncio.sleep(WINDOW_OF_NONE)
        assert self.calls.empty(), self.calls.get_nowait()


class Stage:
    """Everything of one test."""

    def __init__(self, broker_url: str, stack: AsyncExitStack) -> None:
        self.broker_url = broker_url
        self.stack = stack
        self.door: Door
        self._server: HttpServer | None = None

    async def app(self, subscriptions: Any, handler: Handler | None = None) -> WebApp:
        """An app that answers with an empty body unless told otherwise."""
        app = WebApp(subscriptions, handler or (lambda _: (200, b"")))
        self.port = await self.listen(app)
        self.stack.push_async_callback(self.unlisten)
        return app

    async def listen(self, app: WebApp, port: int = 0) -> int:
        self._server = HttpServer(app)
        return await self._server.start("127.0.0.1", port)

    async def unlisten(self) -> None:
        """The app ends."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()

    async def sidecar(self, resources: Resources | None = None, **fields: Any) -> Subscriber:
        """The sidecar of the app, which has subscribed."""
        config = SidecarConfig(
            url=self.broker_url, app_id="shop", **{"app_port": self.port, **fields}
        )
        door = config.door({"pubsub": self.broker_url})
        self.door = Door(msgspec.structs.replace(door, http_port=None, grpc_port=None))
        await self.door.start()
        self.stack.push_async_callback(self.door.stop)
        subscriber = Subscriber(config, self.port, self.door, resources or Resources())
        self.stack.push_async_callback(subscriber.close)
        self.count = await subscriber.start()
        return subscriber

    async def bus(self, app_id: str = "till", **options: Any) -> actorbus.Bus:
        """A WebSocket app."""
        bus = actorbus.connect(self.broker_url, app_id=app_id, **options)
        return await self.stack.enter_async_context(bus)

    async def publish(self, *data: Any, topic: str = "orders") -> None:
        bus = await self.bus()
        await bus.publish_many(topic, list(data))

    async def settled(self, topic: str = "orders", app_id: str = "shop") -> Any:
        """The group's state once nothing of it is unsettled."""
        bus = await self.bus()
        async with asyncio.timeout(DEADLINE):
            while True:
                (status,) = await bus.inspect(topic)
                group = next(one for one in status.groups if one.app_id == app_id)
                if not group.backlog and not group.in_flight:
                    return group
                await asyncio.sleep(0.01)


Script = Callable[[Stage], Awaitable[None]]


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    broker = Broker(Config(port=0, store="memory:", grace_seconds=0.0))
    url = await broker.start()
    stack = AsyncExitStack()
    try:
        async with stack:
            yield Stage(url, stack)
    finally:
        await broker.stop()


def play(script: Script, *, errors: int = 0) -> list[Any]:
    """Run a script against a broker of its own; the log. So many errors may be logged."""

    async def run() -> None:
        async with asyncio.timeout(SCRIPT_DEADLINE), staged() as stage:
            await script(stage)

    with structlog.testing.capture_logs() as entries:
        uvloop.run(run())
    failures = [one for one in entries if one["log_level"] == "error" or "exc_info" in one]
    assert len(failures) == errors, failures
    return list(entries)
