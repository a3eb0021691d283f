"""Events as lines: plain ones, and coloured and aligned ones for a terminal."""

import json
from typing import Any, Final

import orjson
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from actorbus.client.delivery import Delivery
from actorbus.events import to_base64, to_json
from actorbus.packing import pack

HIGHLIGHT_CHARACTERS: Final = 10_000
"""Longer data is not coloured: that takes 0.1 ms a kilobyte, and holds up the loop."""


def printable(text: str) -> str:
    """`text` with whatever a terminal might obey or hide as JSON escapes.

    JSON stays the same JSON, since outside of texts it has printable characters only.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def plain_line(delivery: Delivery) -> str:
    """Event id, attempt if it is not the first, and data."""
    again = f" (attempt {delivery.attempt})" if delivery.attempt > 1 else ""
    return f"{_id(delivery)}{again} {_text(delivery.data)}"


def json_line(delivery: Delivery) -> str:
    """The whole CloudEvent."""
    return to_json(pack(delivery.event)).decode()


class TerminalLines:
    """Lines for a terminal: the ids in a column, the JSON coloured."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._highlight = JSONHighlighter().highlight
        self._width = 0

    def line(self, delivery: Delivery) -> str:
        """As `plain_line`."""
        event_id = _id(delivery)
        self._width = max(self._width, len(event_id))
        again = f" (attempt {delivery.attempt})" if delivery.attempt > 1 else ""
        line = Text.assemble((event_id.ljust(self._width), "dim"), (again, "yellow"), " ")
        return self._render(line, _text(delivery.data))

    def json_line(self, delivery: Delivery) -> str:
        """As the function of that name."""
        return self._render(Text(), printable(json_line(delivery)))

    def _render(self, line: Text, data: str) -> str:
        coloured = Text(data)
        if len(data) <= HIGHLIGHT_CHARACTERS:
            self._highlight(coloured)
        with self._console.capture() as captured:
            self._console.print(line + coloured, soft_wrap=True)
        return captured.get().removesuffix("\n")


def _id(delivery: Delivery) -> str:
    return printable(str(delivery.event.get("id")))


def _text(data: Any) -> str:
    if isinstance(data, bytes):
        return to_base64(data)
    return printable(orjson.dumps(data).decode())
