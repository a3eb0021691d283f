"""The handler form."""

import asyncio

import pytest
import structlog

from actorbus import ConnectionLostError, Delivery, RefusedError, connect
from tests.actorbus.client.fake_broker import FakeBroker, Peer, connected, run


async def settlings(peer: Peer, count: int) -> dict[int, str]:
    """Delivery ids and their status, from as many frames as they come in."""
    settled: dict[int, str] = {}
    while len(settled) < count:
        frame = await peer.expect("ack")
        assert "delay_ms" not in frame
        settled |= dict.fromkeys(frame["ids"], frame.get("status", "SUCCESS"))
    return settled


def test_a_handler_that_returns_acknowledges_and_one_that_fails_sends_back() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):

            @bus.on("t", ack_wait=9)
            async def handler(delivery: Delivery) -> None:
                if delivery.data == "bad":
                    raise ValueError

            assert (await peer.subscribed())["options"] == {"ack_wait_ms": 9000}
            with structlog.testing.capture_logs() as logs:
                ids = await peer.deliver("t", "good", "bad", "good")
                settled = await settlings(peer, 3)
            assert settled == {ids[0]: "SUCCESS", ids[1]: "RETRY", ids[2]: "SUCCESS"}
            assert [(log["event"], log["event_id"], log["attempt"]) for log in logs] == [
                ("handler_failed", f"e{ids[1]}", 1)
            ]

    run(test())


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), TimeoutError(), ExceptionGroup("all", [ValueError()])]
)
def test_a_handler_goes_on_after_an_error_of_any_kind(error: BaseException) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):

            @bus.on("t")
            async def handler(delivery: Delivery) -> None:
                if delivery.data == "bad":
                    raise error

            await peer.subscribed()
            with structlog.testing.capture_logs() as logs:
                ids = await peer.deliver("t", "bad", "good")
                settled = await settlings(peer, 2)
            assert settled == {ids[0]: "RETRY", ids[1]: "SUCCESS"}
            assert [log["event"] for log in logs] == ["handler_failed"]

    run(test())


def test_what_a_handler_settles_itself_stays_as_it_is() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):

            @bus.on("t")
            async def handler(delivery: Delivery) -> None:
                await delivery.drop("no use")

            await peer.subscribed()
            await peer.deliver("t", 1)
            assert (await peer.expect("ack"))["status"] == "DROP"
            await bus.flow(1)
            await peer.expect("flow")
            assert [f["type"] for f in peer.seen].count("ack") == 1

    run(test())


def test_as_many_events_are_handled_at_a_time_as_asked_for() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            running: list[Delivery] = []
            go_on = asyncio.Event()
            two = asyncio.Event()

            @bus.on("t", concurrency=2)
            async def handler(delivery: Delivery) -> None:
                running.append(delivery)
                if len(running) == 2:
                    two.set()
                await go_on.wait()

            await peer.subscribed()
            ids = await peer.deliver("t", 1, 2, 3)
            await two.wait()
            assert [d.data for d in running] == [1, 2]
            go_on.set()
            acked: list[int] = []
            while len(acked) < 3:
                acked += (await peer.acked())["ids"]
            assert sorted(acked) == ids

    run(test())


def test_a_handler_registered_before_the_bus_opens_runs_once_it_does() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            bus = connect(broker.url, app_id="app", close_timeout=0.3)
            seen: list[object] = []

            @bus.on("t")
            async def handler(delivery: Delivery) -> None:
                seen.append(delivery.data)

            async def greet() -> Peer:
                peer = await broker.greeted()
                await peer.subscribed()
                return peer

            greeting = asyncio.ensure_future(greet())
            async with bus:
                assert greeting.done()  # entering has waited until the group exists
                peer = await greeting
                await peer.deliver("t", 1)
                await peer.expect("ack")
            assert seen == [1]

    run(test())


