"""What apps answer when they are asked for their subscriptions."""

import json
from typing import Any

import pytest
from dapr.proto.runtime.v1.appcallback_pb2 import (
    BulkSubscribeConfig,
    ListTopicSubscriptionsResponse,
    TopicRoutes,
    TopicRule,
    TopicSubscription,
)

from transport.dapr.resources.routes import Routes
from transport.dapr.resources.subscription import BulkSubscribe, Subscription
from transport.dapr.sidecar.discovery import DiscoveryError, from_grpc, from_json, merged


def read(value: Any, default: str | None = "pubsub") -> list[Subscription]:
    """The subscriptions of an answer that has no problem."""
    found = from_json(json.dumps(value).encode(), default)
    assert found.problems == ()
    return list(found.subscriptions)


def problem(value: Any, default: str | None = "pubsub") -> str:
    """The one problem of an answer."""
    found = from_json(json.dumps(value).encode(), default)
    assert len(found.problems) == 1
    return found.problems[0]


def one(entry: Any, default: str | None = "pubsub") -> Subscription:
    (found,) = read([entry], default)
    return found


@pytest.mark.parametrize("body", [b"", b" \n", b"null", b"[]"])
def test_an_empty_answer_names_nothing(body: bytes) -> None:
    found = from_json(body, "pubsub")
    assert (found.subscriptions, found.problems) == ((), ())


def test_a_text_is_a_topic_whose_events_go_to_a_path_of_its_name() -> None:
    found = one("orders")
    assert (found.component, found.topic, found.kind) == ("pubsub", "orders", "PROGRAMMATIC")
    assert found.routes == Routes(default="/orders")


def test_an_entry_of_dapr_0_8_has_the_default_component() -> None:
    found = one({"topic": "orders", "route": "take"}, "only")
    assert (found.component, found.routes) == ("only", Routes(default="take"))


def test_without_a_default_component_such_an_entry_is_left_out() -> None:
    said = problem([{"topic": "orders", "route": "/a"}], None)
    assert said == "topic orders has no pubsubname, and there are several components"


def test_todays_entry_has_everything() -> None:
    found = one(
        {
            "pubsubname": "bus",
            "topic": "orders",
            "routes": {
                "rules": [{"match": 'event.type == "big"', "path": "/big"}],
                "default": "/rest",
            },
            "deadLetterTopic": "dead",
            "metadata": {"rawPayload": "true"},
            "bulkSubscribe": {"enabled": True, "maxMessagesCount": 7, "maxAwaitDurationMs": 40},
        }
    )
    assert found.component == "bus"
    assert found.routes.route({"type": "big"}) == "/big"
    assert found.routes.route({"type": "small"}) == "/rest"
    assert found.dead_letter_topic == "dead"
    assert found.raw_payload()
    assert found.bulk == BulkSubscribe(max_messages=7, max_await_ms=40)


def test_routes_win_over_route() -> None:
    entry = {"topic": "orders", "route": "/old", "routes": {"default": "/new"}}
    assert one(entry).routes == Routes(default="/new")


def test_keys_may_be_in_any_case() -> None:
    found = one({"pubsubName": "bus", "Topic": "orders", "ROUTE": "/a", "deadlettertopic": "dead"})
    assert (found.component, found.topic, found.dead_letter_topic) == ("bus", "orders", "dead")


@pytest.mark.parametrize("value", ["true", '"true"', True])
def test_metadata_may_be_json_in_text(value: Any) -> None:
    assert one({"topic": "t", "route": "/", "metadata": {"rawPayload": value}}).raw_payload()


@pytest.mark.parametrize(
    "bulk",
    [None, {}, {"enabled": False, "maxMessagesCount": 5}, {"enabled": "true"}],
)
def test_bulk_is_off_unless_enabled(bulk: Any) -> None:
    assert one({"topic": "t", "route": "/", "bulkSubscribe": bulk}).bulk is None


