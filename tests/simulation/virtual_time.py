"""An event loop whose clock jumps, and whose order of work comes from a seed."""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from actors.clock import Clock, Now

MOST_TURNS = 20_000
"""Turns of the loop without time going on: whoever is at it then goes round for ever."""


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, lets the loop's time go on."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise AssertionError("everyone waits for ever")
        self._turns = 0 if timeout > 0 else self._turns + 1
        assert self._turns < MOST_TURNS, f"work goes round without end at {self.time:.3f}"
        self.time += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready in an order drawn from `seed`; nothing in it waits for real time.

    What one actor is told stays in its inbox in order; it is the turns of actors, store calls and
    timers that change places. That is more than asyncio does by itself, where what is ready first
    runs first: work that takes another few microseconds is all that it needs to come about.

    Attributes:
        random: to be used for every choice of a script, so that its seed says it all.
        failures: what the loop's callbacks and tasks raised and nobody took.
    """

    def __init__(self, seed: int) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.random = random.Random(seed)
        self.failures: list[object] = []
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self._virtual.time

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or context["message"])

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]  # asyncio's own, as is `_run_once`
        waiting = list(ready)
        self.random.shuffle(waiting)
        ready.clear()
        ready.extend(waiting)
        super()._run_once()  # type: ignore[misc]  # as above


class VirtualClock(Clock):
    """The loop's time, on both clocks."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> Now:
        mono = int(self._loop.time() * 1000)
        return Now(mono, 1_700_000_000_000 + mono)


def run(seed: int, main: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> None:
    """Run `main` to its end in virtual time; nothing may be left over, raised or under way."""
    loop = VirtualLoop(seed)
    before = random.getstate()
    random.seed(seed)  # the broker's own jitter
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main(loop))
        assert loop.failures == []
    finally:
        random.setstate(before)
        _clean_up(loop)


def _clean_up(loop: VirtualLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks) if tasks else asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()
