"""From a publish request to an event: Dapr's envelope, in CloudEvents 0.3 or 1.0.

What becomes of the body, by its content type:
- application/json: its value; text if it is no JSON. JSON that an event's data can't carry
  (integers past 64 bits, deep nesting) stays bytes, under the same content type.
- application/octet-stream and application/cloudevents+protobuf: bytes.
- anything else: text, or bytes if it is no UTF-8.
- application/cloudevents+json: it is the event; only what is missing is added.
- any, with `rawPayload`: bytes, in an event that is marked by the extension `rawpayload`.
"""

import functools
import random
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from actorbus import json_text
from actorbus.data import pack_data
from actorbus.errors import InvalidEventError, UndecodableError
from actorbus.events import EVENT_TYPE, Template, TemplatedEvent, from_json_form
from transport.dapr import errors
from transport.dapr.request_metadata import is_raw, overrides, ttl_seconds
from transport.dapr.trace import NO_TRACE, Trace

RAW: Final = "rawpayload"
"""The extension attribute, true, of an event whose data are the bytes that its publisher sent."""

TEXT: Final = "text/plain"
"""The content type of a body that comes without one."""

JSON: Final = "application/json"
CLOUD_EVENT: Final = "application/cloudevents+json"
BINARY: Final = "application/octet-stream"
_BINARY: Final = frozenset({BINARY, "application/cloudevents+protobuf"})

_REMEMBERED_CHARACTERS: Final = 512
"""Longest content type and topic whose template is remembered; with traces, some 1 MiB for all."""

_OVERRIDABLE: Final = ("id", "source", "type", "subject")
_OPTIONAL: Final = ("subject", "time", "datacontenttype", "dataschema", "schemaurl")


class Publish(msgspec.Struct, frozen=True):
    """One event that a Dapr app publishes.

    Attributes:
        component: a name that the door's configuration has.
        data: the body.
        content_type: as it was sent; "" if there was none.
        metadata: the request's, and the entry's of a bulk request.
        app_id: who publishes.
    """

    component: str
    topic: str
    data: bytes
    content_type: str
    metadata: Mapping[str, str]
    app_id: str
    trace: Trace = NO_TRACE


class Envelope(msgspec.Struct, frozen=True):
    """What goes to the broker.

    Attributes:
        event: a complete event, its binary data as bytes.
        ttl: seconds; None: it does not expire.
    """

    event: Mapping[str, Any]
    ttl: float | None


def media_type(content_type: str) -> str:
    """A content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def wrap(request: Publish, specversion: str) -> Envelope:
    """The event of a request.

    Raises:
        DaprError: its metadata can't be read, or it claims to be an event and is none.
    """
    metadata = request.metadata
    if not metadata:
        return Envelope(_event(request, specversion), None)
    try:
        raw, ttl = is_raw(metadata), ttl_seconds(metadata)
    except ValueError as error:
        raise errors.bad_metadata(request.component, str(error)) from None
    event = _raw(request, specversion) if raw else _event(request, specversion)
    return Envelope(event, ttl)


def _event(request: Publish, specversion: str) -> Mapping[str, Any]:
    common = _Common.of(request, specversion, request.content_type or TEXT)
    if request.metadata or len(common.content_type) + len(common.topic) > _REMEMBERED_CHARACTERS:
        kind, template = media_type(common.content_type), None
    else:
        kind, template = _template(common)
    if kind == CLOUD_EVENT:
        return _own_event(request, specversion)
    data = _data(request.data, kind)
    if template is not None:
        return TemplatedEvent(template, _new_id(), data)
    return {**_overridden(common, request.metadata), "data": data}


def _raw(request: Publish, specversion: str) -> dict[str, Any]:
    common = _Common.of(request, specversion, BINARY)
    return {**_overridden(common, request.metadata), RAW: True, "data": request.data}


class _Common(NamedTuple):
    """What the envelopes of one second have in common, if their events have no traces."""

    specversion: str
    app_id: str
    component: str
    topic: str
    content_type: str
    trace: Trace
    time: str

    @classmethod
    def of(cls, request: Publish, specversion: str, content_type: str) -> "_Common":
        app_id, component, topic = request.app_id, request.component, request.topic
        return cls(specversion, app_id, component, topic, content_type, request.trace, now())

    def attributes(self) -> dict[str, Any]:
        """All attributes of the envelope but its id."""
        return {
            "source": self.app_id,
            "type": EVENT_TYPE,
            "specversion": self.specversion,
            "datacontenttype": self.content_type,
            "topic": self.topic,
            "pubsubname": self.component,
            "traceid": self.trace.parent,
            "traceparent": self.trace.parent,
            "tracestate": self.trace.state,
            "time": self.time,
        }


@functools.lru_cache(maxsize=256)
def _template(common: _Common) -> tuple[str, Template | None]:
    """The media type, and the template of these envelopes.

    None for who brings an event, and where something breaks a rule: its publishing tells what.
    """
    kind = media_type(common.content_type)
    if kind == CLOUD_EVENT:
        return kind, None
    try:
        return kind, Template(common.attributes())
    except InvalidEventError:
        return kind, None


def _overridden(common: _Common, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of one envelope, as the request's metadata want them."""
    event = {"id": "", **common.attributes()}
    if metadata:
        _override(event, overrides(metadata))
    if not event["id"]:
        event["id"] = _new_id()
    return event


