"""Frames: their types, and the check of what the other side sends.

`parse` is the broker's door, `parse_answer` the client's. The types are in `actorbus.frame_types`.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from actorbus.errors import ErrorCode, MalformedError, Ref, RefusedError
from actorbus.frame_types import (
    Ack,
    Acked,
    Answer,
    ClientFrame,
    DeliveryIds,
    Drain,
    Drained,
    Error,
    EventError,
    Extend,
    Extended,
    Flow,
    Goaway,
    GroupStatus,
    Hello,
    Inspect,
    Inspected,
    Limits,
    Publish,
    Published,
    Status,
    Subscribe,
    Subscribed,
    TopicStatus,
    Unsubscribe,
    Unsubscribed,
    Welcome,
)
from actorbus.limits import (
    ACK_IDS,
    BATCH_EVENTS,
    DELAY_MS,
    INTEGER,
    REASON_CHARACTERS,
    REF_BYTES,
    TTL_MS,
)
from actorbus.names import check_app_id, check_instance, check_topic
from actorbus.quote import quote

__all__ = [
    "Ack",
    "Acked",
    "Answer",
    "ClientFrame",
    "Drain",
    "Drained",
    "Error",
    "EventError",
    "Extend",
    "Extended",
    "Flow",
    "Goaway",
    "GroupStatus",
    "Hello",
    "Inspect",
    "Inspected",
    "Limits",
    "Publish",
    "Published",
    "Status",
    "Subscribe",
    "Subscribed",
    "TopicStatus",
    "Unsubscribe",
    "Unsubscribed",
    "Welcome",
    "clean_reason",
    "parse",
    "parse_answer",
]


def parse(frame: dict[str, Any], *, batch_events: int = BATCH_EVENTS) -> ClientFrame:
    """Check a client's frame for everything that needs no state, and return it.

    Events and options are left to `actorbus.events` and `actorbus.options`.

    Raises:
        MalformedError: with the frame's `ref` and `malformed`, `unknown_type`, `invalid_name`, or
            `too_large` for more than `batch_events` events.
    """
    ref = _check_ref(frame)
    kind = frame.get("type")
    if not isinstance(kind, str):
        raise MalformedError(f"type must be text, not {quote(kind)}", ref=ref)
    try:
        if kind == "publish":
            return _parse_publish(ref, frame, batch_events)
        if kind == "ack":
            return _parse_ack(ref, frame)
        return _parse_control(kind, ref, frame)
    except MalformedError as error:
        error.ref = ref
        raise
    except RefusedError as error:
        raise MalformedError(error.message, ref=ref, code=ErrorCode(error.code)) from None


def parse_answer(frame: dict[str, Any]) -> Answer:
    """Return a broker's frame other than `deliver`; unknown keys are ignored.

    Raises:
        MalformedError: when it breaks the protocol; with `unknown_type` for a type of later days.
    """
    kind = frame.get("type")
    if not isinstance(kind, str) or kind not in _ANSWERS:
        raise MalformedError(f"unknown frame {quote(kind)}", code=ErrorCode.UNKNOWN_TYPE)
    answer: Answer = _convert(_ANSWERS[kind], {"ref": None, **frame})
    return answer


def _check_ref(frame: dict[str, Any]) -> Ref:
    if "ref" not in frame:
        return None
    ref = frame["ref"]
    if type(ref) is int and -INTEGER <= ref <= INTEGER:
        return ref
    # at most 64 characters first: those of a long text are not worth encoding
    if isinstance(ref, str) and len(ref) <= REF_BYTES and len(ref.encode()) <= REF_BYTES:
        return ref
    raise MalformedError(
        f"ref must be text of up to {REF_BYTES} bytes or an integer within 2^53, not {quote(ref)}"
    )


def _parse_publish(ref: Ref, frame: dict[str, Any], batch_events: int) -> Publish:
    topic = _check_name(frame, "topic", check_topic)
    if ("events" in frame) == ("data" in frame):
        raise MalformedError("publish needs either events or data")
    events = [{"data": frame["data"]}] if "data" in frame else frame["events"]
    if not isinstance(events, list) or not events:
        raise MalformedError(f"events must be an array that is not empty, not {quote(events)}")
    if len(events) > batch_events:
        raise MalformedError(
            f"{len(events)} events in one frame, send at most {batch_events}",
            code=ErrorCode.TOO_LARGE,
        )
    ttl_ms = _check_integer(frame, "ttl_ms", TTL_MS) if "ttl_ms" in frame else None
    return Publish(ref, topic, events, ttl_ms)


def _parse_ack(ref: Ref, frame: dict[str, Any]) -> Ack:
    ids = _check_ids(frame)
    status = frame.get("status", "SUCCESS")
    if status not in ("SUCCESS", "RETRY", "DROP"):
        raise MalformedError(f"status must be SUCCESS, RETRY or DROP, not {quote(status)}")
    delay_ms = _check_integer(frame, "delay_ms", DELAY_MS) if "delay_ms" in frame else None
    reason = _check_reason(frame["reason"]) if "reason" in frame else None
    return Ack(ref, ids, status, delay_ms, reason)


def _check_ids(frame: dict[str, Any]) -> list[int]:
    try:
        ids: list[int] = msgspec.convert(frame.get("ids"), DeliveryIds)
    except msgspec.ValidationError:
        raise MalformedError(
            f"ids must be an array of up to {ACK_IDS} integers within 2^53"
        ) from None
    return ids


def _check_reason(reason: Any) -> str | None:
    if not isinstance(reason, str):
        raise MalformedError(f"reason must be text, not {quote(reason)}")
    return clean_reason(reason)


def clean_reason(reason: str) -> str | None:
    """Return up to 256 of a reason's printable characters, or None if it has none."""
    if not reason.isprintable():
        reason = "".join(filter(str.isprintable, reason))
    return reason[:REASON_CHARACTERS] or None


