"""What becomes of an event after an attempt has ended. Pure."""

from typing import Literal

from actorbus.store import GroupOptions
from actors.messages import Run

Ending = Literal["retry", "missed", "lost"]


def after(run: Run, ending: Ending) -> Run:
    """The run with one more attempt behind it."""
    return Run(
        run.batch,
        run.index,
        run.count,
        run.attempts + 1,
        run.lost + (ending == "lost"),
        run.missed + 1 if ending == "missed" else 0,
    )


def exhausted(run: Run, options: GroupOptions) -> bool:
    """Whether no attempt is left."""
    return 0 < options.max_attempts <= run.attempts


def suspect(run: Run, options: GroupOptions) -> bool:
    """Whether the next attempt must be alone.

    A lost connection blames all events in flight on it. Before one of them is given up for that,
    it gets its last attempt with nothing beside it, so that only what really ends connections goes.
    """
    return run.lost > 0 and 0 < options.max_attempts == run.attempts + 1


def delay_ms(run: Run, ending: Ending, options: GroupOptions, jitter: float) -> int:
    """Back-off before the next attempt (protocol: `backoff_ms`).

    Args:
        run: with the attempt that has ended counted.
        ending: how it ended.
        options: the group's.
        jitter: 0.5 to 1.
    """
    if ending == "lost" or (ending == "missed" and run.missed == 1):
        return 0
    doublings = run.missed - 2 if ending == "missed" else run.attempts - 1
    return int(backoff(doublings, options) * jitter)


def backoff(doublings: int, options: GroupOptions) -> int:
    """`backoff_ms`, doubled so often, at most `max_backoff_ms`."""
    longest = max(options.max_backoff_ms, options.backoff_ms)
    return min(options.backoff_ms << min(doublings, 32), longest)
