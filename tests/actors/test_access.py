"""Who may publish and subscribe: Dapr's rules, one by one."""

from collections.abc import Callable
from itertools import product

import pytest

from actorbus.errors import RefusedError
from actors.access import Access, Policy

SCOPED = {"shop": frozenset({"orders"}), "mute": frozenset[str]()}


def allows(check: Callable[[str, str], None], app_id: str, topic: str) -> bool:
    try:
        check(app_id, topic)
    except RefusedError:
        return False
    return True


def publishes(access: Access, app_id: str, topic: str) -> bool:
    return allows(access.check_publish, app_id, topic)


def subscribes(access: Access, app_id: str, topic: str) -> bool:
    return allows(access.check_subscribe, app_id, topic)


def test_what_is_not_allowed_is_forbidden_naming_topic_and_app() -> None:
    with pytest.raises(RefusedError) as caught:
        Access(publishing=SCOPED).check_publish("shop", "payments")
    assert str(caught.value) == "forbidden: topic payments is not allowed for app id shop"


def test_without_limits_every_app_may_use_every_topic() -> None:
    assert publishes(Access(), "shop", "orders")
    assert subscribes(Access(), "shop", "orders")


@pytest.mark.parametrize(
    ("app_id", "topic", "allowed"),
    [
        ("shop", "orders", True),
        ("shop", "payments", False),
        ("shop", "orders/new", False),
        ("shop", "ORDERS", False),
        ("mute", "orders", False),
        ("other", "payments", True),
    ],
)
def test_a_scope_limits_the_apps_that_it_names(app_id: str, topic: str, allowed: bool) -> None:
    assert publishes(Access(publishing=SCOPED), app_id, topic) is allowed
    assert subscribes(Access(subscription=SCOPED), app_id, topic) is allowed


def test_the_two_scopes_are_independent() -> None:
    assert subscribes(Access(publishing=SCOPED), "shop", "payments")
    assert publishes(Access(subscription=SCOPED), "shop", "payments")


def test_allowed_topics_are_the_only_ones_even_with_a_scope() -> None:
    access = Access(allowed=frozenset({"payments"}), publishing=SCOPED)
    assert not publishes(access, "shop", "orders")
    assert not publishes(access, "shop", "payments")
    assert publishes(access, "other", "payments")
    assert not subscribes(access, "other", "orders")


def test_a_protected_topic_needs_a_scope() -> None:
    access = Access(protected=frozenset({"orders"}), publishing=SCOPED)
    assert publishes(access, "shop", "orders")
    assert not publishes(access, "other", "orders")
    assert publishes(access, "other", "payments")
    assert not subscribes(access, "shop", "orders")


def test_dead_letters_are_publishes_of_the_subscriber() -> None:
    policy = Policy(access=Access(publishing=SCOPED))
    policy.check_subscribe("shop", "anything", "orders")
    with pytest.raises(RefusedError, match="topic failed is not allowed for app id shop"):
        policy.check_subscribe("shop", "anything", "failed")


def test_a_policy_without_access_allows_all() -> None:
    for app_id, topic in product(("shop", "mute"), ("orders", "x")):
        Policy().check_publish(app_id, topic)
        Policy().check_subscribe(app_id, topic, "failed")


def test_a_window_is_capped_and_never_widened() -> None:
    policy = Policy(max_in_flight=10)
    assert [policy.window(asked) for asked in (0, 3, 256)] == [0, 3, 10]
    assert Policy().window(256) == 256
