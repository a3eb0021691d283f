"""Sets of small offsets as the bits of an integer: which events of a grant are still open."""

from collections.abc import Iterator


def mask(offset: int, count: int) -> int:
    """The set {offset, …, offset + count - 1}."""
    return ((1 << count) - 1) << offset


def runs(bits: int) -> Iterator[tuple[int, int]]:
    """The set's maximal runs as (offset, count), in order."""
    offset = 0
    while bits:
        gap = (bits & -bits).bit_length() - 1
        bits >>= gap
        offset += gap
        count = (~bits & (bits + 1)).bit_length() - 1
        yield offset, count
        bits >>= count
        offset += count
