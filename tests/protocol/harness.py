"""A broker on a free port, and peers that speak the protocol by hand.

The peers use neither the project's codec nor its client, so that what both got wrong alike shows.
"""

import asyncio
import base64
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Literal

import msgpack
import pytest
import structlog
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.blocking import no_blocking
from transport.broker import Broker, Config

Frame = dict[str, Any]
Encoding = Literal["msgpack", "json"]
Script = Callable[["Stage"], Awaitable[None]]

DEADLINE: Final = 5.0
"""Seconds that any one frame may take to come."""

SCRIPT_DEADLINE: Final = 20.0
"""Seconds that a whole test may take."""

WINDOW_OF_NONE: Final = 0.05
"""Seconds in which something that must not come would have come (after an answer that proves that
the broker had the occasion)."""


class Peer:
    """One connection of an app."""

    def __init__(self, socket: ClientConnection, encoding: Encoding) -> None:
        self.socket = socket
        self.encoding = encoding
        self._waiting: deque[Frame] = deque()
        self._deliveries: deque[Frame] = deque()
        self._refs = 0

    # --- sending ------------------------------------------------------------------------------

    def encode(self, frame: Any) -> bytes | str:
        if self.encoding == "json":
            return json.dumps(frame)
        packed: bytes = msgpack.packb(frame)
        return packed

    def decode(self, message: bytes | str) -> Frame:
        if self.encoding == "json":
            assert isinstance(message, str)
            frame = json.loads(message)
        else:
            assert isinstance(message, bytes)
            frame = msgpack.unpackb(message)
        assert isinstance(frame, dict)
        return frame

    async def raw(self, message: bytes | str) -> None:
        """Send a message as it is."""
        await self.socket.send(message)

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a frame."""
        await self.raw(self.encode({"type": kind, **fields}))

    async def ask(self, kind: str, **fields: Any) -> Frame:
        """Send a frame with a fresh ref; its answer, whatever it is."""
        self._refs += 1
        ref = f"r{self._refs}"
        await self.send(kind, ref=ref, **fields)
        return await self.answer(ref)

    async def hello(self, app_id: str, **fields: Any) -> Frame:
        welcome = await self.ask("hello", app_id=app_id, **fields)
        assert welcome["type"] == "welcome", welcome
        return welcome

    async def subscribe(self, topic: str, **options: Any) -> Frame:
        answer = await self.ask("subscribe", topic=topic, options=options)
        assert answer["type"] == "subscribed", answer
        return answer

    async def publish(self, topic: str, *data: Any, **fields: Any) -> list[str]:
        """Publish an event for each of `data`; their ids."""
        events = [{"data": one} for one in data]
        answer = await self.ask("publish", topic=topic, events=events, **fields)
        assert answer["type"] == "published", answer
        assert "errors" not in answer, answer
        ids: list[str] = answer["ids"]
        return ids

    async def ack(self, *deliveries: Frame, **fields: Any) -> list[int]:
        """Settle; the stale ids."""
        answer = await self.ask("ack", ids=[one["id"] for one in deliveries], **fields)
        assert answer["type"] == "acked", answer
        stale: list[int] = answer["stale"]
        return stale

    async def stats(self, topic: str, app_id: str) -> Frame:
        """What `inspect` says of a group; empty if there is none."""
        answer = await self.ask("inspect", topic=topic)
        groups = [group for one in answer["topics"] for group in one["groups"]]
        return next((group for group in groups if group["app_id"] == app_id), {})

    # --- receiving ----------------------------------------------------------------------------

    async def _read(self, deadline: float = DEADLINE) -> None:
        async with asyncio.timeout(deadline):
            frame = self.decode(await self.socket.recv())
        if frame["type"] == "deliver":
            common = {"topic": frame["topic"], "lease_ms": frame["lease_ms"]}
            self._deliveries += [{**one, **common} for one in frame["deliveries"]]
        else:
            self._waiting.append(frame)

    async def expect(self, kind: str, **fields: Any) -> Frame:
        """The next frame of this type, with these fields at least; other frames wait."""

        def matches(frame: Frame) -> bool:
            found = {name: frame.get(name) for name in fields}
            return frame["type"] == kind and found == fields

        return await self._next(matches)

    async def answer(self, ref: str | int) -> Frame:
        return await self._next(lambda frame: frame.get("ref") == ref)

    async def error(self, code: str | None = None) -> Frame:
        """The next error without a ref."""
        found = await self._next(lambda frame: frame["type"] == "error" and "ref" not in frame)
        assert code is None or found["code"] == code, found
        return found

    async def _next(self, matches: Callable[[Frame], bool]) -> Frame:
        while True:
            for frame in self._waiting:
                if matches(frame):
                    self._waiting.remove(frame)
                    return frame
            await self._read()

    async def deliveries(self, count: int) -> list[Frame]:
        """The next `count` deliveries, each with its frame's `topic` and `lease_ms`."""
        while len(self._deliveries) < count:
            await self._read()
        return [self._deliveries.popleft() for _ in range(count)]

    async def delivery(self) -> Frame:
        (one,) = await self.deliveries(1)
        return one

    async def until_stats(self, topic: str, app_id: str, **wanted: Any) -> None:
        """Ask until `inspect` says so of a group."""
        async with asyncio.timeout(DEADLINE):
            while wanted.items() - (await self.stats(topic, app_id)).items():
                pass

    async def no_delivery(self) -> None:
        """Assert that nothing is delivered: not before an answer, nor shortly after."""
        await self.ask("inspect", topic="nothing")
        try:
            while not self._deliveries:
                await self._read(WINDOW_OF_NONE)
        except TimeoutError:
            return
        raise AssertionError(list(self._deliveries))

    async def closed(self) -> int | None:
        """Read to the end; the close code."""
        try:
            while True:
                await self._read()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd is not None else None

    async def close(self) -> None:
        await self.socket.close()

    def abort(self) -> None:
        """Go without a word."""
        self.socket.transport.abort()

    # --- binary data as this encoding carries it ----------------------------------------------

    def binary_event(self, data: bytes) -> Frame:
        if self.encoding == "json":
            return {"data_base64": base64.b64encode(data).decode()}
        return {"data": data}

    def binary_of(self, event: Mapping[str, Any]) -> bytes:
        if self.encoding == "msgpack":
            assert isinstance(event["data"], bytes)
            return event["data"]
        if event["specversion"] == "1.0":
            return base64.b64decode(event["data_base64"])
        assert event["datacontentencoding"] == "base64"
        return base64.b64decode(event["data"])


