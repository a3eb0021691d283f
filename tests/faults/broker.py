"""A broker process that can be killed and started again on its port and file."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

ROOT: Final = Path(__file__).parents[2]
SERVE: Final = ("-m", "transport", "serve")
READY: Final = "actorbus listening on "
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 35.0


class BrokerProcess:
    """One broker, run as its operator runs it; what it logs goes to `broker.log`.

    Args:
        directory: for its SQLite file and its log.
        store: its URL; by default a SQLite file.
        program: arguments of the interpreter, to run another program in the broker's place.
        name: of the log file, where several brokers share a directory.

    Attributes:
        url: where it listens, from the first start on.
        pid: of the process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store: str | None = None,
        program: Sequence[str] = SERVE,
        name: str = "broker",
    ) -> None:
        self.url = ""
        self.program = program
        self._store = store or f"sqlite:{directory / 'events.db'}"
        self._log = directory / f"{name}.log"
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.kill()
        if error is None:
            assert "Traceback" not in self.log(), "no peer's fault leaves a traceback in the log"

    async def start(self) -> None:
        """Start it, on the port it had before, and wait until it listens."""
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.program,
                *("--port", str(self._port), "--store", self._store),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await self._process.stdout.readline()).decode()
        if not line.startswith(READY):
            await self.kill()
            raise RuntimeError(f"the broker did not start: {self.log()[-2000:]}")
        self.url = line.removeprefix(READY).strip()
        self._port = urlsplit(self.url).port or 0

    async def kill(self) -> None:
        """End it as a crash does; again: nothing."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                self._process.kill()
            await self._end()

    async def stop(self) -> int:
        """Stop it in order; its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self.exited()

    async def exited(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it has ended by itself; its exit status."""
        async with asyncio.timeout(seconds):
            return await self._end()

    async def _end(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        await self._process.stdout.read()  # to its end, so that the pipe is closed
        status = await self._process.wait()
        self._process = None
        return status

    def log(self) -> str:
        """What it has logged, over all its lives."""
        return self._log.read_text(errors="replace")

    async def health(self) -> tuple[int, str]:
        """Status and reason of `/healthz`."""
        return await self._get("/healthz")

    async def metric(self, name: str) -> float:
        """One number of `/metrics`: of the first line that starts with `name` and a space."""
        _, text = await self._get("/metrics")
        lines = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return float(next(lines).split()[1])

    async def _get(self, path: str) -> tuple[int, str]:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
            writer.close()
            await writer.wait_closed()
        return int(head.split()[1]), body.strip()
