"""The listening socket: the WebSocket handshake, and `/healthz` and `/metrics` beside it."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from actorbus.codec import CODECS
from actorbus.direct_connection import DirectServerConnection
from actorbus.limits import FRAME_BYTES
from transport.metrics import CONTENT_TYPE, render
from transport.session import Session

if TYPE_CHECKING:
    from transport.broker import Broker

log = structlog.get_logger("actorbus.transport")

PATH: Final = "/v1"
COMPONENTS: Final = f"{PATH}/components/"
"""Behind it the name of a component, if several are served."""

OPEN_SECONDS = 10.0
"""How long a client may take to say what it wants, and the answer to come."""

CLOSE_SECONDS: Final = 3.0
"""How long a closing handshake may take before the connection is dropped."""

RECEIVE_QUEUE: Final = 4
"""Messages buffered a connection; with the longest frames some 32 MiB at the worst."""


async def listen(broker: "Broker", host: str, port: int, origins: frozenset[str]) -> Server:
    """Accept connections on `host` and `port` (0 for a free one).

    Raises:
        OSError: the address can't be had.
    """
    return await serve(
        lambda connection: _handle(broker, connection),
        host,
        port,
        process_request=lambda _, request: _answer(broker, request, origins),
        select_subprotocol=_select_subprotocol,
        compression=None,
        max_size=FRAME_BYTES,
        max_queue=RECEIVE_QUEUE,
        ping_interval=None,  # SocketWire pings, and knows what the library's pings do not
        close_timeout=CLOSE_SECONDS,
        open_timeout=OPEN_SECONDS,
        server_header="actorbus",
        create_connection=DirectServerConnection,
        logger=_quiet_logger(),
    )


async def _handle(broker: "Broker", connection: ServerConnection) -> None:
    assert isinstance(connection, DirectServerConnection)
    assert connection.request is not None
    component = broker.component_at(_path(connection.request))
    assert component is not None  # `_route` has seen to that
    await Session(connection, broker, component).run()


async def _answer(broker: "Broker", request: Request, origins: frozenset[str]) -> Response | None:
    """Answer plain HTTP; None lets the handshake go on. A failure of ours is logged, here."""
    try:
        return await _route(broker, request, origins)
    except Exception:
        log.exception("request failed", path=request.path)
        return _respond(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error\n")


async def _route(broker: "Broker", request: Request, origins: frozenset[str]) -> Response | None:
    path = _path(request)
    if path not in ("/healthz", "/metrics") and broker.component_at(path) is None:
        return _respond(HTTPStatus.NOT_FOUND, _nothing_at(path))
    if request.method != "GET":
        return _not_allowed(request.method)
    if path == "/healthz":
        return _health(broker.health())
    if path == "/metrics":
        return _respond(HTTPStatus.OK, await render(broker), CONTENT_TYPE)
    foreign = set(request.headers.get_all("Origin")) - origins
    if foreign and "*" not in origins:
        return _respond(HTTPStatus.FORBIDDEN, "this origin is not allowed; see serve --origin\n")
    return None


def _path(request: Request) -> str:
    return request.path.partition("?")[0]


def _nothing_at(path: str) -> str:
    if path.startswith(COMPONENTS):
        return f"no component of this name is served; the default is at {PATH}\n"
    return f"nothing here; apps connect to {PATH}\n"


def _select_subprotocol(
    _connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    if not offered:
        return None  # a person with a plain WebSocket tool: JSON
    for name in offered:
        if name in CODECS:
            return name
    raise NegotiationError(f"unknown subprotocols; use one of {', '.join(CODECS)}")


def _respond(
    status: HTTPStatus, text: str, content_type: str = "text/plain; charset=utf-8"
) -> Response:
    body = text.encode()
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _health(reason: str | None) -> Response:
    if reason is None:
        return _respond(HTTPStatus.OK, "ok\n")
    return _respond(HTTPStatus.SERVICE_UNAVAILABLE, reason + "\n")


def _not_allowed(method: str) -> Response:
    response = _respond(HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered here\n")
    response.headers["Allow"] = "GET"
    if method == "HEAD":  # its answer has no body (RFC 9110, 9.3.2)
        response.body = b""
    return response


def _quiet_logger() -> logging.Logger:
    """Silence the library: it logs tracebacks of what a peer does wrong, and we log our own."""
    logger = logging.getLogger("actorbus.websockets")
    logger.setLevel(logging.CRITICAL)
    return logger
