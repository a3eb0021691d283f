"""A door as its tests run it."""

import pytest

from tests.transport.dapr.harness import DoorPlayer


@pytest.fixture
def play(caplog: pytest.LogCaptureFixture) -> DoorPlayer:
    """Runs a script against a broker with a door, on the memory store."""
    return DoorPlayer(caplog)
