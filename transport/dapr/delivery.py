"""An event as Dapr apps expect it: the JSON envelope, and the `TopicEventRequest` of gRPC. Pure.

An event that was published through Dapr's API carries Dapr's extra fields as extension attributes.
One that a WebSocket app published lacks them; they are filled in here, so that a Dapr app gets all
the fields that it may require, whoever published.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import orjson
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventRequest

from actorbus import json_text
from actorbus.errors import UndecodableError
from transport.dapr.envelope import RAW, media_type
from transport.dapr.trace import trace_of

Envelope = dict[str, Any]
"""A CloudEvent in JSON form: attributes, and `data`, or `data_base64` in any specversion."""

TRACE_FIELDS: Final = ("traceid", "traceparent", "tracestate")
"""Always text for a Dapr app; what a publisher put there that is no text is ignored."""

_NOT_EXTENSIONS: Final = frozenset(
    {"id", "source", "type", "specversion", "datacontenttype", "data", "data_base64"}
)
"""What `TopicEventRequest` has fields for of its own."""

_NOT_PASSED: Final = frozenset({"data", "datacontentencoding", RAW})
"""What of a stored event is not an attribute of the envelope: binary data is in `data_base64`."""

EXTENSION_DEPTH: Final = 20
"""Deepest nesting of an extension of a raw envelope: protobuf reads 100 levels, and each JSON level
takes up to three."""

_OCTETS: Final = "application/octet-stream"
_JSON_TYPES: Final = frozenset({"application/json", "application/cloudevents+json"})


class Source(msgspec.Struct, frozen=True):
    """The subscription that an event is delivered for.

    Attributes:
        component: the pub/sub component's name.
        topic: the topic subscribed to.
        raw: the subscription's metadata say `rawPayload`.
    """

    component: str
    topic: str
    raw: bool = False


def envelope(event: Mapping[str, Any], source: Source, now: str) -> Envelope:
    """The envelope that a Dapr app gets for an event.

    What was published raw comes to a subscription that is not raw as its own JSON object, as Dapr
    has it; if it is none, it comes as it would to a raw subscription, where Dapr would fail.

    Args:
        event: as `Delivery.event` has it.
        source: what it is delivered for.
        now: RFC 3339, for an event without a `time`.
    """
    if RAW in event:
        payload = _payload(event)
        read = None if source.raw else _object(payload)
        if read is None:
            return _wrapped(event, source, payload)
        if not isinstance(read.get("id"), str) or not read["id"]:
            read["id"] = event["id"]
        return read
    found = _envelope(event, source, now)
    return _wrapped(event, source, orjson.dumps(found)) if source.raw else found


def http_body(found: Envelope) -> bytes:
    """An envelope as the body of an HTTP delivery (`application/cloudevents+json`).

    JSON that the broker could only carry as bytes (integers past 64 bits) is JSON again.
    """
    encoded = found.get("data_base64")
    if encoded is None or _media_type(found) not in _JSON_TYPES:
        return orjson.dumps(found)
    data = base64.b64decode(encoded)
    try:
        json_text.loads(data)
    except UndecodableError:
        return orjson.dumps(found)
    others = {name: value for name, value in found.items() if name != "data_base64"}
    return b'%b,"data":%b}' % (orjson.dumps(others)[:-1], data)


def topic_event(found: Envelope, source: Source, path: str) -> TopicEventRequest:
    """An envelope as gRPC delivers it, over a stream or to `OnTopicEvent`.

    Args:
        found: what `envelope` returned.
        source: what it is delivered for.
        path: the route that matched; `/` on streams.
    """
    request = TopicEventRequest(
        id=_text(found, "id"),
        source=_text(found, "source"),
        type=_text(found, "type"),
        spec_version=_text(found, "specversion"),
        data_content_type=_text(found, "datacontenttype"),
        data=data_bytes(found),
        topic=source.topic,
        pubsub_name=source.component,
        path=path,
    )
    extensions = request.extensions
    for name, value in found.items():
        if name in _NOT_EXTENSIONS:
            continue
        if isinstance(value, str):
            extensions.fields[name].string_value = value  # a third of what Struct's own way costs
        else:
            extensions[name] = value
    return request


def data_bytes(found: Envelope) -> bytes:
    """The data of an envelope as gRPC carries them.

    As Dapr has it, text of a content type that is neither text, XML nor JSON is left out; but
    `+json` is passed on, since the SDKs read it.
    """
    encoded = found.get("data_base64")
    if isinstance(encoded, str):
        return base64.b64decode(encoded)
    data = found.get("data")
    if data is None:
        return b""
    kind = _media_type(found)
    is_text = kind.startswith("text/") or kind == "application/xml" or kind.endswith("+json")
    if kind in _JSON_TYPES or not kind or (is_text and not isinstance(data, str)):
        return orjson.dumps(data)
    return data.encode() if is_text else b""


def trace_metadata(found: Envelope) -> dict[str, str]:
    """The trace context of an envelope, as headers or gRPC metadata; without what it lacks.

    Any text may have been published under these names, so what is malformed is left out here, too:
    it would be no header.
    """
    parent, state = found.get("traceparent"), found.get("tracestate")
    trace = trace_of(
        parent if isinstance(parent, str) else None, state if isinstance(state, str) else None
    )
    fields = {"traceparent": trace.parent, "tracestate": trace.state}
    return {name: value for name, value in fields.items() if value}


def _envelope(event: Mapping[str, Any], source: Source, now: str) -> Envelope:
    found = {name: _attribute(value) for name, value in event.items() if name not in _NOT_PASSED}
    data = event.get("data")
    if isinstance(data, bytes):
        found["data_base64"] = base64.b64encode(data).decode()
    elif data is not None:
        found["data"] = data
        found.setdefault("datacontenttype", "application/json")  # CloudEvents' JSON format, 2.4.1
    _add_fields(found, event, source)
    if not isinstance(found.get("time"), str):
        found["time"] = now
    return found


def _add_fields(found: Envelope, event: Mapping[str, Any], source: Source) -> None:
    """Set what Dapr adds to every event, as text."""
    for name, value in (("topic", source.topic), ("pubsubname", source.component)):
        if not isinstance(found.get(name), str):
            found[name] = value
    for name in TRACE_FIELDS:
        found[name] = _text(event, name)
    found["traceid"] = found["traceid"] or found["traceparent"]


def _wrapped(event: Mapping[str, Any], source: Source, payload: bytes) -> Envelope:
    """What a raw subscription gets; unlike Dapr's its id stays the same when it comes again."""
    found: Envelope = {
        "id": event["id"],
        "specversion": event["specversion"],
        "datacontenttype": _OCTETS,
        "source": "Dapr",
        "type": "com.dapr.event.sent",
        "topic": source.topic,
        "pubsubname": source.component,
        "data_base64": base64.b64encode(payload).decode(),
    }
    _add_fields(found, event, source)
    return found


def _payload(event: Mapping[str, Any]) -> bytes:
    """What was published raw; whoever else marks an event as raw may have put anything there."""
    data = event.get("data")
    if data is None:
        return b""
    return data if isinstance(data, bytes) else orjson.dumps(data)


def _object(payload: bytes) -> Envelope | None:
    """The JSON object that a payload is, if an app can read it as an envelope; else None."""
    try:
        found = orjson.loads(payload)
        if not isinstance(found, dict) or _too_deep(found):
            return None
        encoded = found.get("data_base64")
        if encoded is not None:
            base64.b64decode(encoded, validate=True)
    except (ValueError, TypeError, binascii.Error):
        return None
    return found


def _too_deep(found: Envelope) -> bool:
    """Whether a value beside the data is nested so deep that protobuf refuses to read it."""
    level: list[Any] = [value for name, value in found.items() if name not in _NOT_EXTENSIONS]
    for _ in range(EXTENSION_DEPTH):
        level = [child for value in level for child in _children(value)]
    return any(isinstance(value, dict | list) for value in level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _attribute(value: Any) -> Any:
    """An attribute in JSON: binary ones are base64 text (CloudEvents, type system)."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _media_type(found: Envelope) -> str:
    return media_type(_text(found, "datacontenttype"))


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
