"""`actorbus publish`: events from arguments, or from the lines of standard input."""

import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from actorbus import json_text
from actorbus.client.bus import Bus, PartlyPublishedError, connect
from actorbus.commands.run import (
    DEFAULT_URL,
    Token,
    Url,
    complain,
    encode_lines,
    in_daemon,
    run,
    write_out,
)
from actorbus.errors import InvalidEventError, UndecodableError

MANY: Final = 500
"""Events of standard input that are published together."""

CHUNK_BYTES: Final = 256 * 1024
"""Standard input is read in pieces of at most this; what is there is published at once."""


def publish(
    topic: Annotated[str, typer.Argument(help="Where to.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            show_default=False,
            help="One event each: JSON if it parses, else text. - reads lines.",
        ),
    ] = None,
    *,
    app_id: Annotated[str, typer.Option(help="The events' source.")] = "cli",
    text: Annotated[bool, typer.Option("--text", help="Take no data for JSON.")] = False,
    ttl: Annotated[
        float | None, typer.Option(help="Seconds after which the events are not delivered.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Publish events, and print their ids once they are durable."""
    if not data:
        raise typer.BadParameter("give DATA, or - to publish the lines of standard input")
    run(_publish(topic, data, app_id=app_id, text=text, ttl=ttl, url=url, token=token))


async def _publish(
    topic: str,
    data: list[str],
    *,
    app_id: str,
    text: bool,
    ttl: float | None,
    url: str,
    token: str | None,
) -> int:
    parse: Callable[[str], Any] = str if text else _parse
    async with connect(url, app_id=app_id, token=token) as bus:
        if data != ["-"]:
            ids = await bus.publish_many(topic, map(parse, data), ttl=ttl)
            await write_out(encode_lines(ids))
            return 0
        return await _publish_lines(bus, topic, parse, ttl)


async def _publish_lines(
    bus: Bus, topic: str, parse: Callable[[str], Any], ttl: float | None
) -> int:
    began = time.monotonic()
    published = taken = 0
    with _progress() as advance:
        async for lines, size in _chunks():
            refused = await _publish_chunk(bus, topic, [parse(line) for line in lines], ttl)
            for index, message in refused:
                complain(f"line {taken + index + 1}: {message}")
            taken += len(lines)
            published += len(lines) - len(refused)
            advance(size)
    seconds = max(time.monotonic() - began, 1e-3)
    summary = f"published {published} events to {topic} in {seconds:.1f} s"
    await write_out(encode_lines([f"{summary} ({published / seconds:.0f}/s)"]))
    return int(published < taken)


async def _publish_chunk(
    bus: Bus, topic: str, data: list[Any], ttl: float | None
) -> list[tuple[int, str]]:
    """Publish together; returns index and reason of those that were refused for themselves."""
    try:
        await bus.publish_many(topic, data, ttl=ttl)
    except PartlyPublishedError as error:
        return [(index, message) for index, _, message in error.errors]
    except InvalidEventError:
        return await _publish_singly(bus, topic, data, ttl)
    return []


async def _publish_singly(
    bus: Bus, topic: str, data: list[Any], ttl: float | None
) -> list[tuple[int, str]]:
    """One by one, to find out which can't be encoded: nothing has been sent so far."""
    refused: list[tuple[int, str]] = []
    for index, item in enumerate(data):
        try:
            await bus.publish(topic, item, ttl=ttl)
        except InvalidEventError as error:
            refused.append((index, error.message))
    return refused


async def _chunks() -> AsyncIterator[tuple[list[str], int]]:
    """Lines of standard input as they come, at most `MANY` together, with their bytes."""
    rest = b""
    while True:
        piece = await in_daemon(lambda: os.read(sys.stdin.fileno(), CHUNK_BYTES))
        *lines, rest = (rest + piece).split(b"\n") if piece else (rest, b"")
        for first in range(0, len(lines), MANY):
            part = lines[first : first + MANY]
            size = sum(map(len, part)) + len(part)
            texts = [line.rstrip(b"\r").decode(errors="replace") for line in part]
            if wanted := [line for line in texts if line]:
                yield wanted, size
        if not piece:
            return


@contextmanager
def _progress() -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal while a file is read; else nothing."""
    console = Console(stderr=True)
    status = os.fstat(sys.stdin.fileno())
    if not console.is_terminal or not stat.S_ISREG(status.st_mode):
        yield lambda size: size
        return
    columns = (TextColumn("publishing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("publishing", total=status.st_size)
        yield lambda size: bar.advance(task, size)


def _parse(text: str) -> Any:
    """The value that a JSON text stands for; what is no JSON is text itself."""
    try:
        return json_text.loads(text)
    except UndecodableError:
        return text
