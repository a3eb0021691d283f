"""Several components behind one door, and whom they are for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec
from dapr.proto.runtime.v1.dapr_pb2_grpc import DaprStub
from dapr.proto.runtime.v1.metadata_pb2 import GetMetadataRequest
from dapr.proto.runtime.v1.pubsub_pb2 import PublishEventRequest

from actors.access import Access, Policy
from tests.transport.dapr.grpc_kit import RETRY, Stream
from tests.transport.http import Answer, raw
from transport.broker import Broker, Config
from transport.components import ComponentConfig
from transport.dapr.config import RetriesOf, no_retries
from transport.dapr.settling import Retries
from transport.doorway import DoorOptions, Doorway

Ask = Callable[[str, str], Awaitable[Answer]]

LIMITED = ComponentConfig(
    name="limited",
    store="memory:",
    policy=Policy(
        access=Access(
            publishing={"shop": frozenset({"orders"})},
            subscription={"shop": frozenset({"audited"})},
        )
    ),
)
MINE = ComponentConfig(name="mine", store="memory:", scopes=frozenset({"shop"}))
OTHERS = ComponentConfig(name="others", store="memory:", scopes=frozenset({"audit"}))


def with_door(script: Callable[[Ask], Awaitable[None]], **config: object) -> None:
    """Run a script against a door for app `shop`, in front of a broker of its own."""
    settings = {"port": 0, "store": "memory:", "components": (LIMITED, MINE, OTHERS), **config}

    async def run() -> None:
        broker = Broker(Config(**settings))  # type: ignore[arg-type]  # its fields
        doorway = Doorway(DoorOptions(0, None, "shop"), broker)
        try:
            (line,) = await doorway.open(await broker.start())
            url = f"ws://{line.rpartition(' ')[2]}/"

            async def ask(method: str, path: str) -> Answer:
                head = f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n"
                got = await raw(url, f"{head}Connection: close\r\n\r\n1".encode())
                first, _, body = got.decode().partition("\r\n\r\n")
                return Answer(int(first.split()[1]), {}, body)

            await script(ask)
        finally:
            await doorway.close()
            await broker.stop()

    asyncio.run(run())


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, msgspec.json.decode(answer.body)["errorCode"]


def test_every_component_is_published_to_by_its_name() -> None:
    async def script(ask: Ask) -> None:
        for component in ("pubsub", "limited", "mine"):
            assert (await ask("POST", f"/v1.0/publish/{component}/orders")).status == 204

    with_door(script)


def test_scopes_forbid_with_daprs_words() -> None:
    async def script(ask: Ask) -> None:
        answer = await ask("POST", "/v1.0/publish/limited/payments")
        assert code(answer) == (403, "ERR_PUBSUB_FORBIDDEN")
        message = msgspec.json.decode(answer.body)["message"]
        assert message == "topic payments is not allowed for app id shop"

    with_door(script)


def test_a_component_for_others_does_not_exist_for_an_app() -> None:
    async def script(ask: Ask) -> None:
        answer = await ask("POST", "/v1.0/publish/others/orders")
        assert code(answer) == (404, "ERR_PUBSUB_NOT_FOUND")
        metadata = msgspec.json.decode((await ask("GET", "/v1.0/metadata")).body)
        names = [component["name"] for component in metadata["components"]]
        assert names == ["pubsub", "limited", "mine"]

    with_door(script)


def test_what_a_file_names_pubsub_is_what_dapr_apps_call_so() -> None:
    scoped = msgspec.structs.replace(LIMITED, name="pubsub")

    async def script(ask: Ask) -> None:
        assert (await ask("POST", "/v1.0/publish/pubsub/orders")).status == 204
        assert (await ask("POST", "/v1.0/publish/pubsub/payments")).status == 403

    with_door(script, components=(scoped,))
    with_door(script, components=(scoped,), store=None)


# --- over gRPC --------------------------------------------------------------------------------


def with_streams(script: Callable[[Any], Awaitable[None]], retries: RetriesOf) -> None:
    """Run a script with the stub of a gRPC door for app `shop`."""

    async def run() -> None:
        broker = Broker(Config(port=0, store="memory:", components=(LIMITED, MINE, OTHERS)))
        doorway = Doorway(DoorOptions(None, 0, "shop", retries), broker)
        try:
            (line,) = await doorway.open(await broker.start())
            async with grpc.aio.insecure_channel(line.rpartition(" ")[2]) as channel:
                await script(DaprStub(channel))  # type: ignore[no-untyped-call]  # generated
        finally:
            await doorway.close()
            await broker.stop()

    asyncio.run(run())


async def opened(stub: Any, component: str, topic: str, **initial: str) -> Stream:
    stream = Stream(stub.SubscribeTopicEventsAlpha1())
    await stream.initial(topic, component=component, **initial)  # type: ignore[arg-type]  # texts
    return stream


def test_a_stream_of_a_topic_that_is_not_for_the_app_is_denied() -> None:
    async def script(stub: Any) -> None:
        for topic, dead_letters, refused in (
            ("payments", "", "payments"),
            ("audited", "orders", ""),
            ("audited", "failed", "failed"),
        ):
            stream = await opened(stub, "limited", topic, dead_letter_topic=dead_letters)
            if not refused:
                await stream.read()
                continue
            code, details = await stream.ended()
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert details == f"topic {refused} is not allowed for app id shop"

    with_streams(script, no_retries)


def test_a_component_for_others_does_not_exist_for_an_apps_streams() -> None:
    async def script(stub: Any) -> None:
        stream = await opened(stub, "others", "orders")
        code, details = await stream.ended()
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details == "pubsub others is not found"
        metadata = await stub.GetMetadata(GetMetadataRequest())
        assert [one.name for one in metadata.registered_components] == ["pubsub", "limited", "mine"]

    with_streams(script, no_retries)


def test_a_retry_policy_counts_before_the_dead_letter_topic() -> None:
    asked: list[tuple[str, str]] = []

    def retries(component: str, app_id: str) -> Retries:
        asked.append((component, app_id))
        return Retries(2, 0.01, 0.01)

    async def script(stub: Any) -> None:
        failed = await opened(stub, "mine", "failed")
        await failed.read()
        stream = await opened(stub, "mine", "orders", dead_letter_topic="failed")
        await stream.read()
        await stub.PublishEvent(PublishEventRequest(pubsub_name="mine", topic="orders", data=b"1"))
        for _ in range(2):
            await stream.answer((await stream.event()).id, RETRY)
        dead = await failed.event()
        assert dead.extensions["deadletterattempts"] == 2
        assert asked == [("mine", "shop")] * 2

    with_streams(script, retries)
