"""What a door tells about itself: `/v1.0/metadata` and gRPC's GetMetadata."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from actorbus.version import VERSION
from transport.dapr.config import DoorConfig

TYPE: Final = "pubsub.actorbus"
CAPABILITIES: Final = ("MESSAGE_TTL",)
"""In the words of Dapr's components (DAPR: features)."""

KEYS: Final = 100
KEY_CHARACTERS: Final = 256
VALUE_CHARACTERS: Final = 4096
"""Bounds of what an app may leave under `extended`: 400 KB at the most."""


class Rule(msgspec.Struct, frozen=True):
    """One route of a subscription; an empty `match` takes every event."""

    match: str = ""
    path: str = ""


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription that is served now.

    Attributes:
        kind: STREAMING, PROGRAMMATIC or DECLARATIVE.
    """

    component: str
    topic: str
    kind: str
    metadata: Mapping[str, str] = {}
    rules: tuple[Rule, ...] = ()
    dead_letter_topic: str = ""


class Metadata:
    """The door's own data, apart for each app ID. Args: config: the components."""

    def __init__(self, config: DoorConfig) -> None:
        self._config = config
        self._extended: dict[str, dict[str, str]] = {}
        self._subscriptions: dict[str, list[Subscribed]] = {}

    def components_of(self, app_id: str) -> list[str]:
        """The components that an app has."""
        return [name for name in self._config.components if self._config.serves(name, app_id)]

    def subscribe(self, app_id: str, subscribed: Subscribed) -> None:
        """Show a subscription, as often as it is given."""
        self._subscriptions.setdefault(app_id, []).append(subscribed)

    def unsubscribe(self, app_id: str, subscribed: Subscribed) -> None:
        """Show it no more."""
        found = self._subscriptions.get(app_id, [])
        found.remove(subscribed)
        if not found:
            del self._subscriptions[app_id]

    def subscriptions(self, app_id: str) -> list[Subscribed]:
        """The subscriptions of an app."""
        return [*self._subscriptions.get(app_id, ())]

    def extend(self, app_id: str, key: str, value: str) -> None:
        """Keep a text for an app.

        Raises:
            ValueError: it is too long, or there are too many.
        """
        if len(key) > KEY_CHARACTERS or len(value) > VALUE_CHARACTERS:
            raise ValueError(
                f"metadata is limited to {KEY_CHARACTERS} characters of key"
                f" and {VALUE_CHARACTERS} of value"
            )
        kept = self._extended.setdefault(app_id, {})
        if key not in kept and len(kept) >= KEYS:
            raise ValueError(f"metadata is limited to {KEYS} keys")
        kept[key] = value

    def extended(self, app_id: str) -> Mapping[str, str]:
        """What an app has left here, and the door's version."""
        return {**self._extended.get(app_id, {}), "daprRuntimeVersion": VERSION}

    def document(self, app_id: str) -> dict[str, Any]:
        """The JSON of `/v1.0/metadata`."""
        return {
            "id": app_id,
            "runtimeVersion": VERSION,
            "enabledFeatures": [],
            "components": [
                {"name": name, "type": TYPE, "version": "v1", "capabilities": CAPABILITIES}
                for name in self.components_of(app_id)
            ],
            "extended": self.extended(app_id),
            "subscriptions": [_shown(one) for one in self.subscriptions(app_id)],
        }


def _shown(subscribed: Subscribed) -> dict[str, Any]:
    return {
        "pubsubname": subscribed.component,
        "topic": subscribed.topic,
        "metadata": subscribed.metadata,
        "rules": [{"match": rule.match, "path": rule.path} for rule in subscribed.rules],
        "deadLetterTopic": subscribed.dead_letter_topic,
        "type": subscribed.kind,
    }
