"""What every contestant does: serve, take one publisher, take a subscriber a group."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

import msgspec

from actorbus import ActorbusError
from bench.options import BenchError
from bench.peers.house import House
from bench.publisher import Outlet
from bench.usage import Usage

Address = dict[str, str]
"""Where a server is: URLs by protocol, as its contestant understands them."""

Note = Callable[[bytes], None]
"""Takes the data of a delivery when it arrives, before it is acknowledged."""


@contextmanager
def told() -> Iterator[None]:
    """Turn what a client library raises into one line for the bench.

    Raises:
        BenchError: the library raised something.
    """
    try:
        yield
    except (ActorbusError, BenchError, OSError):
        raise
    except Exception as error:
        raise BenchError(f"{type(error).__name__}: {error}") from error


class Running(msgspec.Struct, frozen=True):
    """A server that accepts connections.

    Attributes:
        address: where.
        usage: what its processes have used so far.
    """

    address: Address
    usage: Callable[[], Usage]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one subscriber process takes.

    Attributes:
        address: of the server.
        topic: from which to take.
        group: of which it is the only process.
        in_flight: deliveries that may be unacknowledged.
    """

    address: Address
    topic: str
    group: str
    in_flight: int


class Peer(ABC):
    """One contestant.

    `serve`, `prepare` and `discard` are called by the bench, `publisher` and `take` in the app
    processes, each in one of its own.
    """

    @abstractmethod
    async def serve(self, house: House) -> Running:
        """Start the server, which ends with the house."""

    @abstractmethod
    async def prepare(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Make a topic of which each group gets every event published from now on."""

    @abstractmethod
    async def discard(self, address: Address, topic: str, groups: Sequence[str]) -> None:
        """Delete the topic with all that is left in it, so the next run finds an idle server."""

    @abstractmethod
    def publisher(
        self, address: Address, topic: str, in_flight: int
    ) -> AbstractAsyncContextManager[Outlet]:
        """A connection that publishes, with so many events in flight at most."""

    @abstractmethod
    async def take(self, share: Share, note: Note, ready: Callable[[], None]) -> None:
        """Connect, say `ready`, then note and acknowledge every event by itself until cancelled.

        Args:
            share: what to take.
            note: called for every delivery.
            ready: called when everything published from now on will arrive.
        """
