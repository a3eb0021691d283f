"""`actorbus sidecar`: the options, and the way to the package that needs the extra `dapr`."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn

import typer

from actorbus.commands.run import DEFAULT_URL, Token, Url
from actorbus.errors import ActorbusError
from actorbus.names import check_app_id
from transport import logs

SETTINGS: Final = {"allow_interspersed_args": False}
"""Options end where the command begins, with or without `--`."""


def sidecar(
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND…]", help="The app, which is run with Dapr's variables set."
        ),
    ] = None,
    *,
    url: Url = DEFAULT_URL,
    token: Token = None,
    app_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Who the app is; else APP_ID.")
    ] = None,
    app_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Where the app takes events; left out: it takes none."),
    ] = None,
    app_protocol: Annotated[
        Literal["http", "grpc"], typer.Option(help="What the app speaks there.")
    ] = "http",
    app_channel_address: Annotated[
        str, typer.Option(metavar="HOST", help="Host that the app listens on.")
    ] = "127.0.0.1",
    app_wait: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds that the app may take to listen.")
    ] = 60.0,
    app_max_concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="Calls to the app at a time; left out: 64 a subscription."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address that the Dapr APIs listen on.")] = "127.0.0.1",
    dapr_http_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            show_default="3500; with a COMMAND a free one",
            help="Port of Dapr's HTTP API.",
        ),
    ] = None,
    dapr_grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            show_default="50001; with a COMMAND a free one",
            help="Port of Dapr's gRPC API.",
        ),
    ] = None,
    specversion: Annotated[
        Literal["0.3", "1.0"],
        typer.Option(help="CloudEvents version of the events that are wrapped."),
    ] = "0.3",
    resources_path: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Folder of Dapr's resource files, the broker's too; repeatable."
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Least level logged.")
    ] = "info",
    log_format: Annotated[
        logs.Format, typer.Option(help="auto: text on a terminal, else JSON lines.")
    ] = "auto",
) -> None:
    """Stand beside a Dapr app: serve Dapr's APIs to it, and push its events to it.

    DAPR_API_TOKEN is asked of the app's calls, APP_API_TOKEN is shown to the app.
    """
    logs.configure(log_level, log_format)
    settings = {
        "url": url,
        "token": token,
        "app_id": app_id or os.environ.get("APP_ID"),
        "app_host": app_channel_address,
        "app_port": app_port,
        "app_protocol": app_protocol,
        "app_wait": app_wait,
        "max_concurrency": app_max_concurrency,
        "app_token": os.environ.get("APP_API_TOKEN") or None,
        "host": host,
        "http_port": dapr_http_port,
        "grpc_port": dapr_grpc_port,
        "api_token": os.environ.get("DAPR_API_TOKEN") or None,
        "specversion": specversion,
        "resources": tuple(resources_path or ()),
        "command": tuple(command or ()),
    }
    try:
        status = _run(settings)
    except ActorbusError as error:
        _fail(str(error), getattr(error, "exit_status", 1))
    sys.exit(status)


def _run(settings: dict[str, Any]) -> int:
    _check(settings)
    try:
        from transport.dapr.sidecar.config import SidecarConfig  # noqa: PLC0415 - needs the extra
        from transport.dapr.sidecar.sidecar import run  # noqa: PLC0415 - same
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("actorbus", "actors", "transport"):
            raise
        _fail(f"the sidecar needs the package {error.name}: pip install 'actorbus[dapr]'", 2)
    work = run(SidecarConfig(**settings), _say, dict(os.environ))
    try:
        import uvloop  # noqa: PLC0415 - absent where it has no build
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _check(settings: dict[str, Any]) -> None:
    """Refuse what does not fit together.

    Raises:
        RefusedError: the app ID is no name.
    """
    if not settings["app_id"]:
        _fail("whose sidecar is it? give --app-id ID, or set APP_ID", 2)
    check_app_id(settings["app_id"])
    ports = [settings[name] for name in ("app_port", "http_port", "grpc_port") if settings[name]]
    if len(ports) != len(set(ports)):
        _fail(
            "--app-port, --dapr-http-port and --dapr-grpc-port must be different: the app and the"
            " sidecar's two APIs each listen on a port of their own",
            2,
        )


def _say(line: str) -> None:
    """A line for tools that wait for it."""
    print(line, flush=True)  # noqa: T201


def _fail(message: str, status: int) -> NoReturn:
    print(f"actorbus: {message}", file=sys.stderr)  # noqa: T201 - an error line for a person
    sys.exit(status)
