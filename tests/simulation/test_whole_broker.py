"""Whole brokers on a seeded scheduler with a virtual clock: actors fail, apps come and go."""

import os

import pytest
import structlog.testing

from tests.simulation.casting import ORDERS, STOCK
from tests.simulation.virtual_time import VirtualLoop, run
from tests.simulation.world import BrokenOnPurposeError, World

SEEDS = int(os.environ.get("BROKER_SEEDS", "40"))


def play(seed: int) -> World:
    """One world from its beginning to its end; no actor failed but those that were broken."""
    worlds: list[World] = []

    async def script(loop: VirtualLoop) -> None:
        worlds.append(World(loop))
        await worlds[0].play()

    with structlog.testing.capture_logs() as logs:
        run(seed, script)
    errors = [entry["exc_info"] for entry in logs if "exc_info" in entry]
    strange = [error for error in errors if not isinstance(error, BrokenOnPurposeError)]
    assert strange == []
    return worlds[0]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_app_is_done_with_every_durable_event_whatever_fails(seed: int) -> None:
    play(seed)


def test_a_play_has_every_kind_of_trouble() -> None:
    world = play(0)
    assert world.supervisor.counters.restarts.keys() == {"topic", "group", "instance"}
    stock = world.supervisor.topics[ORDERS].groups[STOCK].counters
    assert min(stock.redelivered, stock.dead_lettered) > 0


def test_a_seed_plays_the_same_each_time() -> None:
    first, second = play(7), play(7)
    assert first.trace == second.trace
