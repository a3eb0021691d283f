"""Subscription files of both versions."""

import pytest

from tests.transport.dapr.resources.kit import Folder
from transport.dapr.resources.routes import Routes, rule
from transport.dapr.resources.subscription import BulkSubscribe, Subscription

FIRST = """\
apiVersion: dapr.io/v1alpha1
kind: Subscription
metadata:
  name: sub
spec:
  pubsubname: pubsub
  topic: orders
  route: /orders
"""

SECOND = """\
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:
  name: sub
spec:
  pubsubname: pubsub
  topic: orders
  routes:
    rules:
    - match: event.type == "new"
      path: /new
    - path: /always
    default: /orders
"""


def one(folder: Folder, text: str) -> Subscription:
    (found,) = folder.load(text).subscriptions
    return found


def test_v1alpha1_has_one_route(folder: Folder) -> None:
    assert one(folder, FIRST) == Subscription(
        component="pubsub", topic="orders", routes=Routes(default="/orders")
    )


def test_v2alpha1_has_rules_and_a_default(folder: Folder) -> None:
    routes = one(folder, SECOND).routes
    assert routes.rules == (rule('event.type == "new"', "/new"), rule("", "/always"))
    assert routes.default == "/orders"
    assert routes.route({"type": "new"}) == "/new"
    assert routes.route({"type": "old"}) == "/always"


def test_everything_else_is_the_same_in_both(folder: Folder) -> None:
    more = (
        "  deadLetterTopic: failed\n"
        "  metadata: {rawPayload: 'true'}\n"
        "  bulkSubscribe: {enabled: true, maxMessagesCount: 10, maxAwaitDurationMs: 40}\n"
        "scopes: [shop]\n"
    )
    for text in (FIRST, SECOND):
        found = one(folder, text + more)
        assert found.dead_letter_topic == "failed"
        assert found.raw_payload()
        assert found.bulk == BulkSubscribe(max_messages=10, max_await_ms=40)
        assert found.scopes == ("shop",)


@pytest.mark.parametrize(
    ("bulk", "found"),
    [
        ("{enabled: true}", BulkSubscribe(max_messages=100, max_await_ms=1000)),
        ("{enabled: true, maxMessagesCount: 0}", BulkSubscribe()),
        ("{enabled: false, maxMessagesCount: 10}", None),
        ("{}", None),
    ],
)
def test_bulk_subscriptions_have_daprs_defaults(
    folder: Folder, bulk: str, found: BulkSubscribe | None
) -> None:
    assert one(folder, f"{FIRST}  bulkSubscribe: {bulk}\n").bulk == found


def test_an_empty_dead_letter_topic_is_none(folder: Folder) -> None:
    assert one(folder, f"{FIRST}  deadLetterTopic: ''\n").dead_letter_topic is None


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        ("  pubsubname: pubsub\n", "", "6: spec.pubsubname is missing"),
        ("  topic: orders\n", "", "6: spec.topic is missing"),
        ("topic: orders", "topic: a b", "7: spec.topic is wrong: topic must be 1 to 120 of"),
        ("topic: orders", "topic: []", "7: spec.topic must be text, not a list"),
        ("/orders\n", "/orders\n  deadLetterTopic: amq.x\n", "14: spec.deadLetterTopic is wrong"),
        (
            'event.type == "new"',
            "event.type ==",
            "10: spec.routes.rules[0].match is wrong: rule 'event.type ==' is no CEL",
        ),
        ("      path: /new\n", "", "10: spec.routes.rules[0].path is missing"),
        ("    default: /orders\n", "    default: {}\n", "13: spec.routes.default must be text"),
        ("/orders\n", "/orders\n  metadata: [a]\n", "14: spec.metadata must be a map, not a list"),
        (
            "/orders\n",
            "/orders\n  metadata: {rawPayload: maybe}\n",
            "14: spec.metadata.rawPayload must be true or false, not 'maybe'",
        ),
        (
            "/orders\n",
            "/orders\n  bulkSubscribe: {enabled: true, maxMessagesCount: -1}\n",
            "14: spec.bulkSubscribe.maxMessagesCount must be an integer from 0 to 1000, not '-1'",
        ),
        ("/orders\n", "/orders\nscopes: shop\n", "14: scopes must be a list, not 'shop'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(
    folder: Folder, old: str, new: str, refusal: str
) -> None:
    assert old in SECOND
    assert folder.refusal(SECOND.replace(old, new)).startswith(refusal)


def test_v1alpha1_needs_its_route(folder: Folder) -> None:
    assert folder.refusal(FIRST.replace("  route: /orders\n", "")) == "6: spec.route is missing"


def test_v2alpha1_needs_a_way_to_go(folder: Folder) -> None:
    text = SECOND.partition("    rules")[0].replace("routes:", "routes: {}")
    assert folder.refusal(text) == "8: spec.routes need rules or a default"


def test_what_means_nothing_here_is_warned_of(folder: Folder) -> None:
    text = f"{FIRST}  metadata: {{queueType: quorum}}\n  color: red\n"
    assert folder.warnings(text) == [
        "9: spec.metadata.queueType is ignored: it means nothing here",
        "10: spec.color of a Subscription is unknown and ignored",
    ]
    assert one(folder, text).metadata == {"queueType": "quorum"}


def test_an_app_may_not_subscribe_to_a_topic_twice(folder: Folder) -> None:
    second = FIRST.replace("sub", "other", 1).replace("name: sub", "name: other")
    assert folder.refusal(f"{FIRST}---\n{second}").startswith(
        "10: Subscription other: topic orders of pubsub is subscribed to already at "
    )


def test_different_apps_may_subscribe_to_one_topic(folder: Folder) -> None:
    second = FIRST.replace("name: sub", "name: other")
    text = f"{FIRST}scopes: [shop]\n---\n{second}scopes: [audit]\n"
    resources = folder.load(text)
    assert [len(resources.subscriptions_of(app)) for app in ("shop", "audit", "x")] == [1, 1, 0]
