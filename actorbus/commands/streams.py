"""Standard input and output: read and written beside the event loop, and missing ones."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from actorbus.errors import ActorbusError

T = TypeVar("T")

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


class StreamError(ActorbusError):
    """Standard input can't be read, or standard output can't be written."""


def fill_missing() -> None:
    """Open what a parent has closed of the three standard streams, so that using it fails.

    Otherwise the next file that is opened, a socket of the event loop's, becomes that stream.
    """
    for descriptor, mode in ((STDIN, os.O_WRONLY), (STDOUT, os.O_RDONLY), (STDERR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free descriptor: this one


def encode_lines(lines: list[str]) -> bytes:
    """Lines of text as bytes, each with its end."""
    return "".join(f"{line}\n" for line in lines).encode(errors="replace")


async def write_out(output: bytes) -> None:
    """Write to standard output without holding up the event loop.

    Raises:
        BrokenPipeError: nobody reads it any more.
        StreamError: it can't be written.
    """
    try:
        await in_daemon(lambda: _write_all(STDOUT, output))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StreamError(f"can't write to standard output: {_reason(error)}") from None


async def read_in(most: int) -> bytes:
    """What standard input has, as soon as there is something; empty at its end.

    Raises:
        StreamError: it can't be read.
    """
    try:
        return await in_daemon(lambda: os.read(STDIN, most))
    except OSError as error:
        raise StreamError(f"can't read standard input: {_reason(error)}") from None


async def in_daemon(work: Callable[[], T]) -> T:
    """Run blocking work in a thread that does not keep the process from exiting.

    Unlike `asyncio.to_thread`, whose threads are waited for at exit: one that reads from a
    terminal or writes to a full pipe may never return.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def body() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, work())
        except OSError as error:
            outcome = (future.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=body, daemon=True).start()
    return await future


def _write_all(descriptor: int, output: bytes) -> None:
    view = memoryview(output)
    while view:
        view = view[os.write(descriptor, view) :]


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
