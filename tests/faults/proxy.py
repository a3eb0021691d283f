"""A TCP proxy that does to connections what networks do: delay, reset, half-close, cut short."""

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

CHUNK: Final = 64 * 1024
END_SECONDS: Final = 10.0
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""

Direction = Literal["to broker", "to client"]


class Proxy:
    """Stands between clients and one broker.

    Args:
        url: of the broker.

    Attributes:
        url: where clients connect to.
        accepted: connections so far.
        ended: connections that have ended.
        delay: seconds that every chunk is held back, either way.
        on_end: called when a connection has ended.
    """

    def __init__(self, url: str) -> None:
        self.url = ""
        self.accepted = 0
        self.ended = 0
        self.delay = 0.0
        self.on_end: Callable[[], None] = lambda: None
        self._broker = urlsplit(url)
        self._cuts: dict[Direction, int] = {}
        self._pipes: set[_Pipe] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{port}{self._broker.path}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await self._server.wait_closed()

    def reset(self) -> None:
        """End every connection with RST on both sides."""
        for pipe in [*self._pipes]:
            pipe.reset()

    def half_close(self, direction: Direction) -> None:
        """Send FIN in one direction of every connection; the other way goes on."""
        for pipe in self._pipes:
            pipe.half_close(direction)

    def cut(self, direction: Direction, after: int) -> None:
        """Reset the connection that passes so many more bytes in this direction, right there."""
        self._cuts[direction] = after

    async def until_ended(self, count: int) -> None:
        """Wait until so many connections have ended."""
        async with asyncio.timeout(END_SECONDS):
            while self.ended < count:
                self._changed.clear()
                await self._changed.wait()

    def passed(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What may go on of `data`, and whether the connection ends there."""
        left = self._cuts.get(direction)
        if left is not None and len(data) > left:
            del self._cuts[direction]
            return data[:left], True
        if left is not None:
            self._cuts[direction] = left - len(data)
        return data, False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            broker = await asyncio.open_connection(self._broker.hostname, self._broker.port)
        except OSError:
            _reset(writer)  # as if nobody listened here
            return
        pipe = _Pipe(self, (reader, writer), broker)
        self._pipes.add(pipe)
        try:
            await pipe.run()
        finally:
            self._pipes.discard(pipe)
            self.ended += 1
            self.on_end()
            self._changed.set()


class _Pipe:
    """One client's connection and the one to the broker behind it."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._readers = {"to broker": client[0], "to client": broker[0]}
        self._writers = {"to broker": broker[1], "to client": client[1]}
        self._shut: set[str] = set()

    async def run(self) -> None:
        """Pass bytes on both ways until both have ended."""
        await asyncio.gather(self._pump("to broker"), self._pump("to client"))
        for writer in self._writers.values():
            writer.close()

    def reset(self) -> None:
        for writer in self._writers.values():
            _reset(writer)

    def half_close(self, direction: Direction) -> None:
        self._shut.add(direction)
        self._writers[direction].write_eof()

    async def _pump(self, direction: Direction) -> None:
        reader, writer = self._readers[direction], self._writers[direction]
        try:
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self._proxy.delay)
                if direction in self._shut:
                    continue
                data, ends = self._proxy.passed(direction, data)
                writer.write(data)
                await writer.drain()
                if ends:
                    await self._sent(writer)
                    self.reset()
            if direction not in self._shut and not writer.transport.is_closing():
                writer.write_eof()
        except OSError:
            self.reset()  # one side is gone: so is the other

    async def _sent(self, writer: asyncio.StreamWriter) -> None:
        """Wait until the bytes before a cut have left, so that they do arrive."""
        writer.transport.set_write_buffer_limits(0)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and not writer.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
