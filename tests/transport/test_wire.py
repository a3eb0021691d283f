"""The sending side of a connection, over a real socket, its times scaled down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from actorbus.codec import JSON, MSGPACK
from actorbus.direct_connection import DirectServerConnection
from actorbus.limits import OUTBOX_BYTES
from transport import patience, wire
from transport.wire import SocketWire

Script = Callable[[SocketWire, ClientConnection], Awaitable[None]]


class Watched:
    """What happened at the server's end."""

    def __init__(self) -> None:
        self.slow = 0
        self.drained = 0


@asynccontextmanager
async def wired(
    watched: Watched, *, binary: bool, max_queue: int
) -> AsyncIterator[tuple[SocketWire, ClientConnection]]:
    """A connection: the wire at its server's end, and its client."""
    made: asyncio.Future[SocketWire] = asyncio.get_running_loop().create_future()

    def on_slow() -> None:
        watched.slow += 1

    def on_drained() -> None:
        watched.drained += 1

    async def handle(socket: ServerConnection) -> None:
        assert isinstance(socket, DirectServerConnection)
        one = SocketWire(socket, MSGPACK if binary else JSON, "test", on_slow)
        one.on_drained = on_drained
        made.set_result(one)
        with contextlib.suppress(ConnectionClosed):  # a test may abort
            async for _ in socket:
                pass
        await one.finish()

    async with serve(
        handle,
        "127.0.0.1",
        0,
        compression=None,
        ping_interval=None,
        close_timeout=0.5,
        create_connection=DirectServerConnection,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}",
            compression=None,
            max_size=None,
            max_queue=max_queue,
            ping_interval=None,
            close_timeout=0.2,
        ) as client:
            yield await made, client


