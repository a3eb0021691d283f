"""Two clocks: one that only runs forward for deadlines, one on the wall for what is stored."""

import time

import msgspec


class Now(msgspec.Struct, frozen=True, gc=False):
    """One reading of both clocks, in milliseconds.

    Attributes:
        mono: monotonic; deadlines and delays of this run.
        wall: since the epoch; time to live and not-before times, which outlive this run.
    """

    mono: int
    wall: int


class Clock:
    """The machine's clocks; tests use one that stands still until told."""

    def now(self) -> Now:
        """Read both clocks."""
        return Now(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)
