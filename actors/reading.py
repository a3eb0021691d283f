"""Where a group stands in its feed, and when to read on. Pure."""

from actorbus.store import Batch, Fetched
from actors.clock import Now

FETCH_PAUSE_MS = 500
"""Pause after a fetch that failed."""


class Reading:
    """One group's place in its feed. No wake-up is lost: what it can't read now it is `behind` on.

    Args:
        log: whether notices carry what was appended (else each fetch waits for more).

    Attributes:
        position: to be fetched from next; None until the feed is open.
        behind: whether there may be something that it has not read.
        fetching: a fetch is under way.
        releasing: what was in hand is on its way back to the store.
    """

    def __init__(self, *, log: bool) -> None:
        self.position: int | None = None
        self.behind = True
        self.fetching = False
        self.releasing = False
        self._log = log
        self._pause_until = 0

    def opened(self, position: int) -> None:
        """The feed is open."""
        self.position = position
        self.behind = True

    def busy(self) -> bool:
        """Whether a call to the feed is under way."""
        return self.fetching or self.releasing

    def follows(self, batch: Batch) -> bool:
        """Whether a noticed batch is the very next one; then it counts as read."""
        if batch.first != self.position or self.busy():
            return False
        self.position = batch.first + len(batch.events)
        return True

    def start(self, now: Now) -> int | None:
        """Begin a fetch at this position; None if there is nothing to read, or not now."""
        if not self.behind or self.busy() or now.mono < self._pause_until:
            return None
        if self.position is not None:
            self.fetching = True
            # a log store that is asked now has seen all that later notices do not tell of
            self.behind = not self._log
        return self.position

    def ended(self, fetched: Fetched | None, now: Now) -> None:
        """A fetch has ended; None: it failed."""
        self.fetching = False
        if fetched is None:
            self._pause_until = now.mono + FETCH_PAUSE_MS
        else:
            self.position = fetched.next
        if fetched is None or fetched.runs:
            self.behind = True

    def released(self, position: int) -> None:
        """Everything in hand has gone back."""
        self.releasing = False
        self.position = position
        self.behind = True

    def retry_at(self, now: Now) -> int | None:
        """When a fetch that failed is to be tried again."""
        return self._pause_until if self.behind and self._pause_until > now.mono else None
