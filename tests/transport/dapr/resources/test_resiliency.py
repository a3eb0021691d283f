"""Resiliency files as options of groups."""

import pytest

from actorbus.client.subscribe_options import to_wire
from tests.transport.dapr.resources.kit import Folder
from transport.dapr.resources.durations import milliseconds
from transport.dapr.resources.load import Resources
from transport.dapr.settling import Policy, Retries

HEAD = """\
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: policies}
spec:
  policies:
    retries:
"""

TARGET = "  targets: {components: {pubsub: {inbound: {retry: %s}}}}\n"


def policy(name: str, text: str) -> str:
    return f"      {name}: {{{text}}}\n"


def retry_of(folder: Folder, text: str) -> Retries | None:
    resources = folder.load(HEAD + policy("mine", text) + TARGET % "mine")
    return resources.retries("pubsub", "shop")


@pytest.mark.parametrize(
    ("text", "attempts", "backoff", "max_backoff"),
    [
        ("policy: constant, duration: 2s, maxRetries: 3", 4, 2, 2),
        ("policy: constant", 0, 5, 5),
        ("duration: 250", 0, 0.25, 0.25),
        ("policy: Exponential, maxInterval: 15s, maxRetries: -1", 0, 0.5, 15),
        ("policy: exponential, maxRetries: 10", 11, 0.5, 60),
        ("policy: exponential, maxInterval: 100ms", 0, 0.1, 0.1),
        ("policy: constant, duration: 0s, maxRetries: 0", 1, 0.01, 0.01),
        ("policy: constant, duration: 48h", 0, 3600, 3600),
    ],
)
def test_retries_are_options_of_the_group(
    folder: Folder, text: str, attempts: int, backoff: float, max_backoff: float
) -> None:
    retries = retry_of(folder, text)
    assert retries == Retries(attempts, backoff, max_backoff)
    options = to_wire(Policy("failed", retries).options())
    assert options == {
        "dead_letter_topic": "failed",
        "max_attempts": attempts,
        "backoff_ms": backoff * 1000,
        "max_backoff_ms": max_backoff * 1000,
    }


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("policy: linear", "7: spec.policies.retries.mine.policy must be constant or exponential"),
        ("duration: soon", "7: spec.policies.retries.mine.duration must be a duration as 5s"),
        ("maxRetries: x", "7: spec.policies.retries.mine.maxRetries must be an integer from"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(folder: Folder, text: str, refusal: str) -> None:
    assert folder.refusal(HEAD + policy("mine", text)).startswith(refusal)


def test_a_policy_that_is_not_defined_is_refused(folder: Folder) -> None:
    assert folder.refusal(HEAD + policy("a", "") + TARGET % "b") == (
        "8: spec.targets.components.pubsub.inbound.retry 'b' is not defined in "
        "spec.policies.retries"
    )


def test_the_most_specific_default_counts_for_components_that_are_not_named(
    folder: Folder,
) -> None:
    names = (
        "DefaultRetryPolicy",
        "DefaultComponentRetryPolicy",
        "DefaultComponentInboundRetryPolicy",
        "DefaultPubsubComponentInboundRetryPolicy",
    )
    text = HEAD
    for seconds, name in enumerate(names, 1):
        text += policy(name, f"duration: {seconds}s")
        found = folder.load(text).retries("other", "shop")
        assert found is not None
        assert found.backoff == seconds


def test_a_component_that_is_named_without_a_retry_has_none(folder: Folder) -> None:
    text = HEAD + policy("DefaultRetryPolicy", "") + TARGET.replace("retry: %s", "")
    resources = folder.load(text)
    assert resources.retries("pubsub", "shop") is None
    assert resources.retries("other", "shop") is not None


def test_scopes_are_the_apps_that_it_is_for(folder: Folder) -> None:
    text = f"{HEAD}{policy('mine', '')}{TARGET % 'mine'}scopes: [shop]\n"
    resources = folder.load(text)
    assert resources.retries("pubsub", "shop") is not None
    assert resources.retries("pubsub", "audit") is None


def test_without_files_there_is_no_policy() -> None:
    assert Resources().retries("pubsub", "shop") is None


def test_what_is_not_mapped_is_warned_of_by_name(folder: Folder) -> None:
    text = """\
        apiVersion: dapr.io/v1alpha1
        kind: Resiliency
        metadata: {name: policies}
        spec:
          policies:
            timeouts: {short: 1s}
            circuitBreakers: {breaker: {trip: "true"}}
            retries:
              mine: {policy: constant, matching: {httpStatusCodes: "500"}}
          targets:
            apps: {}
            components:
              pubsub:
                outbound: {retry: mine}
                inbound: {retry: mine, timeout: short, circuitBreaker: breaker}
        """
    mapped = "is ignored: only retries of deliveries are mapped"
    target = "spec.targets.components.pubsub"
    assert folder.warnings(text) == [
        f"6: spec.policies.timeouts {mapped}",
        f"7: spec.policies.circuitBreakers {mapped}",
        "9: spec.policies.retries.mine.matching is ignored: every failure is tried again alike",
        f"11: spec.targets.apps {mapped}",
        f"14: {target}.outbound {mapped}",
        f"15: {target}.inbound.timeout {mapped}",
        f"15: {target}.inbound.circuitBreaker {mapped}",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5s", 5_000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        ("500ms", 500),
        ("100µs", 0),
        ("20", 20),
        ("", None),
        ("5", 5),
        ("-5s", None),
        ("5 s", None),
        ("5d", None),
        ("s", None),
        ("٣s", None),
    ],
)
def test_durations_are_written_as_in_go(text: str, found: int | None) -> None:
    assert milliseconds(text) == found
