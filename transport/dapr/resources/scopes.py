"""Dapr's pub/sub scopes as text: `app1=topic1,topic2;app2=`, and lists of topics."""

from actors.access import Access
from transport.dapr.resources.settings import Setting, Settings


def access(settings: Settings) -> Access | None:
    """What a component's metadata say of who may use which topic; None if they say nothing.

    Raises:
        ResourceError: an entry that names no app.
    """
    found = Access(
        allowed=_topics(settings.get("allowedTopics")),
        protected=_topics(settings.get("protectedTopics")),
        publishing=_scopes(settings.get("publishingScopes")),
        subscription=_scopes(settings.get("subscriptionScopes")),
    )
    return None if found == Access() else found


def _topics(setting: Setting | None) -> frozenset[str]:
    if setting is None:
        return frozenset()
    return frozenset(filter(None, setting.text.replace(" ", "").split(",")))


def _scopes(setting: Setting | None) -> dict[str, frozenset[str]]:
    """App → topics. An app that stands there several times may use all of what it is given."""
    scopes: dict[str, frozenset[str]] = {}
    if setting is None:
        return scopes
    for entry in filter(None, setting.text.replace(" ", "").split(";")):
        app, equals, topics = entry.partition("=")
        if not app or not equals or "=" in topics:
            raise setting.error(f"has an entry {entry[:40]!r} that is not APP=TOPIC,TOPIC")
        scopes[app] = scopes.get(app, frozenset()) | frozenset(filter(None, topics.split(",")))
    return scopes
