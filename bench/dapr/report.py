"""A comparison as tables for a person and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from bench.dapr.options import CONNECTIONS, DaprOptions
from bench.dapr.targets import Figures, Reached
from bench.environment import in_short
from bench.report import result_console, table_of


def print_all(
    rounds: Sequence[Figures], targets: Sequence[Reached], environment: dict[str, Any]
) -> None:
    """Print the tables."""
    console = result_console()
    console.print(in_short(environment), style="dim")
    rates = table_of("run", "per second", "rounds")
    for name in rounds[0]:
        values = [one[name] for one in rounds]
        rates.add_row(name, f"{median(values):,.0f}", f"{min(values):,.0f} to {max(values):,.0f}")
    console.print(rates)
    table = table_of("ratio", "must", "measured", "rounds")
    for each in targets:
        table.add_row(
            each.target.title,
            "-" if each.target.must is None else f"≥ {each.target.must:.2f}",
            f"{each.median:.2f}",
            f"{each.least:.2f} to {each.most:.2f}",
            style=None if each.met else "red",
        )
    console.print(table)


def save(
    path: Path,
    options: DaprOptions,
    rounds: Sequence[Figures],
    targets: Sequence[Reached],
    environment: dict[str, Any],
) -> None:
    """Write the JSON file."""
    result = {
        "kind": "dapr",
        "environment": environment,
        "rounds": options.rounds,
        "seconds": options.duration,
        "events": options.events,
        "payload": options.payload,
        "connections": CONNECTIONS,
        "targets": targets,
        "figures": rounds,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
