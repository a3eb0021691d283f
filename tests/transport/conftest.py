"""A broker as the protocol's tests run it."""

import pytest

from tests.protocol.harness import Player


@pytest.fixture
def play(caplog: pytest.LogCaptureFixture) -> Player:
    """Runs a script, in JSON on the memory store."""
    return Player("json", "memory:", caplog)
