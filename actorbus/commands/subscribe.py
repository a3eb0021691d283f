"""`actorbus subscribe`: one line per event, acknowledged once it is written."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from actorbus.client.bus import connect
from actorbus.client.delivery import Delivery
from actorbus.client.subscribe_options import Options
from actorbus.commands.run import DEFAULT_URL, Token, Url, run
from actorbus.commands.show import TerminalLines, json_line, plain_line
from actorbus.commands.streams import encode_lines, write_out

WINDOW: Final = 256
"""Events in flight; as many are written together at most."""

FINISH_SECONDS: Final = 2.0
"""How long an interrupted command may go on writing what it has begun to write."""


def subscribe(
    topic: Annotated[str, typer.Argument(help="The topic.")],
    *,
    app_id: Annotated[str, typer.Option(help="Whose group to join.")],
    ack_wait: Annotated[
        float | None,
        typer.Option(help="Seconds until an event that is not acknowledged is redelivered."),
    ] = None,
    most: Annotated[
        int | None, typer.Option("--max", min=1, help="Stop after so many events.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print whole CloudEvents as JSON lines.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Print the events of a topic, one line each, and acknowledge them."""
    options: Options = {} if ack_wait is None else {"ack_wait": ack_wait}
    run(
        _subscribe(topic, options, app_id=app_id, most=most, json=json, url=url, token=token),
    )


async def _subscribe(
    topic: str,
    options: Options,
    *,
    app_id: str,
    most: int | None,
    json: bool,
    url: str,
    token: str | None,
) -> int:
    form = _form(Console(), json=json)
    window = WINDOW if most is None else min(WINDOW, most)
    async with (
        connect(url, app_id=app_id, token=token, max_in_flight=window) as bus,
        bus.subscribe(topic, **options) as deliveries,
    ):
        while batch := await deliveries.next_batch(window):
            if most is not None:
                most -= len(batch)
                window = min(window, most)
                await bus.flow(window)  # before the acks, so that none comes beyond `most`
            await _whole(_print(batch, form))
            if most == 0:
                return 0
    return 0


def _form(console: Console, *, json: bool) -> Callable[[Delivery], str]:
    if console.is_terminal:
        lines = TerminalLines(console)
        return lines.json_line if json else lines.line
    return json_line if json else plain_line


async def _print(batch: list[Delivery], form: Callable[[Delivery], str]) -> None:
    await write_out(encode_lines([form(delivery) for delivery in batch]))
    for delivery in batch:
        await delivery.ack()


async def _whole(step: Coroutine[Any, Any, None]) -> None:
    """Do a step to its end even if the command is interrupted: what is printed is acknowledged."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=FINISH_SECONDS)
        if not task.cancel() and not task.cancelled():
            task.exception()  # a reader that went away is no news any more
        raise
