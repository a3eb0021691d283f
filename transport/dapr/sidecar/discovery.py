"""What an app says that it subscribes to, in every shape since Dapr 0.1. Pure.

`GET /dapr/subscribe` is answered with a JSON array. Its entries:

    "orders"                                          up to 0.7; events go to POST /orders
    {"topic": …, "route": …}                          0.8 and 0.9
    {"pubsubname": …, "topic": …, "route": …}         since 0.10
    {…, "routes": {"rules": […], "default": …}}       since 1.4, as `bulkSubscribe`, `metadata`,
                                                      `deadLetterTopic`

Keys are read in any case, as Dapr's own JSON reader does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import orjson
from dapr.proto.runtime.v1.appcallback_pb2 import ListTopicSubscriptionsResponse, TopicSubscription

from actorbus import json_text
from actorbus.errors import ActorbusError, RefusedError, UndecodableError
from actorbus.names import check_topic
from actorbus.quote import quote
from transport.dapr.resources.declared import AWAIT_MS_MOST, MESSAGES_MOST
from transport.dapr.resources.routes import Routes, Rule, RuleError, rule
from transport.dapr.resources.subscription import (
    BULK_AWAIT_MS,
    BULK_MESSAGES,
    BulkSubscribe,
    Subscription,
    truth,
)

T = TypeVar("T")

RAW: Final = "rawPayload"


class DiscoveryError(ActorbusError):
    """An app's subscriptions can't be served as they are meant; the message names the topic."""


class Discovered(msgspec.Struct, frozen=True):
    """What was understood.

    Attributes:
        subscriptions: in the app's order.
        problems: what was left out, and why, one line each.
    """

    subscriptions: tuple[Subscription, ...] = ()
    problems: tuple[str, ...] = ()


class _EntryError(Exception):
    """This entry is left out; the others are not."""


def from_json(body: bytes, default_component: str | None) -> Discovered:
    """The answer to `GET /dapr/subscribe`.

    Args:
        body: as it came; an empty one names nothing.
        default_component: of entries that name none; None: such entries are left out.

    Raises:
        DiscoveryError: a rule is no CEL. Dapr, too, takes no entry then.
    """
    if not body.strip():
        return Discovered()
    try:
        value = json_text.loads(body)
    except UndecodableError as error:
        return Discovered(problems=(f"the answer is no JSON: {error.message}",))
    if value is None:
        return Discovered()
    if not isinstance(value, list):
        return Discovered(problems=(f"the answer is no array, but {quote(value)}",))
    return _collect(value, lambda entry: _json_entry(entry, default_component))


def from_grpc(answer: ListTopicSubscriptionsResponse) -> Discovered:
    """The answer to `ListTopicSubscriptions`.

    Raises:
        DiscoveryError: a rule is no CEL.
    """
    return _collect(answer.subscriptions, _grpc_entry)


def merged(
    programmatic: Iterable[Subscription], declarative: Iterable[Subscription]
) -> tuple[Subscription, ...]:
    """All of an app's subscriptions, one for each topic: what the app says wins over files."""
    found: dict[tuple[str, str], Subscription] = {}
    for one in (*programmatic, *declarative):
        found.setdefault((one.component, one.topic), one)
    return tuple(found.values())


def _collect(entries: Iterable[T], read: Callable[[T], Subscription]) -> Discovered:
    subscriptions: list[Subscription] = []
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        try:
            found = read(entry)
        except _EntryError as error:
            problems.append(str(error))
            continue
        key = found.component, found.topic
        if key in seen:
            problems.append(f"topic {found.topic} is named twice: the first entry counts")
        else:
            seen.add(key)
            subscriptions.append(found)
    return Discovered(tuple(subscriptions), tuple(problems))


