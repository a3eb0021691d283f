"""YAML as nodes that know their line: what is read of them is checked at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from transport.dapr.resources.errors import Place, ResourceError
from transport.dapr.resources.subscription import truth

FILE_BYTES: Final = 1024 * 1024
"""Longest resource file: far more than any that a person writes."""

_NULL: Final = "tag:yaml.org,2002:null"


class Value:
    """One value of a file.

    Args:
        file: that it stands in.
        path: its name within the document, as `spec.topic`.
    """

    def __init__(self, file: Path, node: yaml.Node, path: str) -> None:
        self.place = Place(file, node.start_mark.line + 1)
        self.path = path
        self._file = file
        self._node = node

    def error(self, text: str) -> ResourceError:
        """An error about this value."""
        return ResourceError(self.place, f"{self.path or 'the document'} {text}")

    def is_null(self) -> bool:
        """Whether nothing is written there."""
        return self._node.tag == _NULL

    def fields(self) -> "Fields":
        """The value as a map.

        Raises:
            ResourceError: it is none.
        """
        if not isinstance(self._node, yaml.MappingNode):
            raise self.error(f"must be a map, not {self._kind()}")
        return Fields(self, self._pairs(self._node))

    def _pairs(self, node: yaml.MappingNode) -> dict[str, "Value"]:
        found: dict[str, Value] = {}
        for key, value in node.value:
            name = Value(self._file, key, "a key").text()
            if name in found or name == "<<":
                reason = "stands there twice" if name in found else "is not supported"
                raise ResourceError(Place(self._file, key.start_mark.line + 1), f"{name} {reason}")
            path = f"{self.path}.{name}" if self.path else name
            found[name] = Value(self._file, value, path)
        return found

    def items(self) -> list["Value"]:
        """The value as a list.

        Raises:
            ResourceError: it is none.
        """
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.error(f"must be a list, not {self._kind()}")
        return [
            Value(self._file, node, f"{self.path}[{index}]")
            for index, node in enumerate(self._node.value)
        ]

    def text(self) -> str:
        """The value as text; numbers and booleans as they are written, null as nothing.

        Raises:
            ResourceError: it is a map or a list.
        """
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.error(f"must be text, not {self._kind()}")
        return "" if self._node.tag == _NULL else str(self._node.value)

    def boolean(self) -> bool:
        """The value as a boolean.

        Raises:
            ResourceError: it is none.
        """
        try:
            return truth(self.text())
        except ValueError as error:
            raise self.error(str(error)) from None

    def integer(self, low: int, high: int) -> int:
        """The value as an integer within a range.

        Raises:
            ResourceError: it is none, or out of range.
        """
        text = self.text().strip()
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= len(str(high)):
            number = int(text)
            if low <= number <= high:
                return number
        raise self.error(f"must be an integer from {low} to {high}, not {text[:40]!r}")

    def texts(self) -> tuple[str, ...]:
        """The value as a list of texts.

        Raises:
            ResourceError: it is none.
        """
        return tuple(item.text() for item in self.items())

    def _kind(self) -> str:
        if isinstance(self._node, yaml.ScalarNode):
            return repr(self._node.value[:40]) if self.text() else "nothing"
        return "a map" if isinstance(self._node, yaml.MappingNode) else "a list"


class Fields:
    """A map's fields; which of them were asked for is remembered.

    Names count as Dapr reads them: exactly, or else without regard to case.
    """

    def __init__(self, owner: Value, found: dict[str, Value]) -> None:
        self.owner = owner
        self._found = found
        self._folded = {name.lower(): name for name in found}
        self._asked: set[str] = set()

    def get(self, name: str) -> Value | None:
        """A field; None if it is not there, or null."""
        spelled = name if name in self._found else self._folded.get(name.lower(), name)
        self._asked.add(spelled)
        value = self._found.get(spelled)
        return None if value is None or value.is_null() else value

    def need(self, name: str) -> Value:
        """A field that must be there.

        Raises:
            ResourceError: it is not, or null.
        """
        value = self.get(name)
        if value is None:
            path = f"{self.owner.path}.{name}" if self.owner.path else name
            raise ResourceError(self.owner.place, f"{path} is missing")
        return value

    def need_text(self, name: str) -> str:
        """A text that must be there and not be empty.

        Raises:
            ResourceError: it is missing, empty or no text.
        """
        value = self.need(name)
        text = value.text()
        if not text:
            raise value.error("must not be empty")
        return text

    def text(self, name: str) -> str:
        """A text, empty if it is not there.

        Raises:
            ResourceError: it is no text.
        """
        value = self.get(name)
        return "" if value is None else value.text()

    def all(self) -> dict[str, Value]:
        """Every field, by its name."""
        self._asked.update(self._found)
        return dict(self._found)

    def rest(self) -> Iterator[Value]:
        """What nobody has asked for."""
        return (value for name, value in self._found.items() if name not in self._asked)


def documents(file: Path) -> list[Value]:
    """The documents of a file that hold anything.

    Raises:
        ResourceError: it can't be read, or is no YAML.
    """
    text = _read(file)
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise ResourceError(Place(file, line), f"no YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ResourceError(Place(file, line), f"no YAML: {error.reason}") from None
    except RecursionError:
        raise ResourceError(file, "no YAML: it is nested too deep") from None
    values = [Value(file, node, "") for node in nodes if node is not None]
    return [value for value in values if not value.is_null()]


def _read(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ResourceError(file, f"can't be read: {error.strerror}") from None
    if len(content) > FILE_BYTES:
        raise ResourceError(file, f"is longer than {FILE_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ResourceError(Place(file, line), "is not UTF-8") from None
