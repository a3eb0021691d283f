"""What the log stores share: topics as logs of positions, groups as sets of settled positions."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeVar

from actorbus.store import Abilities, Attempt, Batch, GroupOptions, Start, Stored
from transport.stores.settled import SettledSet

ABILITIES: Final = Abilities(
    log=True,
    earliest=True,
    exact_backlog=True,
    shared_options=True,
    settles_singly=True,
    pipeline=4,  # the thread finds the next in its queue: p50 at 1,000 events/s 0.82 of that with 1
)

FETCH_BATCHES: Final = 1000
"""Most batches of one fetch: bounds its time where batches are single small events."""

Range = tuple[int, int]
"""Positions from the first to before the second."""


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def retention_pause(retain_ms: int) -> float:
    """Seconds between two looks for batches that were kept long enough: a tenth, at most 60."""
    return max(0.1, min(60.0, retain_ms / 10_000))


def page(names: Collection[str], *, after: str | None, limit: int, only: str | None) -> list[str]:
    """The names that `Store.topics` is asked for, in order."""
    if only is not None:
        return [name for name in (only,) if name in names]
    return sorted(name for name in names if after is None or name > after)[:limit]


class LogGroup:
    """One group's progress in the log of its topic.

    Attributes:
        app_id: whose group it is.
        options: those in force.
        settled: the positions it is done with. What the log no longer has is among them.
        attempts: histories of unsettled events that have been tried.
    """

    __slots__ = ("app_id", "attempts", "options", "settled")

    def __init__(self, app_id: str, options: GroupOptions, settled: SettledSet) -> None:
        self.app_id = app_id
        self.options = options
        self.settled = settled
        self.attempts: dict[int, Attempt] = {}

    def settle(self, runs: Sequence[tuple[int, int]]) -> list[int]:
        """Done with these runs (position, count); returns whose attempts were forgotten."""
        for first, count in runs:
            self.settled.add(first, count)
        if not self.attempts:
            return []
        forgotten = [p for first, count in runs for p in self._attempted(first, first + count)]
        for position in forgotten:
            self.attempts.pop(position, None)
        return forgotten

    def attempted(self, attempts: Iterable[Attempt]) -> list[int]:
        """Note these histories, unless the event is settled; returns whose were noted."""
        noted = [attempt for attempt in attempts if attempt.position not in self.settled]
        self.attempts.update((attempt.position, attempt) for attempt in noted)
        return [attempt.position for attempt in noted]

    def stored(self, batch: Batch, position: int) -> list[Stored]:
        """The unsettled runs of `batch` from `position` on; each tried event is one of its own."""
        start = max(position, batch.first)
        ranges = self.settled.unsettled(start, batch.first + len(batch.events))
        return [run for low, high in ranges for run in self._runs(batch, low, high)]

    def _runs(self, batch: Batch, low: int, high: int) -> Iterator[Stored]:
        at = low
        for position in self._attempted(low, high):
            if at < position:
                yield Stored(batch, at - batch.first, position - at)
            known = self.attempts[position]
            index = position - batch.first
            yield Stored(batch, index, 1, known.attempts, known.lost, known.not_before)
            at = position + 1
        if at < high:
            yield Stored(batch, at - batch.first, high - at)

    def _attempted(self, low: int, high: int) -> list[int]:
        if not self.attempts:
            return []
        if high - low <= len(self.attempts):
            return [position for position in range(low, high) if position in self.attempts]
        return sorted(position for position in self.attempts if low <= position < high)


GroupT = TypeVar("GroupT", bound=LogGroup)


class LogTopic(Generic[GroupT]):
    """One topic's log: its end, its groups and what is gone; the store keeps the batches.

    Attributes:
        name: the topic.
        next: the position of the next event.
        groups: by app ID.
        gone: positions whose batches are not kept any more. Every group has settled them, so what
            a group has not settled is there to be read, and its backlog can be told by counting.
    """

    __slots__ = ("gone", "groups", "name", "next")

    def __init__(self, name: str, start: int) -> None:
        self.name = name
        self.next = start
        self.groups: dict[str, GroupT] = {}
        self.gone = SettledSet(start)

    def starting(self, start: Start) -> SettledSet:
        """What a new group has behind it: all so far, or only what is gone."""
        return self.gone.copy() if start == "earliest" else SettledSet(self.next)

    def backlog(self, group: GroupT) -> int:
        """How many events `group` has not settled."""
        return self.next - group.settled.floor - group.settled.above()

    def removable(self, start: int, end: int) -> list[Range]:
        """What every group has settled and is still kept, in or next to `start` to `end`.

        Batches that lie wholly inside these ranges may go. The ranges are as wide as they can be,
        so that a batch settled bit by bit is found with its last bit.
        """
        ranges = [(start, end)]
        for group in self.groups.values():
            ranges = [r for low, high in ranges for r in group.settled.settled(low, high)]
        if not ranges:
            return []
        ranges[0] = (self._settled_around(ranges[0][0])[0], ranges[0][1])
        ranges[-1] = (ranges[-1][0], self._settled_around(ranges[-1][0])[1])
        return [r for low, high in ranges for r in self.gone.unsettled(low, high)]

    def _settled_around(self, position: int) -> Range:
        low, high = 0, self.next
        for group in self.groups.values():
            around = group.settled.around(position) or (position, position)
            low, high = max(low, around[0]), min(high, around[1])
        return low, high
