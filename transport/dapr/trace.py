"""W3C trace context: what a caller sent, if it is well-formed."""

import re
from typing import Final

import msgspec

STATE_CHARACTERS: Final = 512
"""Longest `tracestate` that is passed on: the length that the specification asks for (3.3.1.5)."""

_PARENT: Final = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]{0,64})?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


class Trace(msgspec.Struct, frozen=True):
    """The trace context of one call; empty texts where there is none.

    Attributes:
        parent: `traceparent`.
        state: `tracestate`.
    """

    parent: str = ""
    state: str = ""


NO_TRACE: Final = Trace()


def trace_of(parent: str | None, state: str | None) -> Trace:
    """The context of these two fields; none at all if `parent` is malformed (section 3.3)."""
    if not parent or not _well_formed(parent):
        return NO_TRACE
    if not state or len(state) > STATE_CHARACTERS or not (state.isascii() and state.isprintable()):
        return Trace(parent)
    return Trace(parent, state)


def _well_formed(parent: str) -> bool:
    if not _PARENT.fullmatch(parent):
        return False
    version, trace_id, span_id, *rest = parent.split("-", 4)
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or version == "ff":
        return False
    return version != "00" or len(rest) == 1
