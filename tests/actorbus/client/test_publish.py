"""Publishing, against a broker that says what the test tells it to."""

import asyncio
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from actorbus import (
    Bus,
    ConnectionLostError,
    InvalidEventError,
    PartlyPublishedError,
    RefusedError,
    UnavailableError,
)
from actorbus.client.publish_room import PublishRoom
from actorbus.client.publisher import FULL_EVENTS, Publisher
from actorbus.frame_types import Limits
from actorbus.limits import BATCH_EVENTS, EVENT_BYTES, FRAME_BYTES, PUBLISH_BYTES
from tests.actorbus.client.fake_broker import FakeBroker, Peer, connected, run, turns, until


def data_of(frame: dict[str, Any]) -> list[Any]:
    return [event["data"] for event in frame["events"]]


def ids_of(frame: dict[str, Any]) -> list[str]:
    return [event["id"] for event in frame["events"]]


def test_concurrent_publishes_share_a_frame() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            calls = asyncio.gather(*(bus.publish("t", n) for n in range(10)))
            frame = await peer.published()
            assert data_of(frame) == list(range(10))
            assert await calls == ids_of(frame)

    run(test())


def test_a_publish_returns_only_once_the_broker_has_answered() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.publish("t", 1))
            frame = await peer.expect("publish")
            await turns()
            assert not call.done()
            await peer.send(
                {"type": "published", "ref": frame["ref"], "ids": ids_of(frame), "groups": 0}
            )
            assert [await call] == ids_of(frame)

    run(test())


def test_publishes_to_one_topic_keep_their_order_when_their_ttl_differs() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            calls = asyncio.gather(
                bus.publish("t", 1),
                bus.publish("t", 2, ttl=1.5),
                bus.publish("t", 3),
                bus.publish("other", 4),
            )
            frames = [await peer.published() for _ in range(4)]
            await calls
            assert [(f["topic"], f.get("ttl_ms"), data_of(f)) for f in frames] == [
                ("t", None, [1]),
                ("t", 1500, [2]),
                ("t", None, [3]),
                ("other", None, [4]),
            ]

    run(test())


def test_no_frame_has_more_events_than_the_broker_takes() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            broker.limits["batch_events"] = 3
            async with connected(broker) as (bus, peer):
                calls = asyncio.gather(
                    bus.publish_many("t", range(7)), *(bus.publish("t", n) for n in range(7, 9))
                )
                frames = [await peer.published() for _ in range(3)]
                await calls
                assert [data_of(f) for f in frames] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]

    run(test())


def test_large_events_are_split_over_frames() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.publish_many("t", ["x" * 200_000] * 3))
            frames = [await peer.published() for _ in range(3)]
            assert await call == [i for f in frames for i in ids_of(f)]

    run(test())


def test_a_refused_frame_fails_each_of_its_calls_with_the_code() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            calls = asyncio.gather(*(bus.publish("t", n) for n in range(2)), return_exceptions=True)
            await peer.refuse("publish", "forbidden")
            errors = await calls
            assert [str(e) for e in errors] == ["forbidden: because"] * 2
            assert errors[0] is not errors[1]

    run(test())


def test_a_refused_event_fails_its_own_call_only() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            calls = asyncio.gather(
                bus.publish("t", 1),
                bus.publish("t", 2),
                bus.publish_many("t", [3, 4, 5]),
                return_exceptions=True,
            )
            wrong = [
                {"index": index, "code": "invalid_event", "message": f"number {index}"}
                for index in (1, 3)
            ]
            frame = await peer.published(errors=wrong)
            one, two, many = await calls
            assert one == ids_of(frame)[0]
            assert isinstance(two, InvalidEventError)
            assert str(two) == "invalid_event: number 1"
            assert isinstance(many, PartlyPublishedError)
            assert many.ids == [ids_of(frame)[2], None, ids_of(frame)[4]]
            assert many.errors == ((1, "invalid_event", "number 3"),)

    run(test())


def test_a_retryable_error_is_published_again_with_the_same_ids() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.publish_many("t", [1, 2]))
            first = await peer.refuse("publish", "overloaded", retryable=True)
            second = await peer.published()
            assert second["events"] == first["events"]
            assert await call == ids_of(first)

    run(test())


def test_unanswered_publishes_go_first_after_a_reconnect_with_the_same_ids() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            calls = [asyncio.ensure_future(bus.publish("t", 1))]
            first = await peer.expect("publish")
            calls.append(asyncio.ensure_future(bus.publish("t", 2)))
            second = await peer.expect("publish")
            await told_to_go(bus, peer)
            calls.append(asyncio.ensure_future(bus.publish("t", 3)))  # waits in the queue
            await turns()
            peer.cut()
            after = await broker.greeted()
            again = [await after.published() for _ in range(3)]
            assert again[0]["events"] == first["events"]
            assert again[1]["events"] == second["events"]
            assert [data_of(f) for f in again] == [[1], [2], [3]]
            await asyncio.gather(*calls)

    run(test())


