"""Strict JSON: `orjson`, with the integers that it would round kept exact.

orjson reads 2^64 as a float without a word. So a message with 19 or more digits in a row, which
only an integer past 63 bits, a long fraction or a text of digits has, is read by the standard
library instead, made as strict as orjson: no NaN, nothing infinite, no lone surrogate.
"""

import json
import math
import re
from typing import Any, Final, NoReturn

import orjson

from actorbus.errors import UndecodableError
from actorbus.limits import DATA_DEPTH
from actorbus.packing import first_line

_DIGITS: Final = bytes(48 if 48 <= byte <= 57 else 0 for byte in range(256))  # noqa: PLR2004 - 0 to 9
_LONG_RUN: Final = b"0" * 19
_LONGEST_INTEGER: Final = 4000
"""CPython reads no integer of more than 4300 digits."""
_PAST_64_BITS: Final = 10**100
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def loads(message: bytes | str) -> Any:
    """Return the value of a JSON text; integers keep their value, whatever their size.

    Raises:
        UndecodableError: for what is no JSON, or has no finite or Unicode meaning.
    """
    try:
        raw = message.encode() if isinstance(message, str) else message
        if _has_long_run(raw):
            return _loads_exactly(raw.decode())
        return orjson.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UndecodableError(f"message is not JSON: {first_line(error)}") from None


def is_unusual(raw: bytes) -> bool:
    """Whether JSON might be what an event's data can't hold: a huge integer, or deep nesting."""
    return _has_long_run(raw) or raw.count(b"[") + raw.count(b"{") > DATA_DEPTH


def _has_long_run(raw: bytes) -> bool:
    # translate and find run at 1 ns a byte, a regular expression at 10
    return _LONG_RUN in raw.translate(_DIGITS)


def _loads_exactly(text: str) -> Any:
    value = json.loads(
        text, parse_int=_read_integer, parse_float=_read_float, parse_constant=_refuse
    )
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError for a lone one
    return value


def _read_integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        return -_PAST_64_BITS if digits[0] == "-" else _PAST_64_BITS
    return int(digits)


def _read_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        _refuse(digits)
    return number


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"number is not finite: {constant[:20]}")
