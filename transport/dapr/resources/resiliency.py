"""Resiliency files: how failed deliveries are tried again, which their group sees to.

Dapr's sidecar tries again within one delivery; here the broker does, and its count survives a
restart. Of everything else that a policy may say nothing is done, with a warning.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from actorbus.limits import BACKOFF_MS
from transport.dapr.resources.document import Document, Warn
from transport.dapr.resources.durations import MALFORMED, milliseconds
from transport.dapr.resources.nodes import Fields, Value
from transport.dapr.settling import Retries

FIRST_MS: Final = 500
"""First interval of an exponential policy (the default of Dapr's back-off library)."""

MAX_INTERVAL_MS: Final = 60_000
"""`maxInterval` unless named."""

DURATION_MS: Final = 5_000
"""`duration` of a constant policy unless named."""

RETRIES_MOST: Final = 2**31 - 2
"""With the first delivery no more than `max_attempts` may be."""

DEFAULTS: Final = (
    "DefaultPubsubComponentInboundRetryPolicy",
    "DefaultComponentInboundRetryPolicy",
    "DefaultComponentRetryPolicy",
    "DefaultRetryPolicy",
)
"""Policies for components that no target names, the most specific first."""


class Resiliency(msgspec.Struct, frozen=True):
    """What one file says of deliveries.

    Attributes:
        targets: component → its policy; None: it is named, and is not to be tried again by one.
        default: for components that are not named.
        scopes: the app IDs that it is for; none: all.
    """

    targets: Mapping[str, Retries | None]
    default: Retries | None
    scopes: tuple[str, ...] = ()

    def retries(self, component: str, app_id: str) -> Retries | None:
        """The policy for an app's groups of a component, if there is one."""
        if self.scopes and app_id not in self.scopes:
            return None
        return self.targets.get(component, self.default)


def resiliency(document: Document, warn: Warn) -> Resiliency:
    """What a document says of deliveries.

    Raises:
        ResourceError: a wrong shape, a policy that is not defined.
    """
    policies = document.spec.get("policies")
    fields = None if policies is None else policies.fields()
    if fields is not None:
        _warn_of_rest(fields, ("timeouts", "circuitBreakers"), warn)
    defined = None if fields is None else fields.get("retries")
    retries = _retries({} if defined is None else defined.fields().all(), warn)
    default = next((retries[name] for name in DEFAULTS if name in retries), None)
    return Resiliency(_targets(document, retries, warn), default, document.scopes())


def _warn_of_rest(fields: Fields, names: tuple[str, ...], warn: Warn) -> None:
    for name in names:
        value = fields.get(name)
        if value is not None:
            warn(value.place, f"{value.path} is ignored: only retries of deliveries are mapped")


def _retries(defined: Mapping[str, Value], warn: Warn) -> dict[str, Retries]:
    return {name: _retry(value.fields(), warn) for name, value in defined.items()}


def _retry(fields: Fields, warn: Warn) -> Retries:
    policy = fields.get("policy")
    kind = "constant" if policy is None else policy.text().lower()
    duration = _interval(fields.get("duration"), DURATION_MS)
    longest = _interval(fields.get("maxInterval"), MAX_INTERVAL_MS)
    most = fields.get("maxRetries")
    retries = -1 if most is None else most.integer(-RETRIES_MOST, RETRIES_MOST)
    for value in fields.rest():
        warn(value.place, f"{value.path} is ignored: every failure is tried again alike")
    attempts = 0 if retries < 0 else retries + 1
    match kind:
        case "constant":
            return Retries(attempts, duration / 1000, duration / 1000)
        case "exponential":
            return Retries(attempts, min(FIRST_MS, longest) / 1000, longest / 1000)
    assert policy is not None
    raise policy.error(f"must be constant or exponential, not {policy.text()[:40]!r}")


def _interval(value: Value | None, default: int) -> int:
    """Milliseconds within what a group may wait."""
    if value is None:
        return default
    interval = milliseconds(value.text())
    if interval is None:
        raise value.error(f"must be {MALFORMED}, not {value.text()[:40]!r}")
    return min(max(interval, BACKOFF_MS[0]), BACKOFF_MS[1])


def _targets(
    document: Document, retries: Mapping[str, Retries], warn: Warn
) -> dict[str, Retries | None]:
    targets = document.spec.get("targets")
    if targets is None:
        return {}
    fields = targets.fields()
    components = fields.get("components")
    _warn_of_rest(fields, ("apps", "actors"), warn)
    named = {} if components is None else components.fields().all()
    return {name: _target(value.fields(), retries, warn) for name, value in named.items()}


def _target(fields: Fields, retries: Mapping[str, Retries], warn: Warn) -> Retries | None:
    _warn_of_rest(fields, ("outbound",), warn)
    inbound = fields.get("inbound")
    if inbound is None:
        return None
    directed = inbound.fields()
    _warn_of_rest(directed, ("timeout", "circuitBreaker"), warn)
    name = directed.get("retry")
    if name is None or not name.text():
        return None
    if name.text() not in retries:
        raise name.error(f"{name.text()[:80]!r} is not defined in spec.policies.retries")
    return retries[name.text()]
