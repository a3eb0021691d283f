"""Dapr's HTTP API as one ASGI app: publishing by hand, for its speed; the rest by a router."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
import structlog
from starlette.types import Receive, Scope, Send

from actorbus import json_text
from actorbus.errors import UndecodableError
from transport.dapr import errors
from transport.dapr.bulk_body import read_entries
from transport.dapr.callers import Callers, NotAllowedError
from transport.dapr.config import DoorConfig
from transport.dapr.envelope import CLOUD_EVENT, JSON, TEXT, Publish, media_type
from transport.dapr.errors import DaprError
from transport.dapr.http_body import BodyTooLongError, DisconnectedError, read_body
from transport.dapr.http_rest import NOT_OFFERED, Health, rest
from transport.dapr.metadata import Metadata
from transport.dapr.paths import Paths, Target
from transport.dapr.publishing import FailedEntry, Publisher
from transport.dapr.trace import NO_TRACE, Trace, trace_of

log = structlog.get_logger("actorbus.dapr")

Headers = Mapping[bytes, bytes]

QUERY_FIELDS: Final = 200
"""Most fields of a query."""

_METHODS: Final = frozenset({"POST", "PUT"})
_PREFIX: Final = "metadata."
_NO_CONTENT: Final = {"type": "http.response.start", "status": 204, "headers": []}
_EMPTY: Final = {"type": "http.response.body", "body": b""}
_JSON: Final = (b"content-type", b"application/json")
_PLAIN: Final = (b"content-type", b"text/plain; charset=utf-8")
_CLOSE: Final = (b"connection", b"close")
_ALLOW: Final = (b"allow", b"POST, PUT")
_WRONG_METHOD: Final = orjson.dumps(
    {"errorCode": NOT_OFFERED, "message": "events are published by POST or PUT"}
)


class HttpApi:
    """The app.

    Args:
        config: the components.
        publisher: what publishes.
        callers: who calls.
        metadata: what the door tells about itself.
        health: why the door can't work now, or None.
    """

    def __init__(
        self,
        config: DoorConfig,
        publisher: Publisher,
        callers: Callers,
        metadata: Metadata,
        health: Health,
    ) -> None:
        self._paths = Paths(config)
        self._publisher = publisher
        self._callers = callers
        self._rest = rest(callers, metadata, health)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        target = self._paths.target(scope["raw_path"])
        if target is None:
            await self._rest(scope, receive, send)
        elif scope["method"] in _METHODS:
            await self._answer(target, scope, receive, send)
        else:
            await _answer(send, 405, _WRONG_METHOD, extra=_ALLOW)

    async def _answer(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Publish. A failure of ours is logged, here, and told by its code alone."""
        headers = dict(scope["headers"])
        try:
            if target.bulk:
                await self._publish_bulk(target, scope, headers, receive, send)
            else:
                await self._publish(target, scope, headers, receive)
                await send(_NO_CONTENT)
                await send(_EMPTY)
        except DaprError as error:
            await _refuse(send, error, headers)
        except BodyTooLongError as error:
            await _refuse(send, errors.too_large(target.component, error.message), headers)
        except NotAllowedError as error:
            await _answer(send, 401, error.message.encode(), _PLAIN)
        except DisconnectedError:
            return
        except Exception:
            log.exception("request failed", method=scope["method"])
            await _answer(send, 500, b'{"errorCode":"ERR_INTERNAL","message":"internal error"}')

    async def _publish(
        self, target: Target, scope: Scope, headers: Headers, receive: Receive
    ) -> None:
        app_id = self._caller(headers)
        component = target.component
        self._publisher.check(component, target.topic, app_id)
        metadata = _metadata(component, scope["query_string"])
        body = await read_body(receive, headers)
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        if target.early:
            content_type = _early_type(body, content_type)
        await self._publisher.publish(
            Publish(component, target.topic, body, content_type, metadata, app_id, _trace(headers))
        )

    async def _publish_bulk(
        self, target: Target, scope: Scope, headers: Headers, receive: Receive, send: Send
    ) -> None:
        app_id = self._caller(headers)
        component, topic = target.component, target.topic
        self._publisher.check(component, topic, app_id)
        metadata = _metadata(component, scope["query_string"])
        entries = read_entries(component, topic, await read_body(receive, headers))
        failed = await self._publisher.publish_bulk(
            component, topic, entries, metadata, app_id, _trace(headers)
        )
        if failed:
            await _answer(send, 500, orjson.dumps(_failures(failed)))
        else:
            await send(_NO_CONTENT)
            await send(_EMPTY)

    def _caller(self, headers: Headers) -> str:
        token = headers.get(b"dapr-api-token")
        return self._callers.app_id(None if token is None else token.decode("latin-1"))


def _metadata(component: str, query: bytes) -> dict[str, str]:
    """The `metadata.*` fields of a query; of several with one name the first."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS
        )
    except ValueError:
        raise errors.bad_metadata(component, f"more than {QUERY_FIELDS} fields") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith(_PREFIX):
            found.setdefault(name[len(_PREFIX) :], value)
    return found


def _early_type(body: bytes, content_type: str) -> str:
    """Dapr before 0.10 took every body that is JSON for JSON, and for an event if it is one."""
    if media_type(content_type) == CLOUD_EVENT:
        return content_type
    try:
        value = json_text.loads(body)
    except UndecodableError:
        return TEXT
    needed = ("id", "specversion", "datacontenttype")
    whole = isinstance(value, dict) and all(value.get(name) for name in needed)
    return CLOUD_EVENT if whole else JSON


def _trace(headers: Headers) -> Trace:
    parent = headers.get(b"traceparent")
    if parent is None:
        return NO_TRACE
    state = headers.get(b"tracestate", b"")
    return trace_of(parent.decode("latin-1"), state.decode("latin-1"))


def _failures(failed: list[FailedEntry]) -> dict[str, Any]:
    """`entryID` is what Dapr's JavaScript SDK looks for, `entryId` what all others do."""
    return {
        "failedEntries": [
            {"entryId": one.entry_id, "entryID": one.entry_id, "error": one.error} for one in failed
        ],
        "errorCode": errors.PUBLISH.code,
    }


async def _refuse(send: Send, error: DaprError, headers: Headers) -> None:
    # who waits for leave to send a body may send none: then no request can follow
    extra = _CLOSE if b"expect" in headers else None
    await _answer(send, error.condition.status, errors.http_body(error), extra=extra)


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    kind: tuple[bytes, bytes] = _JSON,
    extra: tuple[bytes, bytes] | None = None,
) -> None:
    fields = [kind, (b"content-length", b"%d" % len(body))]
    if extra is not None:
        fields.append(extra)
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
