"""The first frame: its fields, its errors, its time."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.protocol.harness import Player, Stage
from transport import session

LIMITS = {
    "frame_bytes": 8_388_608,
    "event_bytes": 1_048_576,
    "batch_events": 1000,
    "publish_bytes": 16_777_216,
    "name_bytes": 120,
    "groups_per_app": 20_000,
    "group_outstanding": 10_000,
}


def test_welcome_has_every_field(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        await peer.send("hello", app_id="billing", instance="west-1", max_in_flight=7, ref=12)
        welcome = await peer.expect("welcome")
        connection = welcome.pop("connection")
        assert isinstance(connection, str)
        assert connection
        assert welcome == {
            "type": "welcome",
            "ref": 12,
            "version": 1,
            "instance": "west-1",
            "max_in_flight": 7,
            "limits": LIMITS,
        }

    play(script)


def test_hello_without_ref_is_answered_without_one(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        await peer.send("hello", app_id="billing")
        welcome = await peer.expect("welcome")
        assert "ref" not in welcome
        assert welcome["max_in_flight"] == 256
        assert welcome["instance"] == welcome["connection"]

    play(script)


def test_connections_have_ids_of_their_own(play: Player) -> None:
    async def script(stage: Stage) -> None:
        welcomes = [await (await stage.open()).hello("billing", instance="same") for _ in "ab"]
        assert len({welcome["connection"] for welcome in welcomes}) == 2
        assert {welcome["instance"] for welcome in welcomes} == {"same"}

    play(script)


def test_anything_but_hello_first_is_not_hello_and_closes(play: Player) -> None:
    async def script(stage: Stage) -> None:
        for kind in ("publish", "inspect", "nonsense"):
            peer = await stage.open()
            await peer.send(kind, ref="first", topic="t")
            error = await peer.expect("error", ref="first", code="not_hello")
            assert error["retryable"] is False
            assert await peer.closed() == 1008
            assert peer.socket.close_reason is not None
            assert peer.socket.close_reason.startswith("not_hello")

    play(script)


def test_a_bad_ref_is_left_out_of_not_hello(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        await peer.send("drain", ref=[1])
        assert "ref" not in await peer.expect("error", code="not_hello")
        assert await peer.closed() == 1008

    play(script)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "malformed"),
        ({"app_id": 3}, "malformed"),
        ({"app_id": None}, "malformed"),
        ({"app_id": ""}, "invalid_name"),
        ({"app_id": "no spaces"}, "invalid_name"),
        ({"app_id": "a" * 121}, "invalid_name"),
        ({"app_id": "ok", "instance": 1}, "malformed"),
        ({"app_id": "ok", "instance": ""}, "invalid_name"),
        ({"app_id": "ok", "instance": "a\nb"}, "invalid_name"),
        ({"app_id": "ok", "instance": "é" * 61}, "invalid_name"),
        ({"app_id": "ok", "token": 1}, "malformed"),
        ({"app_id": "ok", "max_in_flight": -1}, "malformed"),
        ({"app_id": "ok", "max_in_flight": 65_536}, "malformed"),
        ({"app_id": "ok", "max_in_flight": 1.5}, "malformed"),
        ({"app_id": "ok", "max_in_flight": True}, "malformed"),
    ],
)
def test_an_invalid_hello_gets_its_error_and_another_may_follow(
    play: Player, fields: dict[str, Any], code: str
) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        assert (await peer.ask("hello", **fields))["code"] == code
        await peer.hello("billing")

    play(script)


def test_names_of_full_length_are_taken(play: Player) -> None:
    async def script(stage: Stage) -> None:
        welcome = await (await stage.open()).hello("A.z_0:/@-" + "a" * 111, instance="é" * 60)
        assert welcome["instance"] == "é" * 60

    play(script)


def test_hello_twice_is_malformed_and_changes_nothing(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        again = await peer.ask("hello", app_id="other")
        assert (again["type"], again["code"]) == ("error", "malformed")
        await peer.send("hello", app_id="other")
        await peer.error("malformed")
        await peer.subscribe("orders")
        assert await peer.stats("orders", "other") == {}

    play(script)


def test_no_hello_in_time_is_hello_timeout(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(stage: Stage) -> None:
        silent, wrong = await stage.open(), await stage.open()
        await wrong.send("hello", app_id="", ref=1)
        await wrong.expect("error", ref=1, code="invalid_name")
        for peer in (silent, wrong):
            await peer.error("hello_timeout")
            assert await peer.closed() == 1008
            assert peer.socket.close_reason is not None
            assert peer.socket.close_reason.startswith("hello_timeout")

    monkeypatch.setattr(session, "HELLO_MS", 100)
    play(script)


def test_a_connection_that_said_hello_may_be_silent(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        silent, other = await stage.app("billing"), await stage.open()
        await other.error("hello_timeout")
        assert (await silent.ask("inspect"))["type"] == "inspected"

    monkeypatch.setattr(session, "HELLO_MS", 50)
    play(script)


# --- tokens -----------------------------------------------------------------------------------


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    lines = [
        f'"{hashlib.sha256(token.encode()).hexdigest()}" = "{app_id}"\n'
        for token, app_id in (("secret-a", "billing"), ("secret-b", "stock"))
    ]
    path.write_text("".join(lines))
    return path


def test_a_token_in_hello_opens_its_app_id(play: Player, tokens: Path) -> None:
    async def script(stage: Stage) -> None:
        await stage.app("billing", token="secret-a")
        await stage.app("stock", token="secret-b")

    play(script, tokens=tokens)


def test_a_token_in_the_header_opens_its_app_id(play: Player, tokens: Path) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open(additional_headers={"Authorization": "bearer secret-a"})
        await peer.hello("billing")

    play(script, tokens=tokens)


@pytest.mark.parametrize("fields", [{}, {"token": "wrong"}, {"token": ""}])
def test_without_a_right_token_unauthorized_closes(
    play: Player, tokens: Path, fields: dict[str, str]
) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        assert (await peer.ask("hello", app_id="billing", **fields))["code"] == "unauthorized"
        assert await peer.closed() == 1008
        assert peer.socket.close_reason is not None
        assert peer.socket.close_reason.startswith("unauthorized")

    play(script, tokens=tokens)


def test_another_apps_token_is_forbidden(play: Player, tokens: Path) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        answer = await peer.ask("hello", app_id="billing", token="secret-b")
        assert answer["code"] == "forbidden"
        await peer.hello("stock", token="secret-b")

    play(script, tokens=tokens)


def test_a_token_in_the_url_opens_nothing(play: Player, tokens: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.url += "?token=secret-a&access_token=secret-a"
        peer = await stage.open()
        assert (await peer.ask("hello", app_id="billing"))["code"] == "unauthorized"
        assert await peer.closed() == 1008

    assert "secret" not in str(play(script, tokens=tokens))


def test_no_token_reaches_the_log_or_an_answer(play: Player, tokens: Path) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        for fields in ({"app_id": "stock", "token": "secret-a"}, {"token": "secret-a"}):
            assert "secret" not in str(await peer.ask("hello", **fields))
        await peer.hello("billing", token="secret-a")

    assert "secret" not in str(play(script, tokens=tokens))


def test_a_peer_that_floods_hellos_is_answered_and_ended(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.open()
        async with asyncio.timeout(5):
            for _ in range(200):
                await peer.send("hello", app_id="")
        for _ in range(200):
            await peer.error("invalid_name")
        await peer.error("hello_timeout")
        assert await peer.closed() == 1008
        await stage.works()

    monkeypatch.setattr(session, "HELLO_MS", 400)
    play(script)