def test_numbers_of_bulk_are_bounded() -> None:
    bulk = {"enabled": True, "maxMessagesCount": 10**9, "maxAwaitDurationMs": -4}
    found = one({"topic": "t", "route": "/", "bulkSubscribe": bulk})
    assert found.bulk == BulkSubscribe(max_messages=1000, max_await_ms=1000)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (7, "7 is neither a topic nor a map"),
        ({"route": "/a"}, "'' can't be subscribed to"),
        ({"topic": 7, "route": "/a"}, "topic must be a text, not 7"),
        ({"topic": "orders"}, "topic orders has no route"),
        ({"topic": "or ders", "route": "/a"}, "'or ders' can't be subscribed to"),
        ({"topic": "t", "routes": []}, "routes must be a map, not an array"),
        ({"topic": "t", "routes": {"rules": {"a": 1}}}, "rules must be an array, not a map"),
        ({"topic": "t", "routes": {"rules": [1]}}, "a rule must be a map, not 1"),
        ({"topic": "t", "route": "/", "metadata": {"rawPayload": "maybe"}}, "rawPayload must be"),
        ({"topic": "t", "route": "/", "deadLetterTopic": "no good"}, "'no good' can't be"),
    ],
)
def test_a_wrong_entry_is_left_out_and_the_others_are_not(entry: Any, said: str) -> None:
    found = from_json(json.dumps([entry, "orders"]).encode(), "pubsub")
    assert [one.topic for one in found.subscriptions] == ["orders"]
    assert len(found.problems) == 1
    assert said in found.problems[0]


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'"orders"', b"\xff", b"[" * 5000])
def test_what_is_no_array_is_a_problem_and_no_error(body: bytes) -> None:
    found = from_json(body, "pubsub")
    assert found.subscriptions == ()
    assert len(found.problems) == 1


def test_of_two_entries_for_a_topic_the_first_counts() -> None:
    found = from_json(b'[{"topic":"t","route":"/1"},{"topic":"t","route":"/2"}]', "pubsub")
    assert [one.routes for one in found.subscriptions] == [Routes(default="/1")]
    assert found.problems == ("topic t is named twice: the first entry counts",)


def test_a_rule_that_is_no_cel_fails_the_whole_answer() -> None:
    entry = {"topic": "orders", "routes": {"rules": [{"match": "event.", "path": "/a"}]}}
    with pytest.raises(DiscoveryError, match=r"the app's subscription to orders: rule 'event\.'"):
        from_json(json.dumps(["fine", entry]).encode(), "pubsub")


def test_a_grpc_answer_has_the_same_fields() -> None:
    answer = ListTopicSubscriptionsResponse(
        subscriptions=[
            TopicSubscription(
                pubsub_name="bus",
                topic="orders",
                metadata={"rawPayload": "true"},
                routes=TopicRoutes(
                    rules=[TopicRule(match='event.type == "big"', path="big")], default="rest"
                ),
                dead_letter_topic="dead",
                bulk_subscribe=BulkSubscribeConfig(enabled=True, max_messages_count=3),
            )
        ]
    )
    (found,) = from_grpc(answer).subscriptions
    assert (found.component, found.topic, found.dead_letter_topic) == ("bus", "orders", "dead")
    assert found.routes.paths() == ("big", "rest")
    assert found.raw_payload()
    assert found.bulk == BulkSubscribe(max_messages=3)


def test_without_routes_grpc_events_have_an_empty_path() -> None:
    answer = ListTopicSubscriptionsResponse(
        subscriptions=[TopicSubscription(pubsub_name="bus", topic="orders")]
    )
    (found,) = from_grpc(answer).subscriptions
    assert found.routes.route({}) == ""


def test_with_rules_and_no_default_grpc_events_may_have_no_path() -> None:
    rules = [TopicRule(match='event.type == "big"', path="big")]
    answer = ListTopicSubscriptionsResponse(
        subscriptions=[
            TopicSubscription(pubsub_name="bus", topic="orders", routes=TopicRoutes(rules=rules))
        ]
    )
    (found,) = from_grpc(answer).subscriptions
    assert found.routes.route({"type": "small"}) is None


def test_what_the_app_says_wins_over_files() -> None:
    said = Subscription(component="a", topic="t", routes=Routes(default="/said"))
    declared = Subscription(component="a", topic="t", routes=Routes(default="/declared"))
    other = Subscription(component="b", topic="t", routes=Routes(default="/other"))
    assert merged([said], [declared, other]) == (said, other)
