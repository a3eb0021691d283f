"""Dapr's gRPC API over real sockets: publishing, metadata, who calls, what is not offered."""

import asyncio
import hashlib
from typing import Any

import grpc
import pytest
import structlog
from dapr.proto.runtime.v1 import pubsub_pb2 as pb
from dapr.proto.runtime.v1.metadata_pb2 import GetMetadataRequest, SetMetadataRequest
from dapr.proto.runtime.v1.state_pb2 import GetStateRequest
from google.rpc.error_details_pb2 import ErrorInfo, ResourceInfo
from grpc_status import rpc_status

from actorbus.errors import ActorbusError
from tests.transport.dapr.grpc_kit import DEADLINE, Stage, play
from transport.auth import Tokens
from transport.dapr.grpc_server import MESSAGE_BYTES

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TOKENS = Tokens({hashlib.sha256(b"secret").hexdigest(): "billing"})


def entry(
    entry_id: str, event: bytes = b"x", content_type: str = "text/plain", **metadata: str
) -> Any:
    return pb.BulkPublishRequestEntry(
        entry_id=entry_id, event=event, content_type=content_type, metadata=metadata
    )


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


# --- publish --------------------------------------------------------------------------------------


def test_a_publish_reaches_a_websocket_app() -> None:
    async def script(stage: Stage) -> None:
        bus = await stage.app("billing")
        async with bus.subscribe("orders") as deliveries:
            await stage.publish(
                b'{"n": 1}',
                data_content_type="application/json",
                call_metadata=(("traceparent", PARENT),),
            )
            event = (await anext(deliveries)).event
        assert event["data"] == {"n": 1}
        assert event["source"] == "shop"
        assert event["traceparent"] == PARENT

    play(script)


def test_a_malformed_trace_is_ignored() -> None:
    async def script(stage: Stage) -> None:
        bus = await stage.app("billing")
        async with bus.subscribe("orders") as deliveries:
            sent = (("traceparent", "nonsense"), ("tracestate", "a=b"))
            await stage.publish(b"x", call_metadata=sent)
            assert (await anext(deliveries)).event["traceparent"] == ""

    play(script)


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"pubsub_name": "nothing"}, INVALID, "DAPR_PUBSUB_NOT_FOUND"),
        ({"pubsub_name": ""}, INVALID, "DAPR_PUBSUB_NAME_EMPTY"),
        ({"topic": ""}, INVALID, "DAPR_PUBSUB_TOPIC_NAME_EMPTY"),
        ({"metadata": {"rawPayload": "x"}}, INVALID, "DAPR_PUBSUB_METADATA_DESERIALIZATION"),
        (
            {"data_content_type": "application/cloudevents+json"},
            INVALID,
            "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
        ),
        (
            {"data": b"x" * (2 * 1024 * 1024)},
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "DAPR_PUBSUB_MESSAGE_TOO_LARGE",
        ),
    ],
)
def test_a_wrong_publish_gets_its_code_and_reason(
    fields: dict[str, Any], code: grpc.StatusCode, reason: str
) -> None:
    async def script(stage: Stage) -> None:
        error = await refused(stage.publish(**{"data": b"x", **fields}))
        assert error.code() == code
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is read
        assert status is not None
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == (reason, "dapr.io")
        await stage.publish(b"the connection lives")

    play(script)


def test_the_details_name_the_component_where_there_is_one() -> None:
    async def script(stage: Stage) -> None:
        error = await refused(stage.publish(b"x", topic=""))
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has what is read
        assert status is not None
        resource = ResourceInfo()
        assert status.details[1].Unpack(resource)
        assert (resource.resource_type, resource.resource_name) == ("pubsub", "pubsub")
        assert error.details() == status.message == "topic is empty in pubsub pubsub"

    play(script)


def test_a_message_over_the_limit_is_refused_by_its_length() -> None:
    async def script(stage: Stage) -> None:
        error = await refused(stage.publish(b"x" * MESSAGE_BYTES))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await stage.publish(b"the connection lives")

    play(script)


# --- bulk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["BulkPublishEvent", "BulkPublishEventAlpha1"])
def test_a_bulk_publish_reaches_a_websocket_app_in_order(method: str) -> None:
    async def script(stage: Stage) -> None:
        bus = await stage.app("billing")
        call = getattr(await stage.stub(), method)
        async with bus.subscribe("orders") as deliveries:
            entries = [entry(str(number), str(number).encode()) for number in range(100)]
            request = pb.BulkPublishRequest(pubsub_name="pubsub", topic="orders", entries=entries)
            response = await call(request, timeout=DEADLINE)
            assert list(response.failedEntries) == []
            assert [(await anext(deliveries)).data for _ in range(100)] == [
                str(number) for number in range(100)
            ]

    play(script)


def test_entries_that_fail_are_named_and_the_others_published() -> None:
    async def script(stage: Stage) -> None:
        bus = await stage.app("billing")
        async with bus.subscribe("orders") as deliveries:
            entries = [
                entry("good", b"1"),
                entry("no event", b"2", "application/cloudevents+json"),
                entry("no ttl", b"3", ttlInSeconds="x"),
                entry("too large", b"x" * (2 * 1024 * 1024)),
                entry("good too", b"5"),
            ]
            request = pb.BulkPublishRequest(pubsub_name="pubsub", topic="orders", entries=entries)
            response = await (await stage.stub()).BulkPublishEvent(request, timeout=DEADLINE)
            failed = {one.entry_id: one.error for one in response.failedEntries}
            assert set(failed) == {"no event", "no ttl", "too large"}
            assert all(failed.values())
            assert [(await anext(deliveries)).data for _ in range(2)] == ["1", "5"]

    play(script)


