"""What one connection has asked of topics and waits for."""

import msgspec

from actorbus.errors import Ref
from actorbus.frames import EventError


class PendingPublish(msgspec.Struct, frozen=True):
    """A publish that is not durable yet: what its answer will say, and its bytes."""

    ref: Ref
    topic: str
    ids: list[str | None]
    errors: list[EventError]
    size: int


class Pendings:
    """Tokens of what is under way; each answer is taken once."""

    def __init__(self) -> None:
        self._token = 0
        self._publishes: dict[int, PendingPublish] = {}
        self._asked: dict[int, tuple[Ref, str]] = {}

    def add(self, publish: PendingPublish) -> int:
        """A publish goes to its topic; its token."""
        self._token += 1
        self._publishes[self._token] = publish
        return self._token

    def pop(self, token: int) -> PendingPublish | None:
        """The publish was answered; None if it was given up before."""
        return self._publishes.pop(token, None)

    def of_topic(self, topic: str) -> tuple[list[PendingPublish], list[Ref]]:
        """Give up what a topic will not answer: its publishes, and the refs of other questions."""
        publishes = [token for token, one in self._publishes.items() if one.topic == topic]
        asked = [token for token, (_, of) in self._asked.items() if of == topic]
        return (
            [self._publishes.pop(token) for token in publishes],
            [self._asked.pop(token)[0] for token in asked],
        )

    def ask(self, ref: Ref, topic: str) -> int:
        """Something else goes to a topic; its token."""
        self._token += 1
        self._asked[self._token] = (ref, topic)
        return self._token

    def asked(self, topic: str) -> bool:
        """Whether something else than a publish waits for this topic's answer."""
        return any(of == topic for _, of in self._asked.values())

    def answer(self, token: int) -> tuple[Ref, bool]:
        """It was answered: the client's ref, and whether anyone still waits."""
        ref, topic = self._asked.pop(token, (None, ""))
        return ref, bool(topic)
