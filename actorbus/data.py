"""The `data` of an event: checks it and packs it (protocol: events).

Allowed: null, boolean, integer -2^63 to 2^64-1, finite float, valid Unicode text, and arrays and
maps with text keys of these, at most 64 deep; or bytes, at the top only. Whatever passes can be
carried by MessagePack and JSON alike, so no event can break a subscriber's encoding.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from actorbus.errors import ErrorCode, InvalidEventError
from actorbus.limits import DATA_DEPTH
from actorbus.packing import pack, pack_plain
from actorbus.quote import quote

INTEGERS: Final = (-(2**63), 2**64 - 1)
"""The integers that MessagePack has."""

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
_SHALLOW: Final = 2 * DATA_DEPTH
"""A JSON text of so many characters has at most `DATA_DEPTH` arrays and maps."""
_TEXT_OR_BYTES: Final = (str, bytes)  # a union would be built at every call
_LOOKED_THROUGH: Final = 100_000
"""Values that are looked at for what is wrong: a frame may have millions."""
_NOT_FOUND: Final = "data contains something that is no JSON type"
_DOUBLE: Final = 0xCB
"""MessagePack's mark before a double; other bytes may look like it."""
_NOT_FINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def pack_data(data: Any, limit: int | None = None) -> bytes:
    """Return `data` as MessagePack.

    Raises:
        InvalidEventError: for what the protocol does not allow, saying what and why; with
            `too_large` for arrays and maps over `limit` bytes, which are not looked through.
    """
    try:
        if type(data) in _TEXT_OR_BYTES:
            return pack_plain(data)
        if isinstance(data, _TEXT_OR_BYTES):
            return pack(data)
        # orjson is the check at C speed: it refuses nested bytes, extension types, keys that are
        # not text, lone surrogates and integers past 64 bits
        text = orjson.dumps(data, option=_OPTIONS)
        packed = pack(data)
    except (TypeError, ValueError, OverflowError):
        raise InvalidEventError(_reason(data)) from None
    if limit is not None and len(packed) > limit:
        raise InvalidEventError(
            f"data of {len(packed)} bytes is longer than {limit}", ErrorCode.TOO_LARGE
        )
    if len(text) > _SHALLOW and text.count(b"[") + text.count(b"{") > DATA_DEPTH:
        _check_depth(data)
    # orjson writes NaN and infinity as null; in MessagePack they are doubles with 7f f or ff f
    if _DOUBLE in packed and b"null" in text and _NOT_FINITE.search(packed):
        _check_floats(data)
    return packed


def _check_depth(data: Any) -> None:
    """Level by level, so that no nesting, however deep, can exhaust the stack."""
    level = [data]
    for _ in range(DATA_DEPTH):
        level = [
            child
            for parent in level
            for child in _children(parent)
            if isinstance(child, dict | list | tuple)
        ]
        if not level:
            return
    raise InvalidEventError(_TOO_DEEP)


def _check_floats(data: Any) -> None:
    reason = _find_reason(data, 1, itertools.count())
    if reason is not None:
        raise InvalidEventError(reason)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


_TOO_DEEP: Final = f"data is nested deeper than {DATA_DEPTH} arrays and maps"


def _reason(data: Any) -> str:
    return _find_reason(data, 1, iter(range(_LOOKED_THROUGH))) or _NOT_FOUND


def _find_reason(value: Any, depth: int, budget: Iterator[int]) -> str | None:
    """Why `value` is not allowed, or None; `depth` is its own if it is an array or a map."""
    if next(budget, None) is None:
        return _NOT_FOUND
    # MessagePack's extension types are tuples too, of a type of their own
    if isinstance(value, dict | list) or type(value) is tuple:
        return _find_in_container(value, depth, budget)
    if isinstance(value, str):
        return None if _is_unicode(value) else "data contains a lone surrogate"
    if isinstance(value, int | float):
        return _find_in_number(value)
    if isinstance(value, bytes | bytearray):
        return "data contains bytes, which are allowed as the whole data only"
    return None if value is None else f"data contains {quote(value)}, which is no JSON type"


def _find_in_number(value: float) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else f"data contains {value!r}, use a finite number"
    low, high = INTEGERS
    return None if low <= value <= high else "data contains an integer past 64 bits"


def _find_in_container(value: Any, depth: int, budget: Iterator[int]) -> str | None:
    if depth > DATA_DEPTH:
        return _TOO_DEEP
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                return "data contains a map with a key that is not text"
            if not _is_unicode(key):
                return "data contains a key with a lone surrogate"
    reasons = (_find_reason(child, depth + 1, budget) for child in _children(value))
    return next((reason for reason in reasons if reason is not None), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
