"""What a group's state wants done: a closed union, carried out by the actor in one `match`."""

import msgspec

from actorbus.store import Attempt
from actors.messages import Piece, Run


class Answer:
    """An answer owed to a member once everything that it waits for is durable.

    Attributes:
        waits: store calls still under way for it.
        failed: whether one of them has failed.
    """

    __slots__ = ("failed", "member", "stale", "token", "waits")

    def __init__(self, member: int, token: int, stale: tuple[Piece, ...]) -> None:
        self.member = member
        self.token = token
        self.stale = stale
        self.waits = 0
        self.failed = False


class Effect(msgspec.Struct, frozen=True, eq=False):
    """Base of the effects."""


class Open(Effect, frozen=True):
    """Tell a member of this generation and ask for its room."""

    member: int


class Deliver(Effect, frozen=True):
    """Offer these runs to a member."""

    member: int
    runs: tuple[Run, ...]
    alone: bool


class Revoked(Effect, frozen=True):
    """Tell a member that these leases have ended."""

    member: int
    pieces: tuple[Piece, ...]


class StoreCall(Effect, frozen=True):
    """Base of the calls to the feed."""


class SettleRuns(StoreCall, frozen=True):
    """Let the feed settle these (position, count); then do `answers`."""

    runs: tuple[tuple[int, int], ...]
    answers: tuple[Answer, ...]


class RecordAttempts(StoreCall, frozen=True):
    """Let the feed keep these histories; then do `answers`."""

    attempts: tuple[Attempt, ...]
    answers: tuple[Answer, ...]


class DeadLetter(Effect, frozen=True):
    """Publish this run to its dead-letter topic; answered by `DeadLetterDone(token)`."""

    token: int
    topic: str
    run: Run
    reason: str


class Reply(Effect, frozen=True):
    """Send an answer that waits for nothing more."""

    answer: Answer


class Fetch(StoreCall, frozen=True):
    """Fetch from the feed; answered by `FetchDone`."""

    position: int
    max_bytes: int


class GiveBack(StoreCall, frozen=True):
    """Give these events back to the store; answered by `Released`."""

    runs: tuple[tuple[int, int], ...]


class MoveEvent(StoreCall, frozen=True):
    """Let the feed move this event; answered by `MoveDone`."""

    attempt: Attempt


class SetTimer(Effect, frozen=True):
    """Tick at this time (ms, monotonic), in place of any later tick."""

    at: int


class Sleep(Effect, frozen=True):
    """Nothing has been done for a while and nobody is there: the actor may go."""
