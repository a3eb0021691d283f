"""The chart of a comparison: the rates, and the ratios with what they must be."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import EngFormatter

from bench.dapr.targets import Figures, Reached

OURS: Final = "#1f6f8b"
EMPTY: Final = "#b8b8b8"
MUST: Final = "#c0392b"


def plot(path: Path, rounds: Sequence[Figures], targets: Sequence[Reached]) -> None:
    """Write the chart; a whisker spans the rounds, a mark says what a ratio must be."""
    canvas = Canvas(figsize=(12, 0.9 + 0.36 * len(rounds[0])), layout="constrained")
    rates, ratios = canvas.subplots(1, 2)
    _bars(rates, {name: [one[name] for one in rounds] for name in rounds[0]}, "{:,.0f}")
    rates.set_title("per second", fontsize=10)
    rates.xaxis.set_major_formatter(EngFormatter(sep=""))
    _bars(
        ratios,
        {each.target.title: [each.least, each.median, each.most] for each in targets},
        "{:.2f}",
    )
    for row, each in enumerate(reversed(targets)):
        if each.target.must is not None:
            ratios.vlines(each.target.must, row - 0.4, row + 0.4, colors=MUST)
    ratios.set_title("to the server that does nothing", fontsize=10)
    canvas.savefig(path, dpi=110)


def _bars(axes: Axes, values: Mapping[str, Sequence[float]], label: str) -> None:
    for name, found in reversed(list(values.items())):
        middle = median(found)
        whisker = [[middle - min(found)], [max(found) - middle]]
        colour = EMPTY if name.endswith("_empty") else OURS
        bars = axes.barh([name], [middle], xerr=whisker, color=colour)
        axes.bar_label(bars, fmt=label, padding=4)
    axes.margins(x=0.2)
    axes.grid(axis="x", alpha=0.3)
