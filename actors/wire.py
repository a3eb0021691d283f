"""What an instance needs of its connection; the transport package implements it."""

from collections.abc import Sequence
from typing import Protocol

from actorbus.codec import Codec


class Wire(Protocol):
    """The sending side of one connection."""

    codec: Codec
    """The encoding that the client chose."""

    label: str
    """The connection's id, for `welcome` and the log."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Queue encoded frames to be sent, in order."""

    def unsent(self) -> int:
        """Bytes queued and not yet handed to the operating system."""

    def close(self, code: int, reason: str) -> None:
        """Send what is queued, then close."""
