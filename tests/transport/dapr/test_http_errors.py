"""Dapr's error table over HTTP: every row that a request can meet."""

from typing import NamedTuple

import pytest

from actorbus.errors import ErrorCode, RefusedError, UnavailableError
from tests.transport.dapr.harness import DoorPlayer, House

PUBLISH = "/v1.0/publish/pubsub/orders"
BULK = ("/v1.0/publish/bulk/pubsub/orders", "/v1.0-alpha1/publish/bulk/pubsub/orders")


class Row(NamedTuple):
    """A wrong request, and what it is answered with."""

    path: str
    body: str
    headers: dict[str, str]
    status: int
    code: str
    reason: str


TWINS = (
    '[{"entryId":"1","event":"x","contentType":"text/plain"},'
    '{"entryID":"1","event":"y","contentType":"text/plain"}]'
)
OWN = {"content_type": "application/cloudevents+json"}


@pytest.mark.parametrize(
    "row",
    [
        Row(*row)
        for row in (
            ("/v1.0/publish/nope/orders", "x", {}, 404, "PUBSUB_NOT_FOUND", "NOT_FOUND"),
            ("/v1.0/publish/bulk/nope/orders", "[]", {}, 404, "PUBSUB_NOT_FOUND", "NOT_FOUND"),
            ("/v1.0/publish//orders", "x", {}, 404, "PUBSUB_EMPTY", "NAME_EMPTY"),
            ("/v1.0/publish", "x", {}, 404, "PUBSUB_EMPTY", "NAME_EMPTY"),
            ("/v1.0/publish/pubsub", "x", {}, 404, "TOPIC_NAME_EMPTY", "TOPIC_NAME_EMPTY"),
            ("/v1.0/publish/pubsub/", "x", {}, 404, "TOPIC_NAME_EMPTY", "TOPIC_NAME_EMPTY"),
            ("/v1.0/publish/bulk/pubsub", "[]", {}, 404, "TOPIC_NAME_EMPTY", "TOPIC_NAME_EMPTY"),
            (
                PUBLISH + "?metadata.rawPayload=yes",
                "x",
                {},
                400,
                "PUBSUB_REQUEST_METADATA",
                "METADATA_DESERIALIZATION",
            ),
            (PUBLISH, '{"}', OWN, 500, "PUBSUB_CLOUD_EVENTS_SER", "CLOUD_EVENT_CREATION"),
            (PUBLISH, "[]", OWN, 500, "PUBSUB_CLOUD_EVENTS_SER", "CLOUD_EVENT_CREATION"),
            (PUBLISH, '{"data_base64":"!"}', OWN, 400, "PUBSUB_EVENTS_SER", "MARSHAL_ENVELOPE"),
            (PUBLISH, '{"Ext":"e"}', OWN, 400, "PUBSUB_EVENTS_SER", "MARSHAL_ENVELOPE"),
            (BULK[0], '{"entryId": "', {}, 400, "PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
            (BULK[1], '{"entryId": ""}', {}, 400, "PUBSUB_EVENTS_SER", "UNMARSHAL_EVENTS"),
            (
                BULK[0],
                '[{"event":"x","contentType":"text/plain"}]',
                {},
                400,
                "PUBSUB_EVENTS_SER",
                "MARSHAL_EVENTS",
            ),
            (
                BULK[0],
                TWINS,
                {},
                400,
                "PUBSUB_EVENTS_SER",
                "MARSHAL_EVENTS",
            ),
            (
                BULK[0],
                '[{"entryId":"1","event":"!","contentType":"application/octet-stream"}]',
                {},
                400,
                "PUBSUB_EVENTS_SER",
                "MARSHAL_ENVELOPE",
            ),
            (
                BULK[0],
                '[{"entryId":"1","event":"x"}]',
                {},
                400,
                "PUBSUB_EVENTS_SER",
                "MARSHAL_ENVELOPE",
            ),
            (
                "/v1.0/publish/pubsub/not+a+topic",
                "x",
                {},
                400,
                "PUBSUB_PUBLISH_MESSAGE",
                "PUBLISH_MESSAGE",
            ),
        )
    ],
)
def test_a_wrong_request_gets_daprs_error(play: DoorPlayer, row: Row) -> None:
    async def script(house: House) -> None:
        reader = await house.reader()
        answer = await house.post(row.path, row.body, **row.headers)
        assert (answer.status, answer.code) == (row.status, f"ERR_{row.code}")
        assert answer.headers["content-type"] == "application/json"
        info = answer.detail("ErrorInfo")
        assert (info["reason"], info["domain"]) == (f"DAPR_PUBSUB_{row.reason}", "dapr.io")
        if row.reason not in ("NOT_FOUND", "NAME_EMPTY"):
            resource = answer.detail("ResourceInfo")
            assert (resource["resource_type"], resource["resource_name"]) == ("pubsub", "pubsub")
        await house.publish("after")
        assert (await reader.event())["data"] == "after"  # and nothing before it

    play(script)


def test_a_door_without_components_says_so(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.post(PUBLISH, "x")
        assert (answer.status, answer.code) == (400, "ERR_PUBSUB_NOT_CONFIGURED")

    play(script, components={})


def test_a_publish_that_the_broker_forbids_is_403(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        bus = await house.door.buses.get("pubsub", "shop")

        async def refuse(*_: object, **__: object) -> str:
            raise RefusedError(ErrorCode.FORBIDDEN, "topic orders is not allowed for app id shop")

        bus.publish = refuse  # type: ignore[method-assign]  # a broker with scopes
        answer = await house.post(PUBLISH, "x")
        assert (answer.status, answer.code) == (403, "ERR_PUBSUB_FORBIDDEN")
        assert answer.json()["message"] == "topic orders is not allowed for app id shop"

    play(script)


def test_a_publish_that_the_broker_cant_take_is_500(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        bus = await house.door.buses.get("pubsub", "shop")

        async def refuse(*_: object, **__: object) -> str:
            raise UnavailableError(ErrorCode.STORE_UNAVAILABLE, "the disk is full")

        bus.publish = refuse  # type: ignore[method-assign]  # a broker in need
        answer = await house.post(PUBLISH, "x")
        assert (answer.status, answer.code) == (500, "ERR_PUBSUB_PUBLISH_MESSAGE")
        assert answer.json()["message"] == (
            "error when publishing to topic orders in pubsub pubsub:"
            " store_unavailable: the disk is full"
        )

    play(script)


def test_a_failure_of_our_own_is_logged_and_told_by_its_code_alone(
    play: DoorPlayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(house: House) -> None:
        house.door.publisher._config = None  # type: ignore[assignment]  # breaks it
        answer = await house.post(PUBLISH, "secret")
        assert (answer.status, answer.code) == (500, "ERR_INTERNAL")
        assert b"secret" not in answer.body

    with pytest.raises(AssertionError, match="request failed"):
        play(script)
