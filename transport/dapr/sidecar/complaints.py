"""What goes wrong event by event, as a log line now and then."""

import time
from collections.abc import Callable, Hashable
from typing import Final

import structlog

log = structlog.get_logger("actorbus.dapr")

EVERY_SECONDS: Final = 10.0
"""Between two lines about the same."""


class Complaints:
    """The complaints about one subscription. Args: clock: seconds, never going back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[Hashable, float] = {}
        self._since: dict[Hashable, int] = {}

    def say(self, complaint: str, *, topic: str, reason: str) -> None:
        """Log it, unless that was done lately; the next line says how often it happened."""
        count = self._since.get(complaint, 0) + 1
        now = self._clock()
        if now - self._last.get(complaint, -EVERY_SECONDS) < EVERY_SECONDS:
            self._since[complaint] = count
            return
        self._last[complaint] = now
        self._since[complaint] = 0
        log.warning(complaint, topic=topic, reason=reason, times=count)
