"""Acknowledgements as frames, and when they are sent."""

import asyncio
import itertools
import json

import pytest

from actorbus.client import acks
from actorbus.client.acks import SUCCESS, AckLane, Settling
from actorbus.codec import JSON


class Lane(AckLane):
    """A lane that counts how often it asks to be written."""

    def __init__(self, window: int) -> None:
        self.woken = 0
        self.woken_again = asyncio.Event()
        super().__init__(JSON, self._count, itertools.count().__next__, window)

    def _count(self) -> None:
        self.woken += 1
        if self.woken > 1:
            self.woken_again.set()

    def sent(self) -> list[list[int]]:
        return [json.loads(frame)["ids"] for frame in self.frames()]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pace that no test can wait for."""
    monkeypatch.setattr(acks, "PACE_SECONDS", 60.0)


def lane_that_has_just_sent(window: int) -> Lane:
    lane = Lane(window)
    lane.succeed(1)
    assert lane.woken == 1
    assert lane.sent() == [[1]]
    return lane


@pytest.mark.parametrize("settling", [SUCCESS, ("DROP", None, "why")], ids=["success", "drop"])
def test_more_ids_than_a_frame_may_name_are_split_in_order(settling: Settling) -> None:
    lane = Lane(window=256)
    lane.settle(range(65_536), settling)
    assert lane.sent() == [list(range(65_535)), [65_535]]


@pytest.mark.usefixtures("slow")
def test_a_success_right_behind_a_frame_waits_until_a_quarter_of_the_window_does() -> None:
    async def main() -> None:
        lane = lane_that_has_just_sent(window=40)
        for number in range(2, 11):
            lane.succeed(number)
        assert lane.woken == 1
        lane.succeed(11)
        assert lane.woken == 2
        assert lane.sent() == [list(range(2, 12))]
        lane.close()

    asyncio.run(main())


def test_a_success_right_behind_a_frame_is_sent_in_a_short_time_by_itself() -> None:
    async def main() -> None:
        lane = lane_that_has_just_sent(window=256)
        lane.succeed(2)
        async with asyncio.timeout(2):
            await lane.woken_again.wait()
        assert lane.sent() == [[2]]
        lane.close()

    asyncio.run(main())


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("window", [1, 2, 7])
def test_with_a_small_window_every_success_is_sent_at_once(window: int) -> None:
    lane = lane_that_has_just_sent(window)
    lane.succeed(2)
    assert lane.woken == 2


@pytest.mark.usefixtures("slow")
def test_where_a_group_has_a_cap_every_success_is_sent_at_once() -> None:
    lane = lane_that_has_just_sent(window=256)
    lane.hurry()
    lane.set_window(512)
    lane.succeed(2)
    assert lane.woken == 2


@pytest.mark.usefixtures("slow")
def test_another_window_counts_from_then_on() -> None:
    lane = lane_that_has_just_sent(window=256)
    lane.set_window(4)
    lane.succeed(2)
    assert lane.woken == 2


@pytest.mark.usefixtures("slow")
def test_what_someone_waits_for_and_what_is_no_success_waits_for_nothing() -> None:
    async def main() -> None:
        lane = lane_that_has_just_sent(window=256)
        lane.succeed(2)
        assert lane.woken == 1
        lane.confirm(2)
        assert lane.woken == 2
        lane.settle([3], ("RETRY", None, None))
        assert lane.woken == 3
        lane.close()

    asyncio.run(main())
