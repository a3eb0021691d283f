"""The frames of the protocol as values.

Frozen structs; `type` is the tag. An optional field that is None is left out when a frame is
encoded (`actorbus.codec`), unless the protocol gives null a meaning: such a field has no default.
"""

from typing import Annotated, Any, Literal

import msgspec

from actorbus.errors import Ref
from actorbus.limits import (
    ACK_IDS,
    ACK_WAIT_MS,
    DELAY_MS,
    INTEGER,
    MAX_IN_FLIGHT,
    MAX_IN_FLIGHT_DEFAULT,
)

Status = Literal["SUCCESS", "RETRY", "DROP"]

_Window = Annotated[int, msgspec.Meta(ge=0, le=MAX_IN_FLIGHT)]
_AckWait = Annotated[int, msgspec.Meta(ge=ACK_WAIT_MS[0], le=ACK_WAIT_MS[1])]
_Delay = Annotated[int, msgspec.Meta(ge=DELAY_MS[0], le=DELAY_MS[1])]
_DeliveryId = Annotated[int, msgspec.Meta(ge=-INTEGER, le=INTEGER)]
DeliveryIds = Annotated[list[_DeliveryId], msgspec.Meta(max_length=ACK_IDS)]


class _Frame(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag=str.lower):
    """Base of all frames."""


class Hello(_Frame, frozen=True):
    """The first frame of a connection."""

    ref: Ref
    app_id: str
    instance: str | None = None
    token: str | None = None
    max_in_flight: _Window = MAX_IN_FLIGHT_DEFAULT

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields without the token, which must not reach a log."""
        shown = ("ref", "app_id", "instance", "max_in_flight")
        return [(name, getattr(self, name)) for name in shown]

    def __repr__(self) -> str:
        return f"Hello({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


class Publish(_Frame, frozen=True):
    """Events for one topic; the short form `data` has become one event with that data."""

    ref: Ref
    topic: str
    events: list[Any]
    ttl_ms: int | None = None


class Subscribe(_Frame, frozen=True):
    """Join a topic, or change its group's options (checked by `actorbus.options`)."""

    ref: Ref
    topic: str
    options: dict[str, Any] = {}


class Unsubscribe(_Frame, frozen=True):
    """Leave a topic; `forget` removes the group."""

    ref: Ref
    topic: str
    forget: bool = False


class Ack(_Frame, frozen=True):
    """Settle deliveries; `delay_ms` counts with RETRY, `reason` is printable and cut."""

    ref: Ref
    ids: DeliveryIds
    status: Status = "SUCCESS"
    delay_ms: _Delay | None = None
    reason: str | None = None


class Extend(_Frame, frozen=True):
    """Prolong leases by `ack_wait_ms` from now, or by the group's."""

    ref: Ref
    ids: DeliveryIds
    ack_wait_ms: _AckWait | None = None


class Flow(_Frame, frozen=True):
    """Change the connection's window; 0 pauses."""

    max_in_flight: _Window


class Drain(_Frame, frozen=True):
    """Deliver nothing new to this connection."""

    ref: Ref


class Inspect(_Frame, frozen=True):
    """Ask what topics and groups exist."""

    ref: Ref
    topic: str | None = None
    after: str | None = None


ClientFrame = Hello | Publish | Subscribe | Unsubscribe | Ack | Extend | Flow | Drain | Inspect


class Limits(msgspec.Struct, frozen=True):
    """The broker's limits, as `welcome` tells them."""

    frame_bytes: int
    event_bytes: int
    batch_events: int
    publish_bytes: int
    name_bytes: int
    groups_per_app: int
    group_outstanding: int


class Welcome(_Frame, frozen=True):
    """Answer to `hello`."""

    ref: Ref
    version: int
    connection: str
    instance: str
    max_in_flight: int
    limits: Limits


class EventError(msgspec.Struct, frozen=True):
    """Why one event of a `publish` was refused."""

    index: int
    code: str
    message: str


class Published(_Frame, frozen=True):
    """Answer to `publish`: ids in the order given, None for a refused event.

    `groups` is None where the store can't know.
    """

    ref: Ref
    ids: list[str | None]
    groups: int | None
    errors: list[EventError] = []


class Subscribed(_Frame, frozen=True):
    """Answer to `subscribe`, with the options in force."""

    ref: Ref
    topic: str
    options: dict[str, Any]


class Unsubscribed(_Frame, frozen=True):
    """Answer to `unsubscribe`."""

    ref: Ref
    topic: str
    forget: bool


class Acked(_Frame, frozen=True):
    """Answer to `ack`: the ids whose lease was no longer held."""

    ref: Ref
    stale: list[int]


class Extended(_Frame, frozen=True):
    """Answer to `extend`: the ids whose lease was no longer held."""

    ref: Ref
    stale: list[int]


class Drained(_Frame, frozen=True):
    """Answer to `drain`: nothing is in flight."""

    ref: Ref


class GroupStatus(msgspec.Struct, frozen=True):
    """One group in `inspected`; None for what can't be known."""

    app_id: str
    instances: int | None
    backlog: int | None
    in_flight: int | None
    delivered: int | None
    redelivered: int | None
    dead_lettered: int | None
    dropped: int | None
    oldest_ms: int | None


class TopicStatus(msgspec.Struct, frozen=True):
    """One topic in `inspected`."""

    topic: str
    published: int | None
    groups: list[GroupStatus]


class Inspected(_Frame, frozen=True):
    """Answer to `inspect`; `next` goes into the next one's `after`."""

    ref: Ref
    topics: list[TopicStatus]
    next: str | None = None


class Error(_Frame, frozen=True):
    """A refused frame, or one that the broker can't serve now."""

    ref: Ref
    code: str
    message: str
    retryable: bool


class Goaway(_Frame, frozen=True):
    """The broker is stopping."""

    reason: str
    reconnect_after_ms: int


Answer = (
    Welcome
    | Published
    | Subscribed
    | Unsubscribed
    | Acked
    | Extended
    | Drained
    | Inspected
    | Error
    | Goaway
)
"""Every frame of the broker but `deliver`, which is not worth a struct an event."""