def test_closing_lets_handlers_end_and_cuts_off_those_that_take_too_long() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker, close_timeout=0.2) as (bus, peer):
            both = asyncio.Barrier(2)

            @bus.on("t", concurrency=2)
            async def handler(delivery: Delivery) -> None:
                await both.wait()
                if delivery.data == "slow":
                    await asyncio.Event().wait()

            await peer.subscribed()
            ids = await peer.deliver("t", "quick", "slow")
            assert (await peer.expect("ack"))["ids"] == ids[:1]
            closing = asyncio.ensure_future(bus.close())
            cut_off = await peer.acked()
            assert (cut_off["ids"], cut_off["status"]) == (ids[1:], "RETRY")
            await closing

    run(test())


def test_a_refused_subscription_of_a_handler_ends_the_bus() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):

            @bus.on("t")
            async def handler(delivery: Delivery) -> None: ...

            await peer.refuse("subscribe", "forbidden")
            with pytest.raises(RefusedError, match="forbidden"):
                await bus.wait_closed()

    run(test())


def test_a_handler_whose_subscription_is_refused_keeps_the_bus_from_opening() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            bus = connect(broker.url, app_id="app", close_timeout=0.3)

            @bus.on("t")
            async def handler(delivery: Delivery) -> None: ...

            entering = asyncio.ensure_future(bus.__aenter__())
            peer = await broker.greeted()
            await peer.refuse("subscribe", "invalid_option")
            with pytest.raises(RefusedError, match="invalid_option"):
                await entering
            await peer.closed()

    run(test())


def test_a_bus_whose_opening_is_cancelled_is_closed() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            bus = connect(broker.url, app_id="app", close_timeout=0.1)

            @bus.on("t")
            async def handler(delivery: Delivery) -> None: ...

            entering = asyncio.ensure_future(bus.__aenter__())
            peer = await broker.greeted()
            await peer.expect("subscribe")
            entering.cancel()
            await peer.closed()
            await asyncio.wait([entering])
            assert entering.cancelled()

    run(test())


def test_a_handler_that_is_no_coroutine_function_ends_the_bus_and_its_event_goes_back() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            bus.on("t")(lambda _: None)  # type: ignore[type-var]  # the mistake
            await peer.subscribed()
            ids = await peer.deliver("t", 1)
            frame = await peer.acked()
            assert (frame["ids"], frame["status"]) == (ids, "RETRY")
            with pytest.raises(RefusedError, match=r"the handler of t must be a coroutine"):
                await bus.wait_closed()

    run(test())


def test_the_log_of_a_failed_handler_shows_the_traceback_without_the_payload(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):

            @bus.on("t")
            async def handler(delivery: Delivery) -> None:
                secret = delivery.data
                raise ValueError(len(secret))

            await peer.subscribed()
            await peer.deliver("t", "s3cret")
            await peer.expect("ack")

    structlog.reset_defaults()  # as in an app that has configured nothing
    run(test())
    log = capsys.readouterr().out
    assert "raise ValueError(len(secret))" in log
    assert "ValueError: 6" in log
    assert "s3cret" not in log


def test_a_closed_bus_takes_no_handlers() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            async with connected(broker) as (bus, _):
                pass

            async def handler(delivery: Delivery) -> None: ...

            with pytest.raises(ConnectionLostError, match="has closed"):
                bus.on("t")(handler)

    run(test())


def test_a_topic_has_one_handler() -> None:
    bus = connect(app_id="app")

    async def handler(delivery: Delivery) -> None: ...

    bus.on("t")(handler)
    with pytest.raises(RefusedError, match="in_use: t has a handler already"):
        bus.on("t")(handler)


def test_a_wrong_registration_is_refused_at_once() -> None:
    bus = connect(app_id="app")
    for concurrency in (0, 65536, True, 1.5):
        with pytest.raises(RefusedError, match="concurrency must be 1 to 65535"):
            bus.on("t", concurrency=concurrency)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(RefusedError, match="invalid_name"):
        bus.on("no topic")
    with pytest.raises(RefusedError, match="invalid_option"):
        bus.on("t", ack_wait=0)
