"""What runs measured, by round, measure and contestant, and what follows from it."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import msgspec

from bench.peers.measures import Measure


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What one run measured. Rates and latencies leave out the warm-up, counts include it.

    Attributes:
        published: events acknowledged to the publisher.
        failed: publishes that were not.
        lost: acknowledged events that a group did not get, summed over groups.
        duplicates: deliveries beyond a group's first, summed over groups.
        per_second: deliveries to all groups together.
        mb_per_second: the same in 10^6 bytes of event data.
        latency_ms: percentile → milliseconds from the publish call (open loop: from when it was
            due) until the app has it.
        server_cpu_us: CPU of the server's processes for each published event, in microseconds.
    """

    published: int
    failed: int
    lost: int
    duplicates: int
    per_second: float
    mb_per_second: float
    latency_ms: dict[str, float]
    server_cpu_us: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        round: from 1.
        sample: what it measured; None if it failed.
        error: why it failed; None if it did not.
    """

    round: int
    measure: str
    contestant: str
    sample: Sample | None = None
    error: str | None = None


class Figure(msgspec.Struct, frozen=True):
    """One number of a sample, by its path: `per_second`, `latency_ms.p50`."""

    contestant: str
    measure: str
    path: str

    def of(self, outcomes: Iterable[Outcome]) -> dict[int, float]:
        """Its values by round; a round whose run failed has none."""
        return {
            each.round: value
            for each in outcomes
            if each.contestant == self.contestant
            and each.measure == self.measure
            and each.sample is not None
            and (value := number(each.sample, self.path)) is not None
        }


def number(sample: Sample, path: str) -> float | None:
    """A number of a sample; None if nothing was measured."""
    name, _, key = path.partition(".")
    value: Any = getattr(sample, name)
    found: float | None = value.get(key) if key else value
    return found


def headline(measure: Measure) -> tuple[str, ...]:
    """The numbers that count in a measure."""
    match measure.kind:
        case "rate":
            return ("per_second",)
        case "bytes":
            return ("mb_per_second",)
        case "latency":
            return ("latency_ms.p50", "latency_ms.p99", "latency_ms.p99.9")


class Spread(msgspec.Struct, frozen=True):
    """Values of several rounds."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread | None:
    """The median and the ends; None of nothing."""
    return Spread(median(values), min(values), max(values)) if values else None


def wrong(outcomes: Iterable[Outcome]) -> dict[str, tuple[int, int]]:
    """Contestants that lost or repeated events, with how many of each."""
    found: dict[str, tuple[int, int]] = {}
    for each in outcomes:
        if each.sample is not None and (each.sample.lost or each.sample.duplicates):
            lost, repeated = found.get(each.contestant, (0, 0))
            found[each.contestant] = (lost + each.sample.lost, repeated + each.sample.duplicates)
    return found
