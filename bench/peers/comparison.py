"""All rounds: in each, every measure is taken of every contestant in turn."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from actorbus import ActorbusError
from bench.options import BenchError
from bench.peers.contestants import Contestant
from bench.peers.house import house
from bench.peers.measures import Measure
from bench.peers.options import PeersOptions
from bench.peers.peer import Peer, Running, told
from bench.peers.results import Outcome
from bench.peers.run import Run
from bench.progress import Display

T = TypeVar("T")


class Ready(msgspec.Struct, frozen=True):
    """A contestant whose server runs."""

    contestant: Contestant
    peer: Peer
    server: Running


async def compare(options: PeersOptions) -> list[Outcome]:
    """Run everything. A run that fails is an outcome, too: the others go on.

    Raises:
        BenchError: a client library or a server program is missing, or a server does not start.
    """
    opened = [(contestant, contestant.open()) for contestant in options.contestants]
    outcomes: list[Outcome] = []
    with Display() as display:
        for number in range(1, options.rounds + 1):
            display.phase(f"round {number} of {options.rounds}: starting the servers")
            async with house() as servers:
                ready = [Ready(who, peer, await peer.serve(servers)) for who, peer in opened]
                for measure in options.measures:
                    for each in rotated(ready, number - 1):
                        if each.contestant.takes_part(measure):
                            name = f"{measure.title}: {each.contestant.title}"
                            display.phase(
                                f"round {number} of {options.rounds}, {name}", options.duration
                            )
                            outcomes.append(await _run(number, measure, each, options, display))
    return outcomes


def rotated(items: Sequence[T], by: int) -> list[T]:
    """The same in a circle, begun `by` further: no contestant is always after the same rest."""
    by %= max(1, len(items))
    return [*items[by:], *items[:by]]


async def _run(
    number: int, measure: Measure, ready: Ready, options: PeersOptions, display: Display
) -> Outcome:
    run = Run(ready.contestant, ready.peer, ready.server, measure, options.duration)
    try:
        with told():
            sample, error = await run.run(display), None
    except (BenchError, ActorbusError, OSError) as failure:
        sample, error = None, str(failure)
    return Outcome(
        round=number,
        measure=measure.name,
        contestant=ready.contestant.name,
        sample=sample,
        error=error,
    )
