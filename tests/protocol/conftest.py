"""The protocol in both encodings, against the memory store or, where a test asks, SQLite."""

from pathlib import Path

import pytest

from tests.protocol.harness import Encoding, Player


@pytest.fixture(params=["msgpack", "json"])
def encoding(request: pytest.FixtureRequest) -> Encoding:
    chosen: Encoding = request.param
    return chosen


@pytest.fixture
def play(encoding: Encoding, caplog: pytest.LogCaptureFixture) -> Player:
    """Runs a script in each encoding, on the memory store."""
    return Player(encoding, "memory:", caplog)


@pytest.fixture(params=["memory", "sqlite"])
def play_stores(
    request: pytest.FixtureRequest,
    encoding: Encoding,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> Player:
    """Runs a script in each encoding on each store."""
    store = "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/events.db"
    return Player(encoding, store, caplog)


@pytest.fixture
def play_once(caplog: pytest.LogCaptureFixture) -> Player:
    """Runs a script in one encoding, for what does not depend on it."""
    return Player("json", "memory:", caplog)
