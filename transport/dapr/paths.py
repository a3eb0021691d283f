"""Which component and topic a publish path names (docs/dapr.md, HTTP).

    /v1.0/publish/{pubsub}/{topic}              today's form; the topic may hold slashes
    /v1.0/publish/bulk/{pubsub}/{topic}         and /v1.0-alpha1/publish/bulk/…
    /v1.0/publish/{topic}                       Dapr before 0.10, when there was one component

Both names are decoded as Go's QueryUnescape does, so `+` is a space.
"""

import functools
import re
from typing import Final
from urllib.parse import unquote_plus

import msgspec

from transport.dapr.config import DoorConfig

PUBLISH: Final = b"/v1.0/publish"
_ALPHA: Final = b"/v1.0-alpha1/publish/bulk/"
_BULK: Final = b"bulk/"
_SLASHES: Final = re.compile(b"//+")
_CACHED: Final = 1024
"""Paths that are remembered; longer ones than `_CACHED_BYTES` are not, so some 600 KB at most."""
_CACHED_BYTES: Final = 256


class Target(msgspec.Struct, frozen=True):
    """What a publish is addressed to; a name that the path lacks is empty.

    Attributes:
        bulk: it carries several events.
        early: it has the form of Dapr before 0.10, whose bodies had no content type.
    """

    component: str
    topic: str
    bulk: bool = False
    early: bool = False


class Paths:
    """Reads publish paths. Args: config: the components."""

    def __init__(self, config: DoorConfig) -> None:
        self._config = config
        self._cached = functools.lru_cache(_CACHED)(self._read)

    def target(self, path: bytes) -> Target | None:
        """What a raw path is addressed to; None if it is no publish path."""
        return self._cached(path) if len(path) <= _CACHED_BYTES else self._read(path)

    def _read(self, path: bytes) -> Target | None:
        if path.startswith(_ALPHA):
            return _two(path[len(_ALPHA) :], bulk=True)
        head, slash, rest = path[: len(PUBLISH)], path[len(PUBLISH) :][:1], path[len(PUBLISH) + 1 :]
        if head != PUBLISH or slash not in (b"", b"/"):
            return None
        if rest.startswith(_BULK):
            return _two(rest[len(_BULK) :], bulk=True)
        target = _two(rest, bulk=False)
        if target.topic or not target.component or target.component in self._config.components:
            return target
        default = self._config.default_component() or ""
        return Target(default, target.component, early=True)


def _two(rest: bytes, *, bulk: bool) -> Target:
    component, _, topic = rest.partition(b"/")
    topic = _SLASHES.sub(b"/", topic).strip(b"/")
    return Target(_name(component), _name(topic), bulk)


def _name(part: bytes) -> str:
    return unquote_plus(part.decode("latin-1"))
