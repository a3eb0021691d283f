"""The data of the events: who published it, which one it is and when, then padding."""

import struct
from typing import Final

from bench.options import BenchError

HEADER: Final = struct.Struct("<IQQ")
"""Publisher, its number of the event, and `time.monotonic_ns` of the publish call (or when it was
due): on Linux that clock is one for all processes of a machine."""

unpack = HEADER.unpack_from
"""Publisher, number and time of an event's data."""


class Payload:
    """Makes the data of one publisher's events, all of `size` bytes.

    Raises:
        BenchError: `size` has no room for the header.
    """

    def __init__(self, publisher: int, size: int) -> None:
        if size < HEADER.size:
            raise BenchError(
                f"--payload {size} is too small: {HEADER.size} bytes are needed for the counting"
            )
        self._publisher = publisher
        self._padding = b"x" * (size - HEADER.size)

    def pack(self, number: int, at: int) -> bytes:
        """The data of one event."""
        return HEADER.pack(self._publisher, number, at) + self._padding
