"""Results as tables for a person and as JSON for what comes after."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.environment import in_short
from bench.options import GrowthOptions, LoadOptions
from bench.results import GROWTH_TARGETS, Growth, Idle, Round, medians

WIDTH = 120
"""Of tables that go to a file or a pipe."""


def print_load(options: LoadOptions, rounds: Sequence[Round], environment: dict[str, Any]) -> None:
    """Print a load test's tables."""
    console = result_console()
    console.print(in_short(environment), style="dim")
    console.print(_load_table(options, rounds))
    console.print(_groups_table(rounds))


def print_idle(rounds: Sequence[Idle], environment: dict[str, Any]) -> None:
    """Print the table of idle connections."""
    console = result_console()
    console.print(in_short(environment), style="dim")
    table = table_of(
        "idle connections", "start MiB", "end MiB", "KiB each", "opening µs", "idle CPU %"
    )
    for name, each in _named(rounds):
        table.add_row(
            name,
            f"{each['start_mib']:.1f}",
            f"{each['end_mib']:.1f}",
            f"{each['kib_each']:.2f}",
            f"{each['opening_cpu_us']:.0f}",
            f"{each['idle_cpu_percent']:.2f}",
        )
    table.title = f"{rounds[0].connections:,} idle connections"
    console.print(table)


def print_growth(kind: str, rounds: Sequence[Growth], environment: dict[str, Any]) -> None:
    """Print the numbers of many topics, or of a backlog."""
    console = result_console()
    console.print(in_short(environment), style="dim")
    named = list(_named(rounds))
    table = table_of(kind, "target", *(name for name, _ in named))
    for number in named[0][1]:
        target = GROWTH_TARGETS[kind].get(number, "")
        table.add_row(number, target, *(f"{each[number]:,.10g}" for _, each in named))
    console.print(table)


def _load_table(options: LoadOptions, rounds: Sequence[Round]) -> Table:
    table = table_of(
        "round",
        "published/s",
        "delivered/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "broker µs/event",
        "pub µs",
        "sub µs",
        "RSS MiB",
    )
    table.title = title(options)
    for name, each in _named(rounds):
        latency = each["latency_ms"]
        table.add_row(
            name,
            f"{each['published_per_second']:,.0f}",
            f"{each['delivered_per_second']:,.0f}",
            *(f"{latency[key]:.2f}" if key in latency else "-" for key in ("p50", "p99", "p99.9")),
            f"{each['broker_cpu_us']:.2f}",
            f"{each['publisher_cpu_us']:.2f}",
            f"{each['subscriber_cpu_us']:.2f}",
            f"{each['broker_rss_mib']:.0f}",
        )
    return table


def _groups_table(rounds: Sequence[Round]) -> Table:
    table = table_of(
        "round, group", "published", "received", "lost", "duplicates", "redelivered", "unsettled"
    )
    for number, each in enumerate(rounds, 1):
        for group in each.groups:
            verdict = group.verdict
            wrong = verdict.lost or verdict.duplicates
            table.add_row(
                f"{number}, {group.app_id}",
                f"{each.published:,}",
                f"{verdict.received:,}",
                f"{verdict.lost:,}",
                f"{verdict.duplicates:,}",
                f"{group.redelivered:,}",
                "-" if group.unsettled is None else f"{group.unsettled:,}",
                style="red" if wrong else None,
            )
    return table


def title(options: LoadOptions) -> str:
    """What was run, in a line."""
    parts = [
        "a running broker" if options.url else store_name(options.store),
        f"{options.publishers} publishers x {options.window} in flight",
        f"{options.groups} groups x {options.instances} instances",
        f"{options.payload} B {options.encoding}",
    ]
    if options.rate is not None:
        parts.append(f"at {options.rate:g}/s")
    if options.batch > 1:
        parts.append(f"publish_many of {options.batch}")
    return ", ".join(parts)


def store_name(store: str) -> str:
    """A store without what a URL may hold of paths and passwords."""
    return {"amqp": "RabbitMQ", "amqps": "RabbitMQ"}.get(scheme := store.partition(":")[0], scheme)


def save(
    path: Path,
    options: LoadOptions | GrowthOptions,
    rounds: list[Round] | list[Idle] | list[Growth],
    environment: dict[str, Any],
) -> None:
    """Write the JSON file."""
    result = {
        "kind": kind_of(options),
        "environment": environment,
        "options": _public(options),
        "median": medians(rounds),
        "rounds": rounds,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def kind_of(options: LoadOptions | GrowthOptions) -> str:
    """What is measured, by its name on the command line."""
    return type(options).__name__.removesuffix("Options").lower()


def _public(options: LoadOptions | GrowthOptions) -> dict[str, Any]:
    kept = msgspec.structs.asdict(options)
    for own in ("out", "name"):
        del kept[own]
    url = kept.get("url")
    kept["store"] = None if url else store_name(options.store)
    kept["url"] = "a running broker" if url else None
    return kept


def _named(
    rounds: Sequence[Round] | Sequence[Idle] | Sequence[Growth],
) -> Iterable[tuple[str, dict[str, Any]]]:
    for number, each in enumerate(rounds, 1):
        yield f"{number}", msgspec.to_builtins(each)
    if len(rounds) > 1:
        yield "median", medians(rounds)


def table_of(first: str, *columns: str) -> Table:
    """An empty table: a column of names, then columns of numbers."""
    table = Table(first, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def result_console() -> Console:
    """Standard output, as wide as the terminal or, without one, as a table needs."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)
