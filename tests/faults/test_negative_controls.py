"""A safeguard is taken out, and its detector finds the loss: so its silence elsewhere counts."""

import asyncio
from pathlib import Path

from tests.faults import dead_letters, kill_loop
from tests.faults.disconnects import GROUP, HELD, lose_a_holder
from tests.faults.sabotage import (
    answer_before_the_commit,
    forget_leases_of_lost_connections,
    program,
    settle_before_the_dead_letter,
)


def test_an_answer_before_the_commit_is_found_by_the_kill_loop(tmp_path: Path) -> None:
    broken = program(answer_before_the_commit.__name__)
    result = asyncio.run(kill_loop.run(tmp_path, 2, seed=3, program=broken))
    assert sum(group.lost for group in result.groups.values()) > 0


def test_a_settling_before_the_dead_letter_is_found(tmp_path: Path) -> None:
    broken = program(settle_before_the_dead_letter.__name__)
    record = asyncio.run(dead_letters.run(tmp_path, rounds=1, program=broken))
    assert record.lost()[dead_letters.GROUP] > 0


def test_forgotten_leases_of_a_lost_connection_are_found(tmp_path: Path) -> None:
    broken = program(forget_leases_of_lost_connections.__name__)
    record = asyncio.run(lose_a_holder(tmp_path, broken))
    assert record.lost() == {GROUP: HELD}
