"""Events on their way to a dead-letter topic: they stay here until they are durable there. Pure."""

import heapq

import msgspec

from actors import effects as fx
from actors.messages import Run


class Dying(msgspec.Struct):
    """Events to be published to a dead-letter topic.

    Attributes:
        answer: what waits for it, if a client asked.
        tries: failed ones so far.
        waiting: for its next try.
    """

    topic: str
    run: Run
    reason: str
    answer: fx.Answer | None
    tries: int = 0
    waiting: bool = False


class DeadLetters:
    """All of one group.

    Attributes:
        count: events.
    """

    def __init__(self) -> None:
        self.count = 0
        self._dying: dict[int, Dying] = {}
        self._due: list[tuple[int, int]] = []
        self._token = 0

    def add(self, dying: Dying) -> fx.DeadLetter:
        """Begin; the first try."""
        self._token += 1
        self._dying[self._token] = dying
        self.count += dying.run.count
        return _try(self._token, dying)

    def durable(self, token: int) -> Dying | None:
        """It is durable, by whichever try: done with; None if it was before."""
        dying = self._dying.pop(token, None)
        if dying is not None:
            self.count -= dying.run.count
        return dying

    def failed(self, token: int) -> Dying | None:
        """A try has failed; None if no other is to be begun for it."""
        dying = self._dying.get(token)
        if dying is None or dying.waiting:
            return None
        dying.tries += 1
        return dying

    def again(self, token: int, due: int) -> None:
        """Try it again at this time."""
        self._dying[token].waiting = True
        heapq.heappush(self._due, (due, token))

    def take_due(self, now: int) -> list[fx.DeadLetter]:
        """The tries whose time has come."""
        tries: list[fx.DeadLetter] = []
        while self._due and self._due[0][0] <= now:
            token = heapq.heappop(self._due)[1]
            dying = self._dying.get(token)
            if dying is not None:
                dying.waiting = False
                tries.append(_try(token, dying))
        return tries

    def next_due(self) -> int | None:
        """When the next try is due."""
        return self._due[0][0] if self._due else None


def _try(token: int, dying: Dying) -> fx.DeadLetter:
    return fx.DeadLetter(token, dying.topic, dying.run, dying.reason)
