"""What a door tells about itself."""

import pytest

from transport.dapr.config import DoorConfig
from transport.dapr.metadata import KEYS, Metadata, Rule, Subscribed


def metadata() -> Metadata:
    return Metadata(DoorConfig(components={"pubsub": "ws://x", "other": "ws://y"}))


def test_a_subscription_is_shown_while_it_is_served() -> None:
    found = metadata()
    one = Subscribed(
        component="pubsub",
        topic="orders",
        kind="PROGRAMMATIC",
        metadata={"a": "b"},
        rules=(Rule("event.n > 1", "/big"), Rule(path="/all")),
        dead_letter_topic="dead",
    )
    found.subscribe("shop", one)
    found.subscribe("shop", one)
    found.unsubscribe("shop", one)
    assert found.document("shop")["subscriptions"] == [
        {
            "pubsubname": "pubsub",
            "topic": "orders",
            "metadata": {"a": "b"},
            "rules": [{"match": "event.n > 1", "path": "/big"}, {"match": "", "path": "/all"}],
            "deadLetterTopic": "dead",
            "type": "PROGRAMMATIC",
        }
    ]
    assert found.document("bank")["subscriptions"] == []
    found.unsubscribe("shop", one)
    assert found.subscriptions("shop") == []


def test_every_component_is_told() -> None:
    assert [one["name"] for one in metadata().document("shop")["components"]] == ["pubsub", "other"]


def test_what_apps_leave_is_bounded() -> None:
    found = metadata()
    for number in range(KEYS):
        found.extend("shop", str(number), "x")
    found.extend("shop", "0", "y")
    with pytest.raises(ValueError, match="100 keys"):
        found.extend("shop", "one more", "x")
    with pytest.raises(ValueError, match="4096 of value"):
        found.extend("bank", "a", "x" * 4097)
    assert found.extended("shop")["0"] == "y"
