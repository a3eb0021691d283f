import asyncio

from actors.budget import Budget


def test_one_piece_of_any_size_fits_into_an_empty_budget() -> None:
    budget = Budget(10)
    assert not budget.full()
    budget.add(1_000)
    assert budget.full()


def test_room_is_waited_for() -> None:
    async def script() -> None:
        budget = Budget(10)
        budget.add(10)
        waiting = asyncio.create_task(budget.room(5))
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.release(1)
        assert await waiting

    asyncio.run(script())


def test_room_is_not_waited_for_longer_than_asked() -> None:
    async def script() -> None:
        budget = Budget(10)
        budget.add(10)
        assert not await budget.room(0.001)
        budget.release(10)
        assert budget._waiters == type(budget._waiters)()

    asyncio.run(script())


def test_waiters_come_in_one_by_one_while_there_is_room() -> None:
    async def script() -> None:
        budget = Budget(10)
        budget.add(10)

        async def enter() -> None:
            assert await budget.room(5)
            budget.add(10)

        tasks = [asyncio.create_task(enter()) for _ in range(3)]
        await asyncio.sleep(0)
        for inside in (1, 2, 3):
            budget.release(10)
            async with asyncio.timeout(5):
                while sum(task.done() for task in tasks) < inside:  # noqa: ASYNC110 - the tasks' turns
                    await asyncio.sleep(0)
            await asyncio.sleep(0.005)
            assert (sum(task.done() for task in tasks), budget.held) == (inside, 10)

    asyncio.run(script())


def test_all_waiters_come_in_when_there_is_room_for_all() -> None:
    async def script() -> None:
        budget = Budget(10)
        budget.add(10)
        tasks = [asyncio.create_task(budget.room(5)) for _ in range(5)]
        await asyncio.sleep(0)
        budget.release(10)
        async with asyncio.timeout(2):
            assert await asyncio.gather(*tasks) == [True] * 5

    asyncio.run(script())


def test_its_emptiness_is_waited_for() -> None:
    async def script() -> None:
        budget = Budget(10)
        budget.add(3)
        waiting = asyncio.create_task(budget.emptied())
        await asyncio.sleep(0)
        budget.release(2)
        await asyncio.sleep(0)
        assert not waiting.done()
        budget.release(1)
        await waiting

    asyncio.run(script())
