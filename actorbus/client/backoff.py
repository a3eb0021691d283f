"""Waits between attempts: they double up to a bound, with jitter."""

import random
from collections.abc import Callable


class Backoff:
    """Exponential delays in seconds, each drawn from the upper half of its range.

    The jitter keeps the clients of a broker that restarts from coming back all at once.

    Attributes:
        first: the longest first delay, seconds.
        longest: no delay is longer, seconds.
    """

    def __init__(
        self, first: float, longest: float, draw: Callable[[], float] = random.random
    ) -> None:
        self.first = first
        self.longest = longest
        self._draw = draw
        self._range = first

    def next(self) -> float:
        """The next delay."""
        delay = self._range * (0.5 + self._draw() / 2)
        self._range = min(self._range * 2, self.longest)
        return delay

    def reset(self) -> None:
        """Begin again at the first delay."""
        self._range = self.first
