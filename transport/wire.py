"""The sending side of one WebSocket connection, bounded in bytes and in time."""

import asyncio
import contextlib
import fcntl
import socket as sockets
import struct
import termios
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from actorbus.codec import Codec
from actorbus.direct_connection import DirectServerConnection
from actorbus.limits import OUTBOX_BYTES, SEND_MS
from transport.patience import Look, Patience

log = structlog.get_logger("actorbus.transport")

QUEUE_BYTES = 16 * OUTBOX_BYTES
"""Unsent bytes at which a connection is cut off at once: answers alone never come to this."""

KERNEL_BYTES: Final = 128 * 1024
"""Bytes beyond the client's window that the system takes of us: without a bound it is some
megabytes, of which it wants a third free before it takes more, and a slow reader looks stuck."""

WATCH_SECONDS = SEND_MS / 8000
"""How often a connection is looked at."""

PING_LOOKS: Final = 3
"""Looks between two pings, 7.5 s. With `STUCK_LOOKS` a client is cut off at most 15 s after it left
bytes unread, and 20 s after it went silent, 22.5 s if one look met bytes on the line; 25 s are
promised, its last word included."""

LAST_WORD_SECONDS = 1.0
"""How long a client that is cut off has to read the close frame."""


class SocketWire:
    """Queues frames and writes them in order; cuts off a client that does not read.

    The websockets library never drops such a client by itself: its keepalive waits behind the full
    write buffer. And its keepalive drops one that reads a long frame over a slow line. So each
    connection is looked at here, and `transport.patience` says when it is enough.

    Args:
        socket: the connection, open.
        codec: its encoding.
        label: its id.
        on_slow: called once when it is cut off.

    Attributes:
        messages: received ones; who reads the connection counts them.
    """

    def __init__(
        self, socket: DirectServerConnection, codec: Codec, label: str, on_slow: Callable[[], None]
    ) -> None:
        self.codec = codec
        self.label = label
        self.on_drained: Callable[[], object] | None = None
        self.messages = 0
        self._socket = socket
        self._text = not codec.binary
        self._on_slow = on_slow
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._was_full = False
        self._wake: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._closing: tuple[int, str] | None = None
        self._dead = False
        self._loop = asyncio.get_running_loop()
        self._given = 0
        self._pongs = 0
        self._looks = 0
        self._ping_at = PING_LOOKS
        self._patience = Patience()
        self._pinging: asyncio.Task[None] | None = None
        self._last_word: asyncio.Task[None] | None = None
        _tune(socket)
        self._writer = self._loop.create_task(self._write())
        self._watch = self._loop.call_later(WATCH_SECONDS, self._look)

    # --- sending ------------------------------------------------------------------------------

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue frames; what is sent to a dead connection is dropped."""
        if self._dead or self._closing is not None:
            return
        for index, frame in enumerate(frames):
            if not self._may_write():
                self._enqueue(frames[index:])
                return
            self._given += _framed(len(frame))
            self._socket.write_now(frame, text=self._text)
        if self._socket.paused:
            self._wake_writer()  # which waits, and tells that there is room again
        else:
            self._tell_drained()

    def _enqueue(self, frames: Sequence[bytes]) -> None:
        self._queue.extend(frames)
        self._queued += sum(map(len, frames))
        if self.unsent() > QUEUE_BYTES:
            self._cut_off("too many bytes unsent")
            return
        self._wake_writer()

    def unsent(self) -> int:
        """Bytes queued here and in the socket's buffer; a dead connection has no room.

        Who finds `OUTBOX_BYTES` or more is told by `on_drained` once there is room again.
        """
        if self._dead:
            return QUEUE_BYTES
        size = self._queued + self._socket.transport.get_write_buffer_size()
        if size >= OUTBOX_BYTES:
            self._was_full = True
        return size

    def congested(self) -> bool:
        """Whether so much is unsent that the client should not be read."""
        return not self._dead and self.unsent() >= OUTBOX_BYTES

    async def drained(self) -> None:
        """Wait until there is room again, or the connection is dead; the watch sees to that."""
        while self.congested():
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await asyncio.wait((self._drained,), timeout=WATCH_SECONDS)

    # --- the end ------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """Write what is queued, then close; nothing more is taken."""
        if self._closing is None:
            self._closing = (code, _close_reason(reason))
            self._wake_writer()

    async def flushed(self) -> None:
        """Wait until what `close` began has ended; the watch sees to it that it does."""
        await asyncio.wait((self._writer,), timeout=SEND_MS / 1000)

    def abort(self) -> None:
        """Drop the connection."""
        self._dead = True
        self._queue.clear()
        self._drop()

    async def finish(self) -> None:
        """The connection is gone: end all that belongs to it."""
        self._dead = True
        self._watch.cancel()
        tasks = [task for task in (self._writer, self._pinging, self._last_word) if task]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):  # that is what was asked for
                await task

    # --- writing ------------------------------------------------------------------------------

    def _may_write(self) -> bool:
        """Whether nothing is on its way before these bytes, and they need not wait."""
        idle = self._wake
        if self._queue or idle is None or idle.done():
            return False
        return self._socket.may_write()

    def _wake_writer(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _write(self) -> None:
        try:
            while True:
                while self._queue:
                    await self._write_one(self._queue.popleft())
                if self._closing is not None:
                    await self._socket.close(*self._closing)
                    return
                self._wake = self._loop.create_future()
                await self._wake
                await self._socket.drain()
                self._tell_drained()
        except (ConnectionClosed, OSError):
            self._dead = True
        finally:
            self._queue.clear()
            self._tell_drained()

    async def _write_one(self, frame: bytes) -> None:
        self._queued -= len(frame)  # it moves to the socket's buffer at once
        self._given += _framed(len(frame))
        await self._socket.send(frame, text=self._text)
        self._tell_drained()

    def _tell_drained(self) -> None:
        if not self._was_full or (not self._dead and self.unsent() >= OUTBOX_BYTES // 2):
            return
        self._was_full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.on_drained is not None:
            self.on_drained()

    # --- watching -----------------------------------------------------------------------------

    def _look(self) -> None:
        """Cut the client off if it owes progress and makes none; ping it now and then."""
        if self._dead:
            return
        self._watch = self._loop.call_later(WATCH_SECONDS, self._look)
        self._looks += 1
        unsent = self._socket.transport.get_write_buffer_size()
        waiting = bool(unsent or self._queue)
        pinged = self._pinging is not None and not self._pinging.done()
        why = self._patience.judge(self._seen(unsent, waiting=waiting, pinged=pinged))
        if unsent > QUEUE_BYTES:  # the library answers pings by itself, without a bound
            why = "too many bytes unsent"
        if why is not None:
            self._cut_off(why)
        elif not waiting and not pinged and self._looks >= self._ping_at:
            self._ping_at = self._looks + PING_LOOKS
            self._pinging = self._loop.create_task(self._ping())

    def _seen(self, unsent: int, *, waiting: bool, pinged: bool) -> Look:
        transport = self._socket.transport
        return Look(
            left=self._given - unsent,
            waiting=waiting,
            unacknowledged=_unacknowledged(transport),
            received=self._socket.received,
            messages=self.messages,
            reading=transport.is_reading(),
            pinged=pinged,
        )

    async def _ping(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # whoever reads the connection sees it too
            await (await self._socket.ping())
            self._pongs += 1

    def _cut_off(self, why: str) -> None:
        log.warning("slow consumer cut off", connection=self.label, why=why, unsent=self.unsent())
        self._dead = True
        self._queue.clear()
        self._on_slow()
        self._tell_drained()
        self._last_word = self._loop.create_task(self._say_last_word(why))

    async def _say_last_word(self, why: str) -> None:
        """Close with 1013 if the client reads again at the last moment, else drop it."""
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._socket.close(1013, f"slow consumer: {why}")
        except TimeoutError:
            self._drop()

    def _drop(self) -> None:
        if self._socket.state is not State.CLOSED:  # asyncio fails to abort what has ended
            self._socket.transport.abort()


def _tune(socket: DirectServerConnection) -> None:
    """Let progress show in small steps, and the system end what this process can't."""
    raw = socket.transport.get_extra_info("socket")
    for name, value in (("TCP_NOTSENT_LOWAT", KERNEL_BYTES), ("TCP_USER_TIMEOUT", SEND_MS)):
        option = getattr(sockets, name, None)
        if option is not None:
            raw.setsockopt(sockets.IPPROTO_TCP, option, value)


def _framed(size: int) -> int:
    """Bytes of an unmasked WebSocket frame with so many bytes in it (RFC 6455, 5.2)."""
    if size < 126:  # noqa: PLR2004 - the RFC's
        return size + 2
    return size + (4 if size < 2**16 else 10)


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the system has and the other end's has not acknowledged (`tcp(7)`: SIOCOUTQ)."""
    raw = transport.get_extra_info("socket")
    if raw is None or raw.fileno() < 0:
        return 0  # it has just ended
    found: tuple[int] = struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))
    return found[0]


def _close_reason(reason: str) -> str:
    """At most 123 bytes of UTF-8 (RFC 6455, 5.5)."""
    return reason.encode()[:123].decode(errors="ignore")
