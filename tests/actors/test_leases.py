from actors.leases import SLACK, LeaseTable
from tests.actors.fakes import run, spans


def table() -> LeaseTable:
    """Member 1 has ids 100 to 104 until 1,000, member 2 ids 500 and 501 until 2,000."""
    leases = LeaseTable()
    leases.grant(1, 100, run(0, 5), 0, 1_000)
    leases.grant(2, 500, run(5, 2), 0, 2_000)
    return leases


def test_grants_are_counted_for_all_and_by_member() -> None:
    leases = table()
    assert (leases.count, leases.held) == (7, {1: 5, 2: 2})


def test_settled_events_are_given_back_as_runs() -> None:
    leases = table()
    runs, stale = leases.settle(1, [(100, 0, 2), (100, 4, 1)])
    assert (spans(runs), stale) == ([(0, 2), (4, 1)], [])
    assert leases.held == {1: 2, 2: 2}


def test_a_whole_grant_is_one_run() -> None:
    runs, _ = table().settle(1, [(100, 0, 5)])
    assert spans(runs) == [(0, 5)]


def test_what_was_settled_is_stale() -> None:
    leases = table()
    leases.settle(1, [(100, 1, 1)])
    runs, stale = leases.settle(1, [(100, 0, 3)])
    assert (spans(runs), stale) == ([(0, 1), (2, 1)], [(100, 1, 1)])


def test_a_grant_of_another_member_is_stale() -> None:
    leases = table()
    assert leases.settle(2, [(100, 0, 5)]) == ([], [(100, 0, 5)])
    assert leases.count == 7


def test_overdue_leases_end_at_their_deadline_and_not_before() -> None:
    leases = table()
    assert list(leases.expire(999)) == []
    [(lease, late)] = list(leases.expire(1_000))
    assert (lease.member, lease.pieces(late)) == (1, [(100, 0, 5)])
    assert list(leases.expire(1_000)) == []
    assert leases.held == {2: 2}


def test_an_extended_part_ends_later() -> None:
    leases = table()
    assert leases.extend(1, [(100, 3, 2)], 900, 1_000, None) == []
    [(lease, late)] = list(leases.expire(1_000))
    assert lease.pieces(late) == [(100, 0, 3)]
    [(lease, late)] = list(leases.expire(1_900))
    assert lease.pieces(late) == [(100, 3, 2)]


def test_an_extension_may_shorten() -> None:
    leases = table()
    leases.extend(1, [(100, 0, 5)], 100, 200, None)
    assert leases.next_deadline() == 300


def test_no_lease_outlives_the_longest() -> None:
    leases = table()
    leases.extend(1, [(100, 0, 5)], 900, 10_000, 1_500)
    assert leases.next_deadline() == 1_500


def test_extending_what_is_not_held_is_stale() -> None:
    leases = table()
    leases.settle(1, [(100, 0, 1)])
    assert leases.extend(1, [(100, 0, 2), (9, 0, 1)], 0, 1, None) == [(100, 0, 1), (9, 0, 1)]


def test_a_member_that_goes_leaves_its_events_in_order() -> None:
    leases = table()
    leases.grant(1, 105, run(7, 1), 0, 1_000)
    leases.settle(1, [(100, 2, 1)])
    assert spans(leases.drop(1)) == [(0, 2), (3, 2), (7, 1)]
    assert (leases.count, leases.held, leases.drop(1)) == (2, {2: 2}, [])


def test_the_next_deadline_is_that_of_a_living_lease() -> None:
    leases = table()
    assert leases.next_deadline() == 1_000
    leases.settle(1, [(100, 0, 5)])
    assert leases.next_deadline() == 2_000
    leases.drop(2)
    assert leases.next_deadline() is None


def test_deadlines_of_settled_leases_do_not_pile_up_behind_an_old_one() -> None:
    leases = table()
    for number in range(10 * SLACK):
        leases.grant(1, 1_000 + number, run(10 + number, 1), number, 10**6)
        leases.settle(1, [(1_000 + number, 0, 1)])
    assert len(leases._deadlines) < 3 * SLACK
    assert leases.next_deadline() == 1_000
