import asyncio
import time

from bench.pacer import Pacer


def test_events_are_due_at_even_distances() -> None:
    async def due() -> list[int]:
        pacer = Pacer(rate=1000, start=5)
        return [pacer.due(number) for number in (0, 1, 1000)]

    assert asyncio.run(due()) == [5, 1_000_005, 1_000_000_005]


def test_no_turn_comes_before_its_event_is_due() -> None:
    async def early() -> list[int]:
        with Pacer(rate=2000, start=time.monotonic_ns()) as pacer:
            found = []
            for number in range(50):
                await pacer.turn()
                if time.monotonic_ns() < pacer.due(number):
                    found.append(number)
            return found

    assert asyncio.run(asyncio.wait_for(early(), 10)) == []


def test_all_overdue_turns_come_at_once() -> None:
    async def turns() -> int:
        now = time.monotonic_ns()
        with Pacer(rate=100, start=now - 1_000_000_000) as pacer:
            for _ in range(100):
                await pacer.turn()
        return time.monotonic_ns() - now

    assert asyncio.run(asyncio.wait_for(turns(), 10)) < 500_000_000  # 100 intervals are a second


def test_a_batch_goes_when_its_last_event_is_due() -> None:
    async def begun() -> int:
        with Pacer(rate=1000, start=time.monotonic_ns(), batch=20) as pacer:
            await pacer.turn()
            return time.monotonic_ns() - pacer.due(19)

    assert asyncio.run(asyncio.wait_for(begun(), 10)) >= 0
