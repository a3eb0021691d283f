"""What publish paths name."""

import pytest

from transport.dapr.config import DoorConfig
from transport.dapr.paths import Paths, Target

ONE = Paths(DoorConfig(components={"messages": "ws://x"}))
TWO = Paths(DoorConfig(components={"messages": "ws://x", "pubsub": "ws://y"}))
NEITHER = Paths(DoorConfig(components={"messages": "ws://x", "orders": "ws://y"}))


@pytest.mark.parametrize(
    ("path", "component", "topic"),
    [
        (b"/v1.0/publish/messages/orders", "messages", "orders"),
        (b"/v1.0/publish/messages/orders/eu/1", "messages", "orders/eu/1"),
        (b"/v1.0/publish/messages/orders/", "messages", "orders"),
        (b"/v1.0/publish/messages//orders//eu", "messages", "orders/eu"),
        (b"/v1.0/publish/messages/a+b%2Bc%20d", "messages", "a b+c d"),
        (b"/v1.0/publish/mess%61ges/orders", "messages", "orders"),
        (b"/v1.0/publish/unknown/orders", "unknown", "orders"),
        (b"/v1.0/publish/messages", "messages", ""),
        (b"/v1.0/publish/messages/", "messages", ""),
        (b"/v1.0/publish//orders", "", "orders"),
        (b"/v1.0/publish/", "", ""),
        (b"/v1.0/publish", "", ""),
        (b"/v1.0/publish/bulk", "messages", "bulk"),
    ],
)
def test_a_path_names_component_and_topic(path: bytes, component: str, topic: str) -> None:
    target = ONE.target(path)
    assert target is not None
    assert (target.component, target.topic, target.bulk) == (component, topic, False)


@pytest.mark.parametrize("prefix", [b"/v1.0", b"/v1.0-alpha1"])
def test_both_bulk_paths_name_component_and_topic(prefix: bytes) -> None:
    target = ONE.target(prefix + b"/publish/bulk/messages/orders/eu")
    assert target == Target("messages", "orders/eu", bulk=True)


def test_the_early_form_means_the_only_component() -> None:
    assert ONE.target(b"/v1.0/publish/orders") == Target("messages", "orders", early=True)


def test_the_early_form_means_pubsub_among_several() -> None:
    assert TWO.target(b"/v1.0/publish/orders") == Target("pubsub", "orders", early=True)


def test_the_early_form_means_none_among_several_others() -> None:
    assert NEITHER.target(b"/v1.0/publish/news") == Target("", "news", early=True)


@pytest.mark.parametrize(
    "path", [b"/v1.0/published/a/b", b"/v1.0/state/x", b"/", b"/v1.0-alpha1/publish/a/b"]
)
def test_other_paths_are_none_of_publishing(path: bytes) -> None:
    assert ONE.target(path) is None


def test_a_path_of_any_length_is_read() -> None:
    target = ONE.target(b"/v1.0/publish/messages/" + b"a" * 10_000)
    assert target is not None
    assert len(target.topic) == 10_000
