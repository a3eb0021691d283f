"""Small bounds, so that a few events reach them."""

import pytest

from actors import group_state
from tests.properties.invariants import MOST_OUTSTANDING, READ_AHEAD


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_state, "GROUP_OUTSTANDING", MOST_OUTSTANDING)
    monkeypatch.setattr(group_state, "GROUP_READ_AHEAD_BYTES", READ_AHEAD)
