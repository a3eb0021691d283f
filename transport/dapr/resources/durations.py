"""Durations as Go writes them: `1m30s`, `500ms`."""

import re
from fractions import Fraction
from typing import Final

MALFORMED: Final = "a duration as 5s, 500ms or 1m30s"
"""What a duration must be, for messages."""

_UNITS: Final = {
    "ns": Fraction(1, 1_000_000),
    "us": Fraction(1, 1_000),
    "µs": Fraction(1, 1_000),
    "ms": Fraction(1),
    "s": Fraction(1_000),
    "m": Fraction(60_000),
    "h": Fraction(3_600_000),
}
_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")


def milliseconds(text: str) -> int | None:
    """A duration in milliseconds, rounded; a bare integer is one. None if it is no duration."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    if not _WHOLE.fullmatch(text):
        return None
    return round(sum(Fraction(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
