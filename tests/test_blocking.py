"""The negative control of the detector of blocking calls."""

import contextlib
import time
from typing import Any

import pytest
from blockbuster import BlockingError

from tests.actors import stage
from tests.actors.fakes import ManualClock


class Slow(ManualClock):
    """A clock that blocks the loop while it is read."""

    def now(self) -> Any:
        time.sleep(0.001)
        return super().now()


async def script(one: stage.Stage) -> None:
    await one.app().subscribe()
    one.supervisor.clock = Slow()
    one.supervisor.sweep()


def test_a_blocking_call_of_the_broker_is_found() -> None:
    with pytest.raises(BlockingError, match=r"time\.sleep"):
        stage.play(script)


def test_without_the_detector_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "no_blocking", contextlib.nullcontext)
    stage.play(script)
