"""Component files: which store Dapr's `pubsub.*` components mean here."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote as percent

from actorbus.errors import RefusedError
from actorbus.limits import MAX_IN_FLIGHT, TTL_MS
from actors.access import Policy
from transport.components import ComponentConfig, check_component_name
from transport.dapr.resources.document import Document, Warn
from transport.dapr.resources.durations import MALFORMED, milliseconds
from transport.dapr.resources.rabbitmq import rabbitmq_url
from transport.dapr.resources.scopes import access
from transport.dapr.resources.settings import Secrets, Setting, Settings

PREFIX: Final = "pubsub."
ENVIRONMENT: Final = "secretstores.local.env"

VERSIONS: Final = ("", "v1")
"""Of the component types that are known here."""


def environment_prefix(document: Document, secrets: Secrets) -> str | None:
    """The prefix of the variables if this is a secret store of the environment, else None.

    Raises:
        ResourceError: a wrong shape.
    """
    spec = document.spec
    if spec.need_text("type") != ENVIRONMENT:
        return None
    prefix = Settings(spec, None, secrets).get("prefix")
    return "" if prefix is None else prefix.text


def component(document: Document, secrets: Secrets, warn: Warn) -> ComponentConfig | None:
    """The component that a document describes; None if it is none of pub/sub, with a warning.

    Raises:
        ResourceError: an unknown type, a value that can't be honoured, a wrong shape.
    """
    kind = document.spec.need_text("type")
    if not kind.startswith(PREFIX):
        if kind != ENVIRONMENT:
            warn(document.place, f"component {document.name} of type {kind[:80]} is skipped")
        return None
    _check_kind(document, kind)
    settings = Settings(document.spec, document.fields.get("auth"), secrets)
    url = _URLS[kind](document, settings, warn)
    policy = _policy(settings)
    scopes = document.scopes()
    for setting in settings.rest():
        warn(setting.place, f"{setting.name} is unknown to {kind} here and ignored")
    return ComponentConfig(
        name=document.name,
        store=url,
        policy=policy,
        scopes=frozenset(scopes),
        place=str(document.place),
    )


def _check_kind(document: Document, kind: str) -> None:
    value = document.spec.need("type")
    if kind not in _URLS:
        raise value.error(f"{kind[:80]!r} is unknown: use one of {', '.join(_URLS)}")
    version = document.spec.get("version")
    if version is not None and version.text() not in VERSIONS:
        raise version.error(f"of {kind} must be v1, not {version.text()[:40]!r}")
    try:
        check_component_name(document.name)
    except RefusedError as error:
        raise document.error(error.message) from None


def _policy(settings: Settings) -> Policy:
    """What holds for all types: scopes, the default time to live, the window, the group."""
    consumer = settings.get("consumerID")
    if consumer is not None and consumer.text != "{appID}":
        raise consumer.error("can't be chosen: the app ID names the group; leave it out")
    ttl = settings.get("ttlInSeconds")
    return Policy(
        access=access(settings),
        ttl_ms=None if ttl is None else _ttl_ms(ttl),
        max_in_flight=_window(settings),
    )


def _ttl_ms(setting: Setting) -> int:
    text = setting.text.strip()
    ttl = milliseconds(f"{text}s" if text.isdigit() else text)
    if ttl is None or not TTL_MS[0] <= ttl <= TTL_MS[1]:
        raise setting.error(f"must be seconds or {MALFORMED}, not {setting.shown()}")
    return ttl


def _window(settings: Settings) -> int | None:
    """`prefetchCount`, and one at a time for `concurrencyMode: single`."""
    prefetch = settings.get("prefetchCount")
    window = 0 if prefetch is None else prefetch.integer(0, MAX_IN_FLIGHT)
    for name in ("concurrencyMode", "concurrency"):
        mode = settings.get(name)
        if mode is None:
            continue
        if mode.text not in ("parallel", "single"):
            raise mode.error(f"must be parallel or single, not {mode.shown()}")
        if mode.text == "single":
            window = 1
    return window or None


def _memory_url(_document: Document, settings: Settings, _warn: Warn) -> str:
    return f"memory:{_retain(settings)}"


def _sqlite_url(document: Document, settings: Settings, _warn: Warn) -> str:
    path = settings.get("path") or settings.get("connectionString")
    if path is None:
        raise document.error("pubsub.sqlite needs path (or connectionString) in spec.metadata")
    return f"sqlite:{percent(path.text.removeprefix('sqlite:'))}{_retain(settings)}"


def _retain(settings: Settings) -> str:
    retain = settings.get("retain")
    return "" if retain is None else f"?retain={percent(retain.text)}"


_URLS: Final[Mapping[str, Callable[[Document, Settings, Warn], str]]] = {
    "pubsub.in-memory": _memory_url,
    "pubsub.rabbitmq": rabbitmq_url,
    "pubsub.sqlite": _sqlite_url,
}
