"""A bound on bytes held, and the wait for room in it."""

import asyncio


class Budget:
    """Bytes of accepted work that may be held at once.

    Work is admitted while the budget has any room, so one piece of any size always fits.

    Attributes:
        limit: bytes.
        held: bytes now.
    """

    __slots__ = ("_waiters", "_watchers", "held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._watchers: list[asyncio.Future[None]] = []

    def full(self) -> bool:
        """Whether nothing more is admitted."""
        return self.held >= self.limit

    def add(self, size: int) -> None:
        """Hold `size` bytes more."""
        self.held += size

    def release(self, size: int) -> None:
        """Hold `size` bytes less, and wake who waits for room."""
        self.held -= size
        if self._watchers and self.held <= 0:
            watchers, self._watchers = self._watchers, []
            _wake(watchers)
        if self._waiters and not self.full():
            waiters, self._waiters = self._waiters, []
            _wake(waiters)

    async def emptied(self) -> None:
        """Wait until nothing is held."""
        while self.held > 0:
            waiter = asyncio.get_running_loop().create_future()
            self._watchers.append(waiter)
            await waiter

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


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
