"""App processes as seen from the bench: started, ordered about, listened to and ended."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import msgspec

from bench.messages import Failed, Message, Order, Progress, Ready, Stop, Task
from bench.options import ROOT, BenchError

LINE_BYTES: Final = 256 * 1024 * 1024
"""Longest message: a result with the bitmaps of a billion events, in base64."""

UNREAD: Final = 16
"""Messages that wait for the bench, progress aside: it asks one question at a time."""

END_SECONDS: Final = 15.0
"""How long a process may take to end in order before it is killed."""

M = TypeVar("M", bound=Message)


def end_in_order_when_terminated() -> None:
    """Take SIGTERM for Ctrl-C, so that `asyncio.run` ends what was started, not only the bench."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


class AppProcess:
    """One app process.

    Attributes:
        name: for messages to a person.
        progress: what it told last; None before that.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.progress: Progress | None = None
        self.on_progress: Callable[[Progress], None] = lambda _: None
        self._process = process
        self._messages: asyncio.Queue[Message] = asyncio.Queue(UNREAD)
        self._reading = asyncio.create_task(self._read())

    def tell(self, order: Order) -> None:
        """Give an order; a short line, so the pipe always has room for it."""
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def expect(self, kind: type[M], seconds: float) -> M:
        """Its next message, which must be of this kind.

        Raises:
            BenchError: it failed, ended, or says nothing for so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                message = await self._messages.get()
        except TimeoutError:
            raise BenchError(f"{self.name} says nothing for {seconds:g} s") from None
        if isinstance(message, kind):
            return message
        reason = message.message if isinstance(message, Failed) else f"unexpected {message!r:.80}"
        raise BenchError(f"{self.name}: {reason}")

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        if self._reading.done():
            raise BenchError(f"{self.name} ended in the middle of the run")

    async def end(self) -> None:
        """Have it end in order; kill it if it doesn't."""
        self.tell(Stop())
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            raise BenchError(f"{self.name} did not end within {END_SECONDS:g} s") from None
        finally:
            self._reading.cancel()
            if self._process.returncode is None:
                self._process.kill()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = msgspec.json.decode(line, type=Message)
            if isinstance(message, Progress):
                self.progress = message
                self.on_progress(message)
            else:
                await self._messages.put(message)
        status = await self._process.wait()
        await self._messages.put(Failed(f"it ended with status {status}"))


async def _start(module: str, name: str, task: Task) -> AppProcess:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        msgspec.json.encode(task).decode(),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,  # Ctrl-C reaches the bench alone, which then ends them
    )
    return AppProcess(name, process)


@asynccontextmanager
async def running(
    module: str, tasks: Sequence[tuple[str, Task]], ready_seconds: float
) -> AsyncIterator[list[AppProcess]]:
    """Processes of one kind, started together and all ready.

    Args:
        module: what they run.
        tasks: name and task of each.
        ready_seconds: how long they may take until they are connected.

    Raises:
        BenchError: one failed, or took longer.
    """
    apps: list[AppProcess] = []
    try:
        for name, task in tasks:
            apps.append(await _start(module, name, task))
        for app in apps:
            await app.expect(Ready, ready_seconds)
        yield apps
    finally:
        await _end_all(apps)


async def _end_all(apps: Sequence[AppProcess]) -> None:
    """All at once; the first error is raised when all have ended."""
    outcomes = await asyncio.gather(*(app.end() for app in apps), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