def _json_entry(entry: Any, default_component: str | None) -> Subscription:
    if isinstance(entry, str):
        topic = _topic(entry)
        fields: Mapping[str, Any] = {"topic": topic, "route": f"/{topic}"}
    elif isinstance(entry, dict):
        fields = {name.lower(): value for name, value in entry.items()}
    else:
        raise _EntryError(f"{quote(entry)} is neither a topic nor a map")
    topic = _topic(_text(fields, "topic"))
    component = _text(fields, "pubsubname") or default_component
    if component is None:
        raise _EntryError(f"topic {topic} has no pubsubname, and there are several components")
    routes = _routes(topic, fields)
    if not routes.paths():
        raise _EntryError(f"topic {topic} has no route")
    return Subscription(
        component=component,
        topic=topic,
        routes=routes,
        dead_letter_topic=_dead_letter_topic(_text(fields, "deadlettertopic")),
        metadata=_metadata(topic, _map(fields, "metadata")),
        bulk=_json_bulk(_lower(_map(fields, "bulksubscribe"))),
        kind="PROGRAMMATIC",
    )


def _routes(topic: str, fields: Mapping[str, Any]) -> Routes:
    routes = _lower(_map(fields, "routes"))
    rules = routes.get("rules") or []
    if not isinstance(rules, list):
        raise _EntryError(f"topic {topic}: rules must be an array, not {quote(rules)}")
    found = tuple(_rule(topic, one) for one in rules)
    default = _text(routes, "default")
    if not found and not default:
        default = _text(fields, "route")
    return Routes(found, default or None)


def _rule(topic: str, value: Any) -> Rule:
    if not isinstance(value, dict):
        raise _EntryError(f"topic {topic}: a rule must be a map, not {quote(value)}")
    fields = _lower(value)
    return _compiled(topic, _text(fields, "match"), _text(fields, "path"))


def _compiled(topic: str, match: str, path: str) -> Rule:
    try:
        return rule(match, path)
    except RuleError as error:
        raise DiscoveryError(f"the app's subscription to {topic}: {error.message}") from None


def _grpc_entry(entry: TopicSubscription) -> Subscription:
    topic = _topic(entry.topic)
    if not entry.pubsub_name:
        raise _EntryError(f"topic {topic} has no pubsub_name")
    rules = tuple(_compiled(topic, one.match, one.path) for one in entry.routes.rules)
    bulk = entry.bulk_subscribe
    return Subscription(
        component=entry.pubsub_name,
        topic=topic,
        # an app that names no route gets its events with an empty path
        routes=Routes(rules, entry.routes.default or (None if rules else "")),
        dead_letter_topic=_dead_letter_topic(entry.dead_letter_topic),
        metadata=_metadata(topic, dict(entry.metadata)),
        bulk=_bulk(bulk.max_messages_count, bulk.max_await_duration_ms) if bulk.enabled else None,
        kind="PROGRAMMATIC",
    )


def _topic(name: str) -> str:
    try:
        return check_topic(name)
    except RefusedError as error:
        raise _EntryError(f"{quote(name)} can't be subscribed to: {error.message}") from None


def _dead_letter_topic(name: str) -> str | None:
    return _topic(name) if name else None


def _metadata(topic: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as text. The JavaScript SDK writes values as JSON, so text comes with quotes."""
    found = {
        name: value.strip('"') if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in values.items()
    }
    for name in [*found]:
        if name.lower() == RAW.lower():
            found[RAW] = found.pop(name)
    try:
        truth(found.get(RAW, ""))
    except ValueError as error:
        raise _EntryError(f"topic {topic}: rawPayload {error}") from None
    return found


def _json_bulk(fields: Mapping[str, Any]) -> BulkSubscribe | None:
    if fields.get("enabled") is not True:
        return None
    return _bulk(fields.get("maxmessagescount"), fields.get("maxawaitdurationms"))


def _bulk(messages: object, await_ms: object) -> BulkSubscribe:
    return BulkSubscribe(
        max_messages=_number(messages, BULK_MESSAGES, MESSAGES_MOST),
        max_await_ms=_number(await_ms, BULK_AWAIT_MS, AWAIT_MS_MOST),
    )


def _number(value: object, default: int, most: int) -> int:
    """A positive number up to `most`; the default for anything else, as for 0."""
    return min(value, most) if type(value) is int and value > 0 else default


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _EntryError(f"{name} must be a text, not {quote(value)}")
    return value


def _map(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _EntryError(f"{name} must be a map, not {quote(value)}")
    return value


def _lower(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name.lower(): value for name, value in fields.items()}
