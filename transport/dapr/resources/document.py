"""One resource: its kind, its name, and the fields that all kinds have."""

from collections.abc import Callable
from typing import Final

from transport.dapr.resources.errors import Place, ResourceError
from transport.dapr.resources.nodes import Value

Warn = Callable[[Place, str], None]
"""Notes what is ignored, and where it stands."""

VERSIONS: Final = {
    "Component": ("dapr.io/v1alpha1",),
    "Subscription": ("dapr.io/v1alpha1", "dapr.io/v2alpha1"),
    "Resiliency": ("dapr.io/v1alpha1",),
}
"""Kind → its versions, oldest first."""

SKIPPED: Final = frozenset({"Configuration", "HTTPEndpoint", "MCPServer", "WorkflowAccessPolicy"})
"""Kinds that Dapr apps keep in the same folder, and that pub/sub has nothing to do with."""


class Document:
    """A document of a known kind.

    Args:
        value: the document; a map with `apiVersion`, `kind`, `metadata.name` and `spec`.

    Raises:
        ResourceError: a field is missing or of a wrong type, an unknown `apiVersion`.
    """

    def __init__(self, value: Value, kind: str) -> None:
        self.place = value.place
        self.kind = kind
        self.fields = value.fields()
        self.version = self._version()
        metadata = self.fields.need("metadata").fields()
        self.name = metadata.need_text("name")
        self.spec = self.fields.need("spec").fields()

    def _version(self) -> str:
        value = self.fields.need("apiVersion")
        version = value.text()
        known = VERSIONS[self.kind]
        if version not in known:
            raise value.error(f"of {self.kind} must be {' or '.join(known)}, not {version[:40]!r}")
        return version

    def error(self, text: str) -> ResourceError:
        """An error about the whole document."""
        return ResourceError(self.place, f"{self.kind} {self.name[:80]}: {text}")

    def scopes(self) -> tuple[str, ...]:
        """The app IDs that it is for; none: all.

        Raises:
            ResourceError: no list of texts.
        """
        value = self.fields.get("scopes")
        return () if value is None else value.texts()


def document(value: Value, warn: Warn) -> Document | None:
    """A document that pub/sub has to do with; None for another of Dapr's, with a warning.

    Raises:
        ResourceError: an unknown kind, or what `Document` raises.
    """
    kind = value.fields().need("kind")
    if kind.text() in SKIPPED:
        warn(kind.place, f"kind {kind.text()} is skipped")
        return None
    if kind.text() not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise kind.error(f"{kind.text()[:40]!r} is unknown: use one of {known}")
    return Document(value, kind.text())
