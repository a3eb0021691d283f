"""A group's calls to its store: each ends when the script says so, well or not."""

from collections.abc import Callable
from types import SimpleNamespace

import msgspec

from actorbus.store import Attempt, Fetched, GroupOptions
from actors import effects as fx
from actors import messages as msg
from actors.clock import Now
from tests.properties.books import Books
from tests.properties.model_store import LogStore, QueueStore


class Call(msgspec.Struct, frozen=True):
    """A store call under way."""

    kind: str
    answers: tuple[fx.Answer, ...] = ()
    events: tuple[int, ...] = ()
    message: msg.Message | None = None
    attempt: Attempt | None = None


class Answered(msg.Message, frozen=True):
    """A store call that replies wait for has ended."""

    answers: tuple[fx.Answer, ...]
    failed: bool


class NotReleased(msg.Message, frozen=True):
    """A release has failed: the group is to begin again."""


class Calls:
    """All calls under way.

    Args:
        books: know the store.
        tell: the group, of a call's end.

    Attributes:
        transit: events that are being moved.
        seen: what has happened, for tests of the script itself.
    """

    def __init__(self, books: Books, tell: Callable[[msg.Message], None], seen: set[str]) -> None:
        self.under_way: list[Call] = []
        self.transit: list[int] = []
        self.seen = seen
        self._books = books
        self._store = books.store
        self._tell = tell
        self._unsafe: list[int] = []

    def clear(self) -> None:
        """The group's actor has ended: nobody waits for them."""
        self.under_way.clear()
        self.transit.clear()

    def open(self) -> None:
        """Open the feed."""
        self.under_way.append(Call("open"))

    def begin(self, effect: fx.StoreCall, now: Now) -> None:
        """Carry out an effect."""
        match effect:
            case fx.SettleRuns():
                spans = [range(first, first + count) for first, count in effect.runs]
                events = tuple(self._store.at(position) for span in spans for position in span)
                for event in events:
                    self._books.settle(event, now)
                self.under_way.append(Call("settle", effect.answers, events))
            case fx.RecordAttempts():
                self._store.keep(effect.attempts)
                self.under_way.append(Call("keep", effect.answers))
            case fx.Fetch():
                self._fetch(effect)
            case fx.GiveBack():
                self._give_back(effect)
            case fx.MoveEvent():
                event = self._store.at(effect.attempt.position)
                self.transit.append(event)
                assert event not in [lease.event for lease in self._books.leases.values()]
                self.under_way.append(Call("move", attempt=effect.attempt))

    def _fetch(self, effect: fx.Fetch) -> None:
        assert not self._fetches(), "two fetches"
        fetched = None
        if isinstance(self._store, LogStore):
            fetched = self._store.fetch(effect.position, effect.max_bytes)
        message = None if fetched is None else msg.FetchDone(fetched)
        self.under_way.append(Call("fetch", message=message))

    def _fetches(self) -> list[Call]:
        return [call for call in self.under_way if call.kind == "fetch"]

    def _give_back(self, effect: fx.GiveBack) -> None:
        books = self._books
        if isinstance(self._store, LogStore):
            used = books.leases or books.letters or books.offered
            assert not used, "gives back what is in use"
            assert not self._fetches()
        for call in self._fetches():
            self.under_way.remove(call)
            self._tell(msg.FetchDone(Fetched((), 0)))
        position = self._store.release(effect.runs)
        self.under_way.append(Call("release", message=msg.Released(position)))

    def going_back(self) -> list[int]:
        """The places of calls by which events leave the group unsettled."""
        kinds = ("release", "move")
        return [place for place, call in enumerate(self.under_way) if call.kind in kinds]

    # --- the end of a call --------------------------------------------------------------------

    def end(self, pick: int, options: GroupOptions, *, well: bool) -> None:
        """One of the calls under way ends."""
        if not self.under_way:
            return
        call = self.under_way.pop(pick % len(self.under_way))
        match call.kind:
            case "open":
                self._tell(msg.FeedOpen(SimpleNamespace(position=self._store.open()), options))
            case "fetch":
                self._end_fetch(call, well=well)
            case "release":
                assert call.message is not None
                self._tell(call.message if well else NotReleased())
            case "move":
                self._end_move(call, well=well)
            case _:
                self._end_settling(call, well=well)

    def _end_fetch(self, call: Call, *, well: bool) -> None:
        if not well:
            self._tell(msg.FetchDone(None))
        elif isinstance(self._store, LogStore):
            assert call.message is not None
            self._tell(call.message)
        else:
            fetched = self._store.fetch(0, 0)
            if fetched is None:  # a queue's fetch waits for something to come
                self.under_way.append(call)
            else:
                self._tell(msg.FetchDone(fetched))

    def _end_move(self, call: Call, *, well: bool) -> None:
        assert isinstance(self._store, QueueStore)
        assert call.attempt is not None
        position = call.attempt.position
        self.seen.add("moved" if well else "not moved")
        if well:
            self.transit.remove(self._store.at(position))
            self._store.move(call.attempt)
        self._tell(msg.MoveDone(position, well))

    def _end_settling(self, call: Call, *, well: bool) -> None:
        self._unsafe += call.events
        if well:
            for event in self._unsafe:
                self._books.truth[event].durable = True
            self._unsafe.clear()
        self._tell(Answered(call.answers, not well))
