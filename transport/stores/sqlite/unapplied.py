"""What is durable in the journal, and not yet in the tables."""

from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from transport.stores.sqlite.changes import Changes, Removed, Row
from transport.stores.sqlite.journal import Place


class Pending(NamedTuple):
    """A batch's row, and the record that it is in."""

    row: Row
    place: Place


class Unapplied:
    """The sum of the records that the tables do not have: of each row its last state.

    All batches of a topic that are here come behind those in its table: they get there in the order
    of their records.

    Attributes:
        topics: rows, by id.
        groups: rows, by id.
        attempts: by group and position, rows; None: to be removed.
        removed_batches: ranges that may have batches in the table.
        removed_groups: ids.
        removed_topics: ids.
    """

    def __init__(self) -> None:
        self.topics: dict[int, Row] = {}
        self.groups: dict[int, Row] = {}
        self.attempts: dict[int, dict[int, Row | None]] = {}
        self.removed_batches: list[Removed] = []
        self.removed_groups: list[int] = []
        self.removed_topics: list[int] = []
        self._batches: OrderedDict[tuple[int, int], Pending] = OrderedDict()
        self._firsts: dict[int, list[int]] = {}

    def add(self, changes: Changes, place: Place) -> None:
        """Add what one record changes; records come in their order."""
        self.topics.update(changes.topics)
        self.groups.update((row[0], row) for row in changes.groups)
        for row in changes.batches:
            self._batches[row[0], row[1]] = Pending(row, place)
            self._firsts.setdefault(row[0], []).append(row[1])
        for row in changes.attempts:
            self.attempts.setdefault(row[0], {})[row[1]] = row
        for group_id, position in changes.settled_attempts:
            self.attempts.setdefault(group_id, {})[position] = None
        for removed in changes.removed_batches:
            self._remove_batches(removed)
        for group_id in changes.removed_groups:
            self.groups.pop(group_id, None)
            self.attempts.pop(group_id, None)
            self.removed_groups.append(group_id)
        for topic_id in changes.removed_topics:
            self.topics.pop(topic_id, None)
            self.removed_topics.append(topic_id)

    def _remove_batches(self, removed: Removed) -> None:
        topic_id, start, end = removed
        firsts = self._firsts.get(topic_id, [])
        if not firsts or start < firsts[0]:
            self.removed_batches.append(removed)
        low, high = bisect_left(firsts, start), bisect_left(firsts, end)
        for first in firsts[low:high]:
            del self._batches[topic_id, first]
        del firsts[low:high]
        if not firsts:
            self._firsts.pop(topic_id, None)

    # What the tables need.

    def count(self) -> int:
        """How many batches are here."""
        return len(self._batches)

    def first_place(self) -> Place | None:
        """The first record with a batch that the tables do not have."""
        return next(iter(self._batches.values())).place if self._batches else None

    def oldest(self, max_bytes: int | None) -> list[Pending]:
        """The oldest batches, record by record, until they have this size; None: all."""
        taken: list[Pending] = []
        size = 0
        for pending in self._batches.values():
            full = max_bytes is not None and size >= max_bytes
            if full and (not taken or pending.place != taken[-1].place):
                break
            taken.append(pending)
            size += len(pending.row[-1])
        return taken

    def place_after(self, taken: Sequence[Pending]) -> Place | None:
        """The first record with a batch that is not among the oldest `taken`."""
        for index, pending in enumerate(self._batches.values()):
            if index >= len(taken):
                return pending.place
        return None

    def applied(self, taken: Sequence[Pending]) -> None:
        """The tables have these batches now, and all that is no batch."""
        for pending in taken:
            del self._batches[pending.row[0], pending.row[1]]
        for topic_id, count in Counter(pending.row[0] for pending in taken).items():
            firsts = self._firsts[topic_id]
            del firsts[:count]  # a topic's batches are applied from the first on
            if not firsts:
                del self._firsts[topic_id]
        self.topics.clear()
        self.groups.clear()
        self.attempts.clear()
        self.removed_batches.clear()
        self.removed_groups.clear()
        self.removed_topics.clear()

    def has_removals(self) -> bool:
        """Whether rows of the tables are to be removed."""
        return bool(self.removed_batches or self.removed_groups or self.removed_topics)

    # What is here of one topic.

    def span(self, topic_id: int) -> tuple[int, int] | None:
        """Where its first batch begins and its last one ends; None without batches."""
        firsts = self._firsts.get(topic_id)
        if firsts is None:
            return None
        last = self._row(topic_id, firsts[-1])
        return firsts[0], last[1] + last[2]

    def last_before(self, topic_id: int, end: int) -> Row | None:
        """The row of the last batch that begins before `end`."""
        firsts = self._firsts.get(topic_id, [])
        index = bisect_left(firsts, end)
        return self._row(topic_id, firsts[index - 1]) if index else None

    def first_from(self, topic_id: int, start: int) -> Row | None:
        """The row of the first batch that begins at `start` or later."""
        firsts = self._firsts.get(topic_id, [])
        index = bisect_left(firsts, start)
        return self._row(topic_id, firsts[index]) if index < len(firsts) else None

    def begins_by(self, topic_id: int, position: int) -> bool:
        """Whether its first batch here begins at `position` or before."""
        firsts = self._firsts.get(topic_id)
        return firsts is not None and firsts[0] <= position

    def batches(self, topic_id: int, position: int) -> Iterator[Row]:
        """The rows of its batches, from the one that may hold `position` on."""
        firsts = self._firsts.get(topic_id, [])
        for index in range(max(bisect_right(firsts, position) - 1, 0), len(firsts)):
            yield self._row(topic_id, firsts[index])

    def _row(self, topic_id: int, first: int) -> Row:
        return self._batches[topic_id, first].row
