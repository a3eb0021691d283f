"""The kernel's writes in tests: awaited, or held back until the test wants their result."""

import os
import select

import pytest

from tests.conformance.kit import SECONDS
from transport.stores.sqlite.kernel_writes import KernelWrites


def _allowed() -> bool:
    try:
        KernelWrites().close()
    except OSError:
        return False
    return True


NEEDS_IO_URING = pytest.mark.skipif(not _allowed(), reason="io_uring is not allowed here")


def awaited(writes: KernelWrites) -> None:
    """Return once it has ended."""
    while not writes.look():
        ready, _, _ = select.select([writes.event], [], [], SECONDS)
        assert ready


class HeldWrites(KernelWrites):
    """Really made, but their results are told only by `go_on`.

    Attributes:
        begun: how many there were.
        refuses: whether none is begun.
        instead: the result that is told, whatever it really was.
    """

    def __init__(self) -> None:
        self._inner = KernelWrites()
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.begun = 0
        self.refuses = False
        self.instead: int | None = None

    def begin(self, file: int, address: int, length: int, offset: int) -> bool:
        self.begun += 1
        return not self.refuses and self._inner.begin(file, address, length, offset)

    def go_on(self) -> None:
        os.eventfd_write(self.event, 1)

    def look(self) -> bool:
        try:
            os.eventfd_read(self.event)
        except BlockingIOError:
            return False
        awaited(self._inner)
        self.written = self._inner.written if self.instead is None else self.instead
        return True

    def close(self) -> None:
        self._inner.close()
        os.close(self.event)
