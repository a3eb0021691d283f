"""Which app may publish to which topic, and subscribe to which.

The rules are those of Dapr's pub/sub scopes (docs.dapr.io, "Scope Pub/sub topic access"): names are
compared exactly, there are no wildcards.
"""

from collections.abc import Mapping

import msgspec

from actorbus.errors import ErrorCode, RefusedError

Scopes = Mapping[str, frozenset[str]]
"""App ID → its topics. An app that is not named is not limited; one with no topics may use none."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one component; without any, every app may use every topic.

    Attributes:
        allowed: the only topics there are; empty: any.
        protected: topics for the apps alone that a scope names them for.
        publishing: what apps may publish to.
        subscription: what apps may subscribe to.
    """

    allowed: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()
    publishing: Scopes = {}
    subscription: Scopes = {}

    def check_publish(self, app_id: str, topic: str) -> None:
        """Refuse a publish that is not allowed.

        Raises:
            RefusedError: `forbidden`.
        """
        self._check(self.publishing, app_id, topic)

    def check_subscribe(self, app_id: str, topic: str) -> None:
        """Refuse a subscription that is not allowed.

        Raises:
            RefusedError: `forbidden`.
        """
        self._check(self.subscription, app_id, topic)

    def _check(self, scopes: Scopes, app_id: str, topic: str) -> None:
        scope = scopes.get(app_id)
        if self.allowed and topic not in self.allowed:
            permitted = False
        elif scope is None:
            permitted = topic not in self.protected
        else:
            permitted = topic in scope
        if not permitted:
            raise RefusedError(
                ErrorCode.FORBIDDEN, f"topic {topic} is not allowed for app id {app_id}"
            )


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator has laid down for all connections of one component.

    Attributes:
        access: None: every app may use every topic.
        ttl_ms: of publishes that name none; None: they never expire.
        max_in_flight: no connection has a larger window; None: as large as it asks for.
    """

    access: Access | None = None
    ttl_ms: int | None = None
    max_in_flight: int | None = None

    def check_publish(self, app_id: str, topic: str) -> None:
        """Refuse a publish that is not allowed.

        Raises:
            RefusedError: `forbidden`.
        """
        if self.access is not None:
            self.access.check_publish(app_id, topic)

    def check_subscribe(self, app_id: str, topic: str, dead_letter_topic: object) -> None:
        """Refuse a subscription that is not allowed.

        The app's dead letters are publishes of its own, as in Dapr.

        Raises:
            RefusedError: `forbidden`.
        """
        if self.access is not None:
            self.access.check_subscribe(app_id, topic)
            if isinstance(dead_letter_topic, str):
                self.access.check_publish(app_id, dead_letter_topic)

    def window(self, asked: int) -> int:
        """The `max_in_flight` that a connection gets."""
        return asked if self.max_in_flight is None else min(asked, self.max_in_flight)
