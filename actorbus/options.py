"""Checks the options of a `subscribe` frame (protocol: subscriptions)."""

from collections.abc import Mapping
from typing import Any, Final

from actorbus.errors import ErrorCode, RefusedError
from actorbus.limits import ACK_WAIT_MS, BACKOFF_MS, MAX_IN_FLIGHT
from actorbus.names import check_topic
from actorbus.quote import quote
from actorbus.store import Start

_MAX_ATTEMPTS: Final = 2**31 - 1
"""`deadletterattempts` carries the count, and CloudEvents integers have 32 bits."""

_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "ack_wait_ms": ACK_WAIT_MS,
    "max_attempts": (0, _MAX_ATTEMPTS),
    "backoff_ms": BACKOFF_MS,
    "max_backoff_ms": BACKOFF_MS,
    "max_in_flight": (0, MAX_IN_FLIGHT),
}
_KNOWN: Final = ", ".join(sorted([*_RANGES, "dead_letter_topic", "start"]))


def check_options(options: Mapping[str, Any]) -> tuple[dict[str, int | str | None], Start]:
    """Return the changes that `options` asks for, and `start`.

    A change to None puts the option back to its default; `start` is "new" unless named.

    Raises:
        RefusedError: with `invalid_option`, for what is unknown, of the wrong type or out of range.
    """
    changes = {name: _check(name, value) for name, value in options.items() if name != "start"}
    return changes, _check_start(options.get("start"))


def _check(name: str, value: Any) -> int | str | None:
    if name == "dead_letter_topic":
        return _check_dead_letter_topic(value)
    allowed = _RANGES.get(name)
    if allowed is None:
        raise _invalid(f"option {quote(name)} is unknown, use one of {_KNOWN}")
    if value is None:
        return None
    low, high = allowed
    if type(value) is int and low <= value <= high:  # a boolean is no integer
        return value
    raise _invalid(f"option {name} must be an integer from {low} to {high}, not {quote(value)}")


def _check_dead_letter_topic(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return check_topic(value)
    except RefusedError as error:
        raise _invalid(f"option dead_letter_topic: {error.message}") from None


def _check_start(value: Any) -> Start:
    match value:
        case None | "new":
            return "new"
        case "earliest":
            return "earliest"
        case _:
            raise _invalid(f"option start must be 'new' or 'earliest', not {quote(value)}")


def _invalid(message: str) -> RefusedError:
    return RefusedError(ErrorCode.INVALID_OPTION, message)
