"""What an instance is told by its connection, and what it tells itself."""

from actorbus import frames
from actorbus.errors import Ref as ClientRef
from actors import messages as msg
from actors.runtime import Ref


class Received(msg.Message, frozen=True):
    """A checked frame from the client; `size` is its length in bytes."""

    frame: frames.ClientFrame
    size: int


class Encoded(msg.Message, frozen=True):
    """A publish from within this process, of events that `EventEncoder` has made."""

    ref: ClientRef
    topic: str
    events: tuple[bytes, ...]
    ttl_ms: int | None


class Refused(msg.Message, frozen=True):
    """A frame from the client that broke a rule."""

    ref: ClientRef
    code: str
    message: str


class Closed(msg.Message, frozen=True):
    """The connection is gone; its leases end, and count as attempts unless we took them back."""

    counts: bool


class GoAway(msg.Message, frozen=True):
    """The broker is stopping: say so, and deliver nothing more."""

    reason: str
    reconnect_after_ms: int


class WireDrained(msg.Message, frozen=True):
    """The connection's queue has room again."""


class InspectDone(msg.Message, frozen=True):
    """An inspection has ended."""

    ref: ClientRef
    frame: frames.Inspected | None
    failure: msg.Failure | None


class Link(msg.Message, frozen=True):
    """One generation of a group that this instance is a member of."""

    group: Ref
    generation: int