def _check_integer(frame: dict[str, Any], field: str, allowed: tuple[int, int]) -> int:
    value = frame[field]
    low, high = allowed
    if type(value) is int and low <= value <= high:  # a boolean is no integer
        return value
    raise MalformedError(f"{field} must be an integer from {low} to {high}, not {quote(value)}")


def _check_name(frame: dict[str, Any], field: str, check: Callable[[Any], str]) -> str:
    """A name of the wrong type is malformed, one of the wrong form an invalid name."""
    value = frame.get(field)
    if not isinstance(value, str):
        raise MalformedError(f"{field} must be text, not {quote(value)}")
    return check(value)


_CONTROL: Final[dict[str, type[ClientFrame]]] = {
    "hello": Hello,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "extend": Extend,
    "flow": Flow,
    "drain": Drain,
    "inspect": Inspect,
}
_ANSWERS: Final[dict[str, type[Answer]]] = {
    "welcome": Welcome,
    "published": Published,
    "subscribed": Subscribed,
    "unsubscribed": Unsubscribed,
    "acked": Acked,
    "extended": Extended,
    "drained": Drained,
    "inspected": Inspected,
    "error": Error,
    "goaway": Goaway,
}
_NAMES: Final[dict[str, Callable[[Any], str]]] = {
    "app_id": check_app_id,
    "instance": check_instance,
    "topic": check_topic,
}
_PATH: Final = re.compile(r"`\$\.(\w+)")


def _parse_control(kind: str, ref: Ref, frame: dict[str, Any]) -> ClientFrame:
    struct = _CONTROL.get(kind)
    if struct is None:
        raise MalformedError(f"unknown type {quote(kind)}", code=ErrorCode.UNKNOWN_TYPE)
    fields = {name: frame[name] for name in struct.__struct_fields__ if name in frame}
    for name, value in fields.items():
        if value is None:
            raise MalformedError(f"{kind} with {name} null, leave it out instead")
    parsed: ClientFrame = _convert(struct, {**fields, "type": kind, "ref": ref})
    for name, check in _NAMES.items():
        if name in fields:
            check(fields[name])
    return parsed


def _convert(struct: type[Any], fields: dict[str, Any]) -> Any:
    try:
        return msgspec.convert(fields, struct)
    except msgspec.ValidationError as error:
        raise MalformedError(_describe(str(error), fields)) from None


def _describe(error: str, fields: dict[str, Any]) -> str:
    """Put msgspec's message in our form, with the value, unless that is a secret."""
    found = _PATH.search(error)
    text = (error[0].lower() + error[1:]).replace("`$.", f"`{fields['type']}.")
    if found is None or found[1] == "token" or found[1] not in fields:
        return text
    return f"{text}, not {quote(fields[found[1]])}"
