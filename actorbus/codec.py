"""The two encodings of a frame: MessagePack in binary messages, JSON in text messages.

Events are encoded once and spliced into frames as bytes. JSON messages are UTF-8 bytes too; the
WebSocket layer sends them as text.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from struct import Struct
from typing import Any, Final, Protocol

import msgspec
import orjson

from actorbus import json_text
from actorbus.data import pack_data
from actorbus.errors import InvalidEventError, MalformedError, UndecodableError
from actorbus.events import from_json_form, to_base64, to_json
from actorbus.packing import first_line, pack, pack_plain, unpack, unpack_checked
from actorbus.quote import quote

Delivery = tuple[int, int, bytes]
"""Delivery id, attempt, canonical event."""


class Codec(Protocol):
    """One encoding of the protocol.

    Attributes:
        name: for people and metrics.
        subprotocol: the WebSocket subprotocol that chooses it.
        binary: whether its messages are WebSocket binary messages (else text).
    """

    name: str
    subprotocol: str
    binary: bool

    def decode(self, message: bytes | str) -> dict[str, Any]:
        """Return the frame in a message.

        Raises:
            UndecodableError: for what is not decodable, or not a map: close with 1007.
        """

    def decode_checked(self, message: bytes) -> dict[str, Any]:
        """The same for an app, which may rely on what the broker has checked."""

    def encode(self, frame: Mapping[str, Any] | msgspec.Struct) -> bytes:
        """Return a frame, other than `publish` and `deliver`, as a message.

        Raises:
            MalformedError: when it holds something that has no encoding.
        """

    def deliver(
        self, topic: str, lease_ms: int, deliveries: Sequence[Delivery], limit: int
    ) -> list[bytes]:
        """Return deliver frames of at most `limit` bytes each, in order.

        An event of an eighth of `limit` always fits. One that does not fit even alone (a broker
        with smaller limits than its store's contents) gets a frame of its own, over the limit.
        """

    def publish(self, topic: str, ref: int, events: Sequence[bytes], ttl_ms: int | None) -> bytes:
        """Return a publish frame of events that `encode_event` made."""

    def encode_data(self, event_id: str, data: Any) -> bytes:
        """Return an EVENT of an id and data alone, for `publish`.

        Raises:
            InvalidEventError: when it can't be written in both encodings.
        """

    def encode_event(self, event: Mapping[str, Any]) -> bytes:
        """Return one EVENT map, to be spliced into publish frames.

        Raises:
            InvalidEventError: for data that the protocol does not allow, or an attribute that
                can't be encoded. Whether attributes are right is the broker's to say.
        """

    def event(self, value: Any) -> dict[str, Any]:
        """Return the `event` of a decoded delivery, its binary data as bytes.

        Raises:
            UndecodableError: when it is no event.
        """


class _MsgpackCodec:
    name = "msgpack"
    subprotocol = "actorbus.v1.msgpack"
    binary = True

    def decode(self, message: bytes | str) -> dict[str, Any]:
        if isinstance(message, str):
            raise UndecodableError("message is text, MessagePack frames are binary")
        return _check_map(unpack(message))

    def decode_checked(self, message: bytes) -> dict[str, Any]:
        return _check_map(unpack_checked(message))

    def encode(self, frame: Mapping[str, Any] | msgspec.Struct) -> bytes:
        try:
            return pack(_to_map(frame))
        except (TypeError, ValueError, OverflowError) as error:
            raise MalformedError(f"frame can't be encoded: {first_line(error)}") from None

    def deliver(
        self, topic: str, lease_ms: int, deliveries: Sequence[Delivery], limit: int
    ) -> list[bytes]:
        prefix = b"".join(
            (_DELIVER, pack(topic), b"\xa8lease_ms", pack(lease_ms), b"\xaadeliveries")
        )
        head = _HEAD.pack
        items = [
            (head(b"\x83\xa2id\xcf", number, b"\xa7attempt\xce", attempt, b"\xa5event"), event)
            for number, attempt, event in deliveries
        ]
        sizes = [_HEAD.size + len(event) for _, event in items]
        return [
            b"".join(
                (
                    prefix,
                    _array(stop - start),
                    *chain.from_iterable(items[start:stop]),
                )
            )
            for start, stop in _spans(sizes, limit - len(prefix) - _ARRAY_BYTES)
        ]

    def publish(self, topic: str, ref: int, events: Sequence[bytes], ttl_ms: int | None) -> bytes:
        head = b"\x84" if ttl_ms is None else b"\x85\xa6ttl_ms" + pack(ttl_ms)
        return b"".join(
            (
                head,
                b"\xa4type\xa7publish\xa5topic",
                pack(topic),
                b"\xa3ref",
                pack(ref),
                b"\xa6events",
                _array(len(events)),
                *events,
            )
        )

    def encode_data(self, event_id: str, data: Any) -> bytes:
        packed = pack_plain(data) if type(data) is bytes else _pack_data(data)
        return b"".join((b"\x82\xa2id", pack_plain(event_id), b"\xa4data", packed))

    def encode_event(self, event: Mapping[str, Any]) -> bytes:
        _check_one_data(event)
        if "data" in event and len(event) > _MANY:
            packed = _pack_plain(event)
            if packed is not None:
                return packed
        return b"".join((_map(len(event)), *map(_pack_pair, event.keys(), event.values())))

    def event(self, value: Any) -> dict[str, Any]:
        return _check_event(value)


class _JsonCodec:
    name = "json"
    subprotocol = "actorbus.v1.json"
    binary = False

    def decode(self, message: bytes | str) -> dict[str, Any]:
        return _check_map(json_text.loads(message))

    def decode_checked(self, message: bytes) -> dict[str, Any]:
        return self.decode(message)

    def encode(self, frame: Mapping[str, Any] | msgspec.Struct) -> bytes:
        try:
            return orjson.dumps(_to_map(frame))
        except TypeError as error:
            raise MalformedError(f"frame can't be encoded: {first_line(error)}") from None

    def deliver(
        self, topic: str, lease_ms: int, deliveries: Sequence[Delivery], limit: int
    ) -> list[bytes]:
        prefix = b'{"type":"deliver","topic":%b,"lease_ms":%d,"deliveries":[' % (
            orjson.dumps(topic),
            lease_ms,
        )
        items = [
            b'{"id":%d,"attempt":%d,"event":%b}' % (number, attempt, to_json(event))
            for number, attempt, event in deliveries
        ]
        sizes = [len(item) + 1 for item in items]  # the comma
        return [
            b"".join((prefix, b",".join(items[start:stop]), b"]}"))
            for start, stop in _spans(sizes, limit - len(prefix) - 1)
        ]

    def publish(self, topic: str, ref: int, events: Sequence[bytes], ttl_ms: int | None) -> bytes:
        ttl = b"" if ttl_ms is None else b'"ttl_ms":%d,' % ttl_ms
        head = b'{"type":"publish","topic":%b,"ref":%d,%b"events":[' % (
            orjson.dumps(topic),
            ref,
            ttl,
        )
        return b"".join((head, b",".join(events), b"]}"))

    def encode_data(self, event_id: str, data: Any) -> bytes:
        return self.encode_event({"id": event_id, "data": data})

    def encode_event(self, event: Mapping[str, Any]) -> bytes:
        _check_one_data(event)
        for name, value in event.items():
            _pack_pair(name, value)  # the check
        plain = dict(event)
        if isinstance(plain.get("data"), _BINARY):
            plain["data_base64"] = to_base64(plain.pop("data"))
        return orjson.dumps(plain, default=to_base64)

    def event(self, value: Any) -> dict[str, Any]:
        try:
            return from_json_form(_check_event(value))
        except InvalidEventError as error:
            raise UndecodableError(f"delivery without a readable event: {error.message}") from None


MSGPACK: Final[Codec] = _MsgpackCodec()
JSON: Final[Codec] = _JsonCodec()
CODECS: Final[Mapping[str, Codec]] = {codec.subprotocol: codec for codec in (MSGPACK, JSON)}
"""By WebSocket subprotocol, the broker's preference first."""

_DELIVER: Final = b"\x84\xa4type\xa7deliver\xa5topic"
_HEAD: Final = Struct(">5sQ9sI6s")
"""What stands before each event: a map of three, up to the value of `event`."""
_BUFFERS: Final = (bytearray, memoryview)
_BINARY: Final = (bytes, *_BUFFERS)
_ATTRIBUTE: Final = (str, int, bytes, type(None))
_PLAIN: Final = frozenset({str, int, bool, bytes})
_NAMES: Final = frozenset({str})
_MANY: Final = 3
"""So many pairs are packed as fast one by one."""

_FIXMAP: Final = 15
"""Most pairs of a map whose head is one byte (MessagePack: fixmap)."""

_ARRAY_BYTES: Final = 5
"""The longest head of an array."""


def _check_map(frame: Any) -> dict[str, Any]:
    if isinstance(frame, dict):
        return frame
    raise UndecodableError(f"a frame must be a map, not {quote(frame)}")


def _check_event(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise UndecodableError(f"an event must be a map, not {quote(value)}")


def _to_map(frame: Mapping[str, Any] | msgspec.Struct) -> Mapping[str, Any]:
    if not isinstance(frame, msgspec.Struct):
        return frame
    fields: dict[str, Any] = msgspec.to_builtins(frame)
    if fields.get("ref", 0) is None:
        del fields["ref"]
    return fields


def _check_one_data(event: Mapping[str, Any]) -> None:
    if "data" in event and "data_base64" in event:
        raise InvalidEventError("an event has either data or data_base64, not both")


def _pack_plain(event: Mapping[str, Any]) -> bytes | None:
    """Pack an EVENT in one go, its data last; None if it must be looked at attribute by attribute.

    Six times as fast as that for the twelve attributes of an event with a trace.
    """
    attributes = {**event}
    data = attributes.pop("data")
    if not (_NAMES.issuperset(map(type, attributes)) and len(attributes) <= _FIXMAP):
        return None
    if not _PLAIN.issuperset(map(type, attributes.values())):
        return None
    try:
        packed = pack(attributes)
    except (ValueError, OverflowError):
        return None
    return b"".join((_map(len(event)), packed[1:], _pack_pair("data", data)))


def _pack_data(data: Any) -> bytes:
    return pack_data(bytes(data) if isinstance(data, _BUFFERS) else data)


def _pack_pair(name: Any, value: Any) -> bytes:
    """Pack the data or an attribute of an EVENT with its name, if both encodings can write it."""
    if name == "data":
        return b"\xa4data" + _pack_data(value)
    if not isinstance(name, str):
        raise InvalidEventError(f"attribute name {quote(name)} must be text")
    if not isinstance(value, _ATTRIBUTE):
        raise InvalidEventError(
            f"attribute {quote(name)} must be text, an integer, a boolean or bytes, "
            f"not {quote(value)}"
        )
    try:
        return pack(name) + pack(value)
    except (ValueError, OverflowError) as error:
        raise InvalidEventError(f"attribute {quote(name)}: {first_line(error)}") from None


def _spans(sizes: Sequence[int], room: int) -> Iterator[tuple[int, int]]:
    """Cut items into runs (start, stop) of at most `room` bytes, but at least one item."""
    if sizes and sum(sizes) <= room:
        yield 0, len(sizes)
        return
    start = used = 0
    for index, size in enumerate(sizes):
        if used + size > room and index > start:
            yield start, index
            start, used = index, 0
        used += size
    if start < len(sizes):
        yield start, len(sizes)


def _map(count: int) -> bytes:
    if count < 16:  # noqa: PLR2004 - MessagePack's fixmap
        return bytes((0x80 | count,))
    return b"\xdf" + count.to_bytes(4, "big")


def _array(count: int) -> bytes:
    if count < 16:  # noqa: PLR2004 - MessagePack's fixarray
        return bytes((0x90 | count,))
    if count < 2**16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")
