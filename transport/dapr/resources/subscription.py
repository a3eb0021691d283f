"""A subscription of a Dapr app, wherever it was declared: in a file, by the app, by a stream."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from transport.dapr.resources.routes import Routes

BULK_MESSAGES: Final = 100
"""`maxMessagesCount` unless named (Dapr: components without bulk subscriptions of their own)."""

BULK_AWAIT_MS: Final = 1_000
"""`maxAwaitDurationMs` unless named (same)."""

TRUE: Final = frozenset({"1", "t", "true", "y", "yes", "on"})
"""What Dapr takes for true in metadata, in lower case."""

FALSE: Final = frozenset({"0", "f", "false", "n", "no", "off", ""})
"""What Dapr takes for false in metadata, in lower case."""


class BulkSubscribe(msgspec.Struct, frozen=True, kw_only=True):
    """Events are given to the app several at a time.

    Attributes:
        max_messages: most of one call.
        max_await_ms: how long the first one waits for others.
    """

    max_messages: int = BULK_MESSAGES
    max_await_ms: int = BULK_AWAIT_MS


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What an app wants of one topic.

    Attributes:
        component: the pub/sub component's name.
        routes: where events go within the app.
        dead_letter_topic: None: there is none.
        metadata: as declared; free-form.
        bulk: None: one event at a time.
        scopes: the app IDs that it is for; none: for all.
        kind: how it was declared, as `/v1.0/metadata` says it.
    """

    component: str
    topic: str
    routes: Routes = Routes()
    dead_letter_topic: str | None = None
    metadata: Mapping[str, str] = {}
    bulk: BulkSubscribe | None = None
    scopes: tuple[str, ...] = ()
    kind: Literal["DECLARATIVE", "PROGRAMMATIC", "STREAMING"] = "DECLARATIVE"

    def is_for(self, app_id: str) -> bool:
        """Whether the app is within the scopes."""
        return not self.scopes or app_id in self.scopes

    def raw_payload(self) -> bool:
        """Whether the app wants every event's bytes wrapped, instead of the event itself.

        Raises:
            ValueError: `rawPayload` is no boolean.
        """
        return truth(self.metadata.get("rawPayload", ""))


def truth(value: str) -> bool:
    """A boolean as Dapr's metadata write it.

    Raises:
        ValueError: it is none.
    """
    word = value.strip().lower()
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise ValueError(f"must be true or false, not {value[:40]!r}")
