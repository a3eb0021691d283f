"""Hostile HTTP: huge, slow, broken."""

import asyncio
import contextlib

import pytest

from tests.transport.dapr.harness import DEADLINE, DoorPlayer, House, read_answer
from transport.dapr import http_server
from transport.dapr.http_body import BODY_BYTES

PUBLISH = "/v1.0/publish/pubsub/orders"
HEAD = f"POST {PUBLISH} HTTP/1.1\r\nHost: test\r\n".encode()


async def still_works(house: House) -> None:
    reader = await house.reader()
    await house.publish("alive")
    assert (await reader.event())["data"] == "alive"


def test_a_body_over_the_limit_is_413(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.post(PUBLISH, b"x" * (BODY_BYTES + 1))
        assert (answer.status, answer.code) == (413, "ERR_BODY_READ")
        assert str(BODY_BYTES) in answer.json()["message"]
        await still_works(house)

    play(script)


def test_an_event_longer_than_the_brokers_limit_is_413(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.post(PUBLISH, b"x" * 1_048_576)
        assert (answer.status, answer.code) == (413, "ERR_BODY_READ")
        assert "1048576" in answer.json()["message"]
        await still_works(house)

    play(script)


def test_the_connection_lives_on_after_a_body_over_the_limit(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader, writer = await house.connect()
        size = BODY_BYTES + 1
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        assert (await read_answer(reader)).status == 413
        writer.write(HEAD + b"Content-Length: 1\r\n\r\nx")
        assert (await read_answer(reader)).status == 204

    play(script)


def test_a_chunked_body_over_the_limit_is_413(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader, writer = await house.connect()
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(BODY_BYTES // 65536 + 1):
            writer.write(chunk)
        writer.write(b"0\r\n\r\n")
        assert (await read_answer(reader)).status == 413
        await still_works(house)

    play(script)


def test_who_asks_before_sending_too_much_is_spared_it(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        answer = await read_answer(reader)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await reader.read() == b""

    play(script)


def test_who_asks_before_sending_is_told_to_go_on(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert (await read_answer(reader)).status == 100
        writer.write(b"x")
        assert (await read_answer(reader)).status == 204

    play(script)


def test_an_endless_body_ends_the_connection(
    play: DoorPlayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_BYTES", 8 * 1024 * 1024)

    async def script(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(HEAD + b"Content-Length: 999999999999\r\n\r\n")

        async def pour() -> None:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

        async with asyncio.timeout(DEADLINE):
            with pytest.raises(ConnectionError):
                await pour()
        await still_works(house)
        del reader

    play(script)


@pytest.mark.parametrize(
    "head",
    [b"GET /" + b"a" * 70_000, b"GET / HTTP/1.1\r\nHost: test\r\n" + b"a: b\r\n" * 12_000],
)
def test_a_head_over_the_limit_is_431(play: DoorPlayer, head: bytes) -> None:
    async def script(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(head)
        assert (await read_answer(reader)).status == 431
        assert await reader.read() == b""
        await still_works(house)

    play(script)


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1.0", HEAD, HEAD + b"Content-Length: 5\r\n\r\nab"],
)
def test_a_request_that_does_not_arrive_is_408(
    play: DoorPlayer, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.05)

    async def script(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(sent)
        assert (await read_answer(reader)).status == 408
        assert await reader.read() == b""

    play(script)


def test_an_idle_connection_stays_open(play: DoorPlayer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.02)

    async def script(house: House) -> None:
        reader, writer = await house.connect()
        request = HEAD + b"Content-Length: 1\r\n\r\nx"
        writer.write(request)
        assert (await read_answer(reader)).status == 204
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):  # five times what a request may take
                await reader.read(1)
        writer.write(request)
        assert (await read_answer(reader)).status == 204

    play(script)


def test_requests_one_behind_the_other_are_answered_in_order(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        subscriber = await house.reader()
        reader, writer = await house.connect()
        writer.write(b"".join(HEAD + b"Content-Length: 1\r\n\r\n%d" % n for n in range(10)))
        for _ in range(10):
            assert (await read_answer(reader)).status == 204
        assert [(await subscriber.event())["data"] for _ in range(10)] == [*"0123456789"]

    play(script)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS
        b"nonsense\r\n\r\n",
        b"CONNECT host:80 HTTP/1.1\r\nHost: host:80\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1.0/publish/\xff HTTP/1.1\r\nHost: test\r\n\r\n",
    ],
)
def test_what_is_no_http_is_400_or_nothing(play: DoorPlayer, sent: bytes) -> None:
    async def script(house: House) -> None:
        reader, writer = await house.connect()
        writer.write(sent)
        async with asyncio.timeout(DEADLINE):
            got = await reader.read()
        assert got == b"" or got.startswith(b"HTTP/1.1 400 ")
        await still_works(house)

    play(script)


def test_a_websocket_handshake_is_not_taken(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        answer = await house.ask(
            "GET",
            "/v1",
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Key="x" * 24,
            Sec_WebSocket_Version="13",
        )
        assert answer.status == 404

    play(script)


def test_a_client_that_leaves_in_the_middle_publishes_nothing(play: DoorPlayer) -> None:
    async def script(house: House) -> None:
        subscriber = await house.reader()
        _, writer = await house.connect()
        writer.write(HEAD + b"Content-Length: 5\r\n\r\nab")
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await house.publish("after")
        assert (await subscriber.event())["data"] == "after"

    play(script)


@pytest.mark.parametrize(
    "path",
    [
        "/v1.0/publish/pubsub/%00",
        "/v1.0/publish/pubsub/%ff%fe",
        "/v1.0/publish/pubsub/" + "a" * 121,
        "/v1.0/publish/pubsub/amq.direct",
        "/v1.0/publish/%00/orders",
        PUBLISH + "?" + "&".join(["metadata.a=b"] * 201),
        PUBLISH + "?metadata.cloudevent.id=%0a",
        PUBLISH + "?metadata.cloudevent.source=%00",
        PUBLISH + "?metadata.ttlInSeconds=" + "9" * 5000,
    ],
)
def test_hostile_names_and_metadata_are_a_clear_error(play: DoorPlayer, path: str) -> None:
    async def script(house: House) -> None:
        answer = await house.post(path, "x")
        assert answer.status in (400, 404)
        assert answer.code.startswith("ERR_PUBSUB_")
        assert len(answer.body) < 2000

    play(script)
