"""An app that speaks gRPC: the service `AppCallback`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
import structlog
from dapr.proto.runtime.v1.appcallback_pb2 import TopicEventBulkRequest, TopicEventBulkResponse
from dapr.proto.runtime.v1.appcallback_pb2_grpc import AppCallbackAlphaStub, AppCallbackStub
from google.protobuf.empty_pb2 import Empty

from transport.dapr.delivery import Envelope, Source, topic_event, trace_metadata
from transport.dapr.settling import Status
from transport.dapr.sidecar import bulk, outcome
from transport.dapr.sidecar.app import (
    CONNECT_SECONDS,
    HANDLING_SECONDS,
    AppAwayError,
    NoAnswerError,
)
from transport.dapr.sidecar.bulk import Entry
from transport.dapr.sidecar.discovery import Discovered, from_grpc

log = structlog.get_logger("actorbus.dapr")

DISCOVERY_SECONDS: Final = 10.0
"""How long the app may take to say what it subscribes to."""

_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),  # the broker does that, and counts
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)

_NO_ANSWER: Final = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
)
"""Statuses that gRPC itself gives when a connection breaks or time is over."""

Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]


class _NoMethodError(Exception):
    """The app does not have this method."""


class GrpcApp:
    """Made within a running event loop.

    Args:
        address: host and port.
        token: what each call carries as `dapr-api-token`.
    """

    def __init__(self, address: str, token: str | None) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._app: Any = AppCallbackStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._alpha: Any = AppCallbackAlphaStub(self._channel)  # type: ignore[no-untyped-call]  # same
        self._token: Metadata = () if token is None else (("dapr-api-token", token),)
        self._bulk_is_alpha = False

    async def subscriptions(self) -> Discovered:
        """Ask `ListTopicSubscriptions`."""
        try:
            answer = await self._ask(
                self._app.ListTopicSubscriptions, Empty(), {}, DISCOVERY_SECONDS
            )
        except _NoMethodError:
            return Discovered()
        except _RefusedError as error:
            raise NoAnswerError(f"ListTopicSubscriptions is answered with {error}") from None
        return from_grpc(answer)

    async def push(self, found: Envelope, source: Source, path: str) -> Status:
        """Call `OnTopicEvent`."""
        request = topic_event(found, source, path)
        try:
            answer = await self._ask(self._app.OnTopicEvent, request, trace_metadata(found))
        except _NoMethodError:
            log.debug("app_has_no_method", topic=source.topic, method="OnTopicEvent")
            return "DROP"
        except _RefusedError as error:
            log.debug("app_failed", topic=source.topic, status=str(error))
            return "RETRY"
        return outcome.of_grpc(answer)

    async def push_bulk(self, entries: Sequence[Entry], source: Source, path: str) -> list[Status]:
        """Call `OnBulkTopicEvent`, or what it was called before."""
        request = bulk.grpc_request(entries, source, path)
        try:
            answer = await self._ask_bulk(request)
        except _NoMethodError:
            log.debug("app_has_no_method", topic=source.topic, method="OnBulkTopicEvent")
            return ["DROP"] * len(entries)
        except _RefusedError as error:
            log.debug("app_failed", topic=source.topic, status=str(error))
            return ["RETRY"] * len(entries)
        return outcome.of_grpc_bulk(answer, [one.entry_id for one in entries])

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def _ask_bulk(self, request: TopicEventBulkRequest) -> TopicEventBulkResponse:
        answer: TopicEventBulkResponse
        if not self._bulk_is_alpha:
            try:
                answer = await self._ask(self._app.OnBulkTopicEvent, request, {})
            except _NoMethodError:
                log.debug("app_has_no_bulk_method")
            else:
                return answer
        answer = await self._ask(self._alpha.OnBulkTopicEventAlpha1, request, {})
        self._bulk_is_alpha = True
        return answer

    async def _ask(
        self,
        method: Callable[..., Awaitable[Answer]],
        request: object,
        fields: Mapping[str, str],
        seconds: float = HANDLING_SECONDS,
    ) -> Answer:
        await self._connect()
        metadata = (*fields.items(), *self._token)
        try:
            return await method(request, metadata=metadata, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), (error.details() or "")[:200]
        if code == grpc.StatusCode.UNIMPLEMENTED:
            raise _NoMethodError
        if code in _NO_ANSWER:
            raise NoAnswerError(f"the app did not answer: {code.name}: {details}")
        raise _RefusedError(code.name)

    async def _connect(self) -> None:
        """Have a connection before anything is sent: without one nobody is to blame."""
        if self._channel.get_state(try_to_connect=True) == grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._channel.channel_ready()
        except TimeoutError:
            raise AppAwayError("the app can't be reached") from None


class _RefusedError(Exception):
    """The app answered with an error; its text is the name of the status."""
