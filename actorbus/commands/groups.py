"""`actorbus groups`: what topics and groups there are, and how they are doing."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from actorbus.client.bus import Bus, connect
from actorbus.commands.run import DEFAULT_URL, Token, Url, encode_lines, run, write_out
from actorbus.errors import UnavailableError
from actorbus.frame_types import GroupStatus, TopicStatus

REFRESH_SECONDS: Final = 1.0

ANSWER_SECONDS: Final = 5.0
"""How long the table stands still before it says that the broker does not answer."""

COLUMNS: Final = (
    "topic",
    "app id",
    "instances",
    "backlog",
    "in flight",
    "delivered",
    "redelivered",
    "dead-lettered",
    "dropped",
    "oldest",
)
NAMES: Final = 2
"""How many of the columns are names; the others are numbers."""

UNKNOWN: Final = "-"


def groups(
    *,
    app_id: Annotated[str, typer.Option(help="Who asks.")] = "cli",
    watch: Annotated[
        bool | None,
        typer.Option(
            "--watch/--once", show_default=False, help="Refresh every second (on a terminal)."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, once.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show topics and their groups."""
    console = Console()
    watch = console.is_terminal if watch is None else watch
    run(_groups(console, app_id=app_id, watch=watch and not json, json=json, url=url, token=token))


async def _groups(
    console: Console, *, app_id: str, watch: bool, json: bool, url: str, token: str | None
) -> int:
    async with connect(url, app_id=app_id, token=token, request_timeout=ANSWER_SECONDS) as bus:
        if watch and console.is_terminal:
            await _live(bus, console)
        while True:
            topics = await bus.inspect()
            if json:
                await write_out(msgspec.json.encode(topics) + b"\n")
            elif console.is_terminal:
                console.print(_table(topics))
            else:
                await write_out(encode_lines(["\t".join(row) for row in (COLUMNS, *_rows(topics))]))
            if not watch:
                return 0
            await asyncio.sleep(REFRESH_SECONDS)


async def _live(bus: Bus, console: Console) -> None:
    """Refresh the table until Ctrl-C; while the broker is away, say so."""
    with Live(_table(await bus.inspect()), console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                live.update(_table(await bus.inspect()), refresh=True)
            except UnavailableError as error:
                live.update(f"the broker does not answer: {error.message}", refresh=True)


def _table(topics: Sequence[TopicStatus]) -> Table:
    table = Table(box=None, header_style="bold")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < NAMES else "right", no_wrap=True)
    for row in _rows(topics):
        table.add_row(*row)
    return table


def _rows(topics: Sequence[TopicStatus]) -> Iterator[tuple[str, ...]]:
    for topic in topics:
        if not topic.groups:
            yield (topic.topic, *[UNKNOWN] * (len(COLUMNS) - 1))
        for group in topic.groups:
            yield (topic.topic, *_cells(group))


def _cells(group: GroupStatus) -> tuple[str, ...]:
    numbers = (
        group.instances,
        group.backlog,
        group.in_flight,
        group.delivered,
        group.redelivered,
        group.dead_lettered,
        group.dropped,
    )
    return (group.app_id, *(_number(number) for number in numbers), _age(group.oldest_ms))


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _age(milliseconds: int | None) -> str:
    return UNKNOWN if milliseconds is None else f"{milliseconds / 1000:.1f}s"
