"""When a client that does not read is given up."""

from typing import Any

import msgspec
import pytest

from transport.patience import STUCK_LOOKS, Look, Patience

IDLE = Look(
    left=0,
    waiting=False,
    unacknowledged=0,
    received=0,
    messages=0,
    reading=True,
    pinged=False,
)


def judged(**steps: Any) -> list[str | None]:
    """The verdicts on looks that each differ from the one before by these steps."""
    patience, look = Patience(), msgspec.structs.replace(IDLE, pinged=True)
    found: list[str | None] = []
    for _ in range(STUCK_LOOKS + 1):
        changes = {
            name: step if isinstance(step, bool) else getattr(look, name) + step
            for name, step in steps.items()
        }
        look = msgspec.structs.replace(look, **changes)
        found.append(patience.judge(look))
    return found


def given_up(why: str, after: int) -> list[str | None]:
    return [None] * (after - 1) + [why] * (STUCK_LOOKS + 2 - after)


@pytest.mark.parametrize(
    "steps",
    [
        {"pinged": False},
        {"pinged": False, "left": 100},
        {"waiting": True, "left": 1},
        {"reading": False},
        {"received": 1},
        {"left": 100_000, "unacknowledged": 99_999},
    ],
    ids=["idle", "written", "taken slowly", "not read", "long message", "slow line"],
)
def test_patience_lasts(steps: dict[str, Any]) -> None:
    assert judged(**steps) == [None] * (STUCK_LOOKS + 1)


@pytest.mark.parametrize(
    "steps",
    [
        {},
        {"left": 100},
        {"received": 100, "messages": 1},
        {"left": 100, "unacknowledged": 99},
        {"left": 100_000, "unacknowledged": 100_000},
    ],
    ids=[
        "silent",
        "written meanwhile",
        "sends and does not read",
        "small frames on the line",
        "its system is full",
    ],
)
def test_a_ping_unanswered_ends_it(steps: dict[str, Any]) -> None:
    assert judged(**steps) == given_up("ping unanswered", STUCK_LOOKS)


def test_bytes_that_wait_and_do_not_leave_end_it() -> None:
    assert judged(waiting=True) == given_up("bytes unread", STUCK_LOOKS)
    assert judged(waiting=True, left=-5) == given_up("bytes unread", STUCK_LOOKS)


def test_an_answer_begins_anew() -> None:
    patience = Patience()
    pinged = msgspec.structs.replace(IDLE, pinged=True)
    looks = [pinged] * (STUCK_LOOKS - 1) + [IDLE] + [pinged] * STUCK_LOOKS
    assert [patience.judge(look) for look in looks] == [None] * (len(looks) - 1) + [
        "ping unanswered"
    ]
