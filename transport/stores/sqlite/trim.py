"""Removing batches that every group has settled, a bounded number at a time."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

from transport.stores.log import Range, retention_pause
from transport.stores.settled import SettledSet
from transport.stores.sqlite.changes import Changes, Removed
from transport.stores.sqlite.rows import TopicRow
from transport.stores.sqlite.storage import Storage

TRIM_SECONDS: Final = 0.05
"""How long what is settled may wait for its removal. Looked for with every commit, it cost a third
of the thread's own time when events come one at a time."""

TRIM_TOPICS: Final = 64
"""Topics trimmed with one commit; the others wait for the next."""

TRIM_EVENTS: Final = 10_000
"""Span of positions removed by one statement: a forgotten backlog goes bit by bit."""

GRAVE_BATCHES: Final = 1_000
"""Batches of topics without groups that are removed with one commit."""


class Trimmer:
    """Knows what may have become removable.

    What is wanted is not written anywhere: at start every topic is looked at.

    Args:
        storage: where the batches are.
        retain_ms: how long they are kept at least.
        clock: the wall clock, in milliseconds.
    """

    def __init__(self, storage: Storage, *, retain_ms: int, clock: Callable[[], int]) -> None:
        self._storage = storage
        self._retain_ms = retain_ms
        self._clock = clock
        self._wanted: dict[TopicRow, SettledSet] = {}
        self._graves: deque[int] = deque()
        self._look_at = time.monotonic()
        self._trim_at = 0.0

    def wait(self) -> float | None:
        """Seconds until there is something to do; None: not before something is settled."""
        if self._graves:
            return 0.0
        if self._wanted:
            return max(0.0, self._trim_at - time.monotonic())
        return max(0.0, self._look_at - time.monotonic()) if self._retain_ms else None

    def hurry(self) -> None:
        """Let nothing wait."""
        self._trim_at = 0.0

    def settled(self, topic: TopicRow, runs: Iterable[tuple[int, int]]) -> None:
        """A group has settled these runs (position, count)."""
        if self._retain_ms:
            return
        if not self._wanted:
            self._trim_at = time.monotonic() + TRIM_SECONDS
        wanted = self._wanted.setdefault(topic, SettledSet())
        for first, count in runs:
            wanted.add(first, count)

    def whole(self, topic: TopicRow) -> None:
        """Anything of this topic may have become removable."""
        self._wanted[topic] = SettledSet(topic.next)
        self.hurry()

    def remove_settled(self, topic: TopicRow, changes: Changes) -> None:
        """Remove what is settled of a topic now: a new group from the earliest begins behind it."""
        while (wanted := self._wanted.pop(topic, None)) is not None:
            changes.on_failure(partial(self._wanted.__setitem__, topic, wanted))
            self._trim(topic, wanted, changes)

    def bury(self, topic_id: int, topic: TopicRow | None = None) -> None:
        """All batches of a topic without groups are to go."""
        if topic is not None:
            self._wanted.pop(topic, None)
        self._graves.append(topic_id)

    def exhume(self, topic_id: int) -> None:
        """They are not, after all: the burial was not written."""
        self._graves.remove(topic_id)

    def plan(self, changes: Changes, topics: Iterable[TopicRow]) -> list[TopicRow]:
        """Add removals to `changes`; returns the topics that nothing is left of."""
        if self._retain_ms and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + retention_pause(self._retain_ms)
            for topic in topics:
                self.whole(topic)
        if self._graves:
            self._dig(changes)
        if self._wanted and time.monotonic() < self._trim_at:
            return []
        planned = list(islice(self._wanted, TRIM_TOPICS))
        for topic in planned:
            wanted = self._wanted.pop(topic)
            changes.on_failure(partial(self._wanted.__setitem__, topic, wanted))
            self._trim(topic, wanted, changes)
        return [topic for topic in planned if not topic.groups and topic.gone.floor >= topic.next]

    def _trim(self, topic: TopicRow, wanted: SettledSet, changes: Changes) -> None:
        ranges = [
            part
            for start, end in wanted.settled(0, topic.next)
            for part in topic.removable(start, end)
        ]
        if ranges and self._retain_ms:
            cut = self._cut(topic)
            ranges = [(low, min(high, cut)) for low, high in ranges if low < cut]
        spans = [span for part in ranges if (span := self._batches(topic, *part)) is not None]
        if spans:
            self._remove(topic, spans, changes)

    def _batches(self, topic: TopicRow, low: int, high: int) -> Range | None:
        """The batches wholly within a range, from where the first begins to where the last ends."""
        edge = low == topic.gone.floor or low - 1 in topic.gone
        first = None if edge else self._storage.first_from(topic.id, low)
        start = low if first is None else first[0]
        last = self._storage.last_before(topic.id, min(high, start + TRIM_EVENTS))
        if last is None or last[0] < start:
            return None
        end = last[0] + last[1] if last[0] + last[1] <= high else last[0]
        if start + TRIM_EVENTS < high:
            self._wanted.setdefault(topic, SettledSet()).add(end, high - end)
        return (start, end) if start < end else None

    def _remove(self, topic: TopicRow, spans: list[Range], changes: Changes) -> None:
        changes.on_failure(partial(setattr, topic, "gone", topic.gone))
        topic.gone = topic.gone.copy()
        for start, end in spans:
            changes.removed_batches.append(Removed(topic.id, start, end))
            topic.gone.add(start, end - start)
        ranges = topic.gone.ranges()
        if ranges and ranges != topic.saved:
            changes.on_failure(partial(setattr, topic, "saved", topic.saved))
            topic.saved = ranges
            changes.topics[topic.id] = topic.row()

    def _cut(self, topic: TopicRow) -> int:
        """Where the batches begin that are not old enough; looked for by halving."""
        oldest_kept = self._clock() - self._retain_ms
        low, high = topic.gone.floor, topic.next
        while low < high:
            middle = (low + high) // 2
            found = self._storage.first_from(topic.id, middle)
            if found is None or found[2] > oldest_kept:
                high = middle
            else:
                low = found[0] + found[1]
        return low

    def _dig(self, changes: Changes) -> None:
        topic_id = self._graves[0]
        rest = self._storage.nth_in_table(topic_id, GRAVE_BATCHES)
        if rest is None:
            self._graves.popleft()
            changes.on_failure(partial(self._graves.appendleft, topic_id))
            changes.removed_topics.append(topic_id)
        # Positions are below 2**62: a topic would need 100,000 years at a million events a second.
        end = 2**62 if rest is None else rest
        changes.removed_batches.append(Removed(topic_id, 0, end))
