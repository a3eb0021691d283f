"""What the bench and its app processes tell each other: one JSON line each, over their pipes."""

import msgspec

from bench.options import Encoding


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How one publisher process is to publish, whatever it publishes to.

    Attributes:
        number: which publisher it is, from 0.
        payload: bytes of each event's data.
        window: events that it has in flight at most.
        batch: events a call.
        events: how many it publishes; None: for `seconds`.
        rate: its own share, events per second; None: as fast as it goes.
        phase: part of an interval by which it starts later, so that publishers are not in step.
    """

    number: int
    payload: int
    window: int
    batch: int
    events: int | None
    seconds: float
    rate: float | None
    phase: float


class PublisherTask(Pace, frozen=True, kw_only=True):
    """What one publisher process is to do."""

    url: str
    app_id: str
    topic: str
    encoding: Encoding


class SubscriberTask(msgspec.Struct, frozen=True, kw_only=True):
    """What one instance of a group is to do."""

    url: str
    app_id: str
    instance: str
    topic: str
    encoding: Encoding
    publishers: int
    max_in_flight: int


class PeerPublisherTask(Pace, frozen=True, kw_only=True):
    """What the publisher process of a comparison is to do.

    Attributes:
        contestant: by its name in `bench.peers.contestants`.
        address: of its server, as that contestant understands it.
    """

    contestant: str
    address: dict[str, str]
    topic: str


class PeerSubscriberTask(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of one group is to do in a comparison.

    Attributes:
        contestant, address: as in `PeerPublisherTask`.
        in_flight: deliveries that it may have unacknowledged.
    """

    contestant: str
    address: dict[str, str]
    topic: str
    group: str
    in_flight: int


class IdleTask(msgspec.Struct, frozen=True, kw_only=True):
    """Open so many connections and leave them alone; bare ones know nothing of actorbus."""

    url: str
    app_id: str
    encoding: Encoding
    connections: int
    bare: bool


class TopicsTask(msgspec.Struct, frozen=True, kw_only=True):
    """Subscribe to so many topics, which stay empty, on one connection."""

    url: str
    app_id: str
    encoding: Encoding
    topics: int


Task = (
    PublisherTask | SubscriberTask | PeerPublisherTask | PeerSubscriberTask | IdleTask | TopicsTask
)


class Start(msgspec.Struct, frozen=True, tag=True):
    """Begin at `at`; what happens before `measured_from` is warm-up (`time.monotonic_ns`)."""

    at: int
    measured_from: int


class Report(msgspec.Struct, frozen=True, tag=True):
    """Tell what has arrived so far."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Close the connection in order and end."""


Order = Start | Report | Stop


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Connected, and subscribed if that is its task."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """How far it is at `at` (`time.monotonic_ns`): events acknowledged, or arrived."""

    at: int
    count: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It can't go on."""

    message: str


class Published(msgspec.Struct, frozen=True, tag=True):
    """A publisher's result.

    Attributes:
        claimed: events that it began to publish, numbered from 0.
        failed: those of them without an acknowledgement.
        measured: acknowledged after the warm-up.
        ended: when the last answer came.
        cpu_seconds: of this process since `Start`.
    """

    claimed: int
    failed: list[int]
    measured: int
    ended: int
    cpu_seconds: float


class Received(msgspec.Struct, frozen=True, tag=True):
    """A subscriber's result.

    Attributes:
        received: deliveries.
        redelivered: deliveries with an attempt above 1.
        measured: deliveries after the warm-up.
        last: when the last one came; 0 if none came.
        bitmaps: which events arrived (`Seen.bitmaps`).
        latencies: of what was measured (`Histogram.counts`).
        cpu_seconds: of this process since `Start`.
    """

    received: int
    redelivered: int
    measured: int
    last: int
    bitmaps: list[bytes]
    latencies: dict[int, int]
    cpu_seconds: float


Message = Ready | Progress | Failed | Published | Received
