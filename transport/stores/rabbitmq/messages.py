"""AMQP messages: what the bodies and headers hold.

Ours: a MessagePack array of the canonical bytes of up to 100 events. Dapr's: one CloudEvent as
JSON, with the content type that Dapr's component writes (`text/plain`). Both formats are read
whatever the URL says; any other body becomes one event with the body as its binary data.

Headers of ours, in either format: `actorbus-expires-at` (wall clock, milliseconds) and
`actorbus-history` (attempts, lost and not-before of each event, one after the other).

With Dapr's format a ttl also goes into the envelope as `expiration`, which Dapr's runtime checks
before it delivers. The AMQP expiration that Dapr's component would set is not used: RabbitMQ drops
such messages silently, so they could not be dead-lettered. Received ones that have it are honoured
by RabbitMQ.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgpack
import msgspec
import orjson
from pamqp.commands import Basic

from actorbus.errors import ErrorCode, InvalidEventError
from actorbus.events import EventEncoder, decode, from_json_form, new_event_id, to_base64

MESSAGE_EVENTS: Final = 100
"""Most events of one message: enough to make a message's cost small against its events'."""

MESSAGE_BYTES: Final = 256 * 1024
"""Bytes of events after which a message is full: bounds what a prefetched message may hold."""

CONTENT_TYPE: Final = "application/vnd.actorbus.events+msgpack"
EXPIRES_AT: Final = "actorbus-expires-at"
HISTORY: Final = "actorbus-history"

_DAPR_CONTENT_TYPE: Final = "text/plain"
_PERSISTENT: Final = 2
_LAST_YEAR_MS: Final = 253_402_300_799_000
_MOST: Final = 2**62
_RAW_SOURCE: Final = "rabbitmq"


RETURNS: Final = 10
"""A message that went back so often goes back as a new one.

RabbitMQ from 4.0 on drops what was returned more than 20 times, and counts our crashes too. Our own
attempts never come from that count.
"""

_RETURNS: Final = "x-delivery-count"


class History(NamedTuple):
    """What happened to an event before (fields as in `actorbus.store.Stored`)."""

    attempts: int = 0
    lost: int = 0
    not_before: int = 0


FRESH: Final = History()


class Arrived(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The events of one message.

    Attributes:
        histories: None when all are fresh.
        worn: it went back to the queue `RETURNS` times.
    """

    events: tuple[bytes, ...]
    expires_at: int | None = None
    histories: tuple[History, ...] | None = None
    worn: bool = False


class _Shape(msgspec.Struct, gc=False):
    id: str
    source: str
    type: str
    specversion: Literal["0.3", "1.0"]


_shape: Final = msgspec.msgpack.Decoder(_Shape)


class Format(Protocol):
    """How bodies are written."""

    events: int
    """Most events of one message."""

    def body(self, events: Sequence[bytes], expires_at: int | None) -> bytes:
        """The body of a message with these events."""

    @property
    def content_type(self) -> str:
        """The body's content type."""


class BatchFormat:
    """Many events in one message."""

    events: int = MESSAGE_EVENTS
    content_type = CONTENT_TYPE

    def body(self, events: Sequence[bytes], expires_at: int | None) -> bytes:  # noqa: ARG002 - ttl: a header
        """A MessagePack array of the events' bytes."""
        packed: bytes = msgpack.packb(events)
        return packed


class DaprFormat:
    """One event a message, as Dapr's `pubsub.rabbitmq` reads it."""

    events: int = 1
    content_type = _DAPR_CONTENT_TYPE

    def body(self, events: Sequence[bytes], expires_at: int | None) -> bytes:
        """The event as JSON, with its `expiration`.

        Binary data is `data_base64` in either version of CloudEvents: Dapr knows no other form.
        """
        (event,) = events
        envelope = decode(event)
        if isinstance(envelope.get("data"), bytes):
            envelope["data_base64"] = to_base64(envelope.pop("data"))
            envelope.pop("datacontentencoding", None)
        if expires_at is not None and expires_at <= _LAST_YEAR_MS:
            envelope = {"expiration": _rfc3339(expires_at)} | envelope
        return orjson.dumps(envelope)


def split(events: Sequence[bytes], most: int) -> Iterator[Sequence[bytes]]:
    """The events as messages of at most `most` events and `MESSAGE_BYTES`, in order."""
    if len(events) <= most and sum(map(len, events)) <= MESSAGE_BYTES:
        yield events
        return
    start = size = 0
    for index, event in enumerate(events):
        if index > start and (index - start == most or size + len(event) > MESSAGE_BYTES):
            yield events[start:index]
            start, size = index, 0
        size += len(event)
    yield events[start:]