class Stage:
    """A running broker and the peers of one test."""

    def __init__(self, broker: Broker, url: str, encoding: Encoding, stack: AsyncExitStack) -> None:
        self.broker = broker
        self.url = url
        self.encoding = encoding
        self._stack = stack

    async def open(
        self,
        *,
        encoding: Encoding | None = None,
        subprotocols: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Peer:
        """A connection that has not said hello."""
        encoding = encoding or self.encoding
        offered = [f"actorbus.v1.{encoding}"] if subprotocols is None else subprotocols
        socket = await self._stack.enter_async_context(
            connect(
                self.url,
                subprotocols=[Subprotocol(name) for name in offered] or None,
                compression=None,
                max_size=None,
                close_timeout=0.5,
                **kwargs,
            )
        )
        return Peer(socket, encoding)

    async def app(self, app_id: str, *, encoding: Encoding | None = None, **hello: Any) -> Peer:
        """A connection that has said hello."""
        peer = await self.open(encoding=encoding)
        await peer.hello(app_id, **hello)
        return peer

    async def works(self, *, app_id: str = "proof", topic: str = "proof") -> None:
        """Prove that the broker and a group still work."""
        peer = await self.app(app_id)
        await peer.subscribe(topic)
        (published,) = await peer.publish(topic, "alive")
        while (delivery := await peer.delivery())["event"]["id"] != published:
            await peer.ack(delivery)
        assert delivery["event"]["data"] == "alive"
        assert await peer.ack(delivery) == []
        await peer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something inside the broker."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - any condition, in a test
                await asyncio.sleep(0.002)


def play(
    script: Script,
    config: Config,
    encoding: Encoding,
) -> list[MutableMapping[str, Any]]:
    """Run a script against a broker of its own; the broker's log."""

    async def run() -> None:
        broker = Broker(config)
        url = await broker.start()
        with no_blocking():
            try:
                async with asyncio.timeout(SCRIPT_DEADLINE), AsyncExitStack() as stack:
                    await script(Stage(broker, url, encoding, stack))
            finally:
                await broker.stop()

    with structlog.testing.capture_logs() as entries:
        uvloop.run(run())  # as `serve` does
    return entries


class Player:
    """Runs scripts, and sees to it that the log has no traceback."""

    def __init__(self, encoding: Encoding, store: str, caplog: pytest.LogCaptureFixture) -> None:
        self.encoding = encoding
        self.store = store
        self._caplog = caplog

    def __call__(self, script: Script, **config: Any) -> list[MutableMapping[str, Any]]:
        """Run a script; the broker's log, which holds no failure of the broker's own."""
        entries = self._play(script, config)
        found = tracebacks(entries, self._caplog)
        assert not found, found
        return entries

    def failing(self, script: Script, event: str) -> None:
        """Run a script in which the broker fails once: its log has this event as its one error."""
        found = tracebacks(self._play(script, {}), self._caplog)
        assert [entry["event"] for entry in found if isinstance(entry, dict)] == [event]
        assert len(found) == 1

    def _play(self, script: Script, config: Mapping[str, Any]) -> list[MutableMapping[str, Any]]:
        settings = {"port": 0, "store": self.store, "grace_seconds": 0.0, **config}
        with self._caplog.at_level(logging.WARNING):
            return play(script, Config(**settings), self.encoding)


def tracebacks(
    entries: Sequence[Mapping[str, Any]], caplog: pytest.LogCaptureFixture
) -> list[object]:
    """What in a log is an error or carries an exception."""
    found: list[object] = [
        entry for entry in entries if "exc_info" in entry or entry["log_level"] == "error"
    ]
    return found + [record.getMessage() for record in caplog.records]
