"""The chart of a comparison: a panel a measure, a bar a contestant."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import EngFormatter, MaxNLocator

from bench.peers.measures import Measure
from bench.peers.options import PeersOptions
from bench.peers.results import Figure, Outcome, headline, spread

COLUMNS: Final = 2

OURS: Final = "#1f6f8b"
THEIRS: Final = "#b8b8b8"


def plot(path: Path, options: PeersOptions, outcomes: Sequence[Outcome]) -> None:
    """Write the chart; a whisker spans the rounds."""
    rows = ceil(len(options.measures) / COLUMNS)
    height = 0.9 + 0.24 * len(options.contestants)
    canvas = Canvas(figsize=(12, height * rows), layout="constrained")
    panels = canvas.subplots(rows, COLUMNS, squeeze=False).flat
    for axes, measure in zip(panels, options.measures, strict=False):  # the last may stay empty
        _draw(axes, measure, options, outcomes)
    for axes in list(panels)[len(options.measures) :]:
        axes.set_axis_off()
    canvas.savefig(path, dpi=110)


def _draw(axes: Axes, measure: Measure, options: PeersOptions, outcomes: Sequence[Outcome]) -> None:
    shown = headline(measure)[0]
    for contestant in reversed(options.contestants):
        values = Figure(contestant.name, measure.name, shown).of(outcomes).values()
        found = spread(list(values))
        if found is not None:
            whisker = [[found.median - found.least], [found.most - found.median]]
            colour = OURS if contestant.ours else THEIRS
            bars = axes.barh([contestant.title], [found.median], xerr=whisker, color=colour)
            axes.bar_label(bars, fmt="{:,.4g}" if found.median < 100 else "{:,.0f}", padding=4)
    percentile = shown.partition(".")[2]
    axes.set_title(f"{measure.title}{f', {percentile}' if percentile else ''}", fontsize=10)
    axes.margins(x=0.2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(axis="x", alpha=0.3)
