"""What is measured: durations in a histogram, and which events arrived how often."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final

import msgspec

MANTISSA_BITS: Final = 7
"""A duration is kept to within 1/128 of itself: finer than any run repeats."""

HALF: Final = 1 << MANTISSA_BITS

BUCKETS: Final = (64 - MANTISSA_BITS + 1) * HALF
"""Enough for any duration of 64 bits: 58 KiB."""

MOST_EVENTS: Final = 1 << 33
"""Per publisher: 1 GiB of bitmap; a number beyond it comes from a broken payload."""


class Histogram:
    """Durations in nanoseconds, counted in buckets that grow with the value."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS

    def record(self, nanoseconds: int) -> None:
        """Count one duration; measured: 0.13 µs."""
        shift = nanoseconds.bit_length() - MANTISSA_BITS - 1
        if shift < 0:  # noqa: PLR1730 - max() would double the method's time
            shift = 0
        self._counts[(shift << MANTISSA_BITS) + (nanoseconds >> shift)] += 1

    def add(self, counts: dict[int, int]) -> None:
        """Take in what another process counted (its `counts`)."""
        for bucket, count in counts.items():
            self._counts[bucket] += count

    @property
    def counts(self) -> dict[int, int]:
        """The counts by bucket, without the empty ones."""
        return {bucket: count for bucket, count in enumerate(self._counts) if count}

    @property
    def total(self) -> int:
        """How many durations were recorded."""
        return sum(self._counts)

    def percentile(self, percent: float) -> float | None:
        """The nanoseconds that `percent` of all do not exceed; None if there are none."""
        found = self.percentiles([percent])
        return found[0] if found else None

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """The same for several, in rising order; [] without durations."""
        counts, total = self.counts, self.total
        if not total:
            return []
        found: list[float] = []
        below = 0
        for bucket, count in counts.items():
            below += count
            while len(found) < len(percents) and below >= _rank(percents[len(found)], total):
                found.append(_middle(bucket))
        return found


def _rank(percent: float, total: int) -> int:
    return max(1, ceil(round(percent * total / 100, 6)))


def _middle(bucket: int) -> float:
    if bucket < 2 * HALF:
        return float(bucket)
    shift = (bucket >> MANTISSA_BITS) - 1
    return ((bucket - (shift << MANTISSA_BITS)) << shift) + ((1 << shift) - 1) / 2


class Seen:
    """Which events of each publisher arrived, one bit each, and how many came again.

    Attributes:
        unique: events that arrived at least once.
        repeated: arrivals of an event that had arrived before.
    """

    def __init__(self, publishers: int) -> None:
        self.unique = 0
        self.repeated = 0
        self._bitmaps = [bytearray() for _ in range(publishers)]

    def add(self, publisher: int, number: int) -> None:
        """Note one arrival; measured: 0.16 µs.

        Raises:
            IndexError: there is no such publisher.
            ValueError: no publisher comes this far.
        """
        bitmap = self._bitmaps[publisher]
        byte, bit = number >> 3, 1 << (number & 7)
        if byte >= len(bitmap):
            _grow(bitmap, number)
        if bitmap[byte] & bit:
            self.repeated += 1
        else:
            bitmap[byte] |= bit
            self.unique += 1

    @property
    def bitmaps(self) -> list[bytes]:
        """One a publisher; bit n (of byte n // 8) is event n."""
        return [bytes(bitmap) for bitmap in self._bitmaps]


def _grow(bitmap: bytearray, number: int) -> None:
    """Double it, or more: growing costs next to nothing per event."""
    if number >= MOST_EVENTS:
        raise ValueError(f"event number {number} is beyond any that was published")
    bitmap.extend(bytes(max(4096, len(bitmap), number // 8 + 1 - len(bitmap))))


class Verdict(msgspec.Struct, frozen=True):
    """What a group got of what was published.

    Attributes:
        received: deliveries of all its instances.
        lost: events that were acknowledged to their publisher and never arrived here.
        duplicates: deliveries beyond an event's first.
        unconfirmed: events that arrived though their publish had failed: not promised, not wrong.
    """

    received: int
    lost: int
    duplicates: int
    unconfirmed: int


def confirmed(claimed: int, failed: Iterable[int]) -> int:
    """The bitmap of a publisher's acknowledged events, as one integer: all it began but some."""
    bitmap = (1 << claimed) - 1
    for number in failed:
        bitmap &= ~(1 << number)
    return bitmap


def judge(published: Sequence[int], received: int, arrived: Iterable[Sequence[bytes]]) -> Verdict:
    """Compare what was published with what the instances of one group have seen.

    Args:
        published: `confirmed` of each publisher.
        received: deliveries of all instances.
        arrived: the bitmaps of each instance, one a publisher.
    """
    seen = [0] * len(published)
    for bitmaps in arrived:
        for publisher, bitmap in enumerate(bitmaps):
            seen[publisher] |= int.from_bytes(bitmap, "little")
    pairs = list(zip(published, seen, strict=True))
    return Verdict(
        received=received,
        lost=sum((sent & ~got).bit_count() for sent, got in pairs),
        duplicates=received - sum(got.bit_count() for got in seen),
        unconfirmed=sum((got & ~sent).bit_count() for sent, got in pairs),
    )
