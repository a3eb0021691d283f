"""The listening socket: the handshake, and plain HTTP beside it."""

import asyncio
import threading

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.protocol.harness import Player, Stage
from tests.transport.http import get, raw, upgrade
from transport import metrics as metrics_module
from transport.auth import OriginError, check_origins
from transport.broker import Broker, Config


def test_healthz_is_200_when_the_broker_accepts_work(play: Player) -> None:
    async def script(stage: Stage) -> None:
        answer = await get(stage.url, "/healthz")
        assert (answer.status, answer.body) == (200, "ok\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"

    play(script)


def test_healthz_is_503_with_the_reason_in_one_line(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        monkeypatch.setattr(stage.broker.store, "health", lambda: "the disk is full")
        answer = await get(stage.url, "/healthz")
        assert (answer.status, answer.body) == (503, "the disk is full\n")
        monkeypatch.undo()
        stage.broker.stopping = True
        answer = await get(stage.url, "/healthz")
        assert (answer.status, answer.body) == (503, "the broker is stopping\n")

    play(script)


@pytest.mark.parametrize("path", ["/", "/v2", "/v1/", "/v1/x", "/healthz/", "/%2e", "//v1"])
def test_any_other_path_is_404(play: Player, path: str) -> None:
    async def script(stage: Stage) -> None:
        for headers in ([], upgrade()):
            answer = await get(stage.url, path, headers)
            assert answer.status == 404
            assert "/v1" in answer.body

    play(script)


def test_a_query_is_ignored(play: Player) -> None:
    async def script(stage: Stage) -> None:
        assert (await get(stage.url, "/healthz?x=1")).status == 200
        assert (await get(stage.url, "/v1?x=1", upgrade())).status == 101

    play(script)


def test_v1_without_a_handshake_asks_for_an_upgrade(play: Player) -> None:
    async def script(stage: Stage) -> None:
        assert (await get(stage.url, "/v1")).status == 426

    play(script)


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "get"])
def test_other_methods_are_405_where_there_is_something(play: Player, method: str) -> None:
    async def script(stage: Stage) -> None:
        for path in ("/healthz", "/metrics", "/v1"):
            answer = await get(stage.url, path, upgrade(), method=method)
            assert (answer.status, answer.headers["allow"]) == (405, "GET")
            assert bool(answer.body) is (method != "HEAD")
        assert (await get(stage.url, "/nothing", method=method)).status == 404

    play(script)


def test_a_request_that_never_ends_is_dropped_after_its_time(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.server.OPEN_SECONDS", 0.1)

    async def script(stage: Stage) -> None:
        await raw(stage.url, b"GET /v1 HTTP/1.1\r\nX: ")  # until the broker closes
        await stage.works()

    play(script)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: x\r\n" * 500 + b"\r\n", b"431"),
    ],
    ids=["path", "header", "headers"],
)
def test_a_request_too_long_is_refused(play: Player, request_bytes: bytes, status: bytes) -> None:
    async def script(stage: Stage) -> None:
        assert (await raw(stage.url, request_bytes)).startswith(b"HTTP/1.1 " + status)
        await stage.works()

    play(script)


def test_garbage_is_refused_without_a_traceback(play: Player) -> None:
    async def script(stage: Stage) -> None:
        for request in (b"\x16\x03\x01\x00\n\n", b"POST /v1 HTTP/1.1\r\n\r\n", b"GET\r\n\r\n"):
            got = await raw(stage.url, request)
            assert got == b"" or got.startswith(b"HTTP/1.1 4")
        await stage.works()

    play(script)


# --- metrics ----------------------------------------------------------------------------------


