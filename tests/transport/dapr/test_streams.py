"""Streaming subscriptions over real sockets."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.transport.dapr.grpc_kit import (
    DROP,
    RETRY,
    SUCCESS,
    WINDOW_OF_NONE,
    Stage,
    Stream,
    play,
)
from transport.dapr import streams
from transport.dapr.settling import Retries

UNKNOWN = grpc.StatusCode.UNKNOWN
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def no_event(stream: Stream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(WINDOW_OF_NONE):
            await asyncio.shield(asyncio.ensure_future(stream.call.read()))


async def backlog(stage: Stage, app_id: str = "shop", topic: str = "orders") -> int | None:
    (found,) = await (await stage.app("observer")).inspect(topic)
    (group,) = [one for one in found.groups if one.app_id == app_id]
    return group.backlog


async def until_settled(stage: Stage, topic: str = "orders", left: int = 0) -> None:
    bus = await stage.app("observer")
    async with asyncio.timeout(5):
        while True:
            (found,) = await bus.inspect(topic)
            (group,) = [one for one in found.groups if one.app_id == "shop"]
            if group.backlog == left:
                return


# --- the sequence ---------------------------------------------------------------------------------


def test_an_event_is_delivered_and_settled() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stage.publish(b"hello")
        event = await stream.event()
        assert (event.data, event.topic, event.pubsub_name) == (b"hello", "orders", "pubsub")
        assert event.path == "/"
        await stream.answer(event.id)
        await until_settled(stage)

    play(script)


def test_events_come_in_the_order_of_publishing() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        bus = await stage.app("producer")
        for number in range(300):
            await bus.publish("orders", number)
        for number in range(300):
            event = await stream.event()
            assert event.data == str(number).encode()
            await stream.answer(event.id)
        await until_settled(stage)

    play(script)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"component": ""}, "pubsubName is required"),
        ({"topic": ""}, "topic is required"),
    ],
)
def test_an_initial_request_without_names_is_refused(fields: dict[str, Any], reason: str) -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.call()
        await stream.initial(**fields)
        assert await stream.ended() == (UNKNOWN, reason)

    play(script)


def test_a_stream_that_begins_with_something_else_is_refused() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.call()
        await stream.answer("e1")
        assert await stream.ended() == (UNKNOWN, "initial request is required")

    play(script)


def test_a_stream_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transport.dapr.grpc_api.INITIAL_SECONDS", 0.05)

    async def script(stage: Stage) -> None:
        stream = await stage.call()
        assert await stream.ended() == (UNKNOWN, "initial request is required")

    play(script)


def test_a_second_initial_request_ends_the_stream() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stream.initial()
        assert await stream.ended() == (UNKNOWN, "duplicate initial request received")

    play(script)


def test_a_stream_whose_other_side_ends_is_ended_so_that_sdks_try_again() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stream.call.done_writing()
        assert await stream.ended() == (UNKNOWN, "EOF")

    play(script)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"component": "nothing"}, "nothing"),
        ({"topic": "no topic"}, "no topic"),
        ({"dead_letter_topic": "orders"}, "orders"),
        ({"metadata": {"rawPayload": "perhaps"}}, "rawPayload"),
        ({"metadata": {"ackWaitSeconds": "soon"}}, "ackWaitSeconds"),
        ({"metadata": {"ackWaitSeconds": "0.01"}}, "ack_wait"),
        ({"metadata": {"ackWaitSeconds": "nan"}}, "ack_wait"),
        ({"metadata": {"ackWaitSeconds": "inf"}}, "ack_wait"),
    ],
)
def test_a_wrong_subscription_is_refused_for_good(fields: dict[str, Any], reason: str) -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.call()
        await stream.initial(**fields)
        code, text = await stream.ended()
        assert code == INVALID
        assert reason in text

    play(script)


def test_an_unknown_id_changes_nothing() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stream.answer("unknown")
        await stage.publish(b"x")
        event = await stream.event()
        await stream.answer(event.id)
        await stream.answer(event.id)
        await until_settled(stage)

    play(script)


def test_two_events_of_one_id_are_delivered_one_after_the_other() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        for data in (b"first", b"second"):
            await stage.publish(data, metadata={"cloudevent.id": "same"})
        assert (await stream.event()).data == b"first"
        await stage.publish(b"other")
        assert (await stream.event()).data == b"other"
        await stream.answer("same", DROP)
        second = await stream.event()
        assert (second.id, second.data) == ("same", b"second")

    play(script)


# --- answers --------------------------------------------------------------------------------------


def test_retry_delivers_again() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stage.publish(b"x")
        event = await stream.event()
        await stream.answer(event.id, RETRY)
        again = await stream.event()
        assert again.id == event.id
        await stream.answer(again.id)
        await until_settled(stage)

    play(script)


def test_as_many_acknowledgements_as_events_in_flight_are_passed_on_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "ACK_SECONDS", 600)
    passed_on: list[int] = []
    original = streams.Stream._flush

    async def flush(self: streams.Stream) -> None:
        passed_on.append(len(self._done))
        await original(self)

    monkeypatch.setattr(streams.Stream, "_flush", flush)

    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await (await stage.app("producer")).publish_many("orders", range(5))
        for event in (await stream.events(5))[:3]:
            await stream.answer(event.id)
        await until_settled(stage, left=2)
        assert passed_on == [3]

    play(script)


def test_an_acknowledgement_that_waits_for_others_is_passed_on_in_time() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await (await stage.app("producer")).publish_many("orders", range(5))
        await stream.answer((await stream.events(5))[0].id)
        await until_settled(stage, left=4)

    play(script)


def test_an_acknowledgement_that_waits_for_others_is_passed_on_when_the_stream_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "ACK_SECONDS", 600)

    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await (await stage.app("producer")).publish_many("orders", range(4))
        await stream.answer((await stream.events(4))[0].id)
        await stream.call.done_writing()
        await stream.ended()
        again = await stage.stream()
        assert sorted([event.data for event in await again.events(3)]) == [b"1", b"2", b"3"]
        await no_event(again)

    play(script)


def test_an_unknown_status_delivers_again() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stage.publish(b"x")
        event = await stream.event()
        await stream.answer(event.id, 7)
        assert (await stream.event()).id == event.id

    play(script)


@pytest.mark.parametrize("status", [RETRY, DROP])
def test_the_first_failure_goes_to_the_dead_letter_topic_where_one_is_set(status: int) -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(dead_letter_topic="dead")
        dead = await stage.stream("dead")
        await stage.publish(b"x")
        event = await stream.event()
        await stream.answer(event.id, status)
        letter = await dead.event()
        assert (letter.id, letter.data, letter.topic) == (event.id, b"x", "dead")
        assert letter.extensions["topic"] == "orders"
        assert letter.extensions["deadlettertopic"] == "orders"
        await until_settled(stage)

    play(script)


def test_a_retry_policy_delivers_again_before_the_dead_letter_topic() -> None:
    retries = Retries(attempts=3, backoff=0.01, max_backoff=0.01)

    async def script(stage: Stage) -> None:
        stream = await stage.stream(dead_letter_topic="dead")
        dead = await stage.stream("dead")
        await stage.publish(b"x")
        for _ in range(3):
            await stream.answer((await stream.event()).id, RETRY)
        letter = await dead.event()
        assert letter.extensions["deadletterattempts"] == 3
        await no_event(stream)

    play(script, retries=retries)


def test_drop_without_a_dead_letter_topic_settles() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(dead_letter_topic="")
        await stage.publish(b"x")
        await stream.answer((await stream.event()).id, DROP)
        await until_settled(stage)
        await no_event(stream)

    play(script)


def test_an_event_too_large_for_the_sdks_is_a_failure_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "EVENT_BYTES", 10_000)

    async def script(stage: Stage) -> None:
        stream = await stage.stream(dead_letter_topic="dead")
        await stage.publish(b"x" * 10_000)
        await stage.publish(b"small")
        assert (await stream.event()).data == b"small"
        dead = await stage.app("shop")
        async with dead.subscribe("dead") as letters:
            assert (await anext(letters)).data == "x" * 10_000

    play(script)


# --- deadlines ------------------------------------------------------------------------------------


def test_an_event_without_an_answer_comes_again_after_its_deadline() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(metadata={"ackWaitSeconds": "0.3"})
        await stage.publish(b"x")
        event = await stream.event()
        again = await stream.event()
        assert again.id == event.id
        await stream.answer(again.id)
        await until_settled(stage)

    play(script)


def test_a_serial_handler_has_the_whole_time_for_each_event() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(metadata={"ackWaitSeconds": "0.5"})
        bus = await stage.app("producer")
        await bus.publish_many("orders", range(8))
        seen = []
        for event in await stream.events(8):  # all are sent at once, as to an SDK's buffer
            await asyncio.sleep(0.25)  # the handler's work: 2 s in all
            seen.append(event.data)
            await stream.answer(event.id)
        assert seen == [str(number).encode() for number in range(8)]
        await until_settled(stage)
        (found,) = await bus.inspect("orders")
        assert found.groups[0].redelivered == 0

    play(script)


# --- several streams, and streams that end --------------------------------------------------------


def test_streams_of_one_app_compete_and_another_app_gets_all() -> None:
    async def script(stage: Stage) -> None:
        first, second = await stage.stream(), await stage.stream()
        other = await stage.app("billing")
        async with other.subscribe("orders") as deliveries:
            await (await stage.app("producer")).publish_many("orders", range(40))
            got = [await first.events(20), await second.events(20)]
            numbers = sorted(int(event.data) for events in got for event in events)
            assert numbers == list(range(40))
            assert [(await anext(deliveries)).data for _ in range(40)] == list(range(40))

    play(script)


def test_a_closed_stream_keeps_its_group() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        stream.call.cancel()
        await stream.ended()
        await stage.publish(b"meanwhile")
        again = await stage.stream()
        assert (await again.event()).data == b"meanwhile"

    play(script)


def test_what_a_broken_stream_held_comes_again_the_oldest_after_a_pause() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await (await stage.app("producer")).publish_many("orders", range(4))
        held = await stream.events(4)
        await stream.answer(held[0].id)
        await until_settled(stage, left=3)
        stream.call.cancel()
        again = await stage.stream()
        events = await again.events(3)
        assert [event.data for event in events] == [b"2", b"3", b"1"]

    play(script)


def test_streams_that_break_in_a_row_wait_before_their_first_event() -> None:
    async def script(stage: Stage) -> None:
        first = await stage.stream()
        first.call.cancel()
        clock = asyncio.get_running_loop().time
        began = clock()
        await (await stage.app("producer")).publish_many("orders", range(30))
        for _ in range(5):
            stream = await stage.stream()
            await stream.event()
            stream.call.cancel()
            await stream.ended()
        # without the pause five streams take some hundredths of a second: 0.25 + 0.5 + 1
        assert clock() - began > 1.7

    play(script)


def test_a_broken_stream_is_no_failure_that_dead_letters() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(dead_letter_topic="dead")
        await stage.publish(b"x")
        await stream.event()
        stream.call.cancel()
        again = await stage.stream(dead_letter_topic="dead")
        assert (await again.event()).data == b"x"
        assert await backlog(stage, topic="dead") == 0

    play(script)


def test_an_orderly_stop_ends_streams_with_unavailable() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        stop = asyncio.ensure_future(stage.server.stop())
        assert (await stream.ended())[0] == UNAVAILABLE
        await stop

    play(script)


def test_an_orderly_stop_takes_acknowledgements_and_delivers_nothing_new() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stage.publish(b"x")
        event = await stream.event()
        stop = asyncio.ensure_future(stage.server.stop())
        for _ in range(3):  # round trips, in which the stop has begun
            await stage.publish(b"new")
        await stream.answer(event.id)
        assert (await stream.ended())[0] == UNAVAILABLE
        await stop
        assert await backlog(stage) == 3

    play(script)


def test_an_orderly_stop_does_not_wait_for_apps_that_do_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "STOP_SECONDS", 0.1)

    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await stage.publish(b"x")
        await stream.event()
        stop = asyncio.ensure_future(stage.server.stop())
        assert (await stream.ended())[0] == UNAVAILABLE
        await stop
        assert await backlog(stage) == 1

    play(script)


def test_more_streams_than_allowed_are_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS", 1)

    async def script(stage: Stage) -> None:
        await stage.stream()
        second = await stage.call()
        await second.initial()
        assert (await second.ended())[0] == UNAVAILABLE

    play(script)


# --- what events carry ----------------------------------------------------------------------------


def test_a_raw_subscription_gets_bytes_with_an_id_that_can_be_answered() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream(metadata={"rawPayload": "true"})
        await stage.publish(b"\x00\xff", metadata={"rawPayload": "true"})
        event = await stream.event()
        assert (event.data, event.data_content_type) == (b"\x00\xff", "application/octet-stream")
        await stream.answer(event.id, SUCCESS)
        await until_settled(stage)

    play(script)


def test_the_publishers_trace_travels_in_the_extensions() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        sent = (("traceparent", parent), ("tracestate", "a=b"))
        await stage.publish(b"x", call_metadata=sent)
        extensions = (await stream.event()).extensions
        assert extensions["traceparent"] == extensions["traceid"] == parent
        assert extensions["tracestate"] == "a=b"

    play(script)


def test_a_websocket_apps_event_has_the_fields_of_dapr() -> None:
    async def script(stage: Stage) -> None:
        stream = await stage.stream()
        await (await stage.app("producer")).publish("orders", {"n": 1})
        event = await stream.event()
        assert (event.source, event.data) == ("producer", b'{"n":1}')
        assert event.extensions["pubsubname"] == "pubsub"
        assert event.extensions["traceid"] == ""

    play(script)
