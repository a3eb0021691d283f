"""The HTTP API beside publishing: health, metadata, and what is not offered."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from transport.dapr.callers import Callers, NotAllowedError
from transport.dapr.http_body import BodyTooLongError, DisconnectedError, read_body
from transport.dapr.metadata import Metadata

Health = Callable[[], str | None]
Handler = Callable[[Request], Awaitable[Response]]

NOT_OFFERED: Final = "ERR_API_UNIMPLEMENTED"
_SLASHES: Final = re.compile("//+")


def rest(callers: Callers, metadata: Metadata, health: Health) -> ASGIApp:
    """An app for all paths but those of publishing.

    Args:
        callers: who calls.
        metadata: what the door tells about itself.
        health: why the door can't work now, or None.
    """
    pages = _Pages(callers, metadata, health)
    app = Starlette(
        routes=[
            Route("/v1.0/healthz", pages.healthz, methods=["GET"]),
            Route("/v1.0/healthz/outbound", pages.outbound, methods=["GET"]),
            Route("/v1.0/metadata", pages.show, methods=["GET"]),
            Route("/v1.0/metadata/{key:path}", pages.extend, methods=["PUT"]),
        ],
        exception_handlers={404: _not_found, 405: _wrong_method, NotAllowedError: _not_allowed},
    )
    app.router.redirect_slashes = False

    async def cleaned(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"
        await app(scope, receive, send)

    return cleaned


class _Pages:
    def __init__(self, callers: Callers, metadata: Metadata, health: Health) -> None:
        self._callers = callers
        self._metadata = metadata
        self._health = health

    async def healthz(self, request: Request) -> Response:
        reason = self._health()
        if reason is not None:
            return _error(500, "ERR_HEALTH_NOT_READY", f"dapr is not ready: {reason}")
        wanted = request.query_params.get("appid")
        if wanted and wanted != self._callers.sole:
            return _error(500, "ERR_HEALTH_APPID_NOT_MATCH", "dapr app-id does not match")
        return Response(status_code=204)

    async def outbound(self, _request: Request) -> Response:
        reason = self._health()
        if reason is not None:
            message = f"dapr outbound is not ready: {reason}"
            return _error(500, "ERR_OUTBOUND_HEALTH_NOT_READY", message)
        return Response(status_code=204)

    async def show(self, request: Request) -> Response:
        return _json(200, self._metadata.document(self._caller(request)))

    async def extend(self, request: Request) -> Response:
        app_id = self._caller(request)
        try:
            body = await read_body(request.receive, dict(request.scope["headers"]))
            self._metadata.extend(app_id, request.path_params["key"], body.decode())
        except (ValueError, BodyTooLongError) as error:
            return _error(400, "ERR_METADATA_SET", str(error))
        except DisconnectedError:
            pass  # nobody reads the answer
        return Response(status_code=204)

    def _caller(self, request: Request) -> str:
        return self._callers.app_id(request.headers.get("dapr-api-token"))


async def _not_found(request: Request, _error_raised: Exception) -> Response:
    return _error(404, NOT_OFFERED, f"not offered here: {request.method} {request.url.path[:120]}")


async def _wrong_method(request: Request, error: Exception) -> Response:
    response = _error(405, NOT_OFFERED, f"{request.method} is not offered for this path")
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _not_allowed(_request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 401)


def _error(status: int, code: str, message: str) -> Response:
    return _json(status, {"errorCode": code, "message": message})


def _json(status: int, value: Any) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
