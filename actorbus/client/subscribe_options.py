"""The options of a subscription as an app names them, and as the protocol carries them."""

from enum import Enum
from typing import Any, Final, Literal, TypedDict

from actorbus.client.durations import milliseconds
from actorbus.errors import ErrorCode
from actorbus.limits import ACK_WAIT_MS, BACKOFF_MS
from actorbus.options import check_options


class Keep(Enum):
    """The type of `KEEP`."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP
"""An option that is not named: the group keeps its value. None puts it back to the default."""


class Options(TypedDict, total=False):
    """Options of `Bus.subscribe` and `Bus.on` (protocol: subscriptions).

    They belong to the group (topic and app ID), not to this instance. Left out, an option stays as
    it is; None puts it back to its default. Durations are in seconds.
    """

    ack_wait: float | None
    """How long a delivery may stay unsettled before it is redelivered (0.1 to 600; 30)."""
    max_attempts: int | None
    """Deliveries before giving up; 0: redeliver until acknowledged (0)."""
    backoff: float | None
    """First delay after a failed attempt; it doubles with each (0.01 to 3600; 1)."""
    max_backoff: float | None
    """Longest such delay (0.01 to 3600; 60)."""
    dead_letter_topic: str | None
    """Where an event goes that is dropped, has used up its attempts or is past its ttl (none)."""
    max_in_flight: int | None
    """Cap for the whole group (0: only the connections' own windows)."""
    start: Literal["new", "earliest"]
    """Where a new group begins; counts only at its creation ("new")."""


_DURATIONS: Final = {
    "ack_wait": ("ack_wait_ms", ACK_WAIT_MS),
    "backoff": ("backoff_ms", BACKOFF_MS),
    "max_backoff": ("max_backoff_ms", BACKOFF_MS),
}


def to_wire(options: Options) -> dict[str, Any]:
    """The `options` of a subscribe frame, checked.

    Raises:
        RefusedError: with `invalid_option`, naming it.
    """
    wire: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _DURATIONS:
            wire[name] = value
            continue
        field, bounds = _DURATIONS[name]
        wire[field] = (
            None if value is None else milliseconds(value, name, bounds, ErrorCode.INVALID_OPTION)  # type: ignore[arg-type]  # TypedDict items are objects
        )
    check_options(wire)
    return wire
