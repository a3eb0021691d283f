"""The file of the journal: its writes are durable when they return, or when the kernel says so.

A write that goes on where the last one ended goes past the page cache, where the file system can do
that: in whole blocks, from the beginning of the block that it starts in, which is kept in memory,
to the end of the block that it stops in. So the kernel can make it without anybody waiting.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from transport.stores.sqlite.kernel_writes import KernelWrites
from transport.stores.sqlite.schema import NO_ROOM

BLOCK: Final = 4096
"""Writes past the page cache begin and end at multiples of this; no disk wants larger ones."""

DIRECT_BYTES: Final = 4 * 1024 * 1024
"""Longer writes go through the page cache: their copy would only take memory."""

KERNEL_BYTES: Final = 64 * 1024
"""The longest write that is left to the kernel: to copy more takes the event loop's time."""

PASSING: Final = NO_ROOM | {
    errno.EAGAIN,
    errno.EINTR,
    errno.ECANCELED,
    errno.EINVAL,
    errno.EOPNOTSUPP,
    errno.ENOMEM,
}
"""Errors of a write by the kernel that `write` does not have, or has again: the kernel gave it up,
does not know how to, or found no room. Any other is an error of the disk: what it has is unknown,
and to write again would prove nothing."""

_FLAGS: Final = os.O_RDWR | os.O_DSYNC | os.O_CLOEXEC


class JournalFile:
    """A file whose writes are durable when they return.

    Args:
        path: made if it does not exist.

    Raises:
        OSError: from each method, as the system tells it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, _FLAGS | os.O_CREAT, 0o600)
        try:
            self._direct = _open_direct(path)
        except BaseException:
            os.close(self._file)
            raise
        self._end: int | None = None
        """Where the last write ended, if what its last block holds until there is in `_memory`."""
        self._memory = _Memory(2 * BLOCK)
        self._under_way = (0, 0)

    def size(self) -> int:
        """Its length in bytes."""
        return os.fstat(self._file).st_size

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset` on."""
        return os.pread(self._file, length, offset)

    def write(self, parts: Sequence[bytes], offset: int) -> None:
        """Write the parts one after the other from `offset` on.

        What goes on where the last write ended may be followed by zeros, up to the next multiple
        of `BLOCK`.
        """
        end, self._end = self._end, None
        if offset != end or not self._write_directly(parts, offset):
            self._write_through(parts, offset)

    def start(self, parts: Sequence[bytes], offset: int, writes: KernelWrites) -> bool:
        """Have the kernel begin `write`; False: it does not, and `write` has to be called.

        Nothing else may be done with the file until `ended` was called.
        """
        length = sum(map(len, parts))
        if self._direct is None or offset != self._end or length > KERNEL_BYTES:
            return False
        first, stop, whole = self._fill(parts, offset, length)
        if not writes.begin(self._direct, self._memory.address, whole, first):
            return False
        self._under_way = first, stop
        return True

    def ended(self, writes: KernelWrites) -> bool:
        """Whether what was started is durable, now that it has ended; else `write` it."""
        first, stop = self._under_way
        written = writes.written
        if written < 0 and -written not in PASSING:
            raise OSError(-written, os.strerror(-written))
        durable = written == rounded_up(stop)
        if durable:
            self._keep_edge(first, stop)
        return durable

    def _write_directly(self, parts: Sequence[bytes], offset: int) -> bool:
        """Write past the page cache; False if it was not done, or not to the end."""
        length = sum(map(len, parts))
        if self._direct is None or length > DIRECT_BYTES:
            return False
        first, stop, whole = self._fill(parts, offset, length)
        try:
            written = os.pwrite(self._direct, self._memory.view[:whole], first)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.close(self._direct)  # the file system can't, although it did not say so before
            self._direct = None
            return False
        if written == whole:
            self._keep_edge(first, stop)
        return written == whole

    def _fill(self, parts: Sequence[bytes], offset: int, length: int) -> tuple[int, int, int]:
        """Put the blocks into the memory: where they begin, bytes that count, and bytes in all."""
        edge = offset % BLOCK
        stop = edge + length
        whole = rounded_up(stop)
        if whole > len(self._memory.view):
            self._memory = self._memory.larger(whole)
        view = self._memory.view
        at = edge
        for part in parts:
            view[at : at + len(part)] = part
            at += len(part)
        view[stop:whole] = bytes(whole - stop)
        return offset - edge, stop, whole

    def _keep_edge(self, first: int, stop: int) -> None:
        """Have the last block at the beginning of the memory, for what goes on there."""
        last = stop - stop % BLOCK
        if last:
            self._memory.view[: stop - last] = self._memory.view[last:stop]
        self._end = first + stop

    def _write_through(self, parts: Sequence[bytes], offset: int) -> None:
        """Write exactly these bytes, through the page cache."""
        written = os.pwritev(self._file, parts, offset)
        length = sum(map(len, parts))
        rest = memoryview(b"".join(parts))[written:] if written < length else b""
        while rest:  # there was no room for it: the next call tells why
            written += (count := os.pwrite(self._file, rest, offset + written))
            rest = rest[count:]
        if self._direct is not None:
            self._read_edge(offset, offset + length)

    def _read_edge(self, offset: int, end: int) -> None:
        """Have the last block in memory, and none in the page cache: the kernel would wait."""
        first = end - end % BLOCK
        edge = self.read(end - first, first)
        self._memory.view[: len(edge)] = edge
        self._end = end
        os.posix_fadvise(
            self._file,
            offset - offset % BLOCK,
            rounded_up(end - (offset - offset % BLOCK)),
            os.POSIX_FADV_DONTNEED,
        )

    def cut(self, length: int) -> None:
        """Give back what is beyond `length`; durable when it returns."""
        self._end = None
        os.ftruncate(self._file, length)
        os.fsync(self._file)

    def share(self, database: Path) -> None:
        """Give it the owner and the rights of the database, as SQLite does with its own files."""
        status = database.stat()
        os.fchmod(self._file, status.st_mode & 0o666)
        if os.geteuid() == 0:
            os.fchown(self._file, status.st_uid, status.st_gid)

    def make_known(self) -> None:
        """Make its name durable."""
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Free it; again is no error."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
        direct, self._direct = self._direct, None
        if direct is not None:
            os.close(direct)

    def remove(self) -> None:
        """Delete it."""
        self.close()
        self._path.unlink(missing_ok=True)


class _Memory:
    """Memory that begins at a page.

    Attributes:
        view: its bytes.
        address: where it is.
    """

    def __init__(self, length: int) -> None:
        pages = mmap.mmap(-1, length)
        self.view = memoryview(pages)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(pages))

    def larger(self, length: int) -> "_Memory":
        """One of at least this length, with the same first block."""
        memory = _Memory(1 << (length - 1).bit_length())
        memory.view[:BLOCK] = self.view[:BLOCK]
        return memory


def rounded_up(length: int) -> int:
    """The next multiple of `BLOCK`."""
    return -(-length // BLOCK) * BLOCK


def _open_direct(path: Path) -> int | None:
    """A file for writes past the page cache; None where there are none."""
    flag: int | None = getattr(os, "O_DIRECT", None)
    if flag is None:
        return None
    try:
        return os.open(path, _FLAGS | flag)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return None
