"""Names of topics, app IDs and instances (protocol: names)."""

import re
from typing import Any, Final

from actorbus.errors import ErrorCode, RefusedError
from actorbus.limits import NAME_BYTES
from actorbus.quote import quote

_NAME: Final = re.compile(rf"[A-Za-z0-9._:/@-]{{1,{NAME_BYTES}}}")
_RULE: Final = f"1 to {NAME_BYTES} of A-Z a-z 0-9 . _ : / @ -"
_RESERVED: Final = "amq."
"""RabbitMQ keeps this prefix for its own exchanges and refuses others that use it (403)."""


def check_topic(value: Any) -> str:
    """Return `value` if it names a topic.

    Raises:
        RefusedError: with `invalid_name`.
    """
    name = _check_name("topic", value)
    if name.startswith(_RESERVED):
        raise _invalid(f"topic {quote(name)} must not start with {_RESERVED!r}")
    return name


def check_app_id(value: Any) -> str:
    """Return `value` if it is an app ID.

    Raises:
        RefusedError: with `invalid_name`.
    """
    return _check_name("app_id", value)


def check_instance(value: Any) -> str:
    """Return `value` if it is an instance's label: 1 to 120 bytes of printable UTF-8.

    Raises:
        RefusedError: with `invalid_name`.
    """
    # isprintable() is false for lone surrogates, so encode() can't fail
    if (
        isinstance(value, str)
        and value
        and len(value) <= NAME_BYTES
        and value.isprintable()
        and len(value.encode()) <= NAME_BYTES
    ):
        return value
    raise _invalid(
        f"instance must be 1 to {NAME_BYTES} bytes of printable UTF-8, not {quote(value)}"
    )


def _check_name(what: str, value: Any) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise _invalid(f"{what} must be {_RULE}, not {quote(value)}")


def _invalid(message: str) -> RefusedError:
    return RefusedError(ErrorCode.INVALID_NAME, message)