async def metrics(stage: Stage) -> dict[str, float]:
    answer = await get(stage.url, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.body.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_metrics_count_what_happened(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        await peer.subscribe("orders")
        await peer.publish("orders", 1, 2, 3)
        first, second, _ = await peer.deliveries(3)
        await peer.ack(first)
        await peer.ack(second, status="DROP")
        await peer.ask("publish", topic="orders", events=[])
        found = await metrics(stage)
        labels = '{app_id="billing",topic="orders"}'
        expected = {
            "actorbus_up": 1,
            "actorbus_connections": 1,
            "actorbus_connections_opened_total": 1,
            "actorbus_events_published_total": 3,
            "actorbus_events_delivered_total": 3,
            "actorbus_slow_consumers_total": 0,
            'actorbus_refusals_total{code="malformed"}': 1,
            'actorbus_topic_published_total{topic="orders"}': 3,
            'actorbus_topic_waiting_bytes{topic="orders"}': 0,
            f"actorbus_group_delivered_total{labels}": 3,
            f"actorbus_group_redelivered_total{labels}": 0,
            f"actorbus_group_dropped_total{labels}": 1,
            f"actorbus_group_dead_lettered_total{labels}": 0,
            f"actorbus_group_in_flight{labels}": 1,
            f"actorbus_group_instances{labels}": 1,
            f"actorbus_group_delayed{labels}": 0,
        }
        # sorted by the library: labels come in the order that they were declared
        flat = {_sorted_labels(name): value for name, value in found.items()}
        assert {name: flat.get(_sorted_labels(name)) for name in expected} == expected
        assert any(name.startswith("actorbus_info{version=") for name in found)
        assert found["process_open_fds"] > 0
        await peer.close()
        await stage.until(lambda: stage.broker.supervisor.counters.connected == 0)
        assert (await metrics(stage))["actorbus_connections"] == 0

    play(script)


def _sorted_labels(name: str) -> str:
    base, brace, labels = name.partition("{")
    return base + brace + ",".join(sorted(labels.rstrip("}").split(",")))


def test_metrics_are_made_one_at_a_time_off_the_loop(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    under_way: list[int] = []
    text = metrics_module._text

    def noted(sample: metrics_module.Sample) -> str:
        threads.append(threading.current_thread())
        under_way.append(1)
        assert len(under_way) == 1
        made = text(sample)
        under_way.pop()
        return made

    async def script(stage: Stage) -> None:
        monkeypatch.setattr(metrics_module, "_text", noted)
        await asyncio.gather(*(metrics(stage) for _ in range(5)))
        assert len(threads) == 5
        assert threading.main_thread() not in threads

    play(script)


def test_metrics_say_when_the_broker_does_not_take_work(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(stage: Stage) -> None:
        monkeypatch.setattr(stage.broker.store, "health", lambda: "the disk is full")
        assert (await metrics(stage))["actorbus_up"] == 0
        monkeypatch.undo()

    play(script)


# --- origins ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "sent", "status"),
    [
        ((), [], 101),
        ((), ["https://a.example"], 403),
        ((), ["null"], 403),
        (("https://a.example",), ["https://a.example"], 101),
        (("https://a.example",), ["https://b.example"], 403),
        (("https://a.example",), ["https://a.example", "https://b.example"], 403),
        (("https://a.example",), [], 101),
        (("*",), ["https://b.example"], 101),
    ],
)
def test_a_foreign_origin_is_403(
    play: Player, allowed: tuple[str, ...], sent: list[str], status: int
) -> None:
    async def script(stage: Stage) -> None:
        headers = [*upgrade(), *(("Origin", origin) for origin in sent)]
        assert (await get(stage.url, "/v1", headers)).status == status

    play(script, origins=allowed)


@pytest.mark.parametrize(
    "origin",
    ["", "a.example", "https://a.example/", "https://A.example", "https://a.example/x", "https://"],
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(OriginError, match="--origin") as refused:
        Broker(Config(port=0, store="memory:", origins=("https://b.example", origin)))
    assert "\n" not in refused.value.message


def test_origins_as_browsers_send_them_are_taken() -> None:
    origins = ("*", "null", "https://a.example", "http://localhost:3000", "http://[::1]:80")
    assert check_origins([*origins, "chrome-extension://abc"]) >= set(origins)


# --- subprotocols -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["actorbus.v1.json"], "actorbus.v1.json"),
        (["actorbus.v1.msgpack"], "actorbus.v1.msgpack"),
        (["mqtt", "actorbus.v1.msgpack"], "actorbus.v1.msgpack"),
        (["actorbus.v1.json", "actorbus.v1.msgpack"], "actorbus.v1.json"),
    ],
)
def test_a_known_subprotocol_is_chosen(
    play: Player, offered: list[str], chosen: str | None
) -> None:
    async def script(stage: Stage) -> None:
        encoding = "json" if chosen is None else "msgpack"
        if chosen == "actorbus.v1.json":
            encoding = "json"
        peer = await stage.open(encoding=encoding, subprotocols=offered)  # type: ignore[arg-type]  # one of the two
        assert peer.socket.subprotocol == chosen
        await peer.hello("billing")

    play(script)


@pytest.mark.parametrize("offered", [["mqtt"], ["actorbus.v2.json", "actorbus"]])
def test_only_unknown_subprotocols_are_400(play: Player, offered: list[str]) -> None:
    async def script(stage: Stage) -> None:
        with pytest.raises(InvalidStatus) as refused:
            await stage.open(subprotocols=offered)
        assert refused.value.response.status_code == 400

    play(script)


def test_pings_are_answered(play: Player) -> None:
    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        async with asyncio.timeout(5):
            await (await peer.socket.ping())

    play(script)


def test_a_failure_of_ours_is_500_and_logged(play: Player, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_broker: object) -> str:
        raise RuntimeError("broken")

    async def script(stage: Stage) -> None:
        monkeypatch.setattr("transport.server.render", fail)
        assert (await get(stage.url, "/metrics")).status == 500
        await stage.works()

    with pytest.raises(AssertionError, match="request failed"):
        play(script)


def test_a_failing_session_closes_with_1011_and_is_logged(
    play: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of every test that finds no traceback in the log."""

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    async def script(stage: Stage) -> None:
        peer = await stage.app("billing")
        with monkeypatch.context() as patch:
            patch.setattr("transport.session.frames.parse", fail)
            await peer.send("drain")
            with pytest.raises(ConnectionClosed):
                await peer.socket.recv()
        assert peer.socket.close_code == 1011
        await stage.works()

    with pytest.raises(AssertionError, match="session failed"):
        play(script)


def test_compression_is_not_negotiated(play: Player) -> None:
    async def script(stage: Stage) -> None:
        async with connect(stage.url) as socket:
            assert socket.protocol.extensions == []

    play(script)
