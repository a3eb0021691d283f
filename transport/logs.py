"""The broker's log: one line an event, for people on a terminal, JSON lines elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

import structlog


class Output:
    """Standard error, which may go away: a full disk or a closed pipe must not stop the broker.

    Args:
        stream: where lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, if that is possible."""
        with suppress(OSError, ValueError):  # ValueError: closed. There is nobody to be told
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()


Format = Literal["auto", "text", "json"]


def configure(level: str, form: Format) -> None:
    """Send structlog to standard error.

    Args:
        level: debug, info, warning or error.
        form: "auto" takes text on a terminal, JSON lines elsewhere.
    """
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # the default shows local variables: payloads and tokens
            exception_formatter=structlog.dev.plain_traceback,
        )
        if text
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not text:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Output(sys.stderr))),
        cache_logger_on_first_use=True,
    )
