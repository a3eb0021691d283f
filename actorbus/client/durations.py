"""Seconds of the API to the wire's integer milliseconds."""

import math
from typing import Final

from actorbus.errors import ErrorCode, RefusedError

MILLISECONDS: Final = 1000

LONGEST_DEADLINE: Final = 30 * 24 * 3600.0
"""Seconds: far beyond what anyone waits for, and what every event loop's timers can do."""


def milliseconds(
    seconds: float, name: str, bounds: tuple[int, int], code: ErrorCode = ErrorCode.MALFORMED
) -> int:
    """`seconds` in whole milliseconds, rounded up, so that no wait gets shorter than asked.

    Raises:
        RefusedError: it is no number or lies outside `bounds` (milliseconds), with `code`.
    """
    low, high = bounds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise RefusedError(code, f"{name} must be a number of seconds, not {seconds!r:.40}")
    value = math.ceil(seconds * MILLISECONDS - 1e-6) if math.isfinite(seconds) else high + 1
    if not low <= value <= high:
        raise RefusedError(
            code,
            f"{name} must be {low / MILLISECONDS:g} to {high / MILLISECONDS:g} seconds,"
            f" not {seconds!r:.40}",
        )
    return value


def check_deadline(seconds: float, name: str, least: float = 0.001) -> None:
    """Check a deadline of the API.

    Raises:
        RefusedError: with `invalid_option`: it is no number, or below `least` or above 30 days.
    """
    bounds = (round(least * MILLISECONDS), round(LONGEST_DEADLINE * MILLISECONDS))
    milliseconds(seconds, name, bounds, ErrorCode.INVALID_OPTION)
