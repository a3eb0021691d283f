"""The short way of whole messages: what takes it, what must not, and that nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from actorbus.direct_connection import (
    DIRECT_MESSAGES,
    DirectClientConnection,
    DirectConnection,
    DirectServerConnection,
)
from actorbus.limits import FRAME_BYTES

LENGTHS = (0, 1, 125, 126, 127, 65_535, 65_536, 70_000)
"""On both sides of where a frame's head gets longer (RFC 6455, 5.2)."""

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

Script = Callable[[DirectServerConnection, DirectClientConnection], Awaitable[None]]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[DirectServerConnection, DirectClientConnection]]:
    """Both ends of a connection; nobody reads them."""
    opened: asyncio.Future[ServerConnection] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def handle(socket: ServerConnection) -> None:
        opened.set_result(socket)
        await done.wait()

    async with serve(
        handle,
        "127.0.0.1",
        0,
        compression=None,
        max_size=FRAME_BYTES,
        max_queue=64,
        close_timeout=0.2,
        create_connection=DirectServerConnection,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}",
            compression=None,
            max_size=FRAME_BYTES,
            max_queue=64,
            close_timeout=0.2,
            create_connection=DirectClientConnection,
        ) as client:
            ours = await opened
            assert isinstance(ours, DirectServerConnection)
            assert isinstance(client, DirectClientConnection)
            yield ours, client
            done.set()


def play(script: Script) -> None:
    async def main() -> None:
        async with asyncio.timeout(10), connected() as (server, client):
            await script(server, client)

    asyncio.run(main())


class Taker:
    """Takes messages, but for those that it is told to refuse."""

    def __init__(self, *, refuses: Iterable[bytes] = ()) -> None:
        self.taken: list[tuple[bytes, bool]] = []
        self._refuses = set(refuses)

    def __call__(self, message: bytes, text: bool) -> bool:
        if message in self._refuses:
            return False
        self.taken.append((message, text))
        return True

    @property
    def messages(self) -> list[bytes]:
        return [message for message, _ in self.taken]


def wire(frame: Frame, *, to: DirectConnection) -> bytes:
    return frame.serialize(mask=isinstance(to, DirectServerConnection))


def binary(data: bytes, *, fin: bool = True) -> Frame:
    return Frame(Opcode.BINARY, data, fin)


def end_of(side: str, server: DirectServerConnection, client: DirectClientConnection) -> object:
    return {"server": server, "client": client}[side]


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000, 10**6])
def test_messages_are_taken_whole_and_in_order_however_they_are_cut(side: str, piece: int) -> None:
    lengths = LENGTHS if piece > 5 else tuple(length for length in LENGTHS if length < 1000)

    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        end = end_of(side, server, client)
        assert isinstance(end, DirectConnection)
        sent = [bytes([65 + index]) * length for index, length in enumerate(lengths)]
        stream = b"".join(wire(binary(data), to=end) for data in sent)
        taker = Taker()
        end.take_directly(taker)
        for at in range(0, len(stream), piece):
            end.data_received(stream[at : at + piece])
        assert taker.taken == [(data, False) for data in sent]
        assert end.received >= len(stream)

    play(script)


def test_text_is_said_to_be_text() -> None:
    async def script(server: DirectServerConnection, _client: DirectClientConnection) -> None:
        taker = Taker()
        server.take_directly(taker)
        server.data_received(wire(Frame(Opcode.TEXT, b"hello"), to=server))
        assert taker.taken == [(b"hello", True)]

    play(script)


def test_what_is_refused_is_queued_and_so_is_all_behind_it() -> None:
    async def script(server: DirectServerConnection, _client: DirectClientConnection) -> None:
        taker = Taker(refuses=[b"2"])
        server.take_directly(taker)
        server.data_received(b"".join(wire(binary(data), to=server) for data in (b"1", b"2", b"3")))
        server.data_received(wire(binary(b"4"), to=server))
        assert taker.messages == [b"1"]
        assert [await server.recv() for _ in range(3)] == [b"2", b"3", b"4"]
        server.take_directly(taker)
        server.data_received(wire(binary(b"5"), to=server))
        assert taker.messages == [b"1", b"5"]

    play(script)


def test_without_a_taker_all_is_queued() -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        await client.send(b"1")
        await client.send("2")
        assert [await server.recv(), await server.recv()] == [b"1", "2"]

    play(script)


