"""`actorbus publish`: events from arguments, or from the lines of standard input."""

import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from actorbus import json_text
from actorbus.client.bus import Bus, PartlyPublishedError, connect
from actorbus.commands.lines import Line, LineSplitter
from actorbus.commands.run import DEFAULT_URL, Token, Url, complain, run
from actorbus.commands.streams import STDIN, encode_lines, read_in, write_out
from actorbus.errors import ActorbusError, InvalidEventError, UndecodableError

MANY: Final = 500
"""Events of standard input that are published together."""

CHUNK_BYTES: Final = 256 * 1024
"""Standard input is read in pieces of at most this; what is there is published at once."""

MEANT_AS_JSON: Final = ("{", "[")
"""What begins so and is no JSON is refused: a damaged object must not pass for a text."""


def publish(
    topic: Annotated[str, typer.Argument(help="Where to.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATA...",
            show_default=False,
            help="One event each: JSON if it parses, else text (unless it begins with { or [)."
            " - reads lines.",
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
        raise typer.BadParameter("no DATA: give some, or - for the lines of standard input")
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
    console = Console(stderr=True)
    with _progress(console) as advance:
        async for lines, size in _chunks():
            taken += len(lines)
            try:
                wrong = await _publish_chunk(bus, topic, lines, parse, ttl)
            except ActorbusError as error:
                complain(
                    f"stopped at lines {lines[0].number} to {lines[-1].number}: {error}", console
                )
                break
            for number, message in sorted(wrong):
                complain(f"line {number}: {message}", console)
            published += len(lines) - len(wrong)
            advance(size)
    seconds = max(time.monotonic() - began, 1e-3)
    summary = f"published {published} events to {topic} in {seconds:.1f} s"
    await write_out(encode_lines([f"{summary} ({published / seconds:.0f}/s)"]))
    return int(published < taken)


async def _publish_chunk(
    bus: Bus, topic: str, lines: list[Line], parse: Callable[[str], Any], ttl: float | None
) -> list[tuple[int, str]]:
    """Publish lines together; returns number and fault of those that are no events."""
    numbers: list[int] = []
    data: list[Any] = []
    wrong = [(line.number, line.wrong) for line in lines if line.wrong]
    for line in lines:
        if line.wrong:
            continue
        try:
            data.append(parse(line.text))
        except InvalidEventError as error:
            wrong.append((line.number, error.message))
        else:
            numbers.append(line.number)
    refused = await _publish_together(bus, topic, data, ttl)
    return wrong + [(numbers[index], message) for index, message in refused]


async def _publish_together(
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


async def _chunks() -> AsyncIterator[tuple[list[Line], int]]:
    """Lines of standard input as they come, at most `MANY` together, with bytes read for them."""
    splitter = LineSplitter()
    while piece := await read_in(CHUNK_BYTES):
        lines = splitter.feed(piece)
        for first in range(0, len(lines), MANY):
            size = len(piece) if first + MANY >= len(lines) else 0
            yield lines[first : first + MANY], size
    if last := splitter.end():
        yield last, 0


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal while a file is read; else nothing."""
    status = os.fstat(STDIN)
    if not console.is_terminal or not stat.S_ISREG(status.st_mode):
        yield lambda size: size
        return
    columns = (TextColumn("publishing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("publishing", total=status.st_size)
        yield lambda size: bar.advance(task, size)


def _parse(text: str) -> Any:
    """The value that a JSON text stands for; what is no JSON is text itself.

    Raises:
        InvalidEventError: it begins as only JSON does, but is none.
    """
    try:
        return json_text.loads(text)
    except UndecodableError as error:
        if text.lstrip().startswith(MEANT_AS_JSON):
            raise InvalidEventError(f"{error.message} (to send it as text: --text)") from None
        return text
