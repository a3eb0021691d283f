"""An app process as seen from inside: its task, the orders it gets and what it tells."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import msgspec

from actorbus import ActorbusError
from bench.messages import Failed, Message, Order, Progress, Stop, Task
from bench.options import BenchError

PROGRESS_SECONDS: Final = 0.1
"""How often an app process tells how far it is: 10 short lines a second."""


T = TypeVar("T", bound=Task)


class Bench:
    """The bench at the other end of standard input and output."""

    def __init__(self, orders: asyncio.StreamReader) -> None:
        self._orders = orders

    @staticmethod
    def tell(message: Message) -> None:
        """Send a message; a line of some 50 bytes, or the result once the work is done."""
        sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
        sys.stdout.buffer.flush()

    async def order(self) -> Order:
        """The next order; `Stop` when the bench is gone. It has no deadline: the bench has."""
        line = await self._orders.readline()
        return msgspec.json.decode(line, type=Order) if line else Stop()

    async def tell_progress(self, count: Callable[[], int]) -> None:
        """Tell how far the work is until cancelled."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self.tell(Progress(time.monotonic_ns(), count()))


def main(kind: type[T], work: Callable[[T, Bench], Coroutine[Any, Any, None]]) -> None:
    """Run an app process: the task is the command line's only argument."""
    task = msgspec.json.decode(sys.argv[1], type=kind)
    failure: BaseException | None = None
    try:
        run(_work(task, work))
    except* (ActorbusError, BenchError, OSError) as group:
        failure = next(_leaves(group))
    if failure is not None:
        Bench.tell(Failed(str(failure)))
        sys.exit(1)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


async def _work(task: T, work: Callable[[T, Bench], Coroutine[Any, Any, None]]) -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(sys.stdin.fileno(), "rb", closefd=False)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), pipe)
    await work(task, Bench(orders))


def run(main: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - absent where it has no build
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def until(at: int) -> None:
    """Sleep until `time.monotonic_ns` is `at`."""
    await asyncio.sleep(max(0, at - time.monotonic_ns()) / 1e9)
