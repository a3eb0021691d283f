"""The ratios that actorbus is to reach, and whether it does."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from bench.peers.results import Figure, Outcome, Spread, spread


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio of two figures of the same round.

    Attributes:
        name: what it compares.
        ours, theirs: the figures; the ratio is the first by the second.
        better: which direction is better.
        must, aim: the bounds; `aim` is None where there is none beyond `must`.
    """

    name: str
    ours: Figure
    theirs: Figure
    better: Literal["more", "less"]
    must: float
    aim: float | None

    def ratios(self, outcomes: Sequence[Outcome]) -> dict[int, float]:
        """The ratio of every round in which both were measured."""
        ours, theirs = self.ours.of(outcomes), self.theirs.of(outcomes)
        return {
            number: ours[number] / theirs[number] for number in ours if theirs.get(number, 0) > 0
        }

    def verdict(self, ratio: float) -> str:
        """`aim`, `must` or `missed`: the best bound that the ratio reaches."""
        if self.aim is not None and self._reaches(ratio, self.aim):
            return "aim"
        return "must" if self._reaches(ratio, self.must) else "missed"

    def bound(self, value: float | None) -> str:
        """A bound as a person writes it."""
        if value is None:
            return "-"
        return f"{'≥' if self.better == 'more' else '≤'} {value:g}"

    def _reaches(self, ratio: float, bound: float) -> bool:
        return ratio >= bound if self.better == "more" else ratio <= bound


class Reached(msgspec.Struct, frozen=True):
    """A target and what was measured.

    Attributes:
        target: the target.
        ratio: over the rounds; None if it was not measured.
    """

    target: Target
    ratio: Spread | None

    @property
    def verdict(self) -> str:
        """`aim`, `must`, `missed`, or `-` if it was not measured."""
        return "-" if self.ratio is None else self.target.verdict(self.ratio.median)


def reached(outcomes: Sequence[Outcome]) -> list[Reached]:
    """Every target, in its order."""
    return [Reached(target, spread(list(target.ratios(outcomes).values()))) for target in TARGETS]


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same for the JSON file, with the ratio of each round."""
    return [
        {
            "name": each.target.name,
            "must": each.target.bound(each.target.must),
            "aim": each.target.bound(each.target.aim),
            "ratio": each.ratio,
            "by_round": [round(value, 4) for value in each.target.ratios(outcomes).values()],
            "verdict": each.verdict,
        }
        for each in reached(outcomes)
    ]


def _rate(contestant: str, measure: str = "throughput-500") -> Figure:
    return Figure(contestant, measure, "per_second")


def _latency(contestant: str, percentile: str) -> Figure:
    return Figure(contestant, "latency-1000", f"latency_ms.{percentile}")


def _more(name: str, ours: Figure, theirs: Figure, must: float, aim: float | None) -> Target:
    return Target(name=name, ours=ours, theirs=theirs, better="more", must=must, aim=aim)


def _less(name: str, ours: Figure, theirs: Figure, must: float, aim: float | None) -> Target:
    return Target(name=name, ours=ours, theirs=theirs, better="less", must=must, aim=aim)


TARGETS: Final = (
    _more("SQLite / relay at 50 a frame", _rate("sqlite"), _rate("relay-50"), 0.30, 0.50),
    _more("SQLite / NATS", _rate("sqlite"), _rate("nats"), 3, 6),
    _more("SQLite / NATS, sync always", _rate("sqlite"), _rate("nats-always"), 10, 20),
    _more("RabbitMQ / aio-pika by hand", _rate("rabbitmq"), _rate("aio-pika"), 8, 15),
    _more(
        "1 in flight: SQLite / NATS, sync always",
        _rate("sqlite", "throughput-1"),
        _rate("nats-always", "throughput-1"),
        0.8,
        1.2,
    ),
    _less(
        "p50 at 1,000/s: SQLite / NATS, sync always",
        _latency("sqlite", "p50"),
        _latency("nats-always", "p50"),
        1.3,
        1.0,
    ),
    _less(
        "p99 at 1,000/s: SQLite / NATS, sync always",
        _latency("sqlite", "p99"),
        _latency("nats-always", "p99"),
        1.3,
        1.0,
    ),
    _less(
        "p50 at 1,000/s: RabbitMQ / aio-pika by hand",
        _latency("rabbitmq", "p50"),
        _latency("aio-pika", "p50"),
        1.6,
        1.25,
    ),
    _more("SQLite, 16 groups / 1 group", _rate("sqlite", "groups-16"), _rate("sqlite"), 2, 4),
    _more(
        "SQLite, publish_many of 500 / publish",
        _rate("sqlite", "many-500"),
        _rate("sqlite"),
        1.5,
        3,
    ),
    _more(
        "64 KiB: SQLite / relay",
        Figure("sqlite", "payload-64k", "mb_per_second"),
        Figure("relay", "payload-64k", "mb_per_second"),
        0.5,
        None,
    ),
)
