"""The metadata of a publish request: rawPayload, time to live, overrides (docs/dapr.md)."""

import re
from collections.abc import Mapping
from typing import Final

from actorbus.limits import TTL_MS
from actorbus.quote import quote

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})
_TTL: Final = frozenset({"ttl", "ttlinseconds"})
_OVERRIDE: Final = "cloudevent."
_INTEGER: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_PART: Final = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_DURATION: Final = re.compile(rf"[+-]?(?:{_PART.pattern})+", re.ASCII)
_SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_LEAST: Final = 0.001
_DURATION_CHARACTERS: Final = 100


def is_raw(metadata: Mapping[str, str]) -> bool:
    """Whether `rawPayload` asks for the body as it is; its name counts letter by letter.

    Raises:
        ValueError: it is none of Go's booleans.
    """
    value = metadata.get("rawPayload", "")
    if value in _FALSE:
        return False
    if value in _TRUE:
        return True
    raise ValueError(f"rawPayload value must be a valid boolean: actual is {quote(value)}")


def ttl_seconds(metadata: Mapping[str, str]) -> float | None:
    """The time to live, in seconds; None without one. Zero and less mean none, as in Dapr.

    Raises:
        ValueError: it is neither whole seconds nor a duration of Go as 1m30s.
    """
    for name, value in metadata.items():
        if name.lower() in _TTL and value:
            seconds = _duration(value)
            return None if seconds <= 0 else min(max(seconds, _LEAST), TTL_MS[1] / 1000)
    return None


def overrides(metadata: Mapping[str, str]) -> dict[str, str]:
    """The attributes that `cloudevent.*` sets: id, source, traceid…; empty values set nothing."""
    return {
        name[len(_OVERRIDE) :].lower(): value
        for name, value in metadata.items()
        if value and name.lower().startswith(_OVERRIDE)
    }


def _duration(text: str) -> float:
    if _INTEGER.fullmatch(text):
        return float(text)
    if len(text) > _DURATION_CHARACTERS or not _DURATION.fullmatch(text):
        raise ValueError(f"ttl value must be a valid integer or duration: actual is {quote(text)}")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds
