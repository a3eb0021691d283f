"""The body of a bulk publish over HTTP: a JSON array of entries (docs/dapr.md, bulk)."""

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Final

import msgspec

from transport.dapr import errors
from transport.dapr.envelope import BINARY, CLOUD_EVENT, JSON, media_type
from transport.dapr.publishing import Entry

ENTRIES: Final = 10_000
"""Most entries of one request: keeps the work of one request on the loop under some 100 ms."""

_Fields = dict[str, msgspec.Raw]
_ARRAY: Final = msgspec.json.Decoder(list[_Fields])
_TEXT: Final = msgspec.json.Decoder(str)
_MAP: Final = msgspec.json.Decoder(dict[str, str] | None)
_XML: Final = "application/xml"


def read_entries(component: str, topic: str, body: bytes) -> list[Entry]:
    """The entries of a body; names of fields count whatever their case, as in Go.

    Raises:
        DaprError: it is no array of entries, or an event does not fit its content type.
    """
    try:
        array = _ARRAY.decode(body)
        if len(array) > ENTRIES:
            raise errors.no_entries(component, topic, f"more than {ENTRIES} entries")
        fields = [{name.lower(): value for name, value in entry.items()} for entry in array]
        heads = [(_text(one, "entryid"), _text(one, "contenttype"), _map(one)) for one in fields]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.no_entries(component, topic, str(error).splitlines()[0]) from None
    entries = []
    for one, (entry_id, content_type, metadata) in zip(fields, heads, strict=True):
        try:
            data = _data(one.get("event"), content_type)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            reason = f"entry {entry_id!r:.60}: {error}"
            raise errors.bad_envelope(component, topic, reason) from None
        entries.append(Entry(entry_id, data, content_type, metadata))
    return entries


def _text(fields: _Fields, name: str) -> str:
    return _TEXT.decode(fields[name]) if name in fields else ""


def _map(fields: _Fields) -> Mapping[str, str]:
    return (_MAP.decode(fields["metadata"]) or {}) if "metadata" in fields else {}


def _data(event: msgspec.Raw | None, content_type: str) -> bytes:
    """The bytes that the entry's event stands for."""
    kind = media_type(content_type)
    if kind in (JSON, CLOUD_EVENT):
        return b"null" if event is None else bytes(event)
    if kind != BINARY and not kind.startswith("text/") and kind != _XML:
        raise ValueError(f"an event of content type {content_type!r:.60} is not supported")
    try:
        text = _TEXT.decode(event or b"null")
    except msgspec.ValidationError:
        raise ValueError(f"an event of content type {kind} must be a JSON string") from None
    if kind != BINARY:
        return text.encode()
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ValueError(f"an event of content type {kind} must be base64") from None
