"""What is promised of the door, as ratios within a round."""

from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec

Figures = dict[str, float]
"""The rates of one round by run: a measure and a server, `http_memory`."""


class Target(msgspec.Struct, frozen=True):
    """A ratio that is looked at.

    Attributes:
        title: what it is.
        run: one of a round's figures, by name.
        floor: that of the server that does nothing.
        must: what `run` by `floor` must be at least; None: it is shown, not promised.
    """

    title: str
    run: str
    floor: str
    must: float | None


TARGETS: Final = (
    Target("HTTP publish, memory / empty 204", "http_memory", "http_empty", 0.35),
    Target("HTTP publish, SQLite FULL / empty 204", "http_sqlite", "http_empty", 0.3),
    Target("SDK publish_event, memory / its ceiling", "publish_memory", "publish_empty", 1 / 1.3),
    Target("SDK publish_event, SQLite / its ceiling", "publish_sqlite", "publish_empty", None),
    Target("SDK stream, memory / its ceiling", "stream_memory", "stream_empty", 1 / 1.3),
    Target("SDK stream, SQLite / its ceiling", "stream_sqlite", "stream_empty", 1 / 1.3),
)
"""One publish at a time waits for a whole commit on SQLite: that ratio says what the disk takes,
and is not promised."""


class Reached(msgspec.Struct, frozen=True):
    """What came of a target: median, least and most over the rounds."""

    target: Target
    median: float
    least: float
    most: float

    @property
    def met(self) -> bool:
        """Whether the median is as promised."""
        return self.target.must is None or self.median >= self.target.must


def reached(rounds: Sequence[Figures]) -> list[Reached]:
    """What the rounds say of each target whose runs they have."""
    return [
        Reached(target, median(found), min(found), max(found))
        for target in TARGETS
        if (found := [_ratio(target, one) for one in rounds if target.run in one])
    ]


def _ratio(target: Target, figures: Figures) -> float:
    return figures[target.run] / figures[target.floor]
