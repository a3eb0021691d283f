"""The machines find it when a safeguard is taken out."""

import pytest

from tests.properties import sabotage
from tests.properties.machine import GroupMachine, QueueMachine, play
from tests.properties.sabotage import Patch, Sabotage

EXAMPLES = 1_000
"""Far more than any of them takes: most are found within 10, the rest within 100."""

FOUND = (AssertionError, KeyError, TypeError, ValueError)
"""A broken promise, or a state that can't go on."""


@pytest.mark.parametrize("out", sabotage.ON_A_LOG)
def test_on_a_log_they_find_that(out: Sabotage, monkeypatch: Patch) -> None:
    out(monkeypatch)
    with pytest.raises(FOUND):
        play(GroupMachine, EXAMPLES, shrink=False)


@pytest.mark.parametrize("out", sabotage.ON_A_QUEUE)
def test_on_a_queue_they_find_that(out: Sabotage, monkeypatch: Patch) -> None:
    out(monkeypatch)
    with pytest.raises(FOUND):
        play(QueueMachine, EXAMPLES, shrink=False)
