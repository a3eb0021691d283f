"""The EVENT map of a publish call: data with attributes, or a complete CloudEvent."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol, runtime_checkable

from actorbus.errors import ErrorCode, InvalidEventError, RefusedError
from actorbus.events import new_event_id

_DATA: Final = frozenset({"data", "data_base64"})
_PLAIN: Final[frozenset[type[Any]]] = frozenset({str, bytes, int, bool, float, dict, list})
"""Types that need no look at the value."""


@runtime_checkable
class CloudEventObject(Protocol):
    """An event of the `cloudevents` package, of any version of the specification."""

    def get_attributes(self) -> dict[str, Any]:
        """Attributes and extensions."""

    def get_data(self) -> Any:
        """The data; None if there is none."""


def from_data(data: Any, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """An event that the broker completes: `data`, and the attributes that the app wants.

    Raises:
        InvalidEventError: `attributes` names the data, or an `id` that is no text.
    """
    wrong = _DATA & attributes.keys()
    if wrong:
        raise InvalidEventError(f"pass {min(wrong)} as data, not as an attribute")
    event = {"id": None, **{name: _plain(value) for name, value in attributes.items()}}
    event["id"] = _event_id(event["id"])
    event["data"] = data
    return event


def from_event(event: Mapping[str, Any] | CloudEventObject) -> dict[str, Any]:
    """A complete CloudEvent as the app built it; it gets an `id` if it has none.

    Raises:
        RefusedError: it is neither a mapping nor an event of the `cloudevents` package.
        InvalidEventError: it has no `specversion`, so it is not complete.
    """
    if isinstance(event, Mapping):
        whole = dict(event)
        if not _PLAIN.issuperset(map(type, whole.values())):
            whole = {name: _plain(value) for name, value in whole.items()}
    elif isinstance(event, CloudEventObject):
        whole = {name: _plain(value) for name, value in event.get_attributes().items()}
        data = event.get_data()
        if data is not None:
            whole["data"] = data
    else:
        raise RefusedError(
            ErrorCode.INVALID_EVENT,
            f"event must be a mapping or a CloudEvent, not {type(event).__name__}",
        )
    if "specversion" not in whole:
        raise InvalidEventError("event has no specversion: pass data and attributes instead")
    whole["id"] = _event_id(whole.get("id"))
    return whole


def _event_id(value: Any) -> str:
    if value is None:
        return new_event_id()
    if isinstance(value, str) and value:
        return value
    raise InvalidEventError("attribute 'id' must be text that is not empty")


def _plain(value: Any) -> Any:
    """An attribute as the wire carries it: a time is RFC 3339 text (CloudEvents, type system)."""
    return value.isoformat() if isinstance(value, datetime) else value
