"""An app that speaks HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import structlog
from yarl import URL

from actorbus.version import VERSION
from transport.dapr.delivery import Envelope, Source, http_body, trace_metadata
from transport.dapr.envelope import CLOUD_EVENT, JSON
from transport.dapr.settling import Status
from transport.dapr.sidecar import bulk, outcome
from transport.dapr.sidecar.app import (
    CONNECT_SECONDS,
    HANDLING_SECONDS,
    AppAwayError,
    NoAnswerError,
)
from transport.dapr.sidecar.bulk import Entry
from transport.dapr.sidecar.discovery import Discovered, from_json

log = structlog.get_logger("actorbus.dapr")

ANSWER_BYTES: Final = 1024 * 1024
"""Longest answer that is read: 1,000 statuses take 80 KB."""

IDLE_SECONDS: Final = 1.0
"""How long an idle connection is kept. Servers close theirs after 2 s (gunicorn), 5 s (uvicorn,
Node), and a call that is just then begun gets no answer."""

DISCOVERY_SECONDS: Final = 10.0
"""How long the app may take to say what it subscribes to."""

REDIRECTION: Final = 300
SERVER_ERROR: Final = 500
NOT_FOUND: Final = 404
OK: Final = 200


class HttpApp:
    """Made within a running event loop.

    Args:
        address: host and port.
        token: what each call carries as `dapr-api-token`.
        default_component: of subscriptions that name none.
    """

    def __init__(self, address: str, token: str | None, default_component: str | None) -> None:
        self._base = f"http://{address}/"
        self._default_component = default_component
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=HANDLING_SECONDS,
                sock_connect=CONNECT_SECONDS,
                ceil_threshold=HANDLING_SECONDS,
            ),
            headers={"user-agent": f"actorbus/{VERSION}"}
            | ({} if token is None else {"dapr-api-token": token}),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def subscriptions(self) -> Discovered:
        """Ask `GET /dapr/subscribe`."""
        try:
            async with asyncio.timeout(DISCOVERY_SECONDS):
                status, body = await self._ask("GET", "dapr/subscribe", b"", {"content-type": JSON})
        except TimeoutError:
            raise NoAnswerError(
                f"no answer to GET /dapr/subscribe in {DISCOVERY_SECONDS:g} s"
            ) from None
        if status >= SERVER_ERROR:
            raise NoAnswerError(f"GET /dapr/subscribe is answered with {status}")
        if status == NOT_FOUND:
            return Discovered()
        if status != OK:
            return Discovered(problems=(f"GET /dapr/subscribe is answered with {status}",))
        return from_json(body, self._default_component)

    async def push(self, found: Envelope, source: Source, path: str) -> Status:
        """POST the CloudEvent."""
        headers = {
            "content-type": CLOUD_EVENT,
            "pubsubName": source.component,
            **trace_metadata(found),
        }
        status, body = await self._ask("POST", path, http_body(found), headers)
        if status >= REDIRECTION:
            log.debug("app_failed", topic=source.topic, status=status)
        return outcome.of_http(status, body)

    async def push_bulk(self, entries: Sequence[Entry], source: Source, path: str) -> list[Status]:
        """POST several of them."""
        headers = {"content-type": JSON, "pubsubName": source.component}
        status, body = await self._ask("POST", path, bulk.http_body(entries, source), headers)
        return outcome.of_http_bulk(status, body, [one.entry_id for one in entries])

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        try:
            url = URL(self._base + path.lstrip("/"))
            async with self._session.request(
                method, url, data=body or None, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await _read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise AppAwayError(f"the app can't be reached: {error}") from None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise NoAnswerError(f"the app did not answer: {reason[:200]}") from None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The answer's body; nothing if it is longer than any that says something."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > ANSWER_BYTES:
            response.close()
            return b""
        parts.append(part)
    return b"".join(parts)
