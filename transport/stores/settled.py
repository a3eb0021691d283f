"""Which positions of a log are done with: everything below a floor, and ranges above it."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Self

import msgspec.msgpack


class SettledSet:
    """A set of positions, cheap while it is nearly a prefix, as a group's settled events are.

    Ranges are half open, `(start, end)`. They are sorted, and neither touch each other nor the
    floor, so equal sets have equal ranges. Look-ups and additions take O(log n) steps in n ranges,
    an addition also moves the list's tail in memory.

    Attributes:
        floor: the lowest position that is not in the set; all below are.
    """

    __slots__ = ("_ends", "_starts", "floor")

    def __init__(self, floor: int = 0, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.floor = floor
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end - start)

    def __contains__(self, position: int) -> bool:
        return self.first_unsettled(position) != position

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SettledSet):
            return NotImplemented
        return self.floor == other.floor and self.ranges() == other.ranges()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"SettledSet({self.floor}, {self.ranges()})"

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges above the floor."""
        return list(zip(self._starts, self._ends, strict=True))

    def count(self) -> int:
        """How many ranges there are above the floor."""
        return len(self._starts)

    def top(self) -> int:
        """The end of the last range; the floor if there is none."""
        return self._ends[-1] if self._ends else self.floor

    def above(self) -> int:
        """How many positions above the floor are in the set."""
        return sum(self._ends) - sum(self._starts)

    def copy(self) -> Self:
        """An independent set of the same positions."""
        return self._of(self.floor, self._starts.copy(), self._ends.copy())

    @classmethod
    def _of(cls, floor: int, starts: list[int], ends: list[int]) -> Self:
        settled = cls(floor)
        settled._starts = starts
        settled._ends = ends
        return settled

    def add(self, first: int, count: int) -> None:
        """Put `count` positions from `first` on into the set; those there already may be among."""
        end = first + count
        if first <= self.floor:
            if end > self.floor:
                self._raise_floor(end)
            return
        if count <= 0:
            return
        low = bisect_left(self._ends, first)
        high = bisect_right(self._starts, end)
        if low < high:
            first = min(first, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [first]
        self._ends[low:high] = [end]

    def _raise_floor(self, end: int) -> None:
        swallowed = bisect_right(self._starts, end)
        if swallowed:
            end = max(end, self._ends[swallowed - 1])
            del self._starts[:swallowed]
            del self._ends[:swallowed]
        self.floor = end

    def first_unsettled(self, position: int) -> int:
        """The lowest position from `position` on that is not in the set."""
        if position < self.floor:
            return self.floor
        index = bisect_right(self._starts, position) - 1
        if index >= 0 and position < self._ends[index]:
            return self._ends[index]
        return position

    def around(self, position: int) -> tuple[int, int] | None:
        """The whole range that holds `position` (from 0 if below the floor); None if not in it."""
        if position < self.floor:
            return 0, self.floor
        index = bisect_right(self._starts, position) - 1
        if index >= 0 and position < self._ends[index]:
            return self._starts[index], self._ends[index]
        return None

    def settled(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges of the set within `start` to `end`."""
        if start >= end:
            return []
        below = [(start, min(end, self.floor))] if start < self.floor else []
        low = bisect_right(self._ends, start)
        high = bisect_left(self._starts, end)
        within = zip(self._starts[low:high], self._ends[low:high], strict=True)
        return [*below, *((max(start, first), min(end, last)) for first, last in within)]

    def unsettled(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges within `start` to `end` that are not in the set."""
        if start >= end:
            return []
        edges = [(start, start), *self.settled(start, end), (end, end)]
        return [(low, high) for (_, low), (high, _) in pairwise(edges) if low < high]

    def to_bytes(self) -> bytes:
        """The ranges above the floor, for `from_bytes`: lengths of gaps and ranges by turns."""
        return msgspec.msgpack.encode(list(self._lengths()))

    def _lengths(self) -> Iterator[int]:
        at = self.floor
        for start, end in zip(self._starts, self._ends, strict=True):
            yield start - at
            yield end - start
            at = end

    @classmethod
    def from_bytes(cls, floor: int, packed: bytes) -> Self:
        """The set that `to_bytes` wrote, with its floor."""
        starts, ends, at = [], [], floor
        lengths = msgspec.msgpack.decode(packed, type=list[int])
        for gap, length in zip(lengths[::2], lengths[1::2], strict=True):
            starts.append(at + gap)
            at += gap + length
            ends.append(at)
        return cls._of(floor, starts, ends)
