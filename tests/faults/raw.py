"""Clients without the library: one that shows each answer, and one that never reads."""

import asyncio
import json
import socket
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

SUBPROTOCOL: Final = Subprotocol("actorbus.v1.json")
ANSWER_SECONDS: Final = 15.0


class RawClient:
    """One connection that asks and shows the broker's very answer.

    Args:
        url: the broker's.
        app_id: for its hello.
    """

    def __init__(self, url: str, app_id: str) -> None:
        self._url = url
        self._app_id = app_id
        self._ref = 0
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        self._socket = await connect(self._url, subprotocols=[SUBPROTOCOL], compression=None)
        await self.ask({"type": "hello", "app_id": self._app_id})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._socket is not None
        await self._socket.close()

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Send a frame; the answer to it, whatever comes before."""
        assert self._socket is not None
        self._ref += 1
        await self._socket.send(json.dumps({**frame, "ref": self._ref}))
        while True:
            answer = await self.receive()
            if answer.get("ref") == self._ref:
                return answer

    async def receive(self) -> dict[str, Any]:
        """The next frame."""
        assert self._socket is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            frame: dict[str, Any] = json.loads(await self._socket.recv())
        return frame

    async def publish(self, topic: str, event: dict[str, Any]) -> str:
        """Publish one event: `published`, or the code of the error."""
        answer = await self.ask({"type": "publish", "topic": topic, "events": [event]})
        return str(answer["code"]) if answer["type"] == "error" else "published"


class DeafClient:
    """Subscribes with a large window, and reads nothing from then on.

    Args:
        url: the broker's.
        app_id: for its hello.
        subscribe: its subscribe frame.
        window: `max_in_flight` of its hello.
    """

    def __init__(self, url: str, app_id: str, subscribe: dict[str, Any], window: int) -> None:
        self._protocol = ClientProtocol(parse_uri(url), subprotocols=[SUBPROTOCOL])
        address = urlsplit(url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.connect((address.hostname, address.port))
        self._protocol.send_request(self._protocol.connect())
        self._read_until(lambda event: not isinstance(event, Frame))
        self._send({"type": "hello", "app_id": app_id, "max_in_flight": window})
        self._send({**subscribe, "ref": 1})
        self._read_until(lambda event: isinstance(event, Frame) and b'"subscribed"' in event.data)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self, frame: dict[str, Any]) -> None:
        self._protocol.send_text(json.dumps(frame).encode())
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self._socket.sendall(data)

    def _read_until(self, wanted: Any) -> None:
        self._flush()
        while True:
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionError("the broker has closed the connection")
            self._protocol.receive_data(data)
            events = self._protocol.events_received()
            assert all(
                not isinstance(event, Frame) or event.opcode is Opcode.TEXT for event in events
            )
            if any(map(wanted, events)):
                return
