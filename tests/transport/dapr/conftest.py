"""A door as its tests run it."""

import pytest

from tests.transport.dapr.harness import DoorPlayer


@pytest.fixture(params=["serve", "sidecar"])
def play(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> DoorPlayer:
    """Runs a script against a broker with a door, on the memory store; as each of the two does."""
    return DoorPlayer(caplog, within=request.param == "serve")
