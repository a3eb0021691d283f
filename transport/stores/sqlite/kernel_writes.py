"""Writes that the kernel makes while the caller goes on: asynchronous I/O of Linux, io_submit(2).

The C library has no functions for these calls, so they are made by their numbers. Two things make
them fit for an event loop. `RWF_NOWAIT`: what would have to wait (for an allocation, for a page in
the cache) is not done, and its result says so. And an eventfd that tells when a result is there.
Files have to be open with `O_DIRECT`: a write through the page cache would be made at once, and the
caller would wait for it.

Layouts and numbers: include/uapi/linux/aio_abi.h, include/uapi/linux/fs.h, and the tables of system
calls of the two architectures.
"""

import ctypes
import errno
import os
import platform
from typing import Any, Final, NamedTuple


class _Calls(NamedTuple):
    setup: int
    destroy: int
    getevents: int
    submit: int


_CALLS: Final = {"x86_64": _Calls(206, 207, 208, 209), "aarch64": _Calls(0, 1, 4, 2)}
"""By machine; both put the low half of a number first, as `_Request` does."""

_PWRITE: Final = 1
_RWF_NOWAIT: Final = 8
_RESFD: Final = 1

_libc: Final = ctypes.PyDLL(None, use_errno=True)  # none of these calls waits: no need to let go
_libc.syscall.restype = ctypes.c_long


class _Request(ctypes.Structure):
    """`struct iocb`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("memory", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event", ctypes.c_uint32),
    )


class _Result(ctypes.Structure):
    """`struct io_event`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("request", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelWrites:
    """One write at a time.

    Attributes:
        event: a file that becomes readable when there is a result.

    Raises:
        OSError: this system has no such writes.
    """

    def __init__(self) -> None:
        calls = _CALLS.get(platform.machine())
        if calls is None or not hasattr(os, "eventfd"):
            raise OSError(errno.ENOSYS, f"no asynchronous I/O on {platform.machine()}")
        self._calls = calls
        self._context = ctypes.c_ulong(0)
        self._under_way = False
        _call(calls.setup, ctypes.c_long(1), ctypes.byref(self._context))
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._request = _Request(
            opcode=_PWRITE, rw_flags=_RWF_NOWAIT, flags=_RESFD, event=self.event
        )
        self._requests = (ctypes.POINTER(_Request) * 1)(ctypes.pointer(self._request))
        self._result = _Result()

    def begin(self, file: int, memory: int, length: int, offset: int) -> bool:
        """Begin to write `length` bytes from the address `memory`; False: it can't be done now.

        The memory has to be left alone until there is a result. Address, length and offset are
        multiples of what the file system wants.
        """
        request = self._request
        request.file, request.memory, request.length, request.offset = file, memory, length, offset
        try:
            _call(self._calls.submit, self._context, ctypes.c_long(1), self._requests)
        except OSError:
            return False
        self._under_way = True
        return True

    def result(self) -> int:
        """Bytes written, or an error's number below 0. To be called when `event` is readable."""
        os.eventfd_read(self.event)
        _call(
            self._calls.getevents,
            self._context,
            ctypes.c_long(1),
            ctypes.c_long(1),
            ctypes.byref(self._result),
            None,
        )
        self._under_way = False
        written: int = self._result.result
        return written

    def close(self) -> None:
        """Free it, unless a write never ended: to wait for that would be to wait for ever."""
        if not self._under_way:
            _call(self._calls.destroy, self._context)
        os.close(self.event)


def _call(*arguments: Any) -> None:
    number, *rest = arguments
    if _libc.syscall(ctypes.c_long(number), *rest) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
