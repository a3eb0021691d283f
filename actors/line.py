"""What one group has in hand: first attempts, redeliveries, delayed events. Pure."""

import heapq
from collections import deque
from collections.abc import Iterable, MutableSequence

from actorbus.store import Batch
from actors.messages import Run


class Line:
    """Events waiting for an instance, or for their time.

    First attempts keep the order of their positions; redeliveries go before them. Events to be
    delivered alone wait apart.

    Attributes:
        fresh: events never delivered; `fresh_bytes` their size.
        again: events up for redelivery.
        alone: events to be delivered with nothing else in flight at their instance.
    """

    def __init__(self) -> None:
        self.fresh: deque[Run] = deque()
        self.again: list[Run] = []  # mostly empty, and a deque is 760 bytes then
        self.alone: list[Run] = []
        self.fresh_bytes = 0
        self.again_count = 0
        self._delayed: list[tuple[int, int, Run]] = []
        self._delayed_count = 0
        self._number = 0

    def held(self) -> int:
        """Events that count against the group's bound: all but first attempts."""
        return self.again_count + len(self.alone) + self._delayed_count

    def ready(self) -> bool:
        """Whether anything could be delivered now."""
        return bool(self.fresh or self.again or self.alone)

    def empty(self) -> bool:
        """Whether nothing at all is in hand."""
        return not (self.ready() or self._delayed)

    def append(self, run: Run) -> None:
        """A run of first attempts that follows all others."""
        self.fresh.append(run)
        self.fresh_bytes += _size(run)

    def put_back(self, run: Run) -> None:
        """A run that was offered and not taken: to where it came from, in order of position."""
        if run.attempts:
            self.again_count += run.count
            _insert(self.again, 0, run)
            return
        self.fresh_bytes += _size(run)
        place = 0
        while place < len(self.fresh) and self.fresh[place].position < run.position:
            place += 1
        _insert(self.fresh, place, run)

    def redeliver(self, run: Run, *, alone: bool) -> None:
        """A run whose attempt has ended, at once up for the next."""
        run = compact(run)
        if alone:
            self.alone.extend(run.part(offset, 1) for offset in range(run.count))
        else:
            self.again.append(run)
            self.again_count += run.count

    def delay(self, run: Run, due: int) -> None:
        """A run that is not up for delivery before `due` (ms, monotonic)."""
        self._number += 1
        heapq.heappush(self._delayed, (due, self._number, compact(run)))
        self._delayed_count += run.count

    def take_due(self, now: int) -> list[Run]:
        """The delayed runs whose time has come."""
        runs: list[Run] = []
        while self._delayed and self._delayed[0][0] <= now:
            run = heapq.heappop(self._delayed)[2]
            self._delayed_count -= run.count
            runs.append(run)
        return runs

    def next_due(self) -> int | None:
        """When the next delayed run is due."""
        return self._delayed[0][0] if self._delayed else None

    def take(self, limit: int, fresh_limit: int) -> list[Run]:
        """Up to `limit` events from the front, of them up to `fresh_limit` first attempts."""
        runs: list[Run] = []
        while limit and self.again:
            run = _pop(self.again, limit)
            self.again_count -= run.count
            limit -= run.count
            runs.append(run)
        limit = min(limit, fresh_limit)
        while limit > 0 and self.fresh:
            run = _pop(self.fresh, limit)
            self.fresh_bytes -= _size(run)
            limit -= run.count
            runs.append(run)
        return runs

    def evict(self, positions: Iterable[int], now: int) -> list[tuple[Run, int]]:
        """Take these events out, wherever they wait: each with its due time (`now` if ready)."""
        wanted = set(positions)
        found: list[tuple[Run, int]] = []
        for line in (self.fresh, self.again, self.alone):
            kept = _split(line, wanted, now, found)
            line.clear()
            line.extend(kept)
        delayed, self._delayed = sorted(self._delayed), []
        for due, _, run in delayed:
            for rest in _split([run], wanted, due, found):
                self._number += 1  # two rests of one run must not share theirs
                self._delayed.append((due, self._number, rest))  # in order: a heap already
        self._recount()
        return found

    def clear(self) -> list[Run]:
        """Let go of everything; what it was."""
        runs = [*self.again, *self.alone, *self.fresh, *(entry[2] for entry in self._delayed)]
        for line in (self.fresh, self.again, self.alone):
            line.clear()
        self._delayed.clear()
        self._recount()
        return runs

    def clear_ready(self) -> list[Run]:
        """Let go of what could be delivered now; what it was."""
        delayed, self._delayed = self._delayed, []
        runs = self.clear()
        self._delayed = delayed
        self._recount()
        return runs

    def _recount(self) -> None:
        self.fresh_bytes = sum(map(_size, self.fresh))
        self.again_count = sum(run.count for run in self.again)
        self._delayed_count = sum(entry[2].count for entry in self._delayed)


def compact(run: Run) -> Run:
    """The same run on a batch of its own where it would pin a much larger one in memory."""
    if run.count * 4 >= len(run.batch.events):
        return run
    events = run.events()
    batch = Batch(run.position, events, sum(map(len, events)), run.batch.expires_at)
    return Run(batch, 0, run.count, run.attempts, run.lost, run.missed)


def join(first: Run, second: Run) -> Run | None:
    """Both runs as one, if the second follows on the first with the same history."""
    if first.batch is not second.batch or first.index + first.count != second.index:
        return None
    if (first.attempts, first.lost, first.missed) != (second.attempts, second.lost, second.missed):
        return None
    count = first.count + second.count
    return Run(first.batch, first.index, count, first.attempts, first.lost, first.missed)


def _size(run: Run) -> int:
    """About the run's bytes; the parts of a run have exactly the size of the whole."""
    size, events = run.batch.size, len(run.batch.events)
    return size * (run.index + run.count) // events - size * run.index // events


def _insert(line: MutableSequence[Run], place: int, run: Run) -> None:
    """Insert a run, as one with the run behind it if they are parts of one."""
    joined = join(run, line[place]) if place < len(line) else None
    if joined is None:
        line.insert(place, run)
    else:
        line[place] = joined


def _pop(line: MutableSequence[Run], limit: int) -> Run:
    run = line[0]
    if run.count <= limit:
        del line[0]
        return run
    line[0] = run.part(limit, run.count - limit)
    return run.part(0, limit)


def _split(
    line: Iterable[Run], wanted: set[int], due: int, found: list[tuple[Run, int]]
) -> list[Run]:
    """The runs without the wanted positions, which are added to `found`."""
    kept: list[Run] = []
    for run in line:
        start = 0
        for offset in range(run.count):
            if run.position + offset in wanted:
                if offset > start:
                    kept.append(run.part(start, offset - start))
                found.append((run.part(offset, 1), due))
                start = offset + 1
        if start < run.count:
            kept.append(run.part(start, run.count - start))
    return kept
