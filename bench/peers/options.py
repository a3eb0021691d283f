"""What a comparison is asked to do, from the command line."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.options import OUT, seconds, whole
from bench.peers.contestants import CONTESTANTS, Contestant
from bench.peers.measures import MEASURES, Measure

ROUNDS: Final = 5
SECONDS: Final = 4.0


class PeersOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison.

    Attributes:
        contestants, measures: in the order in which the first round takes them.
        rounds: how often everything is repeated.
        duration: seconds of publishing of every run, warm-up included.
        out: directory for the result.
        name: of the result's files, without suffix; None: from the time.
    """

    contestants: tuple[Contestant, ...]
    measures: tuple[Measure, ...]
    rounds: int = ROUNDS
    duration: float = SECONDS
    out: Path = OUT
    name: str | None = None


def parse(arguments: Sequence[str]) -> PeersOptions:
    """Options from the command line.

    Raises:
        SystemExit: argparse has printed help or an error.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description="The same work on actorbus and on its peers, in turn.",
        epilog=_names(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=_list(CONTESTANTS), metavar="A,B", help="contestants; all of them")
    add("--measures", type=_list(MEASURES), metavar="A,B", help="measures; all of them")
    add("--rounds", type=whole, default=ROUNDS, metavar="N", help=f"repeat ({ROUNDS} times)")
    add("--duration", type=seconds, default=SECONDS, metavar="S", help=f"of a run ({SECONDS:g} s)")
    add("--out", type=Path, default=OUT, metavar="DIR", help="for JSON and chart (bench/out)")
    add("--name", metavar="NAME", help="of the result's files")
    given = parser.parse_args(arguments)
    return PeersOptions(
        contestants=tuple(CONTESTANTS[name] for name in given.only or CONTESTANTS),
        measures=tuple(MEASURES[name] for name in given.measures or MEASURES),
        rounds=given.rounds,
        duration=given.duration,
        out=given.out,
        name=given.name,
    )


class _list:  # noqa: N801 - a type of argparse, which shows its name in errors
    """Names by comma, each of them known."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = set(known)

    def __call__(self, text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in self._known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(self._known))}"
            )
        return names


def _names() -> str:
    contestants = [f"  {each.name:16}{each.title}" for each in CONTESTANTS.values()]
    measures = [f"  {each.name:16}{each.title}" for each in MEASURES.values()]
    return "\n".join(["contestants:", *contestants, "", "measures:", *measures])
