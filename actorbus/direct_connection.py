"""A WebSocket connection with a short way for whole messages, both in and out.

The `websockets` library parses a frame by generators, queues it and wakes the task that waits in
`recv`; to send, it builds a frame object and waits for flow control. For small messages that is
most of what they cost: one of 300 bytes to a server and back took 2.0 times as long (median of 5
pairs of 6,000). So a whole data frame is given to a callback at once, and a frame that need not
wait is written at once. Everything else still is the library's: handshakes, control and fragmented
frames, whatever breaks the protocol, closing, and all that has to wait.

Frames: RFC 6455, section 5.2.
"""

from collections.abc import Callable
from secrets import token_bytes
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.protocol import State

try:
    from websockets.speedups import apply_mask
except ImportError:  # no build for this platform
    from websockets.utils import apply_mask

from actorbus.limits import FRAME_BYTES

Take = Callable[[bytes, bool], bool]
"""Takes a message, and whether it is text; False to have it queued for `recv`. Raises nothing."""

DIRECT_MESSAGES: Final = 16
"""Messages of one read that are given away at once. A read may hold thousands of small ones: the
others are queued, and whoever takes them from there lets others have their turn."""

_WHOLE_TEXT: Final = 0x81
_WHOLE_BINARY: Final = 0x82
_WHOLE: Final = (_WHOLE_BINARY, _WHOLE_TEXT)
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_DATA_OPCODES: Final = (0, 1, 2)
_OPCODE: Final = 0x0F
_KEY_BYTES: Final = 4


class DirectConnection(Connection):
    """What `DirectClientConnection` and `DirectServerConnection` have in common.

    Attributes:
        received: bytes since the start.
    """

    received = 0
    _server = False
    _take: Take | None = None
    _kept: bytearray | None = None
    _needed = 0
    _splitting = True

    def take_directly(self, take: Take | None) -> None:
        """Give whole messages to `take` until one has to be queued; None: queue all of them.

        To be called before each `recv`, and with None after it: what is queued is to be handled
        before what comes behind it.
        """
        self._take = take

    # --- in -----------------------------------------------------------------------------------

    def data_received(self, data: bytes | bytearray) -> None:
        """Cut what arrives into frames, and let each go its way."""
        self.received += len(data)
        if self.protocol.state is State.CONNECTING:
            # what comes with the end of the handshake is the library's, and so is its rest
            self._splitting = data.endswith(b"\r\n\r\n")
        if self._kept is not None:
            self._kept += data
            if len(self._kept) < self._needed and self._splits():
                return
            data, self._kept = self._kept, None
        at = count = 0
        while at < len(data) and self._splits():
            start, stop = _bounds(data, at)
            if stop - start > FRAME_BYTES:
                self._splitting = False  # the library says what is wrong with it
                break
            if stop > len(data):
                self._keep(data, at, stop)
                return
            count += 1
            if count > DIRECT_MESSAGES or not self._gave(data, at, start, stop):
                self._queue(data, at, stop)
            at = stop
        if at < len(data):
            super().data_received(bytes(memoryview(data)[at:]))

    def _splits(self) -> bool:
        """Whether what comes now is frames, for us to cut up."""
        return self._splitting and self.protocol.state is State.OPEN

    def _keep(self, data: bytes | bytearray, at: int, needed_until: int) -> None:
        """The frame at `at` is not whole yet."""
        self._kept = bytearray(memoryview(data)[at:])
        self._needed = needed_until - at

    def _gave(self, data: bytes | bytearray, at: int, start: int, stop: int) -> bool:
        """Give away the frame at `at` whose payload is from `start` to `stop`, if that may be."""
        take, head = self._take, data[at]
        if (
            take is None
            or head not in _WHOLE
            or (data[at + 1] >= _MASKED) is not self._server
            or self.protocol.current_size is not None  # a fragmented message is under way
        ):
            return False
        payload = memoryview(data)[start:stop]
        if self._server:
            return take(
                apply_mask(payload, bytes(data[start - _KEY_BYTES : start])), head == _WHOLE_TEXT
            )
        return take(bytes(payload), head == _WHOLE_TEXT)

    def _queue(self, data: bytes | bytearray, at: int, stop: int) -> None:
        """Let the library have a frame; a part of a message is one to wait for in `recv`."""
        if data[at] & _OPCODE in _DATA_OPCODES:
            self._take = None
        super().data_received(bytes(memoryview(data)[at:stop]))

    # --- out ----------------------------------------------------------------------------------

    def may_write(self) -> bool:
        """Whether `write_now` may be called: who sends has not to wait for flow control."""
        return (
            not self.paused
            and self.protocol.state is State.OPEN
            and not self.transport.is_closing()
        )

    def write_now(self, message: bytes, *, text: bool) -> None:
        """Write a message as one frame; `may_write` has allowed it."""
        opcode = _WHOLE_TEXT if text else _WHOLE_BINARY
        frame: tuple[bytes, ...]
        if self._server:
            frame = (_head(opcode, len(message), 0), message)
        else:
            key = token_bytes(_KEY_BYTES)
            frame = (_head(opcode, len(message), _MASKED), key, apply_mask(message, key))
        # not `writelines`: that of asyncio 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 never pauses
        self.transport.write(b"".join(frame))


class DirectServerConnection(DirectConnection, ServerConnection):
    """The broker's end: what comes is masked, what goes is not."""

    _server = True


class DirectClientConnection(DirectConnection, ClientConnection):
    """An app's end."""


def _bounds(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Where the payload of the frame at `at` starts and stops; beyond `data` if it is not whole."""
    start = at + 2
    if start > len(data):
        return start, start
    second = data[at + 1]
    length = second & _LENGTH
    if length >= _LENGTH_16:
        width = 2 if length == _LENGTH_16 else 8
        if start + width > len(data):
            return start + width, start + width
        length = int.from_bytes(data[start : start + width])
        start += width
    if second >= _MASKED:
        start += _KEY_BYTES
    return start, start + length


def _head(opcode: int, length: int, mask: int) -> bytes:
    if length < _LENGTH_16:
        return bytes((opcode, mask | length))
    if length < 2**16:
        return bytes((opcode, mask | _LENGTH_16)) + length.to_bytes(2)
    return bytes((opcode, mask | _LENGTH_64)) + length.to_bytes(8)
