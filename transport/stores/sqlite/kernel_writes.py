"""Writes that the kernel makes while the caller goes on: io_uring of Linux, since 5.6.

The C library has no functions for these calls, so they are made by their numbers. What can be begun
without waiting the kernel begins at once; for the rest (a file system that is frozen, pages in its
cache, a file that becomes longer) it has threads. So the caller does not wait, but for the time
that the file system takes to note the time of the change. An eventfd tells when there is a result.

For a write to be begun at once the file has to be open with `O_DIRECT`.

Layouts and numbers: include/uapi/linux/io_uring.h; the numbers are the same on all machines but
alpha. The rings are shared with the kernel, but read by it only in our call, and by us only after
it has signalled: no further barriers are needed.
"""

import ctypes
import errno
import mmap
import os
import select
import struct
import sys
from contextlib import suppress
from typing import Any, Final

_SETUP: Final = 425
_ENTER: Final = 426
_REGISTER: Final = 427
_REGISTER_EVENTFD: Final = 4
_FEATURE_SINGLE_MMAP: Final = 1
_REQUESTS_OFFSET: Final = 0x10000000

_REQUEST: Final = struct.Struct("<BBHiQQIIQ24x")
"""Operation, flags, priority, file, offset, address, length, flags of the write, number of ours."""

_WRITE: Final = 23
_RESULT: Final = struct.Struct("<QiI")

_PARAMETERS: Final = 30
_FEATURES: Final = 5
_QUEUE_TAIL: Final = 11
_QUEUE_ARRAY: Final = 16
_RESULTS_HEAD: Final = 20
_RESULTS_TAIL: Final = 21
_RESULTS_MASK: Final = 22
_RESULTS: Final = 25
"""Where in its parameters (`struct io_uring_params`, as 30 numbers) the kernel tells where what is
in the rings."""

_libc: Final = ctypes.PyDLL(None, use_errno=True)  # they do not wait: nothing is to be let go
_libc.syscall.restype = ctypes.c_long


class KernelWrites:
    """One write at a time.

    Attributes:
        event: a file that becomes readable when there may be a result.
        written: of the write that has ended: its bytes, or an error's number below 0.

    Raises:
        OSError: this system has no such writes, or does not allow them.
    """

    def __init__(self) -> None:
        if sys.platform != "linux" or not hasattr(os, "eventfd"):
            raise OSError(errno.ENOSYS, f"no io_uring on {sys.platform}")
        self.written = 0
        self._number = 0
        told = (ctypes.c_uint32 * _PARAMETERS)()
        self._file = _call(_SETUP, 1, told)
        try:
            self._map(told)
            self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except BaseException:
            os.close(self._file)
            raise
        event = ctypes.c_int32(self.event)
        try:
            _call(_REGISTER, self._file, _REGISTER_EVENTFD, ctypes.byref(event), 1)
        except BaseException:
            self.close()
            raise

    def _map(self, told: Any) -> None:
        """Have the rings at hand; there is one request, at its place."""
        if not told[_FEATURES] & _FEATURE_SINGLE_MMAP:
            raise OSError(errno.ENOSYS, "this io_uring is too old")
        length = max(told[_QUEUE_ARRAY] + 4, told[_RESULTS] + 2 * _RESULT.size)
        self._rings = mmap.mmap(self._file, length)
        self._requests = mmap.mmap(self._file, mmap.PAGESIZE, offset=_REQUESTS_OFFSET)
        self._numbers = memoryview(self._rings).cast("I")
        self._tail = told[_QUEUE_TAIL] // 4
        self._head, self._end = told[_RESULTS_HEAD] // 4, told[_RESULTS_TAIL] // 4
        self._mask = self._numbers[told[_RESULTS_MASK] // 4]
        self._results = told[_RESULTS]
        self._numbers[told[_QUEUE_ARRAY] // 4] = 0

    def begin(self, file: int, address: int, length: int, offset: int) -> bool:
        """Begin to write `length` bytes from `address`; False: it can't be done now.

        The memory has to be left alone until there is a result.
        """
        self._number += 1
        _REQUEST.pack_into(
            self._requests, 0, _WRITE, 0, 0, file, offset, address, length, 0, self._number
        )
        tail = self._numbers[self._tail]
        self._numbers[self._tail] = (tail + 1) & 0xFFFF_FFFF
        try:
            _call(_ENTER, self._file, 1, 0, 0, None, 0)
        except OSError:
            self._numbers[self._tail] = tail
            return False
        return True

    def look(self) -> bool:
        """Whether the write has ended: that `event` is readable is only a hint, says its manual."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.event)
        while (head := self._numbers[self._head]) != self._numbers[self._end]:
            number, self.written, _ = _RESULT.unpack_from(
                self._rings, self._results + (head & self._mask) * _RESULT.size
            )
            self._numbers[self._head] = (head + 1) & 0xFFFF_FFFF
            if number == self._number:
                return True
        return False

    def wait(self) -> None:
        """Return when the write has ended, as late as that may be."""
        ready = select.poll()
        ready.register(self.event, select.POLLIN)
        while not self.look():
            ready.poll()

    def close(self) -> None:
        """Free it; not while a write is under way."""
        self._numbers.release()
        for mapped in (self._rings, self._requests):
            mapped.close()  # each has a file of its own
        os.close(self.event)
        os.close(self._file)


def _call(number: int, *arguments: Any) -> int:
    longs = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *longs)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
