"""A bound on bytes held, and the wait for room in it."""

import asyncio
from typing import Final

ADMISSION_SECONDS: Final = 0.001
"""Between two who have waited for room: the first must have had the time to take it."""


class Budget:
    """Bytes of accepted work that may be held at once.

    Work is admitted while the budget has any room, so one piece of any size always fits.

    Attributes:
        limit: bytes.
        held: bytes now.
    """

    __slots__ = ("_admitting", "_waiters", "_watchers", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._admitting = False

    def full(self) -> bool:
        """Whether nothing more is admitted."""
        return self.held >= self.limit

    def left(self) -> int:
        """Bytes up to the limit; none or fewer if it is full."""
        return self.limit - self.held

    def add(self, size: int) -> None:
        """Hold `size` bytes more."""
        self.held += size

    def release(self, size: int) -> None:
        """Hold `size` bytes less, and wake who waits for that."""
        self.held -= size
        if self._waiters and not self._admitting:
            self._admit()
        if self._watchers and self.held <= 0:
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_result(None)

    def _admit(self) -> None:
        """Wake one waiter, and soon the next: all at once, the first would take all the room."""
        self._admitting = False
        while self._waiters and not self.full():
            waiter = self._waiters.pop(0)
            if waiter.done():
                continue
            waiter.set_result(None)
            self._admitting = bool(self._waiters)
            if self._admitting:
                asyncio.get_running_loop().call_later(ADMISSION_SECONDS, self._admit)
            return

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        while self.held > 0:
            watcher = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher

    async def room(self, seconds: float) -> bool:
        """Wait until there is room, at most so long; whether there is."""
        if not self.full():
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return not self.full()
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        return True