def _override(event: dict[str, Any], wanted: Mapping[str, str]) -> None:
    for name in _OVERRIDABLE:
        if name in wanted:
            event[name] = wanted[name]
    parent = wanted.get("traceparent") or wanted.get("traceid")
    if parent:
        event["traceid"] = event["traceparent"] = parent
    if "tracestate" in wanted:
        event["tracestate"] = wanted["tracestate"]


def _data(body: bytes, kind: str) -> Any:
    if kind == JSON:
        return _json(body)
    if kind in _BINARY:
        return body
    return _text(body)


def _json(body: bytes) -> Any:
    try:
        value = json_text.loads(body)
    except UndecodableError:
        return _text(body)
    if json_text.is_unusual(body):
        try:
            pack_data(value)
        except InvalidEventError:
            return body
    return value


def _text(body: bytes) -> str | bytes:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body  # Dapr would replace what is no UTF-8


def _own_event(request: Publish, specversion: str) -> dict[str, Any]:
    """A body that is an event: complete what Dapr completes, and an id."""
    component, topic = request.component, request.topic
    try:
        event = json_text.loads(request.data)
    except UndecodableError:
        event = None
    if not isinstance(event, dict):
        raise errors.no_cloud_event(component, topic)
    event = {name: value for name, value in event.items() if _is_set(name, value)}
    if "data" in event and "data_base64" in event:
        raise errors.bad_envelope(component, topic, "an event has either data or data_base64")
    _complete(event, request, specversion)
    try:
        return from_json_form(event)
    except InvalidEventError as error:
        raise errors.bad_envelope(component, topic, error.message) from None


def _is_set(name: str, value: Any) -> bool:
    """Whether it counts: null doesn't, nor empty text where CloudEvents wants some."""
    if value is None:
        return name == "data"
    return value != "" or name not in _OPTIONAL


def _complete(event: dict[str, Any], request: Publish, specversion: str) -> None:
    event["topic"] = request.topic
    event["pubsubname"] = request.component
    parent = event.get("traceid")
    if not isinstance(parent, str):
        event["traceid"] = event["traceparent"] = request.trace.parent
    elif not isinstance(event.get("traceparent"), str):
        event["traceparent"] = parent
    if not isinstance(event.get("tracestate"), str):
        event["tracestate"] = request.trace.state
    event.setdefault("time", now())
    for name, value in (
        ("id", ""),
        ("source", "Dapr"),
        ("type", EVENT_TYPE),
        ("specversion", specversion),
    ):
        event[name] = event.get(name) or value or _new_id()


def _new_id() -> str:
    """A random UUID of version 4; `uuid.uuid4` takes four times as long.

    It names an event and keeps no secret, so the process's generator will do, which Python seeds
    by the system's and seeds anew after a fork.
    """
    digits = f"{random.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def now() -> str:
    """The time, RFC 3339 with this machine's offset, in whole seconds."""
    return _format(int(time.time()))


@functools.lru_cache(maxsize=1)
def _format(seconds: int) -> str:
    text = datetime.fromtimestamp(seconds).astimezone().isoformat()
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text
