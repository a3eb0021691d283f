"""The broker under test: a child process on a store of its own, or one that runs already."""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from bench import usage
from bench.options import OUT, ROOT, TEMPORARY, BenchError
from bench.usage import Usage

START_SECONDS: Final = 60.0
"""RabbitMQ may take its time."""

STOP_SECONDS: Final = 35.0
"""The broker promises 30 s (protocol: command line)."""

READY_LINE: Final = re.compile(r"^actorbus listening on (ws://\S+)$")


class Broker(msgspec.Struct, frozen=True):
    """A broker that accepts connections.

    Attributes:
        url: where.
        usage: reads what it has used so far; blocks for up to some milliseconds.
    """

    url: str
    usage: Callable[[], Usage]


@asynccontextmanager
async def serving(url: str | None, store: str) -> AsyncIterator[Broker]:
    """The broker at `url`, or one of our own on `store` for as long as the context lasts.

    Raises:
        BenchError: it does not start, or does not stop in order.
    """
    if url is not None:
        yield Broker(url, lambda: usage.of_broker(url))
        return
    with ExitStack() as stack:
        OUT.mkdir(exist_ok=True)  # on the disk of the checkout: /tmp may be none
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=OUT)))
        if store == TEMPORARY:
            store = f"sqlite:{directory / 'bench.db'}"
        errors = stack.enter_context((directory / "broker.log").open("w+b"))
        process = await _start(store, errors.fileno())
        try:
            address = await _address(process, directory / "broker.log")
            yield Broker(address, lambda: usage.of_process(process.pid))
        finally:
            await _stop(process, directory / "broker.log")


async def _start(store: str, errors: int) -> asyncio.subprocess.Process:
    command = ["-m", "transport", "serve", "--port", "0", "--store", store]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--log-level",
        "warning",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl-C reaches the bench alone, which then stops it
    )


async def _address(process: asyncio.subprocess.Process, log: Path) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        raise BenchError(f"the broker did not start within {START_SECONDS:g} s") from None
    found = READY_LINE.match(line)
    if found is None:
        raise BenchError(
            f"the broker did not start: {_last_line(log) or line or 'it said nothing'}"
        )
    return found[1]


async def _stop(process: asyncio.subprocess.Process, log: Path) -> None:
    assert process.stdout is not None
    if process.returncode is None and not process.stdout.at_eof():  # else it is ending by itself,
        process.terminate()  # and a signal now could take its exit status from asyncio
    try:
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
    except TimeoutError:
        process.kill()
        raise BenchError(f"the broker did not stop within {STOP_SECONDS:g} s") from None
    if status:
        raise BenchError(f"the broker ended with status {status}: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1][:500] if lines else ""