def properties(
    form: Format, expires_at: int | None, histories: Sequence[History] | None = None
) -> Basic.Properties:
    """The properties of a persistent message, with an id that no other publish has."""
    headers: dict[str, Any] = {}
    if expires_at is not None:
        headers[EXPIRES_AT] = expires_at
    if histories is not None:
        headers[HISTORY] = [number for history in histories for number in history]
    return Basic.Properties(
        content_type=form.content_type,
        delivery_mode=_PERSISTENT,
        message_id=new_event_id(),
        headers=headers or None,
    )


def read(body: bytes, props: Basic.Properties) -> Arrived:
    """The events of a message, whoever wrote it.

    Raises:
        InvalidEventError: a foreign body that is too large to be an event.
    """
    headers = props.headers or {}
    expires_at = _integer(headers.get(EXPIRES_AT))
    events = _ours(body) if props.content_type == CONTENT_TYPE else None
    if events is None:
        event, own = _foreign(body, props, expires_at)
        events, expires_at = (event,), expires_at if expires_at is not None else own
    worn = (_integer(headers.get(_RETURNS)) or 0) >= RETURNS
    return Arrived(events, expires_at, _histories(headers.get(HISTORY), len(events)), worn)


def _ours(body: bytes) -> tuple[bytes, ...] | None:
    try:
        events = msgpack.unpackb(body, use_list=False)
    except (ValueError, msgpack.UnpackException):
        return None
    if isinstance(events, tuple) and events and all(map(_is_event, events)):
        return events
    return None


def _is_event(event: Any) -> bool:
    """Whether these are an event's bytes: others would end every connection they are sent to.

    What an event holds is not looked at: this costs 0.7 µs, a whole decode more than 3.
    """
    try:
        _shape.decode(event)
    except (TypeError, msgspec.DecodeError):
        return False
    return type(event) is bytes


def _foreign(
    body: bytes, props: Basic.Properties, expires_at: int | None
) -> tuple[bytes, int | None]:
    envelope = _envelope(body)
    if envelope is None:
        return _raw(body, props), None
    expiration = envelope.get("expiration")
    if expiration and expires_at is not None and expiration == _expiration(expires_at):
        del envelope["expiration"]  # added by DaprFormat
    try:
        return _encode(from_json_form(envelope)), _expires_at(expiration)
    except InvalidEventError as error:
        if error.code == ErrorCode.TOO_LARGE:
            raise
        return _raw(body, props), None


def _envelope(body: bytes) -> dict[str, Any] | None:
    if not body.startswith(b"{"):
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and "specversion" in value else None


def _raw(body: bytes, props: Basic.Properties) -> bytes:
    event: dict[str, Any] = {"data": body}
    if props.message_id:
        event["id"] = props.message_id  # stays the same when the message is delivered again
    if props.content_type:
        event["datacontenttype"] = props.content_type
    try:
        return _encode(event)
    except InvalidEventError as error:
        if error.code == ErrorCode.TOO_LARGE:
            raise
        return _encode({"data": body})  # an id or a content type that is none


def _encode(event: Mapping[str, Any]) -> bytes:
    return _encoder.encode(event)[1]


def _histories(value: Any, events: int) -> tuple[History, ...] | None:
    if not isinstance(value, list) or len(value) != events * len(FRESH):
        return None
    if any(_integer(number) is None for number in value):
        return None
    return tuple(map(History, value[0::3], value[1::3], value[2::3]))


def _integer(value: Any) -> int | None:
    """A number as we write them; strangers may have put anything into the headers."""
    return value if type(value) is int and 0 <= value <= _MOST else None


def _expires_at(expiration: Any) -> int | None:
    """Dapr's `expiration` in milliseconds; one that can't be read never expires, as in Dapr."""
    if not isinstance(expiration, str):
        return None
    try:
        moment = datetime.fromisoformat(expiration)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _expiration(expires_at: int) -> str | None:
    return _rfc3339(expires_at) if expires_at <= _LAST_YEAR_MS else None


def _rfc3339(expires_at: int) -> str:
    moment = datetime.fromtimestamp(expires_at / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_encoder: Final = EventEncoder(_RAW_SOURCE)
