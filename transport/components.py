"""What a broker serves under one name: a store with its actors, and who may use it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from actorbus.errors import ErrorCode, RefusedError, StoreUnusableError
from actorbus.quote import quote
from actors.access import Policy
from actors.supervisor import Supervisor
from transport.stores import open_store

DEFAULT: Final = "pubsub"
"""The name of what is served at `/v1`, unless a component of that name is defined elsewhere."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


class ComponentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one component was defined as.

    Attributes:
        name: also the end of its path, `/v1/components/NAME`.
        store: URL; may hold a password.
        policy: of all its connections.
        scopes: the app IDs that may use it; none: all.
        place: file and line, for messages; empty if it was not defined in a file.
    """

    name: str
    store: str
    policy: Policy = Policy()
    scopes: frozenset[str] = frozenset()
    place: str = ""

    def __repr__(self) -> str:
        return f"ComponentConfig(name={self.name!r}, store={self.store.partition(':')[0]!r})"


class Component:
    """One component that is served.

    Args:
        config: its name is empty if it is served at `/v1` alone.
        specversion: of the events that are wrapped.
        fatal: called when its actors keep failing.

    Raises:
        StoreUnusableError: its URL makes no sense.
    """

    def __init__(
        self, config: ComponentConfig, *, specversion: str, fatal: Callable[[str], None]
    ) -> None:
        self._config = config
        self.name = config.name
        self.scopes = config.scopes
        self.scheme = config.store.partition(":")[0]
        with self._placed():
            self.store = open_store(config.store)
        self.supervisor = Supervisor(
            self.store, specversion=specversion, fatal=fatal, policy=config.policy
        )

    async def open(self, failed: Callable[[StoreUnusableError], None]) -> None:
        """Open its store.

        Raises:
            StoreUnusableError: it can't be opened.
        """
        with self._placed():
            await self.store.open(failed)

    @contextmanager
    def _placed(self) -> Iterator[None]:
        """Say in an error which file has the component, if one has."""
        try:
            yield
        except StoreUnusableError as error:
            if not self._config.place:
                raise
            raise StoreUnusableError(
                f"{self._config.place}: component {self.name}: {error.message}",
                exit_status=error.exit_status,
            ) from None

    def check_app(self, app_id: str) -> None:
        """Refuse an app that the component is not for.

        Raises:
            RefusedError: `forbidden`.
        """
        if self.scopes and app_id not in self.scopes:
            raise RefusedError(
                ErrorCode.FORBIDDEN, f"component {self.name} is not for app ID {app_id}"
            )


def check_component_name(value: object) -> str:
    """Return `value` if it can name a component: it is part of a path.

    Raises:
        RefusedError: `invalid_name`.
    """
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise RefusedError(
        ErrorCode.INVALID_NAME,
        "a component's name must be 1 to 120 of A-Z a-z 0-9 . _ - and begin with a letter or "
        f"digit, not {quote(value)}",
    )
