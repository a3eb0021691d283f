"""A broker with a Dapr door, and plain HTTP to it: no client library mends what is wrong."""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
import pytest
import structlog
import uvloop

import actorbus
from actorbus import Delivery, Subscription
from tests.protocol.harness import tracebacks
from transport.auth import Tokens
from transport.broker import Broker, Config
from transport.dapr.config import DoorConfig
from transport.dapr.door import Door
from transport.doorway import loopback

DEADLINE: Final = 10.0
"""Seconds that any one answer or delivery may take."""

SCRIPT_DEADLINE: Final = 30.0
"""Seconds that a whole test may take."""

APP: Final = "shop"
"""Whose calls they are, unless tokens say it."""


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The `errorCode`."""
        code: str = self.json()["errorCode"]
        return code

    def detail(self, kind: str) -> dict[str, Any]:
        """The one detail of a kind, such as ErrorInfo."""
        name = f"type.googleapis.com/google.rpc.{kind}"
        (found,) = [one for one in self.json()["details"] if one["@type"] == name]
        assert isinstance(found, dict)
        return found


class Reader:
    """An app on WebSocket that is subscribed to a topic."""

    def __init__(self, deliveries: Subscription) -> None:
        self._deliveries = deliveries

    async def delivery(self) -> Delivery:
        """The next one, acknowledged."""
        async with asyncio.timeout(DEADLINE):
            delivery = await anext(self._deliveries)
        await delivery.ack()
        return delivery

    async def event(self) -> dict[str, Any]:
        return (await self.delivery()).event


class House:
    """A broker, its door, and who comes to it."""

    def __init__(
        self, broker: Broker, door: Door, url: str, port: int, stack: AsyncExitStack
    ) -> None:
        self.broker = broker
        self.door = door
        self.url = url
        self.port = port
        self._stack = stack

    async def reader(
        self, topic: str = "orders", *, app_id: str = "reader", token: str | None = None
    ) -> Reader:
        bus = await self._stack.enter_async_context(
            actorbus.connect(self.url, app_id=app_id, token=token)
        )
        return Reader(await self._stack.enter_async_context(bus.subscribe(topic)))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection for bytes by hand."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._stack.callback(writer.close)
        return reader, writer

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own; `content_type` means Content-Type."""
        reader, writer = await self.connect()
        data = body.encode() if isinstance(body, str) else body
        lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        with contextlib.suppress(ConnectionError):  # the answer may come before the body is out
            await writer.drain()
        answer = await read_answer(reader)
        writer.close()
        return answer

    async def post(self, path: str, body: bytes | str = b"", **headers: str) -> Answer:
        return await self.ask("POST", path, body, **headers)

    async def publish(self, body: bytes | str, query: str = "", **headers: str) -> None:
        """Publish to `orders`, successfully."""
        answer = await self.post(f"/v1.0/publish/pubsub/orders{query}", body, **headers)
        assert (answer.status, answer.body) == (204, b"")


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """The next answer on a connection."""
    async with asyncio.timeout(DEADLINE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *fields = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (f.split(": ", 1) for f in fields)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(status.split()[1]), headers, body)


Script = Callable[[House], Awaitable[None]]


def tokens_of(**apps: str) -> Tokens:
    """Tokens, each given in plain with its app ID."""
    return Tokens({hashlib.sha256(token.encode()).hexdigest(): app for token, app in apps.items()})


class DoorPlayer:
    """Runs scripts, and sees to it that the log has no traceback.

    Args:
        caplog: pytest's.
        within: the door publishes within the broker's process, as that of `serve`.
    """

    def __init__(self, caplog: pytest.LogCaptureFixture, *, within: bool) -> None:
        self._caplog = caplog
        self.within = within

    def __call__(
        self, script: Script, *, tokens: Tokens | None = None, **settings: Any
    ) -> list[dict[str, Any]]:
        """Run a script against a house of its own; the log.

        Args:
            script: what happens.
            tokens: ask for them, at both doors.
            settings: fields of DoorConfig.
        """
        with self._caplog.at_level(logging.WARNING), structlog.testing.capture_logs() as entries:
            uvloop.run(_run(script, tokens, settings, within=self.within))  # as `serve` does
        found = tracebacks(entries, self._caplog)
        assert not found, found
        return [dict(entry) for entry in entries]


async def _run(
    script: Script, tokens: Tokens | None, settings: Mapping[str, Any], *, within: bool
) -> None:
    specversion = settings.get("specversion", "0.3")
    broker = Broker(Config(port=0, store="memory:", specversion=specversion, grace_seconds=0))
    broker.tokens = tokens
    url = await broker.start()
    fields = {
        "components": {"pubsub": loopback(url)},
        "http_port": 0,
        "app_id": APP if tokens is None else None,
        "tokens": tokens,
        "broker_token": None if tokens is None else tokens.trust(),
        **settings,
    }
    door = Door(DoorConfig(**fields), broker.health, broker.open_bus if within else None)
    try:
        port, _ = await door.start()
        async with asyncio.timeout(SCRIPT_DEADLINE), AsyncExitStack() as stack:
            await script(House(broker, door, url, port or 0, stack))
    finally:
        await door.stop()
        await broker.stop()
