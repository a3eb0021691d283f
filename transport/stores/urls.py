"""URLs of the log stores: `scheme:PATH[?retain=DURATION]`."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from actorbus.errors import StoreUnusableError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)


class LogUrl(msgspec.Struct, frozen=True):
    """A log store's URL, taken apart.

    Attributes:
        path: what is between scheme and `?`, percent-decoded.
        retain_ms: how long batches are kept at least; 0: only as long as a group needs them.
    """

    path: str
    retain_ms: int


def parse(url: str) -> LogUrl:
    """Take apart the URL of a log store.

    Raises:
        StoreUnusableError: an unknown parameter or a value that is no duration.
    """
    location, _, query = url.partition("?")
    scheme, _, path = location.partition(":")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    retain = parameters.pop("retain", None)
    if parameters:
        unknown = min(parameters)[:32]
        raise StoreUnusableError(f"unknown parameter {unknown!r} in a {scheme} url: use retain")
    return LogUrl(unquote(path), 0 if retain is None else _milliseconds(retain))


def _milliseconds(duration: str) -> int:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise StoreUnusableError(
            f"retain={duration[:32]} is no duration: use a number with s, m, h or d, as in 7d"
        )
    return int(match[1]) * _SECONDS[match[2]] * 1000
