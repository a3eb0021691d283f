from actors.line import Line, compact, join
from actors.messages import Run
from tests.actors.fakes import batch, run, spans


def test_first_attempts_come_in_order_and_are_cut_to_what_is_asked() -> None:
    line = Line()
    line.append(run(0, 3))
    line.append(run(3, 3))
    assert spans(line.take(4, 100)) == [(0, 3), (3, 1)]
    assert spans(line.take(4, 100)) == [(4, 2)]
    assert line.empty()


def test_redeliveries_come_first_and_are_not_bound_by_the_limit_of_first_attempts() -> None:
    line = Line()
    line.append(run(0, 3))
    line.redeliver(run(7, 2, attempts=1), alone=False)
    assert spans(line.take(10, 1)) == [(7, 2), (0, 1)]


def test_what_is_put_back_is_where_it_was() -> None:
    line = Line()
    line.append(run(0, 4))
    line.append(run(4, 4))
    first, second = line.take(6, 100)
    line.put_back(second)
    line.put_back(first)
    assert spans(list(line.fresh)) == [(0, 4), (4, 4)]


def test_parts_that_are_put_back_become_one_run_again() -> None:
    line = Line()
    line.append(run(0, 8))
    for _ in range(5):
        [taken] = line.take(3, 100)
        line.put_back(taken)
    assert spans(list(line.fresh)) == [(0, 8)]


def test_a_first_attempt_taken_back_from_the_middle_keeps_its_place() -> None:
    line = Line()
    line.append(run(0, 2))
    line.append(run(6, 2))
    line.put_back(run(3, 2))
    assert spans(list(line.fresh)) == [(0, 2), (3, 2), (6, 2)]


def test_bytes_come_out_even_however_runs_are_cut() -> None:
    line = Line()
    uneven = batch(0, 7, size=13)
    for _ in range(50):
        line.append(Run(uneven, 0, 7))
        for count in (1, 2, 4):
            [taken] = line.take(count, 100)
            line.put_back(taken)
            line.take(count, 100)
    assert (line.fresh_bytes, line.empty()) == (0, True)


def test_delayed_runs_wait_for_their_time() -> None:
    line = Line()
    line.delay(run(0, 1, attempts=1), 50)
    line.delay(run(1, 2, attempts=1), 20)
    assert (line.held(), line.next_due()) == (3, 20)
    assert line.take_due(19) == []
    assert spans(line.take_due(20)) == [(1, 2)]
    assert (line.held(), line.next_due()) == (1, 50)


def test_delayed_runs_are_held_but_not_ready() -> None:
    line = Line()
    line.delay(run(0, 1), 50)
    assert (line.ready(), line.empty()) == (False, False)


def test_what_travels_alone_waits_apart_one_by_one() -> None:
    line = Line()
    line.redeliver(run(0, 3, attempts=1, lost=1), alone=True)
    assert line.take(10, 10) == []
    assert spans(list(line.alone)) == [(0, 1), (1, 1), (2, 1)]
    assert line.held() == 3


def test_evicted_events_are_taken_from_wherever_they_wait() -> None:
    line = Line()
    line.append(run(0, 5))
    line.redeliver(run(10, 2, attempts=1), alone=False)
    line.redeliver(run(20, 1, attempts=2, lost=1), alone=True)
    line.delay(run(30, 2, attempts=1), 900)
    found = {one.position: due for one, due in line.evict([1, 3, 11, 20, 31, 99], 5)}
    assert found == {1: 5, 3: 5, 11: 5, 20: 5, 31: 900}
    assert spans(list(line.fresh)) == [(0, 1), (2, 1), (4, 1)]
    assert (line.again_count, line.held(), line.next_due()) == (1, 2, 900)
    assert line.fresh_bytes == 30


def test_what_is_left_of_a_delayed_run_around_an_evicted_event_comes_in_order() -> None:
    line = Line()
    line.delay(run(0, 3, attempts=1), 900)
    line.delay(run(3, 1, attempts=1), 900)
    assert [one.position for one, _ in line.evict([1], 5)] == [1]
    assert spans(line.take_due(900)) == [(0, 1), (2, 1), (3, 1)]
    assert line.held() == 0


def test_clearing_lets_go_of_everything() -> None:
    line = Line()
    line.append(run(0, 2))
    line.redeliver(run(5, 1, attempts=1), alone=False)
    line.delay(run(8, 1, attempts=1), 9)
    assert sorted(spans(line.clear())) == [(0, 2), (5, 1), (8, 1)]
    assert (line.empty(), line.held(), line.fresh_bytes) == (True, 0, 0)


def test_clearing_what_is_ready_leaves_the_delayed() -> None:
    line = Line()
    line.append(run(0, 2))
    line.delay(run(8, 1, attempts=1), 9)
    assert spans(line.clear_ready()) == [(0, 2)]
    assert (line.held(), line.next_due()) == (1, 9)


def test_a_small_run_does_not_pin_a_large_batch() -> None:
    large = Run(batch(0, 100), 40, 2, 1, 0, 1)
    small = compact(large)
    assert (small.position, small.count, small.events()) == (40, 2, large.events())
    assert (small.attempts, small.lost, small.missed) == (1, 0, 1)
    assert len(small.batch.events) == 2


def test_a_large_run_keeps_its_batch() -> None:
    large = run(0, 4)
    assert compact(large) is large


def test_neighbours_join_only_with_the_same_history_and_batch() -> None:
    whole = run(0, 4)
    first, second = whole.part(0, 2), whole.part(2, 2)
    joined = join(first, second)
    assert joined is not None
    assert spans([joined]) == [(0, 4)]
    assert join(second, first) is None
    assert join(first, Run(whole.batch, 2, 2, 1)) is None
    assert join(first, run(2, 2)) is None
