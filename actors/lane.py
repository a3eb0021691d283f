"""The order of what instances ask of one group: joins go together, an unsubscribe goes alone. Pure.

So a group is never joined while it is being forgotten, and what one connection asks in a row
happens in that order.
"""

from collections import deque

from actors.messages import Subscribe, Unsubscribe

Request = Subscribe | Unsubscribe


class Lane:
    """The requests of one group that have not been answered."""

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._joins = 0
        self._alone = False

    def empty(self) -> bool:
        """Whether nothing waits or is under way."""
        return not (self._waiting or self._joins or self._alone)

    def add(self, request: Request) -> None:
        """A request has come."""
        self._waiting.append(request)

    def next(self) -> Request | None:
        """The next request to begin now, if any; `done` is to be called at its end."""
        if not self._waiting or self._alone:
            return None
        if isinstance(self._waiting[0], Subscribe):
            self._joins += 1
        elif self._joins:
            return None
        else:
            self._alone = True
        return self._waiting.popleft()

    def done(self, request: Request) -> None:
        """A request has ended."""
        if isinstance(request, Subscribe):
            self._joins -= 1
        else:
            self._alone = False
