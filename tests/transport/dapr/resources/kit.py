"""Resource files as text, loaded."""

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from transport.components import ComponentConfig
from transport.dapr.resources.errors import ResourceError
from transport.dapr.resources.load import Resources, load


class Folder:
    """A folder of resource files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment: Mapping[str, str] = {}

    def write(self, text: str, name: str = "resource.yaml") -> Path:
        file = self.path / name
        file.write_text(dedent(text), encoding="utf-8")
        return file

    def load(self, text: str) -> Resources:
        """What a single file says."""
        self.write(text)
        return load([self.path], self.environment)

    def refusal(self, text: str) -> str:
        """Why a single file is refused, from its line on."""
        with pytest.raises(ResourceError) as caught:
            self.load(text)
        message = caught.value.message
        assert "\n" not in message
        return message.removeprefix(f"{self.path}/resource.yaml:")

    def warnings(self, text: str) -> list[str]:
        """What a single file is warned of, from the line on."""
        start = f"{self.path}/resource.yaml:"
        return [warning.removeprefix(start) for warning in self.load(text).warnings]


def component_text(kind: str, *entries: str, **more: str) -> str:
    """A component's file; its entries `name: value` begin in line 7 and have two lines each."""
    lines = ["apiVersion: dapr.io/v1alpha1", "kind: Component", "metadata: {name: orders}"]
    lines += ["spec:", f"  type: {kind}", "  metadata:" if entries else "  metadata: []"]
    for entry in entries:
        name, _, value = entry.partition(": ")
        lines += [f"  - name: {name}", f"    value: {value}"]
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in more.items()), ""])


def component_of(folder: Folder, kind: str, *entries: str, **more: str) -> ComponentConfig:
    """The one component of a file."""
    (found,) = folder.load(component_text(kind, *entries, **more)).components
    return found
