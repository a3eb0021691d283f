"""The stores behind `actorbus.store`, found by the scheme of their URL.

The built-in ones work from a checkout too; an installed distribution adds its own through the
entry-point group `actorbus.stores` (see `actorbus.store`).
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from actorbus.errors import StoreUnusableError
from actorbus.store import Store

GROUP: Final = "actorbus.stores"
_BUILT_IN: Final = {
    scheme: EntryPoint(scheme, f"transport.stores.{module}:open_store", GROUP)
    for scheme, module in (
        ("memory", "memory"),
        ("sqlite", "sqlite"),
        ("amqp", "rabbitmq"),
        ("amqps", "rabbitmq"),
    )
}


def open_store(url: str) -> Store:
    """The store that `url` names, not open yet.

    Raises:
        StoreUnusableError: no scheme, an unknown one, or a URL that its store refuses. Messages
            never repeat the URL, which may hold a password.
    """
    scheme, colon, _ = url.partition(":")
    factories = _factories()
    known = ", ".join(sorted(factories))
    if not colon:
        raise StoreUnusableError(f"the store url has no scheme: use one of {known}, as in memory:")
    if scheme not in factories:
        raise StoreUnusableError(f"unknown store scheme {scheme[:32]!r}: use one of {known}")
    return _load(factories[scheme], url)


def _factories() -> dict[str, EntryPoint]:
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    return installed | _BUILT_IN


def _load(entry: EntryPoint, url: str) -> Store:
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as error:
        raise StoreUnusableError(f"store {entry.name!r} can't be loaded: {error}") from error
    return cast(Store, factory(url))
