"""Reads a folder of resource files, or several."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from transport.components import ComponentConfig
from transport.dapr.resources.component import component, environment_prefix
from transport.dapr.resources.declared import subscription
from transport.dapr.resources.document import Document, document
from transport.dapr.resources.errors import Place, ResourceError
from transport.dapr.resources.nodes import documents
from transport.dapr.resources.resiliency import Resiliency, resiliency
from transport.dapr.resources.settings import Secrets
from transport.dapr.resources.subscription import Subscription
from transport.dapr.settling import Retries

log = structlog.get_logger("actorbus.dapr")

ENDINGS: Final = (".yaml", ".yml")


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What resource files say.

    Attributes:
        components: pub/sub components, in the order of their files.
        subscriptions: in the same order.
        policies: how failed deliveries are tried again.
        warnings: what is ignored or skipped, each with file and line.
    """

    components: tuple[ComponentConfig, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    policies: tuple[Resiliency, ...] = ()
    warnings: tuple[str, ...] = ()

    def retries(self, component: str, app_id: str) -> Retries | None:
        """The policy for an app's groups of a component; the last file's that has one."""
        found = (one.retries(component, app_id) for one in reversed(self.policies))
        return next((retries for retries in found if retries is not None), None)

    def subscriptions_of(self, app_id: str) -> tuple[Subscription, ...]:
        """The declared subscriptions that are for an app."""
        return tuple(one for one in self.subscriptions if one.is_for(app_id))

    def log_warnings(self) -> None:
        """Log every warning."""
        for warning in self.warnings:
            log.warning("resource file", reason=warning)


def load(folders: Sequence[Path], environment: Mapping[str, str] | None = None) -> Resources:
    """Read every `.yaml` and `.yml` file of the folders (not of folders below them).

    Args:
        folders: later ones may not repeat names of earlier ones.
        environment: that secrets come from; the process's unless given.

    Raises:
        ResourceError: the first thing that is wrong, with file and line.
    """
    warnings: list[str] = []

    def warn(place: Place, text: str) -> None:
        warnings.append(f"{place}: {text}")

    found = [
        one
        for file in _files(folders)
        for value in documents(file)
        if (one := document(value, warn)) is not None
    ]
    _check_names(found)
    secrets = Secrets(os.environ if environment is None else environment)
    by_kind = {kind: [one for one in found if one.kind == kind] for kind in _KINDS}
    secrets = msgspec.structs.replace(secrets, stores=_stores(by_kind["Component"], secrets))
    components = [component(one, secrets, warn) for one in by_kind["Component"]]
    subscriptions = [(one, subscription(one, warn)) for one in by_kind["Subscription"]]
    _check_topics(subscriptions)
    policies = tuple(resiliency(one, warn) for one in by_kind["Resiliency"])
    return Resources(
        components=tuple(one for one in components if one is not None),
        subscriptions=tuple(one for _, one in subscriptions),
        policies=policies,
        warnings=tuple(warnings),
    )


_KINDS: Final = ("Component", "Subscription", "Resiliency")


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        try:
            files = sorted(folder.iterdir())
        except OSError as error:
            raise ResourceError(folder, f"can't be read: {error.strerror}") from None
        yield from (file for file in files if file.suffix.lower() in ENDINGS and file.is_file())


def _stores(found: Sequence[Document], secrets: Secrets) -> dict[str, str]:
    prefixes = ((one.name, environment_prefix(one, secrets)) for one in found)
    return {name: prefix for name, prefix in prefixes if prefix is not None}


def _check_names(found: Sequence[Document]) -> None:
    places: dict[tuple[str, str], Place] = {}
    for one in found:
        other = places.setdefault((one.kind, one.name), one.place)
        if other is not one.place:
            raise one.error(f"this name stands already at {other}")


def _check_topics(found: Sequence[tuple[Document, Subscription]]) -> None:
    """No app may be subscribed to one topic twice."""
    seen: dict[tuple[str, str], list[tuple[Document, Subscription]]] = {}
    for one, wanted in found:
        others = seen.setdefault((wanted.component, wanted.topic), [])
        for other, earlier in others:
            apps = set(wanted.scopes) & set(earlier.scopes)
            if apps or not wanted.scopes or not earlier.scopes:
                raise one.error(
                    f"topic {wanted.topic} of {wanted.component} is subscribed to already at "
                    f"{other.place}; give them different scopes"
                )
        others.append((one, wanted))
