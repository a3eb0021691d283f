"""A broker without one of its safeguards, to see the detectors find what is then lost.

python -m tests.faults.sabotage NAME serve ...
"""

import sys
import time
from collections.abc import Callable
from typing import Final

from actors import effects as fx
from actors import messages as msg
from actors.clock import Now
from actors.group import GroupActor
from actors.group_state import GroupState
from actors.runtime import tell
from transport.cli import main
from transport.stores.sqlite.log import SqliteLog

LATE_SECONDS: Final = 0.5
"""What should have been durable before the answer becomes so this much later."""


def program(name: str) -> tuple[str, ...]:
    """The interpreter's arguments for this broker."""
    return ("-m", "tests.faults.sabotage", name, "serve")


def answer_before_the_commit() -> None:
    """Publishers and apps are told that things are durable up to `LATE_SECONDS` before they are."""
    commit, pause = SqliteLog.commit, SqliteLog.pause
    committed = time.monotonic()

    def commit_late(self: SqliteLog) -> None:
        nonlocal committed
        if time.monotonic() - committed > LATE_SECONDS:
            commit(self)
            committed = time.monotonic()

    def pause_less(self: SqliteLog) -> float | None:
        return min(LATE_SECONDS, pause(self) or LATE_SECONDS)

    SqliteLog.commit = commit_late  # type: ignore[method-assign]  # the sabotage
    SqliteLog.pause = pause_less  # type: ignore[method-assign]  # the sabotage


def settle_before_the_dead_letter() -> None:
    """Dropped events are settled at once, their dead letters become durable later."""
    dead_letter = GroupActor._dead_letter

    def settle_first(self: GroupActor, effect: fx.DeadLetter) -> None:
        tell(self.actor_ref, msg.DeadLetterDone(effect.token, durable=True))
        self.loop.call_later(LATE_SECONDS, dead_letter, self, effect)

    GroupActor._dead_letter = settle_first  # type: ignore[method-assign]  # the sabotage


def forget_leases_of_lost_connections() -> None:
    """What a connection held when it was lost is delivered to nobody else."""
    detach = GroupState._on_detach

    def forget(self: GroupState, message: msg.Detach, now: Now) -> None:
        self.leases.drop(message.member)
        detach(self, message, now)

    from actors import group_state

    group_state._HANDLERS[msg.Detach] = forget


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    sabotage.__name__: sabotage
    for sabotage in (
        answer_before_the_commit,
        settle_before_the_dead_letter,
        forget_leases_of_lost_connections,
    )
}

if __name__ == "__main__":
    SABOTAGES[sys.argv.pop(1)]()
    main()
