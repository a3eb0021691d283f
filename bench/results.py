"""What a round and a whole run measured, as it is kept in the JSON file."""

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import msgspec

from bench.measure import Histogram, Verdict

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)
"""Those kept in the result; 100 is the longest."""


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """One app ID's share.

    Attributes:
        verdict: what it got, exactly.
        redelivered: deliveries with an attempt above 1.
        unsettled: what the broker still kept for it after all had been acknowledged; None if the
            store can't tell.
        by_instance: deliveries of each instance.
    """

    app_id: str
    verdict: Verdict
    redelivered: int
    unsettled: int | None
    by_instance: list[int]


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round of a load test. Rates and latencies leave out the warm-up, counts include it.

    Attributes:
        published: events acknowledged to publishers.
        failed: publishes that were not, in time.
        published_per_second: of all publishers.
        delivered_per_second: of all instances of all groups.
        latency_ms: percentile → milliseconds from the publish call (open loop: from when it was
            due) to the handler.
        broker_cpu_us: broker CPU per published event, in microseconds.
        publisher_cpu_us, subscriber_cpu_us: CPU of the app processes per event of theirs.
        broker_rss_mib, broker_peak_mib: at the end, and at most.
        groups: by app ID.
    """

    published: int
    failed: int
    published_per_second: float
    delivered_per_second: float
    latency_ms: dict[str, float]
    broker_cpu_us: float
    publisher_cpu_us: float
    subscriber_cpu_us: float
    broker_rss_mib: float
    broker_peak_mib: float | None
    groups: list[GroupResult]


class Trace(msgspec.Struct, frozen=True):
    """What the plot needs beside the result.

    Attributes:
        latencies: of the round.
        published, delivered: seconds since the start, and events until then.
    """

    latencies: Histogram
    published: list[tuple[float, int]]
    delivered: list[tuple[float, int]]


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """One round with idle connections.

    Attributes:
        start_mib: the broker's memory before the first.
        end_mib: with all of them idle.
        kib_each: the difference by their number.
        opening_cpu_us: broker CPU for opening one, in microseconds.
        idle_cpu_percent: broker CPU while nothing happens, of one core.
    """

    connections: int
    start_mib: float
    end_mib: float
    kib_each: float
    opening_cpu_us: float
    idle_cpu_percent: float


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """One round with many topics, each with one group.

    Attributes:
        kib_each: the broker's memory for each topic with its group.
        alone_per_second: deliveries of a topic before there are others.
        among_per_second: the same with all others.
        among_to_alone: the second by the first.
    """

    topics: int
    kib_each: float
    alone_per_second: float
    among_per_second: float
    among_to_alone: float


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """One round with a backlog.

    Attributes:
        events: of the backlog.
        filling_mib: by how much the broker's memory grew at most while it was published.
        start_seconds: from a broker's start on it until it accepts connections.
        draining_mib: by how much that broker's memory grew at most while it was drained.
        normal_per_second: deliveries while a publisher and a subscriber work side by side.
        drained_per_second: deliveries of the backlog, nobody publishing.
        drained_to_normal: the second by the first.
        lost, duplicates: of the backlog.
    """

    events: int
    filling_mib: float
    start_seconds: float
    draining_mib: float
    normal_per_second: float
    drained_per_second: float
    drained_to_normal: float
    lost: int
    duplicates: int


GROWTH_TARGETS: Final = {
    "topics": {"kib_each": "≤ 12", "among_to_alone": "≥ 0.9"},
    "backlog": {
        "filling_mib": "≤ 100",
        "draining_mib": "≤ 100",
        "start_seconds": "≤ 3",
        "drained_to_normal": "≥ 0.8",
        "lost": "0",
        "duplicates": "0",
    },
}
"""What the numbers of 10,000 topics and of 1,000,000 events are to be."""

Growth = Topics | Backlog


def latency_ms(latencies: Histogram) -> dict[str, float]:
    """The kept percentiles, in milliseconds; {} if nothing was measured."""
    values = latencies.percentiles(PERCENTILES)
    return {
        f"p{percent:g}": round(value / 1e6, 4)
        for percent, value in zip(PERCENTILES, values, strict=False)  # no values, no keys
    }


def medians(rounds: Sequence[Round] | Sequence[Idle] | Sequence[Growth]) -> dict[str, Any]:
    """The median of each number over the rounds, also of those within `latency_ms`."""
    return _medians([msgspec.to_builtins(each) for each in rounds])


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in rounds[0].items():
        if isinstance(value, dict):
            found[key] = _medians([each[key] for each in rounds])
        elif isinstance(value, int | float):
            found[key] = round(median(each[key] for each in rounds), 4)
    return found
