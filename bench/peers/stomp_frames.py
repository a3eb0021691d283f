"""As much of STOMP 1.2 as the comparison needs.

Source: https://stomp.github.io/stomp-specification-1.2.html
"""

from collections.abc import Iterator

import msgspec

from bench.options import BenchError


class Frame(msgspec.Struct, frozen=True):
    """A frame from the server.

    Attributes:
        command: MESSAGE, RECEIPT and so on.
        headers: the first of each name, as the specification has it; escapes are not undone, since
            nothing that is read here has any.
        body: as long as its `content-length`.
    """

    command: str
    headers: dict[str, str]
    body: bytes


def encode(command: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """A frame for the server; the caller escapes what needs it."""
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n".encode() + body + b"\0"


def decode(data: bytes) -> Iterator[Frame]:
    """The frames of a WebSocket message, each whole; line ends between them are heart-beats.

    Raises:
        BenchError: it ends within a frame.
    """
    at = _skip_line_ends(data, 0)
    while at < len(data):
        end = data.find(b"\n\n", at)
        if end < 0:
            raise BenchError(f"a stomp frame without an end of its headers: {data[at : at + 40]!r}")
        command, *lines = data[at:end].decode().split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name, value)
        begin = end + 2
        size = int(headers.get("content-length", data.find(b"\0", begin) - begin))
        if data[begin + size : begin + size + 1] != b"\0":
            raise BenchError(f"a stomp frame without its end: {command} of {size} bytes")
        yield Frame(command, headers, data[begin : begin + size])
        at = _skip_line_ends(data, begin + size + 1)


def _skip_line_ends(data: bytes, at: int) -> int:
    while data[at : at + 1] in {b"\n", b"\r"}:
        at += 1
    return at
