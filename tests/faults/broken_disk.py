"""A broker on a disk that fails as soon as a certain file exists.

python -m tests.faults.broken_disk FILE serve ...
"""

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw

from transport.cli import main
from transport.stores.sqlite.journal_file import JournalFile
from transport.stores.sqlite.kernel_writes import KernelWrites

BASE: Final = "unix"
"""What it stands before: no name would mean the default, which is itself."""


def program(broken: Path) -> tuple[str, ...]:
    """The interpreter's arguments for this broker."""
    return ("-m", "tests.faults.broken_disk", str(broken), "serve")


class BrokenDisk(apsw.VFS):
    """SQLite's file system, with files that can't be made durable."""

    def __init__(self, broken: Path) -> None:
        self._broken = broken
        super().__init__("broken", BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self._broken, name, flags)


def break_journal(broken: Path) -> None:
    """Let no write to the journal become durable, either."""
    write, start = JournalFile.write, JournalFile.start

    def fail_or_write(file: JournalFile, parts: Sequence[bytes], offset: int) -> None:
        if broken.exists():
            raise OSError(errno.EIO, "Input/output error (injected)")
        write(file, parts, offset)

    def refuse_or_start(
        file: JournalFile, parts: Sequence[bytes], offset: int, writes: KernelWrites
    ) -> bool:
        return not broken.exists() and start(file, parts, offset, writes)

    setattr(JournalFile, "write", fail_or_write)  # noqa: B010 - a method of the class
    setattr(JournalFile, "start", refuse_or_start)  # noqa: B010 - same


class _File(apsw.VFSFile):
    def __init__(self, broken: Path, name: Any, flags: list[int]) -> None:
        self._broken = broken
        super().__init__(BASE, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._broken.exists():
            raise apsw.IOError("disk I/O error (injected)")
        super().xSync(flags)


if __name__ == "__main__":
    broken = Path(sys.argv.pop(1))
    disk = BrokenDisk(broken)
    break_journal(broken)
    main()
