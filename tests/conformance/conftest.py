"""The stores that the conformance tests run against.

Another store joins by a fixture `NAME_url` that gives the URL of an empty one, and its name here.
"""

import os
from pathlib import Path

import pytest

LASTING = ("sqlite", "rabbitmq")
"""Stores that keep everything when they are closed and opened again."""

KINDS = ("memory", "example", *LASTING)
"""All; the example comes from another distribution (docs/stores.md)."""


@pytest.fixture
def memory_url() -> str:
    return "memory:"


@pytest.fixture
def example_url(example_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(example_store))
    return "example:"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path}{os.sep}actorbus.db"


@pytest.fixture(params=KINDS)
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=LASTING)
def lasting_url(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind that lasts."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
