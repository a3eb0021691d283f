from actors.members import PIECE, Members


def members(*rooms: int | None) -> Members:
    """Members 1, 2, … with this room."""
    found = Members()
    for key, room in enumerate(rooms, 1):
        found.add(key)
        member = found.get(key)
        assert member is not None
        member.room = room
    return found


def test_the_one_with_the_most_room_comes_first() -> None:
    assert members(3, 9, 5).share(1, {}) == [(2, 1)]


def test_equals_take_turns() -> None:
    group = members(5, 5, 5)
    assert [group.first({}) for _ in range(4)] == [1, 2, 3, 1]


def test_few_events_go_out_one_by_one() -> None:
    assert members(5, 5).share(4, {}) == [(1, 1), (2, 1), (1, 1), (2, 1)]


def test_many_events_go_out_in_pieces() -> None:
    shares = members(1_000, 1_000).share(100, {})
    assert sum(count for _, count in shares) == 100
    assert min(count for _, count in shares) >= PIECE


def test_one_member_gets_it_all_at_once() -> None:
    assert members(300).share(100, {}) == [(1, 100)]


def test_nobody_gets_more_than_its_room() -> None:
    shares = members(3, 1, 0).share(10, {})
    total = {key: sum(count for one, count in shares if one == key) for key, _ in shares}
    assert total == {1: 3, 2: 1}


def test_who_has_not_told_its_room_gets_nothing() -> None:
    assert members(None).share(3, {}) == []


def test_who_has_an_offer_to_answer_gets_nothing() -> None:
    group = members(5)
    group.get(1).offered = 2  # type: ignore[union-attr]  # it is there
    assert group.share(3, {}) == []


def test_who_leaves_gets_nothing_and_may_come_back() -> None:
    group = members(5)
    group.leave(1)
    group.leave(1)
    assert (group.share(3, {}), group.room({}), group.subscribed(), len(group)) == ([], 0, 0, 1)
    group.add(1)
    assert (group.share(3, {}), group.subscribed()) == ([(1, 3)], 1)


def test_who_is_late_is_the_last_choice() -> None:
    group = members(9, 2)
    group.get(1).late = True  # type: ignore[union-attr]  # it is there
    assert group.share(5, {}) == [(2, 2)]
    assert group.room({}) == 2


def test_who_is_late_has_a_window_of_one() -> None:
    group = members(9)
    group.get(1).late = True  # type: ignore[union-attr]  # it is there
    assert group.share(5, {}) == [(1, 1)]
    assert group.room({}) == 1
    assert group.share(5, {1: 1}) == []
    assert group.room({1: 1}) == 0


def test_room_is_what_is_not_offered_yet() -> None:
    group = members(9, 4)
    group.get(1).offered = 7  # type: ignore[union-attr]  # it is there
    assert group.room({}) == 6


def test_the_removed_are_forgotten() -> None:
    group = members(1, 1)
    group.leave(1)
    group.remove(1)
    group.remove(1)
    assert (len(group), group.subscribed(), group.get(1)) == (1, 1, None)
