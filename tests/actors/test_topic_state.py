from actorbus.limits import BATCH_EVENTS
from actors.messages import Publish
from actors.topic_state import BATCH_BYTES, TopicState


def publish(
    token: int,
    count: int = 1,
    *,
    expires_at: int | None = None,
    size: int = 10,
    publisher: object = None,
) -> Publish:
    events = tuple(f"{token}.{number}".encode() for number in range(count))
    return Publish(publisher, token, events, size, expires_at)


def test_a_publish_goes_out_at_once() -> None:
    state = TopicState(1)
    state.publish(publish(1, 2))
    [append] = state.pump()
    assert append.events == (b"1.0", b"1.1")
    assert not state.idle()


def test_what_comes_meanwhile_is_the_next_batch() -> None:
    state = TopicState(1)
    state.publish(publish(1))
    [first] = state.pump()
    for token in (2, 3):
        state.publish(publish(token))
    assert state.pump() == []
    assert [one.token for one in state.done(first.number)] == [1]
    [second] = state.pump()
    assert second.events == (b"2.0", b"3.0")
    assert [one.token for one in state.done(second.number)] == [2, 3]
    assert state.idle()


def test_so_many_appends_are_under_way_at_once() -> None:
    state = TopicState(2)
    numbers = []
    for token in (1, 2, 3):
        state.publish(publish(token))
        numbers += [append.number for append in state.pump()]
    assert numbers == [1, 2]
    state.done(2)
    assert [append.number for append in state.pump()] == [3]


def test_another_time_to_live_is_another_batch() -> None:
    state = TopicState(9)
    for token, expires_at in ((1, None), (2, 5), (3, 5)):
        state.publish(publish(token, expires_at=expires_at))
    assert [(len(one.events), one.expires_at) for one in state.pump()] == [(1, None), (2, 5)]


def test_a_batch_has_an_end_in_events_and_bytes() -> None:
    state = TopicState(9)
    for request in (publish(1, BATCH_EVENTS), publish(2), publish(3, size=BATCH_BYTES), publish(4)):
        state.publish(request)
    assert [len(append.events) for append in state.pump()] == [BATCH_EVENTS, 1, 1, 1]


def test_what_waits_is_given_up_but_not_what_is_under_way() -> None:
    state = TopicState(1)
    for token in (1, 2, 3):
        state.publish(publish(token))
        state.pump()
    assert [one.token for one in state.give_up()] == [2, 3]
    assert not state.idle()
    assert [one.token for one in state.done(1)] == [1]
    assert state.idle()


def appended(state: TopicState) -> list[int]:
    """The publishes that go out now, by their tokens."""
    return [one.token for append in state.pump() for one in state.done(append.number)]


def test_only_the_publishes_of_who_creates_a_group_are_held() -> None:
    state, creator, other = TopicState(8), object(), object()
    state.publish(publish(1, publisher=creator))
    state.hold(creator)
    for token, publisher in ((2, creator), (3, other), (4, creator)):
        state.publish(publish(token, publisher=publisher))
    assert appended(state) == [1, 3]
    assert not state.idle()
    assert state.free(creator) == ()
    state.publish(publish(5, publisher=creator))
    assert appended(state) == [2, 4, 5]
    assert state.idle()


def test_what_is_held_waits_for_the_last_group_that_is_created() -> None:
    state, creator = TopicState(8), object()
    state.hold(creator)
    state.hold(creator)
    state.publish(publish(1, publisher=creator))
    state.free(creator)
    assert appended(state) == []
    state.free(creator)
    assert appended(state) == [1]


def test_what_was_held_for_a_group_that_failed_is_given_up() -> None:
    state, creator, other = TopicState(8), object(), object()
    for publisher in (creator, other):
        state.hold(publisher)
        state.publish(publish(1 if publisher is creator else 2, publisher=publisher))
    assert [one.token for one in state.free(creator, given_up=True)] == [1]
    state.free(other)
    assert appended(state) == [2]
    assert state.idle()
