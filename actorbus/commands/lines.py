"""Lines of standard input, cut out of what is read, with their numbers.

Pure: bytes go in, lines come out.
"""

from typing import Final

import msgspec

from actorbus.limits import FRAME_BYTES

LINE_BYTES: Final = FRAME_BYTES
"""A longer line makes no event that any frame could carry; it is skipped, not kept."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What some editors put before the first line; it is no part of it."""


class Line(msgspec.Struct, frozen=True):
    """One line that is not empty.

    Attributes:
        number: counted from 1, empty lines too.
        text: without its end.
        wrong: why it can be no event; empty if it may be one.
    """

    number: int
    text: str
    wrong: str = ""


class LineSplitter:
    """Cuts pieces of a byte stream into lines; holds one unfinished line, of `LINE_BYTES`."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._skipping = False

    def feed(self, piece: bytes) -> list[Line]:
        """The lines that end in this piece."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        lines = [self._line(raw) for raw in whole]
        if len(self._rest) > LINE_BYTES:
            self._skipping = True
            self._rest = b""
        return [line for line in lines if line is not None]

    def end(self) -> list[Line]:
        """The last line, if it does not end with a line feed."""
        line = self._line(self._rest)
        return [] if line is None else [line]

    def _line(self, raw: bytes) -> Line | None:
        self._number += 1
        if self._skipping or len(raw) > LINE_BYTES:
            self._skipping = False
            return Line(self._number, "", f"longer than {LINE_BYTES} bytes")
        if self._number == 1:
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        raw = raw.removesuffix(b"\r")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return Line(self._number, "", "not UTF-8 text")
        return Line(self._number, text) if text else None
