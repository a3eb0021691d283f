"""Dapr's gRPC API: publishing, streaming subscriptions, metadata; all else is UNIMPLEMENTED."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import grpc
import structlog
from dapr.proto.runtime.v1 import pubsub_pb2 as pb
from dapr.proto.runtime.v1.metadata_pb2 import (
    GetMetadataRequest,
    GetMetadataResponse,
    SetMetadataRequest,
)
from google.protobuf.empty_pb2 import Empty
from grpc_status import rpc_status

from actorbus.errors import ActorbusError, ErrorCode, RefusedError
from transport.dapr import errors
from transport.dapr.buses import Buses
from transport.dapr.call_end import CallEnd, next_request
from transport.dapr.callers import Callers, NotAllowedError
from transport.dapr.config import RetriesOf, no_retries
from transport.dapr.delivery import Source
from transport.dapr.envelope import Publish
from transport.dapr.errors import DaprError
from transport.dapr.grpc_metadata import metadata_response
from transport.dapr.metadata import Metadata
from transport.dapr.publishing import Entry, Publisher
from transport.dapr.resources.subscription import truth
from transport.dapr.settling import Policy
from transport.dapr.streams import Streams
from transport.dapr.trace import Trace, trace_of

log: Final = structlog.get_logger("actorbus.dapr")

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

SERVICE: Final = "dapr.proto.runtime.v1.Dapr"
TOKEN: Final = "dapr-api-token"  # noqa: S105 - the name of the field

INITIAL_SECONDS: Final = 10.0
"""How long a new stream may take to say what it subscribes to."""


class GrpcApi:
    """Answers the calls of one door.

    Args:
        publisher: takes publishes.
        callers: tells who calls.
        buses: opens the connections of streams.
        metadata: what the door tells about itself.
        retries: the retry policies of streams.

    Attributes:
        streams: the open ones.
    """

    def __init__(
        self,
        publisher: Publisher,
        callers: Callers,
        buses: Buses,
        metadata: Metadata,
        retries: RetriesOf = no_retries,
    ) -> None:
        self.streams = Streams(buses, metadata)
        self._metadata = metadata
        self._publisher = publisher
        self._callers = callers
        self._retries = retries

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server serves; it answers UNIMPLEMENTED to what is not in it."""
        bulk = _unary(self._publish_bulk, pb.BulkPublishRequest)
        methods = {
            "PublishEvent": _unary(self._publish, pb.PublishEventRequest),
            "BulkPublishEvent": bulk,
            "BulkPublishEventAlpha1": bulk,
            "GetMetadata": _unary(self._get_metadata, GetMetadataRequest),
            "SetMetadata": _unary(self._set_metadata, SetMetadataRequest),
            "SubscribeTopicEventsAlpha1": grpc.stream_stream_rpc_method_handler(
                self._subscribe,
                request_deserializer=pb.SubscribeTopicEventsRequestAlpha1.FromString,
                response_serializer=pb.SubscribeTopicEventsResponseAlpha1.SerializeToString,
            ),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _publish(self, request: pb.PublishEventRequest, context: Context) -> Empty:
        async def publish(app_id: str) -> Empty:
            self._publisher.check(request.pubsub_name, request.topic, app_id)
            await self._publisher.publish(
                Publish(
                    request.pubsub_name,
                    request.topic,
                    request.data,
                    request.data_content_type,
                    dict(request.metadata),
                    app_id,
                    _trace(context),
                )
            )
            return Empty()

        return await self._answer(context, publish)

    async def _publish_bulk(
        self, request: pb.BulkPublishRequest, context: Context
    ) -> pb.BulkPublishResponse:
        """Answered with OK and the entries that failed, which Dapr would lose with an error."""

        async def publish(app_id: str) -> pb.BulkPublishResponse:
            self._publisher.check(request.pubsub_name, request.topic, app_id)
            failed = await self._publisher.publish_bulk(
                request.pubsub_name,
                request.topic,
                [
                    Entry(one.entry_id, one.event, one.content_type, dict(one.metadata))
                    for one in request.entries
                ],
                dict(request.metadata),
                app_id,
                _trace(context),
            )
            return pb.BulkPublishResponse(
                failedEntries=[
                    pb.BulkPublishResponseFailedEntry(entry_id=one.entry_id, error=one.error)
                    for one in failed
                ]
            )

        return await self._answer(context, publish)

    async def _subscribe(self, _: object, context: Context) -> None:
        async def subscribe(app_id: str) -> None:
            initial = await _initial_request(context)
            component, topic = initial.pubsub_name, initial.topic
            self._publisher.check(component, topic, app_id)
            metadata = dict(initial.metadata)
            source = Source(component, topic, _flag(metadata))
            policy = Policy(
                dead_letter_topic=initial.dead_letter_topic or None,  # SDKs send "" for none
                retries=self._retries(component, app_id),
                ack_wait=_seconds(metadata),
            )
            try:
                await self.streams.serve(context, app_id, source, policy)
            except ActorbusError as error:
                raise _refusal(source, error) from None

        await self._answer(context, subscribe)

    async def _get_metadata(self, _: GetMetadataRequest, context: Context) -> GetMetadataResponse:
        async def get(app_id: str) -> GetMetadataResponse:
            return metadata_response(self._metadata, app_id)

        return await self._answer(context, get)

    async def _set_metadata(self, request: SetMetadataRequest, context: Context) -> Empty:
        async def put(app_id: str) -> Empty:
            try:
                self._metadata.extend(app_id, request.key, request.value)
            except ValueError as error:
                raise CallEnd(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
            return Empty()

        return await self._answer(context, put)

    async def _answer(self, context: Context, call: Callable[[str], Awaitable[T]]) -> T:
        """Run a call for who makes it; what goes wrong is its status."""
        try:
            return await call(self._callers.app_id(_token(context)))
        except NotAllowedError as error:
            code, reason = grpc.StatusCode.UNAUTHENTICATED, error.message
        except DaprError as error:
            await context.abort_with_status(rpc_status.to_status(errors.grpc_status(error)))
        except CallEnd as end:
            code, reason = end.code, str(end)
        except Exception:
            log.exception("grpc_call_failed")
            code, reason = grpc.StatusCode.INTERNAL, "internal error"
        return await _abort(context, code, reason)


async def _abort(context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    await context.abort(code, reason)
    raise AssertionError("abort returns never")


async def _initial_request(context: Context) -> pb.SubscribeTopicEventsRequestInitialAlpha1:
    try:
        async with asyncio.timeout(INITIAL_SECONDS):
            first = await next_request(context)
    except TimeoutError:
        first = grpc.aio.EOF
    if first is grpc.aio.EOF or not first.HasField("initial_request"):
        raise CallEnd(grpc.StatusCode.UNKNOWN, "initial request is required")
    initial: pb.SubscribeTopicEventsRequestInitialAlpha1 = first.initial_request
    if not initial.pubsub_name:
        raise CallEnd(grpc.StatusCode.UNKNOWN, "pubsubName is required")
    if not initial.topic:
        raise CallEnd(grpc.StatusCode.UNKNOWN, "topic is required")
    return initial


def _flag(metadata: dict[str, str]) -> bool:
    try:
        return truth(metadata.get("rawPayload", ""))
    except ValueError as error:
        raise CallEnd(grpc.StatusCode.INVALID_ARGUMENT, f"rawPayload {error}") from None


def _seconds(metadata: dict[str, str]) -> float | None:
    """Ours: how long the app may take for one event; None: as the group has it."""
    text = metadata.get("ackWaitSeconds")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise CallEnd(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"ackWaitSeconds must be a number of seconds, not {text[:40]!r}",
        ) from None


def _refusal(source: Source, error: ActorbusError) -> Exception:
    if isinstance(error, DaprError):
        return error
    if isinstance(error, RefusedError) and error.code == ErrorCode.FORBIDDEN:
        return errors.forbidden(source.component, source.topic, error.message)
    if isinstance(error, RefusedError):
        return CallEnd(grpc.StatusCode.INVALID_ARGUMENT, error.message)
    return CallEnd(grpc.StatusCode.UNAVAILABLE, error.message)


def _trace(context: Context) -> Trace:
    """W3C's fields; gRPC keeps `grpc-trace-bin` to itself and shows it to no server in Python."""
    return trace_of(_field(context, "traceparent"), _field(context, "tracestate"))


def _token(context: Context) -> str | None:
    return _field(context, TOKEN)


def _field(context: Context, wanted: str) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == wanted and isinstance(value, str):
            return value
    return None


def _unary(method: Any, request: Any) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=request.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
