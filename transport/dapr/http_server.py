"""The HTTP server: uvicorn with limits on how long and how slow a request may be."""

import asyncio
import logging
import socket
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actorbus.errors import ActorbusError

HEAD_BYTES: Final = 64 * 1024
"""Longest request line and headers: Dapr's server takes 1 MiB, most others 8 to 64 KiB."""

REQUEST_BYTES: Final = 16 * 1024 * 1024
"""Longest request in all. What is over the limit of bodies is answered, and read and dropped up to
here: a connection that ends with unread bytes would reset, and lose the answer."""

REQUEST_SECONDS: Final = 60.0
"""How long a request may take to arrive: the longest body at 70 KB/s."""

KEEP_ALIVE_SECONDS: Final = 600
"""How long a connection may be idle. SDKs keep theirs and don't expect them to be closed."""

CONNECTIONS: Final = 10_000
"""Connections at once; more are answered with 503."""

STOP_SECONDS: Final = 2
"""What requests under way may take at a stop."""


class AddressError(ActorbusError):
    """The address to listen on can't be had."""


class HttpServer:
    """One listening socket with an ASGI app behind it."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            limit_concurrency=CONNECTIONS,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._loop: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port.

        Raises:
            AddressError: the address can't be had.
        """
        listener = await bind(host, port)
        await self._server.startup(sockets=[listener])
        self._loop = asyncio.create_task(self._server.main_loop())
        bound: int = listener.getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Take no more connections; requests under way are answered. Bounded."""
        if self._loop is None:
            return
        self._server.should_exit = True
        await self._loop
        self._loop = None
        await self._server.shutdown()


async def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; where a name has several addresses, on its first of IPv4.

    Raises:
        AddressError: the address can't be had.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server(address, family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA can't encode
        reason = getattr(error, "strerror", None) or error
        raise AddressError(
            f"can't listen on {host}:{port}: {reason}; choose another port"
        ) from None


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which has no limits of its own on what comes before the app's turn."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._whole: object = self  # the scope of the last request that has arrived
        self._arriving: object = None  # the scope of the one that is counted
        self._received = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request (uvicorn narrows the type, too)."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then look whether the request is whole, which it mostly is."""
        whole = self._whole
        super().data_received(data)
        scope = self.scope
        if scope is self._whole:
            if self._deadline is not None:
                self._arrived()
            return
        if scope is self._arriving:
            self._received += len(data)
        else:  # it begins in these data, at their start unless they end another
            self._arriving = scope
            self._received = len(data) if whole is self._whole else 0
        in_head = self.cycle is None or self.cycle.scope is not scope
        if self._received > (HEAD_BYTES if in_head else REQUEST_BYTES):
            self._refuse(b"431 Request Header Fields Too Large" if in_head else None)
        elif self._deadline is None:
            self._expect()

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._whole = self.scope
        super().on_message_complete()

    def _expect(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._late)

    def _arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.flow.read_paused:  # it is we who don't read
            self._expect()
        else:
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes | None) -> None:
        """End the connection, with an answer if none is under way."""
        if self.transport.is_closing():
            return
        if status is not None and (self.cycle is None or not self.cycle.response_started):
            head = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(head % status)
        self.transport.close()