def test_a_publish_without_an_answer_fails_after_its_timeout() -> None:
    async def test() -> None:
        async with (
            FakeBroker() as broker,
            connected(broker, publish_timeout=0.2) as (bus, peer),
        ):
            with pytest.raises(UnavailableError, match=r"within 0\.2 s") as caught:
                await bus.publish("t", 1)
            assert caught.value.code == "timeout"
            await peer.expect("publish")

    run(test())


def test_a_publish_that_is_refused_until_its_deadline_fails_with_the_brokers_last_reason() -> None:
    async def test() -> None:
        async with (
            FakeBroker() as broker,
            connected(broker, publish_timeout=0.3) as (bus, peer),
        ):
            calls = [asyncio.ensure_future(bus.publish("t", n)) for n in range(2)]
            await peer.refuse("publish", "overloaded", retryable=True)
            await peer.refuse("publish", "store_unavailable", retryable=True)
            for call in calls:
                with pytest.raises(UnavailableError, match=r"because \(refused 2 times") as it:
                    await call
                assert it.value.code == "store_unavailable"
            assert bus._opened().publisher._room.used == 0

    run(test())


def test_an_answer_that_names_no_event_of_its_publish_costs_the_connection_only() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.publish("t", 1))
            wrong = {"code": "too_large", "message": "big"}
            first = await peer.published(errors=[{"index": -1, **wrong}])
            second = await (await broker.greeted()).published(errors=[{"index": 5, **wrong}])
            third = await (await broker.greeted()).published()
            assert first["events"] == second["events"] == third["events"]
            assert [await call] == ids_of(first)

    run(test())


def test_a_publish_fails_after_its_timeout_while_there_is_no_broker() -> None:
    async def test() -> None:
        async with (
            FakeBroker() as broker,
            connected(broker, publish_timeout=0.2) as (bus, _),
        ):
            await broker.stop()
            with pytest.raises(UnavailableError):
                await bus.publish("t", 1)

    run(test())


def test_publishes_over_the_brokers_budget_wait_in_line() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            broker.limits["publish_bytes"] = 2000
            async with connected(broker) as (bus, peer):
                calls = [
                    asyncio.ensure_future(bus.publish("t", str(n) + "x" * 600)) for n in range(4)
                ]
                first = await peer.expect("publish")
                await turns()
                assert len(first["events"]) == 2  # the second one reaches half of the budget
                await peer.send(
                    {"type": "published", "ref": first["ref"], "ids": ids_of(first), "groups": 0}
                )
                second = await peer.published()
                assert [d[0] for d in data_of(first) + data_of(second)] == ["0", "1", "2", "3"]
                await asyncio.gather(*calls)

    run(test())


def test_who_is_cancelled_as_it_gets_room_gives_it_back() -> None:
    async def test() -> None:
        room = PublishRoom(100)
        assert room.take(100)
        waiting = asyncio.ensure_future(room.wait(10, 5))
        await turns()
        room.give_back(100)
        assert room.used == 10
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (waiting.cancelled(), room.used) == (True, 0)

    run(test())


def test_who_leaves_the_line_for_room_is_passed_over() -> None:
    async def test() -> None:
        room = PublishRoom(100)
        assert room.take(100)
        leaver, stayer = (asyncio.ensure_future(room.wait(10, 5)) for _ in range(2))
        await turns()
        leaver.cancel()
        room.give_back(100)
        await stayer
        assert room.used == 10

    run(test())


def test_no_room_within_the_timeout_is_an_error_that_says_so() -> None:
    async def test() -> None:
        room = PublishRoom(100)
        assert room.take(100)
        with pytest.raises(UnavailableError, match="100 bytes are unanswered"):
            await room.wait(10, 0.01)
        room.give_back(100)
        assert room.used == 0

    run(test())


def test_data_that_cannot_be_encoded_is_refused_here_and_nothing_is_sent() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            for wrong in (object(), {1: 2}, float("nan"), "\ud800", {"a": b"b"}, 2**64):
                with pytest.raises(InvalidEventError):
                    await bus.publish("t", wrong)
                with pytest.raises(InvalidEventError):
                    await bus.publish_many("t", [1, wrong])
            call = asyncio.ensure_future(bus.publish("t", "last"))
            assert data_of(await peer.published()) == ["last"]
            await call

    run(test())


def test_an_event_that_fits_into_no_frame_is_refused_here() -> None:
    async def test() -> None:
        async with FakeBroker() as broker:
            broker.limits["frame_bytes"] = 5000
            async with connected(broker) as (bus, _):
                with pytest.raises(InvalidEventError) as caught:
                    await bus.publish("t", "x" * 5000)
                assert caught.value.code == "too_large"

    run(test())


