"""The console script `actorbus`: `serve` here, the client commands from `actorbus.commands`."""

import asyncio
import gc
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn

import structlog
import typer

from actorbus.commands import app
from actorbus.commands.run import invoke
from actorbus.errors import ActorbusError
from actorbus.version import VERSION
from transport import logs
from transport.broker import Broker, Config
from transport.components import DEFAULT, ComponentConfig
from transport.dapr.config import no_retries
from transport.doorway import DoorOptions, Doorway, door_options
from transport.sidecar_command import SETTINGS, sidecar

if TYPE_CHECKING:
    from transport.dapr.resources.load import Resources

log = structlog.get_logger("actorbus.broker")

DEFAULT_STORE: Final = "sqlite:actorbus.db"
"""Where events are kept unless someone says otherwise."""

COLLECTION: Final = (20_000, 20, 50)
"""Thresholds of the garbage collector; Python's own are 700, 10, 10."""

SWITCH_SECONDS: Final = 0.0001
"""How long the loop may keep the interpreter from the store's thread; Python's own 5 ms made one
publisher on SQLite wait: 12,400 appended events/s beside a busy loop, 29,700 with 0.5 ms. With this
instead of that an event at 1,000/s took 0.83 of the time."""

START_CANCEL_SECONDS = 5.0
"""How long a start may take to break off when someone asks to stop."""


def main() -> None:
    """Run the command line."""
    invoke(app)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        print(f"actorbus {VERSION}")  # noqa: T201 - it is what was asked for
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Publish/subscribe over WebSocket: topics, app IDs, at-least-once delivery, CloudEvents."""


app.command(context_settings=SETTINGS)(sidecar)


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8090,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="ACTORBUS_STORE",
            metavar="URL",
            show_default=DEFAULT_STORE,
            help="sqlite:PATH[?retain=7d], memory:, or "
            "amqp://USER:PASSWORD@HOST:PORT/VHOST[?interop=dapr] (amqps:// for TLS).",
        ),
    ] = None,
    resources_path: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder of Dapr's resource files: each pub/sub component is served at "
            "/v1/components/NAME, the one named pubsub at /v1 too unless --store is given; "
            "repeatable.",
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='TOML, one line a token: "<SHA-256 hex of the token>" = "app-id". '
            "With it every app needs one.",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Browser origin that may connect, as https://app.example.com; repeatable; "
            "'*' for any.",
        ),
    ] = None,
    specversion: Annotated[
        Literal["0.3", "1.0"],
        typer.Option(help="CloudEvents version of the events that the broker wraps."),
    ] = "0.3",
    grace: Annotated[
        float,
        typer.Option(
            min=0, max=10, help="Seconds that apps get to settle what is in flight at a stop."
        ),
    ] = 5.0,
    dapr_http_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of Dapr's HTTP API, often 3500; 0 takes a free one."
        ),
    ] = None,
    dapr_grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of Dapr's gRPC API, often 50001; 0 takes a free one."
        ),
    ] = None,
    app_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Whose calls those of the Dapr APIs are, unless --tokens say it; else APP_ID.",
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Least level logged.")
    ] = "info",
    log_format: Annotated[
        logs.Format, typer.Option(help="auto: text on a terminal, else JSON lines.")
    ] = "auto",
) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop in order."""
    logs.configure(log_level, log_format)
    _take_all_files()
    resources = _resources(resources_path or [])
    components = () if resources is None else resources.components
    config = Config(
        host=host,
        port=port,
        store=_store(store, components),
        components=components,
        tokens=tokens,
        origins=tuple(origin or ()),
        specversion=specversion,
        grace_seconds=grace,
    )
    try:
        dapr = door_options(
            dapr_http_port,
            dapr_grpc_port,
            app_id,
            os.environ.get("APP_ID"),
            tokens=tokens is not None,
            retries=no_retries if resources is None else resources.retries,
        )
        status = _run(config, dapr)
    except ActorbusError as error:
        _fail(str(error), getattr(error, "exit_status", 1))
    sys.exit(status)


def _resources(folders: list[Path]) -> "Resources | None":
    """What Dapr's resource files say; None if there are none."""
    if not folders:
        return None
    try:
        from transport.dapr.resources.load import load  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        _fail(f"--resources-path needs {error.name}: pip install 'actorbus[dapr]'", 1)
    try:
        resources = load(folders)
    except ActorbusError as error:
        _fail(str(error), getattr(error, "exit_status", 1))
    resources.log_warnings()
    if resources.subscriptions:
        log.warning(
            "subscriptions are not served here",
            subscriptions=len(resources.subscriptions),
            reason="they are for apps that are called: actorbus sidecar --resources-path DIR",
        )
    return resources


def _store(given: str | None, components: tuple[ComponentConfig, ...]) -> str | None:
    """The URL of what `/v1` serves; None if a file defines that."""
    if given is None and any(one.name == DEFAULT for one in components):
        return None
    return DEFAULT_STORE if given is None else given


def _take_all_files() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard one: a connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_collector() -> None:
    """Have Python look for cycles of objects more seldom, and never again among those there now.

    What a request makes goes by its reference counts; a backlog that is kept makes each search
    longer. Over HTTP, on SQLite, 13 pairs of runs: 1.08 times as many events/s.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION)


def _run(config: Config, dapr: DoorOptions | None) -> int:
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        import uvloop  # noqa: PLC0415 - absent where it has no build
    except ImportError:
        return asyncio.run(_serve(config, dapr))
    return uvloop.run(_serve(config, dapr))


async def _serve(config: Config, dapr: DoorOptions | None) -> int:
    broker = Broker(config)
    doorway = None if dapr is None else Doorway(dapr, broker)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, _asked, broker)
    url = await _start(broker)
    spare_collector()
    try:
        if url is not None:
            await _tell(url, doorway)
            log.info("listening", url=url, stores=broker.stores(), version=VERSION)
            await broker.wait()
    finally:
        broker.stopping = True
        if doorway is not None:
            await doorway.close()
        await broker.stop()
    log.info("stopped", exit_status=broker.exit_status)
    return broker.exit_status


async def _tell(url: str, doorway: Doorway | None) -> None:
    """Open the door; then say where everything listens, a line each: outside tools read them."""
    lines = [] if doorway is None else await doorway.open(url)
    for line in (f"actorbus listening on {url}", *lines):
        print(line, flush=True)  # noqa: T201


async def _start(broker: Broker) -> str | None:
    """Start; None if someone asked to stop before that was done."""
    starting = asyncio.create_task(broker.start())
    asked = asyncio.create_task(broker.wait())
    await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait((starting,), timeout=START_CANCEL_SECONDS)
    return None


def _asked(broker: Broker) -> None:
    if broker.stopping:
        log.warning("asked to stop a second time: leaving at once")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    broker.ask_to_stop()


def _fail(message: str, status: int) -> NoReturn:
    print(f"actorbus: {message}", file=sys.stderr)  # noqa: T201 - an error line for a person
    sys.exit(status)