@pytest.mark.parametrize("ids", [("a", "a"), ("a", "")])
def test_entry_ids_must_be_there_and_differ(ids: tuple[str, ...]) -> None:
    async def script(stage: Stage) -> None:
        request = pb.BulkPublishRequest(
            pubsub_name="pubsub", topic="orders", entries=[entry(one) for one in ids]
        )
        call = (await stage.stub()).BulkPublishEvent(request, timeout=DEADLINE)
        assert (await refused(call)).code() == INVALID

    play(script)


# --- who calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [(), (("dapr-api-token", "wrong"),)])
def test_without_the_right_token_every_call_is_unauthenticated(sent: Any) -> None:
    async def script(stage: Stage) -> None:
        stub = await stage.stub()
        for call in (
            stub.PublishEvent(pb.PublishEventRequest(), metadata=sent, timeout=DEADLINE),
            stub.BulkPublishEvent(pb.BulkPublishRequest(), metadata=sent, timeout=DEADLINE),
            stub.GetMetadata(GetMetadataRequest(), metadata=sent, timeout=DEADLINE),
            stub.SetMetadata(SetMetadataRequest(), metadata=sent, timeout=DEADLINE),
        ):
            error = await refused(call)
            assert (error.code(), error.details()) == (UNAUTHENTICATED, "invalid api token")
        stream = await stage.call(token=dict(sent).get("dapr-api-token"))
        assert (await stream.ended())[0] == UNAUTHENTICATED

    play(script, tokens=TOKENS, app_id=None)


def test_the_token_says_which_app_calls() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(token="secret")
        await stage.publish(b"x", call_metadata=(("dapr-api-token", "secret"),))
        assert (await stream.event()).source == "billing"
        (found,) = await (await stage.app("observer")).inspect("orders")
        assert [group.app_id for group in found.groups] == ["billing"]

    play(script, tokens=TOKENS, app_id=None)


# --- metadata -------------------------------------------------------------------------------------


def test_metadata_name_the_app_its_components_and_its_streams() -> None:
    async def script(stage: Stage) -> None:
        stub = await stage.stub()
        stream = await stage.stream(dead_letter_topic="dead")
        await stub.SetMetadata(SetMetadataRequest(key="k", value="v"), timeout=DEADLINE)
        found = await stub.GetMetadata(GetMetadataRequest(), timeout=DEADLINE)
        assert found.id == "shop"
        assert [one.name for one in found.registered_components] == ["pubsub"]
        assert found.extended_metadata["k"] == "v"
        (shown,) = found.subscriptions
        assert (shown.pubsub_name, shown.topic, shown.type) == ("pubsub", "orders", 3)
        assert shown.dead_letter_topic == "dead"
        assert [rule.path for rule in shown.rules.rules] == ["/"]
        stream.call.cancel()
        async with asyncio.timeout(DEADLINE):
            while found.subscriptions:
                found = await stub.GetMetadata(GetMetadataRequest(), timeout=DEADLINE)

    play(script)


def test_metadata_of_one_app_may_not_grow_without_end() -> None:
    async def script(stage: Stage) -> None:
        request = SetMetadataRequest(key="k", value="v" * 5000)
        call: Any = (await stage.stub()).SetMetadata(request, timeout=DEADLINE)
        assert (await refused(call)).code() == INVALID

    play(script)


# --- the rest -------------------------------------------------------------------------------------


def test_other_calls_are_unimplemented() -> None:
    async def script(stage: Stage) -> None:
        call: Any = (await stage.stub()).GetState(GetStateRequest(), timeout=DEADLINE)
        assert (await refused(call)).code() == grpc.StatusCode.UNIMPLEMENTED

    play(script)


def test_bytes_that_are_no_message_are_refused_and_the_api_lives() -> None:
    async def script(stage: Stage) -> None:
        channel = await stage.channel()
        call: Any = channel.unary_unary("/dapr.proto.runtime.v1.Dapr/PublishEvent")
        error = await refused(call(b"\xff\xff\xff", timeout=DEADLINE))
        assert error.code() == grpc.StatusCode.UNKNOWN  # gRPC's own: no call of ours was made
        await stage.publish(b"alive")

    play(script)


@pytest.mark.parametrize("before", [0, 1], ids=["at first", "later"])
def test_bytes_that_are_no_message_end_a_stream_without_a_traceback(before: int) -> None:
    initial = pb.SubscribeTopicEventsRequestInitialAlpha1(pubsub_name="pubsub", topic="orders")
    request = pb.SubscribeTopicEventsRequestAlpha1(initial_request=initial)

    async def script(stage: Stage) -> None:
        channel = await stage.channel()
        call: Any = channel.stream_stream("/dapr.proto.runtime.v1.Dapr/SubscribeTopicEventsAlpha1")(
            timeout=DEADLINE
        )
        for _ in range(before):
            await call.write(request.SerializeToString())
            await call.read()
        await call.write(b"\xff\xff\xff")
        assert await call.code() == grpc.StatusCode.INVALID_ARGUMENT
        await stage.publish(b"alive")

    with structlog.testing.capture_logs() as logs:
        play(script)
    assert [each for each in logs if each["log_level"] == "error"] == []


def test_a_taken_port_is_an_error_in_one_line() -> None:
    async def script(stage: Stage) -> None:
        from transport.dapr.grpc_server import GrpcServer

        with pytest.raises(ActorbusError, match=f"127.0.0.1:{stage.port}"):
            await GrpcServer(stage.api).start("127.0.0.1", stage.port)

    play(script)
