"""A comparison as tables for a person and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.environment import in_short
from bench.peers.contestants import Contestant
from bench.peers.measures import Measure
from bench.peers.options import PeersOptions
from bench.peers.results import Figure, Outcome, Spread, headline, spread, wrong
from bench.peers.targets import Reached, as_json, reached
from bench.report import result_console, table_of

STYLES: Final = {"aim": "green", "missed": "red"}


def print_all(
    options: PeersOptions, outcomes: Sequence[Outcome], environment: dict[str, Any]
) -> None:
    """Print the tables."""
    console = result_console()
    console.print(in_short(environment), style="dim")
    for measure in options.measures:
        if any(each.takes_part(measure) for each in options.contestants):
            console.print(_measure_table(measure, options, outcomes))
    console.print(_targets_table(reached(outcomes)))
    _print_faults(console, outcomes)


def save(
    path: Path, options: PeersOptions, outcomes: Sequence[Outcome], environment: dict[str, Any]
) -> None:
    """Write the JSON file."""
    result = {
        "kind": "peers",
        "environment": environment,
        "rounds": options.rounds,
        "seconds": options.duration,
        "contestants": options.contestants,
        "measures": options.measures,
        "targets": as_json(outcomes),
        "medians": medians(options, outcomes),
        "outcomes": outcomes,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def medians(
    options: PeersOptions, outcomes: Sequence[Outcome]
) -> dict[str, dict[str, dict[str, Spread]]]:
    """Measure → contestant → number → median, least and most over the rounds."""
    return {
        measure.name: {
            contestant.name: {
                path: found
                for path in (*headline(measure), "server_cpu_us")
                if (found := _spread(contestant, measure, path, outcomes)) is not None
            }
            for contestant in options.contestants
            if contestant.takes_part(measure)
        }
        for measure in options.measures
    }


def _spread(
    contestant: Contestant, measure: Measure, path: str, outcomes: Sequence[Outcome]
) -> Spread | None:
    return spread(list(Figure(contestant.name, measure.name, path).of(outcomes).values()))


def _measure_table(measure: Measure, options: PeersOptions, outcomes: Sequence[Outcome]) -> Table:
    paths = headline(measure)
    titles = [path.partition(".")[2] or "median" for path in paths]
    table = table_of("", *titles, "rounds", "server µs/event", "answered means")
    table.title = measure.title
    for contestant in options.contestants:
        if contestant.takes_part(measure):
            spreads = [_spread(contestant, measure, path, outcomes) for path in paths]
            cpu = _spread(contestant, measure, "server_cpu_us", outcomes)
            table.add_row(
                contestant.title,
                *(_median(each) for each in spreads),
                _range(spreads[0]),
                _median(cpu),
                contestant.keeps,
            )
    return table


def _targets_table(targets: Sequence[Reached]) -> Table:
    table = table_of("ratio", "must", "aim", "measured", "rounds", "")
    table.title = "Targets"
    for each in targets:
        table.add_row(
            each.target.name,
            each.target.bound(each.target.must),
            each.target.bound(each.target.aim),
            _median(each.ratio),
            _range(each.ratio),
            each.verdict,
            style=STYLES.get(each.verdict),
        )
    return table


def _print_faults(console: Console, outcomes: Sequence[Outcome]) -> None:
    for name, (lost, repeated) in wrong(outcomes).items():
        console.print(f"{name}: {lost:,} lost, {repeated:,} duplicates", style="red")
    for each in outcomes:
        if each.error is not None:
            console.print(
                f"round {each.round}, {each.measure}, {each.contestant} failed: {each.error}",
                style="red",
                markup=False,
            )


def _median(found: Spread | None) -> str:
    return "-" if found is None else _number(found.median)


def _range(found: Spread | None) -> str:
    return "-" if found is None else f"{_number(found.least)} to {_number(found.most)}"


def _number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
