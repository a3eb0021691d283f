"""Events: what a publisher sends becomes one complete CloudEvent in canonical bytes.

Canonical bytes are one MessagePack map: attribute keys are text, `data` is any value of
`actorbus.data`, binary data is MessagePack bytes. Only `Template`, `EventEncoder` and `dead_letter`
make them, so whoever holds canonical bytes may splice them into a frame unchecked.

Decisions where the protocol leaves room:
- `data` and `data_base64` may both be absent; then no `data` and no `datacontenttype` is added.
- An attribute that is null is unset and dropped. `data: null` is data, `data_base64: null` wrong.
- In 0.3, text data with `datacontentencoding: base64` is passed on unchanged; bytes with any other
  `datacontentencoding` are refused, since their JSON form needs that attribute.
"""

import itertools
import os
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from actorbus.attributes import V03, check_attribute_name, check_attributes, check_text
from actorbus.data import pack_data
from actorbus.errors import ErrorCode, InvalidEventError
from actorbus.limits import EVENT_BYTES
from actorbus.packing import first_line, pack, pack_plain, unpack
from actorbus.quote import quote

EVENT_TYPE: Final = "com.dapr.event.sent"
"""The `type` of wrapped events."""

_CONTENT_TYPES: Final[dict[type[Any], str]] = {str: "text/plain", bytes: "application/octet-stream"}
_JSON_TYPE: Final = "application/json"
_SHORTEST_PAIR: Final = 3
"""Bytes of the shortest attribute: a letter with its mark, and a value."""
_DATA_KEYS: Final = frozenset({"data", "data_base64"})


class _Ids:
    """Unique ids: a random prefix for each process, then a counter."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.prefix = secrets.token_hex(8) + "-"
        self.numbers = itertools.count(1)


_ids: Final = _Ids()
os.register_at_fork(after_in_child=_ids.renew)  # or parent and child would use the same ids


def new_event_id() -> str:
    """Return a unique event id."""
    return f"{_ids.prefix}{next(_ids.numbers)}"


class Template:
    """Attributes that many events have in common, checked and packed once.

    Args:
        attributes: all but `id`, with `specversion`; right for data of any kind.

    Raises:
        InvalidEventError: naming the attribute that is wrong.
    """

    __slots__ = ("_between", "_head", "attributes")

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        check_attributes({"id": "id", **attributes})
        _check_encoding(attributes, {"data": b""})
        self.attributes = attributes
        self._head, self._between = _around(pack({"id": "", **attributes, "data": None}))

    def encode(self, event_id: Any, data: Any, limit: int = EVENT_BYTES) -> bytes:
        """The canonical bytes of an event with this id and these data.

        Raises:
            InvalidEventError: as `EventEncoder.encode`.
        """
        if type(event_id) is not str or not event_id or not event_id.isprintable():
            check_text("id", event_id)
        packed = pack_plain(data) if type(data) is bytes else pack_data(data, limit)
        return b"".join((self._head, pack_plain(event_id), self._between, packed))


class TemplatedEvent(Mapping[str, Any]):
    """A complete event by its template: a mapping like any other, but quick to encode.

    Attributes:
        id: of the event.
    """

    __slots__ = ("_data", "_template", "id")

    def __init__(self, template: Template, event_id: str, data: Any) -> None:
        self._template = template
        self.id = event_id
        self._data = data

    def encode(self, limit: int = EVENT_BYTES) -> bytes:
        """Its canonical bytes. Raises: as `EventEncoder.encode`."""
        return _within(self._template.encode(self.id, self._data, limit), limit)

    def __getitem__(self, name: str) -> Any:
        """Its id, its data, or an attribute."""
        if name == "data":
            return self._data
        return self.id if name == "id" else self._template.attributes[name]

    def __iter__(self) -> Iterator[str]:
        """Names, in their order."""
        yield "id"
        yield from self._template.attributes
        yield "data"

    def __len__(self) -> int:
        """How many attributes it has, with its data."""
        return len(self._template.attributes) + 2


class EventEncoder:
    """Makes canonical bytes of what one publisher sends.

    Attributes:
        source: the publisher's app ID, the `source` of its wrapped events.
        specversion: of wrapped events, "0.3" or "1.0".
    """

    def __init__(self, source: str, specversion: str = V03) -> None:
        self.source = source
        self.specversion = specversion
        self._json = self._template(_JSON_TYPE)
        self._templates = {kind: self._template(name) for kind, name in _CONTENT_TYPES.items()}

    def encode(self, event: object, *, limit: int = EVENT_BYTES) -> tuple[str, bytes]:
        """Return the id and the canonical bytes of one decoded EVENT map.

        Raises:
            InvalidEventError: with `invalid_event`, naming the attribute; with `too_large` when
                the bytes are more than `limit`.
        """
        if not isinstance(event, dict):
            raise InvalidEventError(f"an event must be a map, not {quote(event)}")
        size = len(event)
        if "data" in event and (size == 1 or (size == 2 and "id" in event)):  # noqa: PLR2004 - a pair
            event_id, canonical = self._encode_plain(event.get("id"), event["data"], limit)
        elif size * _SHORTEST_PAIR > limit:
            raise InvalidEventError(
                f"an event of {size} attributes is longer than {limit} bytes", ErrorCode.TOO_LARGE
            )
        else:
            event_id, canonical = self._encode_full(event, limit)
        return event_id, _within(canonical, limit)

    def _encode_plain(self, event_id: Any, data: Any, limit: int) -> tuple[str, bytes]:
        """An event of data alone, with or without an id: the attributes are a template."""
        if event_id is None:
            event_id = new_event_id()
        template = self._templates.get(type(data), self._json)
        return event_id, template.encode(event_id, data, limit)

    def _encode_full(self, event: dict[Any, Any], limit: int) -> tuple[str, bytes]:
        attributes = _take_attributes(event)
        content = _take_data(event, limit)
        if "specversion" not in attributes:
            attributes = self._wrap(attributes, content)
        check_attributes(attributes)
        _check_encoding(attributes, content)
        return attributes["id"], pack(attributes | content)

    def _wrap(self, attributes: dict[Any, Any], content: dict[str, Any]) -> dict[Any, Any]:
        wrapping = {"id": attributes.get("id") or new_event_id(), **self._wrapping()}
        if content:
            wrapping["datacontenttype"] = _CONTENT_TYPES.get(type(content["data"]), _JSON_TYPE)
        return wrapping | attributes

    def _wrapping(self) -> dict[str, Any]:
        return {"source": self.source, "type": EVENT_TYPE, "specversion": self.specversion}

    def _template(self, content_type: str) -> Template:
        return Template({**self._wrapping(), "datacontenttype": content_type})


def decode(event: bytes) -> dict[str, Any]:
    """Return canonical bytes as a map, binary data as bytes."""
    decoded: dict[str, Any] = unpack(event)
    return decoded


def to_json(event: bytes) -> bytes:
    """Return canonical bytes as JSON (UTF-8).

    Binary data becomes `data_base64` (1.0), or base64 `data` with `datacontentencoding` (0.3).
    The JSON is at most six times as long, and some 100 bytes.
    """
    decoded = decode(event)
    if isinstance(decoded.get("data"), bytes):
        text = to_base64(decoded.pop("data"))
        if decoded["specversion"] == V03:
            decoded |= {"datacontentencoding": "base64", "data": text}
        else:
            decoded["data_base64"] = text
    return orjson.dumps(decoded, default=to_base64)


def from_json_form(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event decoded from JSON with its binary data as bytes: the inverse of `to_json`.

    In 0.3 `datacontentencoding: base64` goes with it, unless its text is no base64.

    Raises:
        InvalidEventError: when `data_base64` is no base64.
    """
    result = dict(event)
    if "data_base64" in result:
        result["data"] = from_base64(result.pop("data_base64"))
    elif _is_base64_form(result):
        try:
            result["data"] = from_base64(result["data"])
        except InvalidEventError:  # a publisher's own text under that name, passed on unchanged
            return result
        del result["datacontentencoding"]
    return result


