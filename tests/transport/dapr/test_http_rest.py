"""Dapr's HTTP API beside publishing, and who may call it."""

import pytest

from tests.transport.dapr.harness import DoorPlayer, House, tokens_of
from transport.auth import Tokens

PUBLISH = "/v1.0/publish/pubsub/orders"
BULK = ("/v1.0/publish/bulk/pubsub/orders", "/v1.0-alpha1/publish/bulk/pubsub/orders")


@pytest.mark.parametrize("path", ["/v1.0/healthz", "/v1.0/healthz/outbound", "/v1.0//healthz/"])
def test_a_healthy_door_says_204(play: DoorPlayer, path: str) -> None:
    async def script(house: House) -> None:
        answer = await house.ask("GET", path)
        assert (answer.status, answer.body) == (204, b"")

    play(script)


@pytest.mark.parametrize(
    ("path", "code"),
    [("healthz", "ERR_HEALTH_NOT_READY"), ("healthz/outbound", "ERR_OUTBOUND_HEALTH_NOT_READY")],
)
def test_a_door_whose_broker_is_ill_says_500(play: DoorPlayer, path: str, code: str) -> None:
    async def script(house: House) -> None:
        house.broker.stopping = True
        answer = await house.ask("GET", f"/v1.0/{path}")
        assert (answer.status, answer.code) == (500, code)
        assert "the broker is stopping" in answer.json()["message"]

    play(script)


def test_health_can_be_asked_for_an_app_id(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        assert (await house.ask("GET", "/v1.0/healthz?appid=shop")).status == 204
        answer = await house.ask("GET", "/v1.0/healthz?appid=other")
        assert (answer.status, answer.code) == (500, "ERR_HEALTH_APPID_NOT_MATCH")

    play(script)


def test_metadata_tell_the_app_id_and_the_components(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.ask("GET", "/v1.0/metadata")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert found["id"] == "shop"
        (component,) = found["components"]
        assert (component["name"], component["type"][:7]) == ("pubsub", "pubsub.")
        assert component["capabilities"] == ["MESSAGE_TTL"]
        assert found["subscriptions"] == []

    play(script)


def test_metadata_can_be_extended(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        assert (await house.ask("PUT", "/v1.0/metadata/colour", "red")).status == 204
        found = (await house.ask("GET", "/v1.0/metadata")).json()
        assert found["extended"]["colour"] == "red"
        answer = await house.ask("PUT", "/v1.0/metadata/colour", "x" * 5000)
        assert answer.status == 400

    play(script)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1.0/state/store/key"),
        ("POST", "/v1.0/invoke/app/method/x"),
        ("GET", "/"),
        ("POST", "/v1.0/shutdown"),
        ("GET", "/v2.0/healthz"),
        ("POST", "/v1.0-alpha1/publish/pubsub/orders"),
    ],
)
def test_everything_else_is_404_with_a_code(play: DoorPlayer, method: str, path: str) -> None:
    async def script(house: House) -> None:
        answer = await house.ask(method, path)
        assert (answer.status, answer.code) == (404, "ERR_API_UNIMPLEMENTED")

    play(script)


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", PUBLISH), ("GET", PUBLISH), ("PATCH", BULK[0]), ("POST", "/v1.0/healthz")],
)
def test_a_wrong_method_is_405_with_a_code(play: DoorPlayer, method: str, path: str) -> None:
    async def script(house: House) -> None:
        answer = await house.ask(method, path)
        assert (answer.status, answer.code) == (405, "ERR_API_UNIMPLEMENTED")
        assert answer.headers["allow"]

    play(script)


def shop_and_bank() -> Tokens:
    return tokens_of(one="shop", two="bank")


def test_a_token_says_whose_event_it_is(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader = await house.reader(app_id="shop", token="one")
        for token in ("one", "two"):
            await house.publish("x", dapr_api_token=token)
        assert [(await reader.event())["source"] for _ in range(2)] == ["shop", "bank"]

    play(script, tokens=shop_and_bank())


@pytest.mark.parametrize("headers", [{}, {"dapr_api_token": "three"}, {"dapr_api_token": ""}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PUBLISH),
        ("POST", BULK[0]),
        ("POST", "/v1.0/publish/nope/x"),
        ("GET", "/v1.0/metadata"),
        ("PUT", "/v1.0/metadata/a"),
    ],
)
def test_a_wrong_or_missing_token_is_401(
    play: DoorPlayer, headers: dict[str, str], method: str, path: str
) -> None:
    async def script(house: House) -> None:
        answer = await house.ask(method, path, "x", **headers)
        assert (answer.status, answer.body) == (401, b"invalid api token")

    play(script, tokens=shop_and_bank())


def test_the_doors_own_token_opens_no_app_id_over_http(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        token = house.door.config.broker_token or ""
        assert (await house.post(PUBLISH, "x", dapr_api_token=token)).status == 401

    play(script, tokens=shop_and_bank())


def test_health_needs_no_token(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        for path in ("healthz", "healthz/outbound"):
            assert (await house.ask("GET", f"/v1.0/{path}")).status == 204

    play(script, tokens=shop_and_bank())


def test_each_app_has_its_own_metadata(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        await house.ask("PUT", "/v1.0/metadata/a", "b", dapr_api_token="one")
        ours = (await house.ask("GET", "/v1.0/metadata", dapr_api_token="one")).json()
        theirs = (await house.ask("GET", "/v1.0/metadata", dapr_api_token="two")).json()
        assert (ours["id"], theirs["id"]) == ("shop", "bank")
        assert ("a" in ours["extended"], "a" in theirs["extended"]) == (True, False)

    play(script, tokens=shop_and_bank())
