"""How a run is getting on: a progress bar on a terminal, a line a phase elsewhere."""

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console: Final = Console(stderr=True, highlight=False)
"""Progress and errors; results go to standard output."""


class Display:
    """Shows one bar, reused by every phase of every round."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, note="")
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def phase(self, name: str, total: float | None = None) -> None:
        """Begin a phase; `total` in seconds or events, None if nobody knows."""
        self._since = time.monotonic()
        self._bar.reset(self._task, description=name, total=total, note="")
        if not console.is_terminal:
            console.print(name)

    def show(self, done: float | None = None, note: str = "") -> None:
        """How far the phase is; without `done`, the seconds since it began."""
        completed = time.monotonic() - self._since if done is None else done
        self._bar.update(self._task, completed=completed, note=note)
