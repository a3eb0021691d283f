"""Apps on WebSocket and Dapr apps on one topic."""

import json
from collections.abc import Callable

from tests.dapr.conftest import make_publisher, make_subscriber
from tests.dapr.kit import Connect, House, Process


def test_each_app_gets_every_event_whoever_publishes(
    house: House,
    apps: Callable[..., Process],
    beside: Callable[..., Process],
    reader: Connect,
) -> None:
    streaming = make_subscriber("stream", apps, beside)
    topic = streaming.name("orders")
    websocket = reader().subscribe(topic)
    published = []
    for number in range(20):
        for kind in ("python", "javascript-http"):
            data = {"key": f"{kind} {number}"}
            published.append(data)
            publisher = make_publisher(kind, apps, house)
            body = json.dumps(data) if kind == "python" else data
            assert publisher.publish(topic, body, content_type="application/json") == {}
        data = {"key": f"websocket {number}"}
        published.append(data)
        websocket.publish(topic, data)
    assert [websocket.event()["data"] for _ in published] == published
    assert [streaming.process.next("orders")["data"] for _ in published] == published


def test_a_wrong_token_is_refused(house: House) -> None:
    headers = {"dapr-api-token": "wrong"}
    assert house.post("/v1.0/publish/pubsub/orders", b"x", headers, token=False)[0] == 401
    assert house.post("/v1.0/publish/pubsub/orders", b"x", {}, token=False)[0] == 401
