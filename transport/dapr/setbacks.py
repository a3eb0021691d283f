"""How long a stream waits for its first event when the ones before it broke. Pure.

An SDK whose handler raises opens the stream again at once, some 190 times a second. The event that
was being handled is put off by its group's back-off; but with a backlog each next event breaks the
next stream. So from the second break in a row on, streams of the same app and topic wait.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

FIRST: Final = 0.25
"""Seconds after the second break in a row; twice as long after each further one."""

LONGEST: Final = 5.0
"""Seconds that a stream waits at most: an app that was mended is served again that soon."""

REMEMBERED: Final = 10_000
"""Apps and topics whose breaks are remembered; the oldest are forgotten."""


class Setbacks:
    """Streams that broke with events in flight, by app and topic, since one was settled."""

    def __init__(self) -> None:
        self._breaks: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._breaks)

    def broke(self, key: Hashable) -> None:
        """A stream ended with events in flight."""
        self._breaks[key] = self._breaks.pop(key, 0) + 1
        if len(self._breaks) > REMEMBERED:
            self._breaks.popitem(last=False)

    def settled(self, key: Hashable) -> None:
        """The app has settled an event: it works."""
        if self._breaks:
            self._breaks.pop(key, None)

    def delay(self, key: Hashable) -> float:
        """Seconds that a new stream has to wait."""
        breaks = self._breaks.get(key, 0)
        if breaks < 2:  # noqa: PLR2004 - the first break has no successor to wait
            return 0.0
        return float(min(FIRST * 2 ** min(breaks - 2, 30), LONGEST))
