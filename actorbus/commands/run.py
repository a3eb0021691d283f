"""What all client commands share: their options, how they run, and how they fail."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, NoReturn

import structlog
import typer
from rich.console import Console
from rich.text import Text

from actorbus.client.handshake import UnreachableError
from actorbus.commands.show import printable
from actorbus.commands.streams import STDOUT, fill_missing
from actorbus.errors import ActorbusError

INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM

DEFAULT_URL: Final = "ws://127.0.0.1:8090/v1"

Url = Annotated[str, typer.Option(envvar="ACTORBUS_URL", help="The broker's address.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="ACTORBUS_TOKEN", show_default=False, help="The app's token, if needed."),
]


def invoke(app: typer.Typer) -> NoReturn:
    """Run the command line; a wrong usage is one line on standard error."""
    fill_missing()
    try:
        status = app(prog_name="actorbus", standalone_mode=False)
    except typer.TyperException as error:
        if message := error.format_message():  # none where help was shown instead
            context = getattr(error, "ctx", None)
            command = "actorbus" if context is None else context.command_path
            complain(f"{message[0].lower()}{message[1:].rstrip('.')} (see: {command} --help)")
        sys.exit(error.exit_code)
    sys.exit(status)


def run(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command and exit with its status; a user's error is one line on standard error."""
    _configure_log()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(_terminable(work))
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = 0  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    except ActorbusError as error:
        fail(error)
    sys.exit(status)


def fail(error: ActorbusError) -> NoReturn:
    """Say what is wrong, and exit."""
    hint = (
        ": is it running? start one with: actorbus serve"
        if isinstance(error, UnreachableError)
        else ""
    )
    complain(f"{error}{hint}")
    sys.exit(1)


def complain(message: str, console: Console | None = None) -> None:
    """One line on standard error; `console` is the one that shows a progress bar there."""
    line = Text.assemble(("actorbus: ", "bold red"), printable(message))
    (console or Console(stderr=True)).print(line, soft_wrap=True)


def _configure_log() -> None:
    """What the client library warns of, as lines on standard error."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=Console(stderr=True).color_system is not None,
        exception_formatter=structlog.dev.plain_traceback,  # the default shows local variables
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[structlog.processors.add_log_level, renderer],
    )


async def _terminable(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM ends the command as Ctrl-C does: acknowledgements are flushed first."""
    task = asyncio.ensure_future(work)
    terminated = asyncio.Event()

    def terminate() -> None:
        terminated.set()
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated.is_set():
            return TERMINATED
        raise


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - absent where it has no build
    except ImportError:
        return None
    return uvloop.new_event_loop
