"""A component's `spec.metadata`: names and values, some of them secrets from the environment."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from transport.dapr.resources.errors import Place, ResourceError
from transport.dapr.resources.nodes import Fields, Value
from transport.dapr.resources.subscription import truth

APP_ID: Final = "{appID}"

TEMPLATES: Final = ("{uuid}", "{podName}", "{namespace}", APP_ID)
"""What Dapr's sidecar replaces; a broker for many apps has nothing to put there."""


class Secrets(msgspec.Struct, frozen=True):
    """Where secrets come from: components of type `secretstores.local.env`.

    Attributes:
        environment: of the process.
        stores: name of such a component → the prefix of its variables.
    """

    environment: Mapping[str, str]
    stores: Mapping[str, str] = {}

    def variable(self, value: Value, name: str) -> str:
        """An environment variable's value.

        Raises:
            ResourceError: it is not set.
        """
        found = self.environment.get(name)
        if found is None:
            raise value.error(f"wants the environment variable {name[:80]}, which is not set")
        return found


class Setting(msgspec.Struct, frozen=True):
    """One entry.

    Attributes:
        name: as it is written.
        text: its value; may be a secret, never shown unless it is short and wrong.
        secret: whether it comes from the environment.
    """

    name: str
    text: str
    place: Place
    secret: bool = False

    def __repr__(self) -> str:
        return f"Setting({self.name!r})"

    def error(self, text: str) -> ResourceError:
        """An error about this entry."""
        return ResourceError(self.place, f"{self.name} {text}")

    def shown(self) -> str:
        """The value for messages."""
        return "a secret" if self.secret else repr(self.text[:40])

    def boolean(self) -> bool:
        """The value as a boolean.

        Raises:
            ResourceError: it is none.
        """
        try:
            return truth(self.text)
        except ValueError:
            raise self.error(f"must be true or false, not {self.shown()}") from None

    def integer(self, low: int, high: int) -> int:
        """The value as an integer within a range.

        Raises:
            ResourceError: it is none, or out of range.
        """
        text = self.text.strip()
        if text.isascii() and text.isdigit() and len(text) <= len(str(high)):
            number = int(text)
            if low <= number <= high:
                return number
        raise self.error(f"must be an integer from {low} to {high}, not {self.shown()}")


class Settings:
    """A component's entries by name, without regard to case, as Dapr reads them.

    Args:
        spec: of the component.
        auth: of the component, if it has one.

    Raises:
        ResourceError: an entry without a name or of a wrong shape, a name that stands there twice,
            a secret that can't be had.
    """

    def __init__(self, spec: Fields, auth: Value | None, secrets: Secrets) -> None:
        store = "" if auth is None else auth.fields().text("secretStore")
        self._found: dict[str, Setting] = {}
        self._asked: set[str] = set()
        metadata = spec.get("metadata")
        for item in [] if metadata is None else metadata.items():
            setting = _setting(item, store, secrets)
            if setting.name.lower() in self._found:
                raise setting.error("stands there twice")
            self._found[setting.name.lower()] = setting

    def get(self, name: str) -> Setting | None:
        """An entry; None if it is not there or empty."""
        self._asked.add(name.lower())
        found = self._found.get(name.lower())
        return found if found is not None and found.text else None

    def rest(self) -> Iterator[Setting]:
        """What nobody has asked for."""
        return (found for name, found in self._found.items() if name not in self._asked)


def _setting(item: Value, store: str, secrets: Secrets) -> Setting:
    fields = item.fields()
    name = fields.need_text("name")
    reference, variable = fields.get("secretKeyRef"), fields.get("envRef")
    if reference is not None:
        return Setting(name, _secret(name, reference, store, secrets), item.place, secret=True)
    if variable is not None:
        text = secrets.variable(variable, variable.text())
        return Setting(name, text, item.place, secret=True)
    setting = Setting(name, fields.text("value"), item.place)
    template = next((one for one in TEMPLATES if one in setting.text), None)
    whole = setting.text == APP_ID and name.lower() == "consumerid"
    if template is not None and not whole:
        raise setting.error(f"has the template {template}, which is not supported here")
    return setting


def _secret(name: str, reference: Value, store: str, secrets: Secrets) -> str:
    fields = reference.fields()
    secret = fields.need_text("name")
    key = fields.text("key") or secret
    if store not in secrets.stores:
        wanted = f"secret store {store!r}" if store else "a secret store that is not named"
        raise reference.error(
            f"of {name} wants {wanted}: let auth.secretStore name a component of type "
            "secretstores.local.env, or use envRef"
        )
    if key != secret:
        raise reference.error(f"of {name} wants the key {key!r}: a variable has its own name alone")
    return secrets.variable(reference, secrets.stores[store] + secret)
