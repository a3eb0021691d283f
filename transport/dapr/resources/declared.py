"""Subscription files, of both versions."""

from actorbus.errors import RefusedError
from actorbus.names import check_topic
from transport.dapr.resources.document import Document, Warn
from transport.dapr.resources.nodes import Fields, Value
from transport.dapr.resources.routes import Routes, Rule, RuleError, rule
from transport.dapr.resources.subscription import (
    BULK_AWAIT_MS,
    BULK_MESSAGES,
    BulkSubscribe,
    Subscription,
)

MESSAGES_MOST = 1_000
"""Most events of one call to the app: as many as a publish may carry."""

AWAIT_MS_MOST = 60_000
"""Longest wait for a call to fill up."""

HONOURED = frozenset({"rawpayload"})
"""Metadata of subscriptions that mean something here, in lower case."""


def subscription(document: Document, warn: Warn) -> Subscription:
    """The subscription that a document describes.

    Raises:
        ResourceError: a missing field, a wrong name or type, a rule that is no CEL.
    """
    spec = document.spec
    found = Subscription(
        component=spec.need_text("pubsubname"),
        topic=_topic(spec.need("topic")),
        routes=_routes(document),
        dead_letter_topic=_dead_letter_topic(spec.get("deadLetterTopic")),
        metadata=_metadata(spec.get("metadata"), warn),
        bulk=_bulk(spec.get("bulkSubscribe")),
        scopes=document.scopes(),
    )
    for value in spec.rest():
        warn(value.place, f"{value.path} of a Subscription is unknown and ignored")
    return found


def _topic(value: Value) -> str:
    try:
        return check_topic(value.text())
    except RefusedError as error:
        raise value.error(f"is wrong: {error.message}") from None


def _dead_letter_topic(value: Value | None) -> str | None:
    return None if value is None or not value.text() else _topic(value)


def _routes(document: Document) -> Routes:
    """`routes`, as v2alpha1 has them, or the single `route` of v1alpha1."""
    spec = document.spec
    if document.version.endswith("v1alpha1"):
        return Routes(default=spec.need_text("route"))
    value = spec.need("routes")
    fields = value.fields()
    rules = fields.get("rules")
    found = () if rules is None else tuple(_rule(one.fields()) for one in rules.items())
    default = fields.text("default") or None
    if not found and default is None:
        raise value.error("need rules or a default")
    return Routes(found, default)


def _rule(fields: Fields) -> Rule:
    path, match = fields.need_text("path"), fields.get("match")
    if match is None:
        return Rule(path)
    try:
        return rule(match.text(), path)
    except RuleError as error:
        raise match.error(f"is wrong: {error.message}") from None


def _metadata(value: Value | None, warn: Warn) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, entry in ({} if value is None else value.fields().all()).items():
        if name.lower() not in HONOURED:
            warn(entry.place, f"{entry.path} is ignored: it means nothing here")
        else:
            entry.boolean()  # the only one there is
            name = "rawPayload"  # noqa: PLW2901 - one spelling for those who ask
        found[name] = entry.text()
    return found


def _bulk(value: Value | None) -> BulkSubscribe | None:
    if value is None:
        return None
    fields = value.fields()
    enabled, most = fields.get("enabled"), fields.get("maxMessagesCount")
    wait = fields.get("maxAwaitDurationMs")
    bulk = BulkSubscribe(
        max_messages=(most and most.integer(0, MESSAGES_MOST)) or BULK_MESSAGES,
        max_await_ms=(wait and wait.integer(0, AWAIT_MS_MOST)) or BULK_AWAIT_MS,
    )
    return bulk if enabled is not None and enabled.boolean() else None
