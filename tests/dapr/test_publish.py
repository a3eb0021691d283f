"""What the SDKs' clients publish, as an app on WebSocket gets it."""

import base64
import json
from typing import Any

from tests.dapr.kit import Connect, Publisher

CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "of-its-own",
    "source": "elsewhere",
    "type": "com.example.made",
    "datacontenttype": "application/json",
    "shade": "blue",
    "data": {"n": 1},
}


def in_json(publisher: Publisher, data: Any) -> Any:
    """JSON as the client takes it: Python's takes text alone."""
    return json.dumps(data) if publisher.process.app_id.startswith("py") else data


def test_the_client_finds_the_door_and_its_app_id(publisher: Publisher) -> None:
    assert publisher.do("metadata")["id"] == publisher.process.app_id


def test_an_event_arrives_with_its_publisher_as_source(
    publisher: Publisher, reader: Connect, topic: str
) -> None:
    subscribed = reader().subscribe(topic)
    assert publisher.publish(topic, "hello", content_type="text/plain") == {}
    event = subscribed.event()
    assert (event["data"], event["datacontenttype"]) == ("hello", "text/plain")
    assert (event["source"], event["type"]) == (publisher.process.app_id, "com.dapr.event.sent")
    assert (event["topic"], event["pubsubname"]) == (topic, "pubsub")


def test_json_arrives_parsed(publisher: Publisher, reader: Connect, topic: str) -> None:
    subscribed = reader().subscribe(topic)
    data = {"order": 7, "items": ["a", "b"]}
    publisher.publish(topic, in_json(publisher, data), content_type="application/json")
    assert subscribed.event()["data"] == data


def test_bytes_arrive_as_they_are(publisher: Publisher, reader: Connect, topic: str) -> None:
    subscribed = reader().subscribe(topic)
    data = bytes(range(256))
    sent = {"base64": base64.b64encode(data).decode()}
    assert publisher.publish(topic, sent, content_type="application/octet-stream") == {}
    assert subscribed.event()["data"] == data


def test_a_cloud_event_of_its_own_is_passed_on(
    publisher: Publisher, reader: Connect, topic: str
) -> None:
    subscribed = reader().subscribe(topic)
    kind = "application/cloudevents+json"
    assert publisher.publish(topic, in_json(publisher, CLOUD_EVENT), content_type=kind) == {}
    event = subscribed.event()
    assert {name: event[name] for name in CLOUD_EVENT} == CLOUD_EVENT
    assert event["topic"] == topic


def test_overrides_hold(publisher: Publisher, reader: Connect, topic: str) -> None:
    subscribed = reader().subscribe(topic)
    metadata = {"cloudevent.id": "chosen", "cloudevent.type": "com.example.made"}
    publisher.publish(topic, "x", metadata=metadata)
    event = subscribed.event()
    assert (event["id"], event["type"]) == ("chosen", "com.example.made")


def test_a_raw_payload_arrives_as_bytes(publisher: Publisher, reader: Connect, topic: str) -> None:
    subscribed = reader().subscribe(topic)
    publisher.publish(topic, "as it is", metadata={"rawPayload": "true"})
    assert subscribed.event()["data"] == b"as it is"


def test_what_has_expired_is_not_delivered(
    publisher: Publisher, reader: Connect, topic: str
) -> None:
    reader().subscribe(topic).leave()  # its group keeps what is published meanwhile
    publisher.publish(topic, "short", metadata={"ttlInSeconds": "1ms"})
    publisher.publish(topic, "long", metadata={"ttlInSeconds": "60"})
    assert reader().subscribe(topic).event()["data"] == "long"


def test_a_bulk_publish_arrives_in_order(publisher: Publisher, reader: Connect, topic: str) -> None:
    subscribed = reader().subscribe(topic)
    data = [f"event {number}" for number in range(100)]
    assert publisher.bulk(topic, data) == {"failed": {}}
    events = [subscribed.event() for _ in data]
    assert [event["data"] for event in events] == data
    assert len({event["id"] for event in events}) == 100


def test_an_unknown_component_is_told(publisher: Publisher, topic: str) -> None:
    answer = publisher.publish(topic, "x", component="nothing")
    assert "pubsub nothing is not found" in answer["message"]
    if "code" in answer:  # the JavaScript SDK has but the message
        assert (answer["code"], answer["reason"]) == ("INVALID_ARGUMENT", "DAPR_PUBSUB_NOT_FOUND")


def test_the_client_lives_on_after_an_error(
    publisher: Publisher, reader: Connect, topic: str
) -> None:
    subscribed = reader().subscribe(topic)
    publisher.publish(topic, "x", component="nothing")
    assert publisher.publish(topic, "y") == {}
    assert subscribed.event()["data"] == "y"
