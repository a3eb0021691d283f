"""Stand-ins at the edges of actors: references, a wire, a clock, short words for values."""

from collections.abc import Callable, Sequence
from typing import Any

from actorbus.codec import MSGPACK, Codec
from actorbus.store import Abilities, Batch
from actors.clock import Clock, Now
from actors.messages import Run

LOG = Abilities(
    log=True, earliest=True, exact_backlog=True, shared_options=True, settles_singly=True
)
QUEUE = Abilities(
    log=False,
    earliest=False,
    exact_backlog=False,
    shared_options=False,
    settles_singly=False,
    return_after_ms=5_000,
    longest_lease_ms=1_200_000,
)


def at(mono: int) -> Now:
    """Both clocks at this time; the wall's is another one."""
    return Now(mono, 1_000_000_000 + mono)


def batch(first: int, count: int, *, expires_at: int | None = None, size: int = 10) -> Batch:
    """A batch of different events."""
    events = tuple(f"{number:0{size}}".encode() for number in range(first, first + count))
    return Batch(first, events, size * count, expires_at)


def run(first: int, count: int, **history: int) -> Run:
    """A run of a whole batch."""
    return Run(batch(first, count), 0, count, **history)


def spans(runs: Sequence[Run]) -> list[tuple[int, int]]:
    """Position and count of each run."""
    return [(one.position, one.count) for one in runs]


class ManualClock(Clock):
    """Stands still until told."""

    def __init__(self) -> None:
        self.mono = 0

    def now(self) -> Now:
        return at(self.mono)


class FakeRef:
    """An actor's reference whose messages go to a function."""

    def __init__(self, push: Callable[[Any], None]) -> None:
        self.push = push
        self.dead = False
        self.actor_inbox = self

    @property
    def actor(self) -> object:
        return None if self.dead else self

    def push_merged(self, message: Any) -> None:
        self.push(message)


class FakeWire:
    """Takes frames and remembers them decoded."""

    def __init__(self, label: str = "c1", codec: Codec = MSGPACK) -> None:
        self.codec = codec
        self.label = label
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.unsent_bytes = 0

    def send(self, frames: Sequence[bytes]) -> None:
        self.frames += [self.codec.decode(frame) for frame in frames]

    def unsent(self) -> int:
        return self.unsent_bytes

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)
