from actors.lane import Lane
from actors.messages import Subscribe, Unsubscribe


def join(token: int) -> Subscribe:
    return Subscribe(None, 1, "billing", {}, "new", token)


def unsubscribe(token: int) -> Unsubscribe:
    return Unsubscribe(None, 1, "billing", forget=True, token=token)


def lane(*requests: Subscribe | Unsubscribe) -> Lane:
    found = Lane()
    for request in requests:
        found.add(request)
    return found


def test_joins_go_together() -> None:
    first, second = join(1), join(2)
    found = lane(first, second)
    assert [found.next(), found.next(), found.next()] == [first, second, None]


def test_an_unsubscribe_waits_for_the_joins_before_it() -> None:
    first, second = join(1), unsubscribe(2)
    found = lane(first, second)
    assert [found.next(), found.next()] == [first, None]
    found.done(first)
    assert found.next() is second


def test_everything_waits_for_an_unsubscribe() -> None:
    first, second = unsubscribe(1), join(2)
    found = lane(first, second)
    assert [found.next(), found.next()] == [first, None]
    found.done(first)
    assert found.next() is second
    found.done(second)
    assert found.empty()
