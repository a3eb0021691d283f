"""The plot beside a load test's JSON: latencies by percentile, and events over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.results import GROWTH_TARGETS, Growth, Idle, Trace

mpl.use("Agg")  # a file, no window

TICKS: Final = {1.0: "0", 10.0: "90", 100.0: "99", 1e3: "99.9", 1e4: "99.99", 1e5: "99.999"}
"""Percentiles by 1 / (1 - part): each step to the right is ten times rarer."""

INTERVAL: Final = 0.5
"""Seconds over which a rate is drawn: five reports of the processes."""


def plot_load(path: Path, title: str, traces: Sequence[Trace]) -> None:
    """Write the plot of a load test."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=10)
    latencies, rates = figure.subplots(1, 2)
    _draw_latencies(latencies, traces)
    _draw_rates(rates, traces)
    figure.savefig(path, dpi=110)


def plot_idle(path: Path, rounds: Sequence[Idle]) -> None:
    """Write the plot of idle connections."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    names = [f"round {number}" for number in range(1, len(rounds) + 1)]
    axes.bar(names, [each.kib_each for each in rounds])
    axes.set_ylabel("KiB of broker memory each")
    axes.set_title(f"{rounds[0].connections:,} idle connections", fontsize=10)
    figure.savefig(path, dpi=110)


def plot_growth(path: Path, kind: str, rounds: Sequence[Growth]) -> None:
    """Write the plot of many topics, or of a backlog: a panel for each number with a target."""
    numbers = GROWTH_TARGETS[kind]
    figure = Figure(figsize=(3.2 * len(numbers), 3.5), layout="constrained")
    names = [f"{number}" for number in range(1, len(rounds) + 1)]
    for axes, (number, target) in zip(
        figure.subplots(1, len(numbers)), numbers.items(), strict=True
    ):
        axes.bar(names, [getattr(each, number) for each in rounds])
        axes.set_title(f"{number}, {target}", fontsize=10)
        axes.set_xlabel("round")
    figure.savefig(path, dpi=110)


def _draw_latencies(axes: Axes, traces: Sequence[Trace]) -> None:
    for number, trace in enumerate(traces, 1):
        total = trace.latencies.total
        xs = [10 ** (step / 20) for step in range(101) if 10 ** (step / 20) <= total]
        values = trace.latencies.percentiles([100 * (1 - 1 / x) for x in xs])
        axes.plot(xs[: len(values)], [value / 1e6 for value in values], label=f"round {number}")
    axes.set_xscale("log")
    axes.set_xticks(list(TICKS), list(TICKS.values()))
    axes.set_xlabel("percentile")
    axes.set_ylabel("ms from publish to handler")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(traces) > 1:
        axes.legend()


def _draw_rates(axes: Axes, traces: Sequence[Trace]) -> None:
    for number, trace in enumerate(traces, 1):
        colour = f"C{number - 1}"
        axes.plot(*rates(trace.delivered), color=colour, label=f"delivered, round {number}")
        axes.plot(*rates(trace.published), color=colour, linestyle=":", label="published")
    axes.set_xlabel("seconds")
    axes.set_ylabel("events/s")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def rates(counts: Sequence[tuple[float, int]]) -> tuple[list[float], list[float]]:
    """Times, and events per second in the interval before each, from growing counts."""
    times: list[float] = []
    values: list[float] = []
    since, before = 0.0, 0
    for at, count in counts:
        if at - since >= INTERVAL:
            times.append(at)
            values.append((count - before) / (at - since))
            since, before = at, count
    return times, values
