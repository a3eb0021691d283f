"""Acknowledgements as frames."""

import itertools
import json

import pytest

from actorbus.client.acks import SUCCESS, AckLane, Settling
from actorbus.codec import JSON


@pytest.mark.parametrize("settling", [SUCCESS, ("DROP", None, "why")], ids=["success", "drop"])
def test_more_ids_than_a_frame_may_name_are_split_in_order(settling: Settling) -> None:
    lane = AckLane(JSON, lambda: None, itertools.count().__next__)
    lane.settle(range(65_536), settling)
    found = [json.loads(frame)["ids"] for frame in lane.frames()]
    assert found == [list(range(65_535)), [65_535]]
