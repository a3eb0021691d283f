"""What a comparison is asked to do, from the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.options import OUT, seconds, whole

MEASURES: Final = ("http", "publish", "stream")

APP: Final = "bench"
"""Whose calls all are."""

TOPIC: Final = "published"
STREAM_TOPIC: Final = "streamed"

CONNECTIONS: Final = 32
"""Connections of `wrk`, each with one request under way."""

WARMUP_SHARE: Final = 0.2
"""Of the time or the events, before the measuring begins."""


class DaprOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison.

    Attributes:
        measures: what is run, of `MEASURES`.
        rounds: how often everything is repeated.
        duration: seconds of publishing of every run.
        events: taken by the subscriber in every run.
        payload: bytes of each event's data.
        out: directory for the result.
        name: of the result's files, without suffix; None: from the time.
    """

    measures: tuple[str, ...] = MEASURES
    rounds: int = 5
    duration: float = 4.0
    events: int = 20_000
    payload: int = 256
    out: Path = OUT
    name: str | None = None


def parse(arguments: Sequence[str]) -> DaprOptions:
    """Options from the command line.

    Raises:
        SystemExit: argparse has printed help or an error.
    """
    usual = DaprOptions()
    parser = argparse.ArgumentParser(
        prog="python -m bench.dapr",
        description="The Dapr door beside servers that do nothing, in turn.",
    )
    add = parser.add_argument
    names = ",".join(MEASURES)
    add("--measures", type=_measures, default=MEASURES, help=f"some of {names}")
    add("--rounds", type=whole, default=usual.rounds, help=f"repeat ({usual.rounds} times)")
    add("--duration", type=seconds, default=usual.duration, help=f"of a run ({usual.duration} s)")
    add("--events", type=whole, default=usual.events, help=f"for a subscriber ({usual.events})")
    add("--payload", type=whole, default=usual.payload, help=f"bytes of data ({usual.payload})")
    add("--out", type=Path, default=OUT, metavar="DIR", help="for the result (bench/out)")
    add("--name", metavar="NAME", help="of the result's files")
    return DaprOptions(**vars(parser.parse_args(arguments)))


def _measures(text: str) -> tuple[str, ...]:
    wanted = text.split(",")
    unknown = [name for name in wanted if name not in MEASURES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(MEASURES)}")
    return tuple(name for name in MEASURES if name in wanted)