def test_a_call_cancelled_before_its_frame_is_formed_is_not_published() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(bus.publish("gone", 1))
            await asyncio.sleep(0)
            call.cancel()
            kept = asyncio.ensure_future(bus.publish("t", 2))
            assert (await peer.published())["topic"] == "t"
            await kept
            assert bus._opened().publisher._room.used == 0

    run(test())


def test_closing_waits_for_unanswered_publishes() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker, close_timeout=5) as (bus, peer):
            call = asyncio.ensure_future(bus.publish("t", 1))
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(bus.close())
            await peer.published()
            await call
            await closing

    run(test())


def test_a_closed_bus_takes_no_publishes() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            late = asyncio.ensure_future(bus.publish("t", 1))
            await peer.expect("publish")
            await bus.close()
            for call in (late, bus.publish("t", 2), bus.publish_many("t", [3])):
                with pytest.raises(ConnectionLostError, match="closed"):
                    await call

    run(test())


async def told_to_go(bus: Bus, peer: Peer) -> None:
    """Send `goaway`, and wait until the client has taken it."""
    await peer.send({"type": "goaway", "reason": "restart", "reconnect_after_ms": 1})
    link = bus._opened().link
    assert link is not None
    await until(lambda: link.goaway)


def test_after_goaway_publishes_wait_for_the_next_connection() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            await told_to_go(bus, peer)
            call = asyncio.ensure_future(bus.publish("t", 1))
            for window in (8, 9):  # two, so that publishes had their turn in between
                await bus.flow(window)
                await peer.expect("flow")
            assert [f for f in peer.seen if f["type"] == "publish"] == []
            await peer.socket.close(1001)
            await (await broker.greeted()).published()
            await call

    run(test())


def test_attributes_travel_with_the_data() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            call = asyncio.ensure_future(
                bus.publish("t", {"n": 1}, attributes={"id": "mine", "subject": "s"})
            )
            frame = await peer.published()
            assert frame["events"] == [{"id": "mine", "subject": "s", "data": {"n": 1}}]
            assert await call == "mine"

    run(test())


def test_a_cloudevent_of_the_package_is_passed_on_whole() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, peer):
            event = CloudEvent(
                {"id": "1", "source": "s", "type": "ty", "specversion": "1.0", "extra": "x"}, b"raw"
            )
            call = asyncio.ensure_future(bus.publish("t", event=event))
            (sent,) = (await peer.published())["events"]
            assert await call == "1"
            assert sent == {
                "id": "1",
                "source": "s",
                "type": "ty",
                "specversion": "1.0",
                "extra": "x",
                "time": event.get_attributes()["time"].isoformat(),
                "data": b"raw",
            }

    run(test())


@pytest.mark.parametrize(
    "arguments",
    [
        {"event": {"id": "1"}},
        {"event": 5},
        {"data": 1, "event": {"specversion": "1.0"}},
        {"attributes": {"data": 1}},
        {"attributes": {"id": ""}},
        {"ttl": 0},
        {"ttl": "1"},
        {"ttl": float("nan")},
    ],
)
def test_a_call_that_makes_no_sense_is_refused_here(arguments: dict[str, Any]) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            with pytest.raises(RefusedError):
                await bus.publish("t", **arguments)

    run(test())


@pytest.mark.parametrize("data", ["text", b"bytes", {"one": "event"}])
def test_one_event_is_not_many(data: Any) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            with pytest.raises(RefusedError, match="the data of several events"):
                await bus.publish_many("t", data)

    run(test())


@pytest.mark.parametrize("topic", ["amq.x", "", None, ["t"]])
def test_a_topic_that_is_no_name_is_refused_here(topic: Any) -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            with pytest.raises(RefusedError, match="invalid_name"):
                await bus.publish(topic, 1)
            assert bus._opened().publisher._room.used == 0

    run(test())


def test_publishing_no_events_is_no_frame() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker) as (bus, _):
            assert await bus.publish_many("t", []) == []

    run(test())


def test_bytes_travel_in_both_encodings() -> None:
    async def test() -> None:
        async with FakeBroker() as broker, connected(broker, encoding="json") as (bus, peer):
            call = asyncio.ensure_future(bus.publish("t", b"raw"))
            (sent,) = (await peer.published())["events"]
            assert sent["data_base64"] == "cmF3"
            await call

    run(test())


def test_what_is_published_while_nothing_can_be_written_shares_one_frame() -> None:
    async def test() -> None:
        numbers = iter(range(10))
        publisher = Publisher(lambda *frame: frame[2], 10.0, numbers.__next__)
        limits = Limits(FRAME_BYTES, EVENT_BYTES, BATCH_EVENTS, PUBLISH_BYTES, 120, 10, 10)
        publisher.connected(lambda: None, lambda: None, limits)
        waiters = [publisher.publish("t", None, b"x") for _ in range(3 * FULL_EVENTS)]
        assert [len(events) for events in publisher.frames()] == [3 * FULL_EVENTS]
        publisher.published(0, ())
        await asyncio.gather(*waiters)

    run(test())
