"""Wrong values in error messages: short, printable, and never a payload."""

from typing import Any, Final

_CHARACTERS: Final = 40
_BIG: Final = 2**64
_KINDS: Final[dict[type[Any], str]] = {
    dict: "a map",
    list: "an array",
    tuple: "an array",
    bytes: "bytes",
}


def quote(value: Any) -> str:
    """`value` for a message: at most some 40 characters, containers and bytes by kind alone."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _CHARACTERS else repr(value[:_CHARACTERS]) + "..."
    if isinstance(value, int) and abs(value) > _BIG:
        return "an integer past 64 bits"  # CPython refuses to print more than 4300 digits
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return _KINDS.get(type(value), f"a value of type {type(value).__name__}")
