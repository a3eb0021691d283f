"""Where the servers of one round live: directories, ports and processes, all gone at its end."""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from bench import usage
from bench.options import OUT, ROOT, BenchError
from bench.usage import Usage

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 35.0

T = TypeVar("T")


class Server:
    """A server process.

    Attributes:
        name: for messages to a person.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def usage(self) -> Callable[[], Usage]:
        """Reads what it has used so far."""
        return partial(usage.of_process, self._process.pid)

    async def answers(self, port: int) -> None:
        """Return once it accepts connections.

        Raises:
            BenchError: it ended, or takes too long.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _accepts(port):
                    self._check()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise BenchError(f"{self.name} did not start within {START_SECONDS:g} s") from None

    async def stop(self) -> None:
        """End it in order, or by force."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            raise BenchError(f"{self.name} did not stop within {STOP_SECONDS:g} s") from None

    def _check(self) -> None:
        if self._process.returncode is not None:
            lines = self._log.read_text(errors="replace").splitlines()
            raise BenchError(f"{self.name} did not start: {' / '.join(lines[-5:])[:1000]}")


class House:
    """The servers of one round; those that several contestants use are started once."""

    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory
        self._shared: dict[str, object] = {}

    def directory(self, name: str) -> Path:
        """A new directory, on the disk of the checkout: a temporary one may be none."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._directory))

    async def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> Server:
        """Start a server process.

        Raises:
            BenchError: there is no such program.
        """
        log = self.directory("log") / "output"
        try:
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    cwd=ROOT,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C reaches the bench alone, which then ends it
                )
        except FileNotFoundError:
            raise BenchError(
                f"{name}: {command[0]} is missing; run `make bench-peers`, which installs it"
                " where it may, or leave out what needs it (--only)"
            ) from None
        server = Server(name, process, log)
        self._stack.push_async_callback(server.stop)
        return server

    async def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context that is left with the house."""
        return await self._stack.enter_async_context(context)

    async def shared(self, name: str, kind: type[T], start: Callable[[], Awaitable[T]]) -> T:
        """What `start` made at the first call with this name."""
        if name not in self._shared:
            self._shared[name] = await start()
        found = self._shared[name]
        assert isinstance(found, kind)
        return found


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """A place for servers, which end with it, the youngest first."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=OUT, ignore_cleanup_errors=True) as directory:
        async with AsyncExitStack() as stack:
            yield House(stack, Path(directory))


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def plain_environment(**more: str) -> dict[str, str]:
    """An environment without settings of the person who runs the bench."""
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **more}


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
