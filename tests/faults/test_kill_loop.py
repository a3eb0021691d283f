"""`kill -9` of the broker under load, `FAULT_ROUNDS` times (20)."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.faults import dead_letters, kill_loop

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "20"))
SECONDS = 60 + 5 * ROUNDS

pytestmark = pytest.mark.timeout(SECONDS)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> kill_loop.Result:
    """One loop, of which each test looks at one side."""
    directory = tmp_path_factory.mktemp("kill_loop")
    return asyncio.run(kill_loop.run(directory, ROUNDS, seed=2))


@pytest.mark.parametrize("group", kill_loop.GROUPS)
def test_no_acknowledged_event_is_lost(result: kill_loop.Result, group: str) -> None:
    assert result.kills == ROUNDS
    assert result.acknowledged >= ROUNDS * kill_loop.ROUND_EVENTS[0]
    assert result.groups[group].lost == 0


def test_nothing_is_left_unsettled(result: kill_loop.Result) -> None:
    assert result.backlog == 0


@pytest.mark.parametrize("group", kill_loop.GROUPS)
def test_a_kill_of_the_broker_is_no_attempt(result: kill_loop.Result, group: str) -> None:
    assert result.groups[group].highest_attempt == 1


@pytest.mark.parametrize("group", kill_loop.GROUPS)
def test_what_was_durably_settled_never_comes_back(result: kill_loop.Result, group: str) -> None:
    assert result.groups[group].returned == 0


def test_no_dead_letter_is_lost(tmp_path: Path) -> None:
    record = asyncio.run(dead_letters.run(tmp_path, rounds=3))
    assert len(record.acknowledged) == 3 * dead_letters.EVENTS
    assert record.lost() == {dead_letters.GROUP: 0}
