"""Plain HTTP requests to a broker."""

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence

import msgspec

Headers = Sequence[tuple[str, str]]


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


def upgrade() -> list[tuple[str, str]]:
    """The headers of a WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    return [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]


async def raw(url: str, request: bytes) -> bytes:
    """Send bytes; what comes back until the broker closes, or its handshake succeeds."""
    host, port = url.removeprefix("ws://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    got = b""
    async with asyncio.timeout(5):
        while chunk := await reader.read(65536):
            got += chunk
            if got.startswith(b"HTTP/1.1 101"):
                break
    writer.close()
    return got


async def get(url: str, path: str, headers: Headers = (), method: str = "GET") -> Answer:
    """Request a path."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{a}: {b}" for a, b in headers)]
    got = await raw(url, "\r\n".join([*lines, "", ""]).encode())
    head, _, body = got.decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    pairs = [field.split(": ", 1) for field in fields]
    return Answer(int(status.split()[1]), {name.lower(): value for name, value in pairs}, body)