def test_a_message_in_fragments_is_queued_whole() -> None:
    async def script(server: DirectServerConnection, _client: DirectClientConnection) -> None:
        taker = Taker()
        server.take_directly(taker)
        parts = (binary(b"a", fin=False), Frame(Opcode.CONT, b"b", fin=False))
        for frame in (*parts, Frame(Opcode.PING, b""), Frame(Opcode.CONT, b"c"), binary(b"next")):
            server.data_received(wire(frame, to=server))
        assert await server.recv() == b"abc"
        assert await server.recv() == b"next"
        assert taker.taken == []

    play(script)


def test_a_message_amid_the_fragments_of_another_breaks_the_protocol() -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        taker = Taker()
        server.data_received(wire(binary(b"a", fin=False), to=server))
        server.take_directly(taker)
        server.data_received(wire(binary(b"amid"), to=server))
        assert taker.taken == []
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1002

    play(script)


def test_control_frames_between_are_the_librarys() -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        taker = Taker()
        server.take_directly(taker)
        await client.send(b"1")
        await (await client.ping())
        await client.send(b"2")
        await (await client.ping())
        assert taker.messages == [b"1", b"2"]

    play(script)


def test_of_one_read_only_so_many_are_taken_at_once() -> None:
    async def script(server: DirectServerConnection, _client: DirectClientConnection) -> None:
        sent = [str(number).encode() for number in range(DIRECT_MESSAGES + 3)]
        taker = Taker()
        server.take_directly(taker)
        server.data_received(b"".join(wire(binary(data), to=server) for data in sent))
        assert taker.messages == sent[:DIRECT_MESSAGES]
        assert [await server.recv() for _ in range(3)] == sent[DIRECT_MESSAGES:]

    play(script)


@pytest.mark.parametrize("length", [FRAME_BYTES + 1, 2**40])
def test_a_message_that_is_too_long_closes_with_1009_before_it_has_come(length: int) -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        server.take_directly(Taker())
        server.data_received(b"\x82\xff" + length.to_bytes(8) + b"\0\0\0\0" + b"x")
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1009

    play(script)


@pytest.mark.parametrize(
    "frame",
    [b"\x82\x01x", b"\xc2\x81\0\0\0\0x", b"\x83\x81\0\0\0\0x"],
    ids=["not masked", "a bit of no extension", "an opcode that there is not"],
)
def test_what_breaks_the_protocol_is_not_taken_and_closes_with_1002(frame: bytes) -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        taker = Taker()
        server.take_directly(taker)
        server.data_received(frame)
        assert taker.taken == []
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1002

    play(script)


def test_nothing_is_taken_behind_a_close() -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        taker = Taker()
        server.take_directly(taker)
        close = wire(Frame(Opcode.CLOSE, b"\x03\xe8"), to=server)
        server.data_received(close + wire(binary(b"late"), to=server))
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert taker.taken == []

    play(script)


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_written_at_once_arrives_unchanged_at_either_end(length: int) -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        data = b"x" * length
        for sender, receiver in ((server, client), (client, server)):
            assert sender.may_write()
            sender.write_now(data, text=False)
            sender.write_now(data, text=True)
            assert await receiver.recv() == data
            assert await receiver.recv() == data.decode()

    play(script)


def test_who_would_have_to_wait_may_not_write() -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        client.transport.pause_reading()
        while server.may_write():
            server.write_now(bytes(10**6), text=False)
            await asyncio.sleep(0)
        assert server.transport.get_write_buffer_size() > 0
        client.transport.abort()

    play(script)


def test_what_comes_with_the_handshake_is_not_taken_apart() -> None:
    """RFC 6455 forbids it to clients, but not to servers."""

    async def main() -> None:
        taken: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def handle(socket: ServerConnection) -> None:
            assert isinstance(socket, DirectServerConnection)
            socket.take_directly(lambda *_: False)
            taken.set_result(await socket.recv())

        frame = binary(b"hello").serialize(mask=True)
        async with (
            asyncio.timeout(10),
            serve(handle, "127.0.0.1", 0, create_connection=DirectServerConnection) as server,
        ):
            port = next(iter(server.sockets)).getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HANDSHAKE + frame[:3])
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frame[3:])
            assert await taken == b"hello"
            writer.close()

    asyncio.run(main())


def test_nobody_may_write_to_a_connection_that_is_closing() -> None:
    async def script(server: DirectServerConnection, client: DirectClientConnection) -> None:
        await client.close()
        await server.wait_closed()
        assert not client.may_write()
        assert not server.may_write()

    play(script)
