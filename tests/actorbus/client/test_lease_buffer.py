"""The buffer of deliveries, with a clock by hand."""

from actorbus.client.acks import AckLane
from actorbus.client.delivery import Delivery
from actorbus.client.lease_buffer import LeaseBuffer
from actorbus.codec import MSGPACK


def lane() -> AckLane:
    return AckLane(MSGPACK, lambda: None, iter(range(1, 100)).__next__, window=256)


def deliveries(*ids: int, on: AckLane | None = None) -> list[Delivery]:
    on = on or lane()
    return [Delivery("t", 1, lease_id, on, MSGPACK, {}) for lease_id in ids]


def taken(buffer: LeaseBuffer, now: float) -> int | None:
    delivery = buffer.take(now)
    return None if delivery is None else delivery.lease_id


def test_deliveries_come_out_in_the_order_they_came_in() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1, 2), 30, 0)
    buffer.add(deliveries(3), 30, 0)
    assert [taken(buffer, 0) for _ in range(4)] == [1, 2, 3, None]


def test_a_lost_lease_is_not_handed_over() -> None:
    buffer = LeaseBuffer()
    first, second = deliveries(1, 2)
    buffer.add([first, second], 30, 0)
    first.lose()
    assert [taken(buffer, 0), taken(buffer, 0)] == [2, None]


def test_a_lease_that_has_run_out_is_not_handed_over() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1, 2), 10.0, 0.0)
    buffer.add(deliveries(3), 10.0, 5.0)
    assert [taken(buffer, 9.9), taken(buffer, 10.0), taken(buffer, 10.0)] == [1, 3, None]


def test_a_lease_that_has_run_out_is_not_renewed_either() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1, 2), 10.0, 0.0)
    buffer.add(deliveries(3), 10.0, 4.0)
    assert [d.lease_id for d in buffer.renew(10.0)[10.0]] == [3]
    assert [taken(buffer, 10.0), taken(buffer, 10.0)] == [3, None]


def test_deliveries_of_a_closed_connection_are_not_handed_over() -> None:
    buffer = LeaseBuffer()
    ended = lane()
    buffer.add(deliveries(1, on=ended), 30, 0)
    ended.close()
    assert taken(buffer, 0) is None


def test_a_lease_older_than_an_eighth_is_aged_when_handed_over() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1, 2), 8.0, 100.0)
    buffer.take(101.0)
    assert buffer.aged == 0
    buffer.take(101.1)
    assert buffer.aged == 8.0


def test_renewal_is_due_at_half_of_the_lease_and_again_after_it() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1, 2), 10.0, 0.0)
    assert buffer.next_due() == 5.0
    assert buffer.renew(4.9) == {}
    assert [d.lease_id for d in buffer.renew(5.0)[10.0]] == [1, 2]
    assert buffer.next_due() == 10.0


def test_renewals_of_frames_with_one_length_of_lease_go_together() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1), 10.0, 0.0)
    buffer.add(deliveries(2), 10.0, 0.0)
    buffer.add(deliveries(3), 8.0, 0.0)
    due = buffer.renew(5.0)
    assert {lease: [d.lease_id for d in group] for lease, group in due.items()} == {
        10.0: [1, 2],
        8.0: [3],
    }


def test_what_was_handed_over_is_not_renewed() -> None:
    buffer = LeaseBuffer()
    buffer.add(deliveries(1), 10.0, 0.0)
    buffer.take(0.0)
    assert buffer.next_due() is None
    assert buffer.renew(6.0) == {}


def test_taking_all_leaves_nothing_and_skips_lost_ones() -> None:
    buffer = LeaseBuffer()
    held = deliveries(1, 2, 3)
    buffer.add(held, 10.0, 0.0)
    held[1].lose()
    assert [d.lease_id for d in buffer.take_all()] == [1, 3]
    assert len(buffer) == 0
    assert taken(buffer, 0.0) is None
