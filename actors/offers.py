"""What is offered to which member, until it answers. Pure."""

from collections.abc import Iterable

from actors.line import join
from actors.messages import Run


class Offers:
    """The offers of one group that have not been answered.

    Attributes:
        count: events offered.
    """

    def __init__(self) -> None:
        self.count = 0
        self._runs: dict[int, tuple[Run, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __contains__(self, member: int) -> bool:
        return member in self._runs

    def add(self, member: int, runs: tuple[Run, ...]) -> int:
        """Remember an offer; how many events it is."""
        self._runs[member] = runs
        count = total(runs)
        self.count += count
        return count

    def pop(self, member: int) -> tuple[Run, ...]:
        """The offer was answered, or won't be; its runs."""
        runs = self._runs.pop(member, ())
        self.count -= total(runs)
        return runs


def total(runs: Iterable[Run]) -> int:
    """Events of these runs."""
    return sum(run.count for run in runs)


def hand_out(
    runs: list[Run], shares: Iterable[tuple[int, int]]
) -> tuple[dict[int, list[Run]], list[Run]]:
    """Cut runs into shares (member, how many): each member's runs in order, and what is left."""
    offers: dict[int, list[Run]] = {}
    queue = runs[::-1]
    for member, share in shares:
        mine = offers.setdefault(member, [])
        count = share
        while count and queue:
            run = queue.pop()
            if run.count > count:
                queue.append(run.part(count, run.count - count))
                run = run.part(0, count)
            _add(mine, run)
            count -= run.count
    return offers, queue[::-1]


def cut(runs: Iterable[Run], count: int) -> tuple[list[Run], list[Run]]:
    """The first `count` events, one run for each one given, and the rest."""
    first: list[Run] = []
    rest: list[Run] = []
    for run in runs:
        taken = min(run.count, count)
        count -= taken
        if taken:
            first.append(run if taken == run.count else run.part(0, taken))
        if taken < run.count:
            rest.append(run.part(taken, run.count - taken) if taken else run)
    return first, rest


def _add(runs: list[Run], run: Run) -> None:
    joined = join(runs[-1], run) if runs else None
    if joined is None:
        runs.append(run)
    else:
        runs[-1] = joined
