"""What all client commands share: their options, how they run, and how they fail."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, NoReturn, TypeVar

import structlog
import typer

from actorbus.client.handshake import UnreachableError
from actorbus.errors import ActorbusError

T = TypeVar("T")

INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM

DEFAULT_URL: Final = "ws://127.0.0.1:8090/v1"

Url = Annotated[str, typer.Option(envvar="ACTORBUS_URL", help="The broker's address.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="ACTORBUS_TOKEN", show_default=False, help="The app's token, if needed."),
]


def run(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Run a command and exit with its status; a user's error is one line on standard error."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer()],
    )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            status = runner.run(_terminable(work))
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = 0  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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


def complain(message: str) -> None:
    """One line on standard error."""
    typer.echo(f"actorbus: {message}", err=True)


def encode_lines(lines: list[str]) -> bytes:
    """Lines of text as bytes, each with its end."""
    return "".join(f"{line}\n" for line in lines).encode(errors="replace")


async def write_out(output: bytes) -> None:
    """Write to standard output without holding up the event loop.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    await in_daemon(lambda: _write_all(sys.stdout.fileno(), output))


async def in_daemon(work: Callable[[], T]) -> T:
    """Run blocking work in a thread that does not keep the process from exiting.

    Unlike `asyncio.to_thread`, whose threads are waited for at exit: one that reads from a
    terminal or writes to a full pipe may never return.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def body() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = (future.set_result, work())
        except OSError as error:
            outcome = (future.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=body, daemon=True).start()
    return await future


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


def _write_all(descriptor: int, output: bytes) -> None:
    view = memoryview(output)
    while view:
        view = view[os.write(descriptor, view) :]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - absent where it has no build
    except ImportError:
        return None
    return uvloop.new_event_loop
