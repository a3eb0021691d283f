"""The attributes of an event: CloudEvents 0.3 and 1.0 (their sections "type system", "context").

What an attribute may be:
- `id`, `source`, `type` and the optional attributes of the version: text that is not empty;
  `time` an RFC 3339 timestamp.
- an extension: its name one or more of a-z 0-9; its value text, a boolean, an integer of 32 bits,
  or (MessagePack) bytes, which JSON shows as base64 text.
- Text is free of control characters, noncharacters and surrogates.
- An attribute that is null is unset, as CloudEvents' JSON format has it: callers drop it.
"""

import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v03.event import CloudEvent as CloudEvent03
from cloudevents.core.v1.event import CloudEvent as CloudEvent10

from actorbus.errors import InvalidEventError
from actorbus.quote import quote

V03: Final = "0.3"
V10: Final = "1.0"

_REQUIRED: Final = ("id", "source", "type")
_VERSIONS: Final = {V03: CloudEvent03, V10: CloudEvent10}
_OPTIONAL: Final = {
    V03: frozenset({"datacontenttype", "datacontentencoding", "schemaurl", "subject", "time"}),
    V10: frozenset({"datacontenttype", "dataschema", "subject", "time"}),
}
_TEXTS: Final = {version: names.union(_REQUIRED) for version, names in _OPTIONAL.items()}
_A_TIME: Final = datetime(2020, 1, 1, tzinfo=UTC)
_REMEMBERED_CHARACTERS: Final = 512
"""Longest set of names that is remembered: some 1 MiB for all of them."""

_NAME: Final = re.compile("[a-z0-9]+")
_NONCHARACTERS: Final = "".join(
    chr(plane << 16 | low) for plane in range(17) for low in (65534, 65535)
)
_FORBIDDEN: Final = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_NONCHARACTERS}]")
_INTEGER: Final = 2**31
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3]):([0-5]\d):([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d\d:[0-5]\d)",
    re.ASCII,
)


def check_attributes(attributes: Mapping[Any, Any]) -> None:
    """Check a complete set of attributes, `specversion` included, without data.

    Raises:
        InvalidEventError: naming the attribute that is wrong.
    """
    version = attributes.get("specversion")
    if not isinstance(version, str) or version not in _VERSIONS:
        raise _wrong("specversion", "must be '0.3' or '1.0'", version)
    names = tuple(attributes)
    check = _check_names if _few_and_short(names) else _check_names.__wrapped__
    check(version, names)
    texts = _TEXTS[version]
    for name, value in attributes.items():
        if type(value) is str and value and value.isprintable():
            continue
        if name in texts:
            check_text(name, value)
        else:
            _check_extension(name, value)
    if "time" in attributes:
        _check_time(attributes["time"])


def check_text(name: str, value: Any) -> str:
    """Return `value` if it is text that an attribute may have, and not empty.

    Raises:
        InvalidEventError: naming the attribute.
    """
    if not isinstance(value, str) or not value:
        raise _wrong(name, "must be text that is not empty", value)
    if not value.isprintable() and _FORBIDDEN.search(value):
        raise _wrong(name, "must not contain control characters or noncharacters", value)
    return value


def check_attribute_name(name: Any) -> None:
    """Check a name, without which a null value would hide what is wrong.

    Raises:
        InvalidEventError: naming it.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidEventError(f"attribute name {quote(name)} must consist of a-z and 0-9")


def _few_and_short(names: tuple[Any, ...]) -> bool:
    """Whether a set of names may be remembered."""
    try:
        return len("".join(names)) <= _REMEMBERED_CHARACTERS
    except TypeError:  # one of them is no text
        return False


@functools.lru_cache(maxsize=1024)
def _check_names(version: str, names: tuple[Any, ...]) -> None:
    """Check which attributes there are; sets of names that are right are remembered.

    The cloudevents package has the last word. What it looks at beside the names, the types of
    values and whether they are empty, is checked here too, so it is asked once for each set.
    """
    for name in _REQUIRED:
        if name not in names:
            raise InvalidEventError(f"attribute {name!r} is missing")
    for name in names:
        check_attribute_name(name)
    sample: dict[str, Any] = dict.fromkeys(names, "text")
    sample["specversion"] = version
    if "time" in sample:
        sample["time"] = _A_TIME
    try:
        _VERSIONS[version](sample)
    except CloudEventValidationError as error:
        name, reasons = next(iter(error.errors.items()))
        raise InvalidEventError(f"attribute {quote(name)}: {reasons[0]}") from None


def _check_extension(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value:  # unlike the specified attributes an extension may be empty
            check_text(name, value)
    elif isinstance(value, int):
        if not -_INTEGER <= value < _INTEGER:
            raise _wrong(name, "must be an integer of 32 bits, or text", value)
    elif not isinstance(value, bytes):
        raise _wrong(name, "must be text, an integer, a boolean or bytes", value)


@functools.lru_cache(maxsize=64)
def _check_time(text: str) -> None:
    """Check for RFC 3339, with its leap seconds and lower case letters, which datetime lacks."""
    found = _TIME.fullmatch(text)
    if found:
        day, hour, minute, second, _, offset = found.groups()
        second = "59" if second == "60" else second
        try:
            datetime.fromisoformat(f"{day}T{hour}:{minute}:{second}{offset.upper()}")
        except ValueError:  # a day or an offset that does not exist
            pass
        else:
            return
    raise _wrong("time", "must be a timestamp of RFC 3339", text)


def _wrong(name: str, rule: str, value: Any) -> InvalidEventError:
    return InvalidEventError(f"attribute {name!r} {rule}, not {quote(value)}")
