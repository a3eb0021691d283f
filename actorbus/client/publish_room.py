"""How many bytes of publishes may be unanswered, and the line of those who wait for room."""

import asyncio
from collections import deque

from actorbus.client.publish_batch import copy_of
from actorbus.errors import ActorbusError, ErrorCode, UnavailableError


class PublishRoom:
    """A budget of bytes; who finds it used up waits in line, first come first served.

    One publish may overshoot it, so one that is larger than the whole budget still goes out.

    Attributes:
        budget: bytes that may be unanswered.
        used: bytes that are unanswered.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()

    def take(self, size: int) -> bool:
        """Take room at once; False if one has to `wait`."""
        if self._line or self.used >= self.budget:
            return False
        self.used += size
        return True

    async def wait(self, size: int, timeout: float) -> None:  # noqa: ASYNC109 - raises our error
        """Take room as soon as there is some.

        Raises:
            UnavailableError: there was none within `timeout` seconds; nothing was published.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((future, size))
        try:
            async with asyncio.timeout(timeout):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(size)  # room was taken for us and we are leaving
            if isinstance(error, TimeoutError):
                raise UnavailableError(
                    ErrorCode.OVERLOADED,
                    f"no room to publish within {timeout:g} s: {self.used} bytes are unanswered",
                ) from None
            raise

    def give_back(self, size: int) -> None:
        """Bytes have been answered: let in who fits."""
        self.used -= size
        while self._line and self.used < self.budget:
            future, wanted = self._line.popleft()
            if not future.done():
                self.used += wanted
                future.set_result(None)

    def close(self, error: ActorbusError) -> None:
        """Turn away who waits."""
        for future, _ in self._line:
            if not future.done():
                future.set_exception(copy_of(error))
        self._line.clear()
        self.used = 0
