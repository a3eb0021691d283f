"""What is wrong with a resource file, and where."""

from pathlib import Path

import msgspec

from actorbus.errors import ActorbusError


class Place(msgspec.Struct, frozen=True):
    """A line of a file, counted from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ResourceError(ActorbusError):
    """A resource file can't be used; the message begins with file and line.

    Attributes:
        exit_status: of a process that was told to use it (sysexits.h: EX_CONFIG).
    """

    exit_status = 78

    def __init__(self, place: Place | Path, text: str) -> None:
        super().__init__(f"{place}: {text}")
