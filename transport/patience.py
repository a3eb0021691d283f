"""When a client that does not read is given up, as a pure state machine.

A connection is looked at every `WATCH_SECONDS` (`transport.wire`). What counts is what the client
takes: bytes that leave for it, or the answer to a ping. What is written meanwhile counts nothing: a
trickle of deliveries vanishes in the system's buffers for minutes while nobody reads them.
"""

from typing import Final

import msgspec

STUCK_LOOKS: Final = 5
"""Looks in a row without progress after which a client that owes some is given up."""

LINE_BYTES: Final = 64 * 1024
"""Bytes on the line that a ping may be behind: fewer are through any line of 5 KB/s in time. What
small frames leave there is nothing: it is always some, though nobody reads them."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a connection.

    Attributes:
        left: bytes handed to the system since the start, as far as they were counted.
        waiting: whether bytes wait in this process.
        unacknowledged: bytes that the system has and the client's has not acknowledged.
        received: bytes since the start.
        messages: whole messages since the start.
        reading: whether the connection is read; while it is not, no pong can be seen.
        pinged: whether a ping is unanswered.
    """

    left: int
    waiting: bool
    unacknowledged: int
    received: int
    messages: int
    reading: bool
    pinged: bool


class Patience:
    """Counts the looks at one connection in which its client should have moved and did not."""

    def __init__(self) -> None:
        self._before = Look(
            left=0,
            waiting=False,
            unacknowledged=0,
            received=0,
            messages=0,
            reading=True,
            pinged=False,
        )
        self._unread = 0
        self._unheard = 0

    def judge(self, look: Look) -> str | None:
        """Why the client is to be cut off now, or None."""
        before, self._before = self._before, look
        stuck = look.waiting and look.left <= before.left
        self._unread = self._unread + 1 if stuck else 0
        if not look.pinged:
            self._unheard = 0
        elif not _excused(look, before):
            self._unheard += 1
        if self._unread >= STUCK_LOOKS:
            return "bytes unread"
        return "ping unanswered" if self._unheard >= STUCK_LOOKS else None


def _excused(look: Look, before: Look) -> bool:
    """Whether the ping or its answer may still be under way: behind bytes of ours or of theirs."""
    if look.waiting or not look.reading:
        return True
    # a pong can't overtake the rest of a message
    sends = look.received > before.received and look.messages == before.messages
    taken = look.left - look.unacknowledged > before.left - before.unacknowledged
    return sends or (look.unacknowledged > LINE_BYTES and taken)