def dead_letter(event: bytes, *, reason: str, topic: str, attempts: int) -> bytes:
    """Return the event with the attributes that say why it is a dead letter.

    Args:
        event: canonical bytes.
        reason: the acknowledgement's `reason`, or `dropped`, `max_attempts` or `expired`.
        topic: where it came from.
        attempts: how often it was delivered.
    """
    letter = {
        "deadletterreason": reason,
        "deadlettertopic": topic,
        "deadletterattempts": attempts,
    }
    return pack(decode(event) | letter)


def to_base64(data: Any) -> str:
    """Return bytes as base64 text; TypeError for anything else."""
    return b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: Any) -> bytes:
    """Return the bytes of a base64 text.

    Raises:
        InvalidEventError: for what is not strictly base64 (RFC 4648, section 4).
    """
    if not isinstance(text, str):
        raise InvalidEventError(f"data_base64 must be base64 text, not {quote(text)}")
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidEventError(f"data_base64 is not base64: {first_line(error)}") from None


def _around(packed: bytes) -> tuple[bytes, bytes]:
    """What stands before the id, and between the id and the data, of an event without either."""
    before, _, between = packed.partition(b"\xa2id\xa0")
    return before + b"\xa2id", between[:-1]


def _within(canonical: bytes, limit: int) -> bytes:
    if len(canonical) > limit:
        raise InvalidEventError(
            f"an event of {len(canonical)} bytes is longer than {limit}", ErrorCode.TOO_LARGE
        )
    return canonical


def _take_attributes(event: dict[Any, Any]) -> dict[Any, Any]:
    """What is set beside the data; a null attribute is unset, but its name must be right."""
    attributes = dict(event)
    for name in _DATA_KEYS:
        attributes.pop(name, None)
    if None in attributes.values():
        for name in [name for name, value in attributes.items() if value is None]:
            check_attribute_name(name)
            del attributes[name]
    return attributes


def _take_data(event: dict[Any, Any], limit: int) -> dict[str, Any]:
    """The checked data of an event as {"data": ...}, or an empty map."""
    if "data_base64" in event:
        if "data" in event:
            raise InvalidEventError("an event has either data or data_base64, not both")
        return {"data": from_base64(event["data_base64"])}
    if "data" not in event:
        return {}
    pack_data(event["data"], limit)
    return {"data": event["data"]}


def _check_encoding(attributes: Mapping[Any, Any], content: Mapping[str, Any]) -> None:
    encoding = attributes.get("datacontentencoding", "base64")
    is_binary = isinstance(content.get("data"), bytes)
    if is_binary and attributes["specversion"] == V03 and encoding != "base64":
        raise InvalidEventError(
            f"attribute 'datacontentencoding' of bytes must be 'base64', not {quote(encoding)}"
        )


def _is_base64_form(event: dict[str, Any]) -> bool:
    return (
        event.get("datacontentencoding") == "base64"
        and event.get("specversion") == V03
        and isinstance(event.get("data"), str)
    )
