"""What the SDKs' subscribers are given, and what their answers do."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.dapr.conftest import make_subscriber, need
from tests.dapr.kit import (
    Connect,
    House,
    Process,
    Subscriber,
    end_all,
    missing_python,
    python_app,
    sidecar,
)


def data_of(key: str, *answers: str) -> dict[str, Any]:
    """Data that say what the app answers, in turn; SUCCESS after that."""
    return {"key": key, "answers": list(answers)}


def test_an_event_of_a_websocket_app_arrives(
    subscriber: Subscriber, reader: Connect, topic: str
) -> None:
    data = data_of(topic)
    event_id = reader().publish(subscriber.name("orders"), data)
    report = subscriber.process.next("orders")
    assert report["data"] == data
    if subscriber.sees_fields:
        event = report["event"]
        assert (event["id"], event["source"]) == (event_id, "py-reader")
        assert (event["topic"], event["pubsubname"]) == (subscriber.name("orders"), "pubsub")
        assert all(isinstance(event[name], str) for name in ("traceid", "tracestate", "time"))


def test_an_event_of_a_dapr_app_arrives(subscriber: Subscriber, house: House, topic: str) -> None:
    data = data_of(topic)
    house.publish(subscriber.name("orders"), json.dumps(data), "application/json")
    report = subscriber.process.next("orders")
    assert report["data"] == data
    if subscriber.sees_fields:
        assert report["event"]["source"] == "plain"
        assert report["event"]["type"] == "com.dapr.event.sent"


def test_text_arrives_as_text(subscriber: Subscriber, house: House, topic: str) -> None:
    house.publish(subscriber.name("orders"), topic, "text/plain")
    assert subscriber.process.next("orders")["data"] == topic


def test_an_event_of_its_own_arrives_as_it_was_made(
    subscriber: Subscriber, house: House, topic: str
) -> None:
    made = {"specversion": "1.0", "id": topic, "source": "elsewhere", "type": "made", "shade": "x"}
    body = json.dumps({**made, "datacontenttype": "application/json", "data": data_of(topic)})
    house.publish(subscriber.name("orders"), body, "application/cloudevents+json")
    report = subscriber.process.next("orders")
    assert report["data"] == data_of(topic)
    if subscriber.sees_fields:
        assert {name: report["event"][name] for name in made} == made


def test_a_retried_event_comes_again_until_it_succeeds(
    subscriber: Subscriber, reader: Connect, topic: str
) -> None:
    websocket = reader()
    data = data_of(topic, "RETRY")
    websocket.publish(subscriber.name("orders"), data)
    assert [subscriber.process.next("orders")["data"] for _ in range(2)] == [data] * 2
    settled(subscriber, websocket, "orders")


def test_a_handler_that_fails_gets_its_event_again(
    raising_subscriber: Subscriber, reader: Connect, topic: str
) -> None:
    websocket = reader()
    data = data_of(topic, "RAISE")
    websocket.publish(raising_subscriber.name("orders"), data)
    assert [raising_subscriber.process.next("orders")["data"] for _ in range(2)] == [data] * 2
    settled(raising_subscriber, websocket, "orders")


def test_a_dropped_event_does_not_come_again(
    subscriber: Subscriber, reader: Connect, topic: str
) -> None:
    websocket = reader()
    websocket.publish(subscriber.name("orders"), data_of(topic, "DROP"))
    subscriber.process.next("orders")
    settled(subscriber, websocket, "orders")


@pytest.mark.parametrize("answer", ["DROP", "RETRY"])
def test_a_failed_event_goes_to_the_dead_letter_topic(
    subscriber: Subscriber, reader: Connect, topic: str, answer: str
) -> None:
    websocket = reader()
    data = data_of(topic, answer)
    event_id = websocket.publish(subscriber.name("letters"), data)
    assert subscriber.process.next("letters")["data"] == data
    letter = subscriber.process.next("dead")
    assert letter["data"] == data
    if subscriber.sees_fields:
        assert letter["event"]["id"] == event_id
        assert letter["event"]["deadlettertopic"] == subscriber.name("letters")
    settled(subscriber, websocket, "letters")


def test_a_raw_subscription_gets_the_payload(
    subscriber: Subscriber, house: House, topic: str
) -> None:
    data = data_of(topic)
    house.publish(subscriber.name("raw"), json.dumps(data), "text/plain", "?metadata.rawPayload=1")
    assert subscriber.process.next("raw")["data"] == data


def settled(subscriber: Subscriber, websocket: Any, topic: str) -> None:
    """The app's group has nothing left, and the app got nothing that the test did not expect."""
    websocket.wait_until_settled(subscriber.name(topic), subscriber.process.app_id)
    assert not subscriber.process.has(topic)


def test_an_iterator_with_answers_by_hand_settles_too(
    apps: Callable[..., Process], reader: Connect, topic: str
) -> None:
    subscriber = make_subscriber("stream", apps, apps)
    websocket = reader()
    data = data_of(topic, "RETRY")
    websocket.publish(subscriber.name("iterated"), data)
    assert [subscriber.process.next("iterated")["data"] for _ in range(2)] == [data] * 2
    settled(subscriber, websocket, "iterated")


@pytest.mark.parametrize("kind", ["js_http", "js_grpc"])
def test_a_bulk_subscription_gets_every_event(
    kind: str, apps: Callable[..., Process], beside: Callable[..., Process], reader: Connect
) -> None:
    subscriber = make_subscriber(kind, apps, beside)
    websocket = reader()
    data = [data_of(f"{kind} {number}", *["RETRY"][: number == 3]) for number in range(10)]
    for one in data:
        websocket.publish(subscriber.name("bulk"), one)
    taken = [subscriber.process.next("bulk")["data"]["key"] for _ in range(11)]
    expected = [one["key"] for one in data]
    assert sorted(taken) == sorted([*expected, expected[3]])
    settled(subscriber, websocket, "bulk")


def test_what_an_app_held_that_has_gone_deaf_goes_to_another_instance(
    house: House, reader: Connect
) -> None:
    """An exception ends the asynchronous SDK's handler, and leaves its stream open."""
    need(missing_python())
    app_id = "py-deaf"
    command = sidecar(house, app_id, None, python_app("stream_aio", "deaf"))
    websocket = reader()
    with ExitStack() as stack:

        def start() -> Process:
            process = Process(command, house.sidecar_environment(app_id), app_id)
            started.append(process)
            process.next("ready")
            return process

        started: list[Process] = []
        stack.callback(end_all, started)
        data = data_of("deaf", "RAISE")
        deaf = start()
        websocket.publish("deaf-orders", data)
        assert deaf.next("orders")["data"] == data
        assert start().next("orders")["data"] == data  # which raises there as well
