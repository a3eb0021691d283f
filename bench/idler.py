"""A process with many idle connections: `python -m bench.idler TASK`."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

from websockets.asyncio.client import connect

import actorbus
from bench.app import Bench, main
from bench.messages import IdleTask, Ready

AT_ONCE: Final = 50
"""Connections being opened at the same time; under the listening socket's backlog of 100."""


async def work(task: IdleTask, bench: Bench) -> None:
    """Open the connections, and close them when told to stop."""
    slots = asyncio.Semaphore(AT_ONCE)
    opened = 0

    async def open_one(number: int) -> None:
        nonlocal opened
        async with slots:
            await stack.enter_async_context(_connection(task, number))
        opened += 1

    async with AsyncExitStack() as stack:
        progress = asyncio.create_task(bench.tell_progress(lambda: opened))
        async with asyncio.TaskGroup() as opening:
            for number in range(task.connections):
                opening.create_task(open_one(number))
        progress.cancel()
        bench.tell(Ready())
        await bench.order()


def _connection(task: IdleTask, number: int) -> AbstractAsyncContextManager[object]:
    if task.bare:
        return connect(task.url, compression=None)
    return actorbus.connect(
        task.url, app_id=task.app_id, instance=f"idle-{number}", encoding=task.encoding
    )


if __name__ == "__main__":
    main(IdleTask, work)
