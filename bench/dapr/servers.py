"""The servers under test, each a process: brokers with a door, and those that do nothing."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench.dapr.options import APP
from bench.options import ROOT, BenchError

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 35.0


class Server(msgspec.Struct, frozen=True):
    """Where a server listens.

    Attributes:
        http: host and port of the HTTP API.
        grpc: of the gRPC API; empty where there is none.
        url: of the broker behind them; empty where there is none.
    """

    http: str
    grpc: str = ""
    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What Dapr's SDKs find it by."""
        return {
            "DAPR_HTTP_PORT": self.http.rpartition(":")[2],
            "DAPR_GRPC_PORT": self.grpc.rpartition(":")[2],
        }


def broker(store: str) -> list[str]:
    """The arguments of a broker with a door."""
    ports = ["--port", "0", "--dapr-http-port", "0", "--dapr-grpc-port", "0"]
    quiet = ["--log-level", "warning"]
    return ["transport", "serve", "--store", store, *ports, "--app-id", APP, *quiet]


def empty(measure: str, payload: int) -> list[str]:
    """The arguments of the server that does nothing for a measure."""
    if measure == "http":
        return ["bench.dapr.empty_http"]
    return ["bench.dapr.empty_grpc", str(payload)]


@asynccontextmanager
async def running(arguments: list[str], lines: int, directory: Path) -> AsyncIterator[Server]:
    """A server for as long as the context lasts.

    Args:
        arguments: of `python -m`.
        lines: how many lines it prints once it listens.
        directory: for its log.

    Raises:
        BenchError: it does not start, or does not end in order.
    """
    with (directory / "server.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield await _address(process, lines)
    finally:
        await _stop(process)


async def _address(process: asyncio.subprocess.Process, lines: int) -> Server:
    assert process.stdout is not None
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(START_SECONDS):
            for _ in range(lines):
                line = (await process.stdout.readline()).decode()
                said = re.fullmatch(r"(?:dapr )?(\w+) listening on (\S+)\n", line)
                if said is None:
                    raise BenchError(f"a server did not start: {line or 'it said nothing'!r:.200}")
                found[said[1]] = said[2]
    except TimeoutError:
        raise BenchError(f"a server did not start within {START_SECONDS:g} s") from None
    return Server(found["http"], found.get("grpc", ""), found.get("actorbus", ""))


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
    except TimeoutError:
        process.kill()
        raise BenchError(f"a server did not stop within {STOP_SECONDS:g} s") from None
    if status not in (0, -15):
        raise BenchError(f"a server ended with status {status}")
