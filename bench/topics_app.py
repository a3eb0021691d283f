"""A process that holds many subscriptions on one connection: `python -m bench.topics_app TASK`."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import actorbus
from bench.app import Bench, main
from bench.messages import Ready, TopicsTask

AT_ONCE: Final = 100
"""Subscriptions being made at the same time."""


async def work(task: TopicsTask, bench: Bench) -> None:
    """Subscribe to all topics, and leave when told to stop."""
    slots = asyncio.Semaphore(AT_ONCE)
    made = 0

    async def subscribe(number: int) -> None:
        nonlocal made
        async with slots:
            await stack.enter_async_context(bus.subscribe(f"bench.idle.{number}"))
        made += 1

    connection = actorbus.connect(task.url, app_id=task.app_id, encoding=task.encoding)
    # left in this order: the connection's end ends the subscriptions, without 10,000 round trips
    async with AsyncExitStack() as stack, connection as bus:
        progress = asyncio.create_task(bench.tell_progress(lambda: made))
        async with asyncio.TaskGroup() as subscribing:
            for number in range(task.topics):
                subscribing.create_task(subscribe(number))
        progress.cancel()
        bench.tell(Ready())
        await bench.order()


if __name__ == "__main__":
    main(TopicsTask, work)
