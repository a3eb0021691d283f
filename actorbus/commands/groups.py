"""`actorbus groups`: what topics and groups there are, and how they are doing."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actorbus.client.bus import Bus, connect
from actorbus.commands.run import DEFAULT_URL, Token, Url, run
from actorbus.commands.show import printable
from actorbus.commands.streams import encode_lines, write_out
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

HEADS: Final = {
    "instances": "in-\nstances",
    "in flight": "in\nflight",
    "redelivered": "rede-\nlivered",
    "dead-lettered": "dead-\nlettered",
}
"""Names of columns in two lines, to leave room for what is in them."""

WIDE_CHARACTERS: Final = 100
WIDE_ONLY: Final = frozenset({"delivered"})
"""Narrower terminals, the usual 80 characters for one, do without these columns."""

UNKNOWN: Final = "-"

STYLES: Final = {
    "topic": "cyan",
    "redelivered": "yellow",
    "dead-lettered": "red",
    "dropped": "red",
}
"""Of what is neither nothing nor unknown."""


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
                console.print(_table(topics, console.width))
            else:
                await write_out(encode_lines(["\t".join(row) for row in (COLUMNS, *_rows(topics))]))
            if not watch:
                return 0
            await asyncio.sleep(REFRESH_SECONDS)


async def _live(bus: Bus, console: Console) -> None:
    """Refresh the table until Ctrl-C; while the broker is away, say so."""
    table = _table(await bus.inspect(), console.width)
    with Live(table, console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                live.update(_table(await bus.inspect(), console.width), refresh=True)
            except UnavailableError as error:
                news = printable(f"the broker does not answer: {error.message}")
                live.update(Text(news, style="yellow"), refresh=True)


def _table(topics: Sequence[TopicStatus], width: int) -> Table:
    shown = [name for name in COLUMNS if width >= WIDE_CHARACTERS or name not in WIDE_ONLY]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in shown[:NAMES]:
        table.add_column(name, overflow="fold")  # in a narrow terminal: numbers stay whole
    for name in shown[NAMES:]:
        table.add_column(HEADS.get(name, name), justify="right", no_wrap=True)
    for row in _rows(topics):
        cells = dict(zip(COLUMNS, row, strict=True))
        table.add_row(*[Text(cells[name], style=_style(name, cells[name])) for name in shown])
    return table


def _style(column: str, cell: str) -> str:
    if cell in ("0", UNKNOWN):
        return "dim"
    return STYLES.get(column, "")


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