def play(script: Script, *, binary: bool = False, max_queue: int = 4) -> Watched:
    watched = Watched()

    async def run() -> None:
        async with (
            asyncio.timeout(20),
            wired(watched, binary=binary, max_queue=max_queue) as (one, client),
        ):
            await script(one, client)

    asyncio.run(run())
    return watched


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look every 20 ms: cut off after 100 ms without progress, a ping every 80 ms."""
    monkeypatch.setattr(wire, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(wire, "LAST_WORD_SECONDS", 0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, in a test
            await asyncio.sleep(0.002)


def looked(one: SocketWire, goal: int) -> bool:
    return one._looks >= goal


def stop_reading(client: ClientConnection) -> None:
    client.transport.pause_reading()


@pytest.mark.parametrize("binary", [True, False])
def test_frames_go_out_in_order_and_in_the_codecs_kind(binary: bool) -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        one.send([b"1", b"2"])
        one.send([b"3"])
        got = [await client.recv() for _ in range(3)]
        assert got == ([b"1", b"2", b"3"] if binary else ["1", "2", "3"])

    play(script, binary=binary)


def test_close_sends_what_is_queued_first_and_takes_no_more() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        one.send([b"last"])
        one.close(1008, "é" * 200)
        one.send([b"too late"])
        one.close(1000, "not this one")
        assert await client.recv() == "last"
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1008, "é" * 61)
        await one.flushed()

    play(script)


def test_what_is_sent_to_a_dead_connection_is_dropped() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        client.transport.abort()
        await until(lambda: one._dead)
        one.send([b"nobody reads this"])
        assert not one._queue
        assert one.unsent() >= OUTBOX_BYTES  # it has no room for deliveries

    play(script)


@pytest.mark.usefixtures("fast")
def test_bytes_left_unread_cut_the_client_off_once() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 1_000_000] * 20)
        assert one.congested()
        waiting = asyncio.create_task(one.drained())
        await until(lambda: one._dead)
        await waiting
        await until(one._socket.transport.is_closing)

    with structlog.testing.capture_logs() as log:
        watched = play(script)
    assert watched.slow == 1
    assert watched.drained == 1
    assert [entry["why"] for entry in log] == ["bytes unread"]


@pytest.mark.usefixtures("fast")
def test_silence_cuts_the_client_off_with_1013() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        await until(lambda: one._dead)
        client.transport.resume_reading()
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1013

    with structlog.testing.capture_logs() as log:
        assert play(script).slow == 1
    assert [entry["why"] for entry in log] == ["ping unanswered"]


@pytest.mark.usefixtures("fast")
def test_silence_is_noticed_though_small_frames_still_go_out() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        while not one._dead:
            one.send([b"x"])
            await until(partial(looked, one, one._looks + 1))
            assert one._looks < 30  # 4 to the ping and 5 in vain; some may find bytes on the line

    with structlog.testing.capture_logs() as log:
        assert play(script).slow == 1
    assert [entry["why"] for entry in log] == ["ping unanswered"]


@pytest.mark.usefixtures("fast")
def test_small_frames_behind_unread_bytes_are_no_progress() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 7_000_000])
        await until(lambda: not one._queue)
        while not one._dead:
            one.send([b"x"])
            await until(partial(looked, one, one._looks + 1))
            assert one._looks < 30

    with structlog.testing.capture_logs() as log:
        assert play(script).slow == 1
    assert [entry["why"] for entry in log] == ["bytes unread"]


@pytest.mark.usefixtures("fast")
def test_a_client_in_the_middle_of_a_long_message_stays() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)  # its pong waits behind its message
        client.transport.write(b"\x82\xfe\xff\xff" + bytes(4))
        while one._looks < 40:
            client.transport.write(b"x")
            await until(partial(looked, one, one._looks + 1))
        assert not one._dead
        one.abort()

    assert play(script).slow == 0


@pytest.mark.usefixtures("fast")
def test_a_flood_of_pings_whose_answers_are_not_read_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "QUEUE_BYTES", 1_000_000)
    monkeypatch.setattr(patience, "STUCK_LOOKS", 10**9)

    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        ping = b"\x89\xfd" + bytes(4 + 125)
        while not one._dead:
            client.transport.write(ping * 5_000)
            await asyncio.sleep(0)

    with structlog.testing.capture_logs() as log:
        assert play(script).slow == 1
    assert [entry["why"] for entry in log] == ["too many bytes unsent"]


@pytest.mark.usefixtures("fast")
def test_a_client_that_answers_pings_stays() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        await until(lambda: one._pongs >= 3)
        one.send([b"here"])
        assert await client.recv() == "here"

    assert play(script).slow == 0


@pytest.mark.usefixtures("fast")
def test_a_slow_reader_that_makes_progress_stays() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 500_000] * 30)
        for _ in range(30):  # at the least 600 ms, where 100 without progress are too many
            goal = one._looks + 2
            await until(partial(looked, one, goal))
            client.transport.resume_reading()
            await client.recv()
            stop_reading(client)
        client.transport.resume_reading()

    assert play(script, max_queue=1).slow == 0


def test_too_many_bytes_cut_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 600_000])
        assert not one._dead
        one.send([b"x" * 600_000])
        assert one._dead

    monkeypatch.setattr(wire, "QUEUE_BYTES", 1_000_000)
    assert play(script).slow == 1


def test_room_is_told_once_it_is_there_again() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        one.send([b"x" * 1_000_000] * 5)
        assert one.congested()
        waiting = asyncio.create_task(one.drained())
        for _ in range(5):
            await client.recv()
        async with asyncio.timeout(2):
            await waiting
        assert not one.congested()

    assert play(script).drained == 1


def test_who_found_no_room_is_told_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if only what waits in the socket's buffer beside the queue made it full."""

    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 7_000_000])
        await until(lambda: not one._queue)
        one.send([b"x" * 1_000_000])
        found = one.unsent()
        assert found < 7_900_000  # no byte is counted twice
        assert found >= OUTBOX_BYTES
        client.transport.resume_reading()
        for _ in range(2):
            await client.recv()
        await until(lambda: one.unsent() == 0)

    assert play(script).drained == 1


def test_who_found_no_room_behind_a_single_message_is_told_of_room() -> None:
    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 9_000_000])
        assert one.unsent() >= OUTBOX_BYTES
        waiting = asyncio.create_task(one.drained())
        client.transport.resume_reading()
        await client.recv()
        async with asyncio.timeout(wire.WATCH_SECONDS / 2):
            await waiting
        await until(lambda: one.unsent() == 0)

    assert play(script).drained == 1


@pytest.mark.usefixtures("fast")
def test_without_the_watch_nobody_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: it is the watch that ends it, not the library."""
    monkeypatch.setattr(patience, "STUCK_LOOKS", 10**9)

    async def script(one: SocketWire, client: ClientConnection) -> None:
        stop_reading(client)
        one.send([b"x" * 1_000_000] * 20)
        await until(lambda: one._looks >= 30)
        assert not one._dead
        one.abort()

    assert play(script).slow == 0
