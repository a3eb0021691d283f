"""What is measured of every contestant."""

from typing import Final, Literal

import msgspec

Kind = Literal["rate", "latency", "bytes"]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of work.

    Attributes:
        name: on the command line and in the JSON.
        title: for a person.
        kind: which number counts: deliveries/s, latencies, or MB/s.
        window: events in flight.
        rate: events/s in an open loop; None: as fast as it goes.
        groups: subscriber processes, each of which gets every event.
        payload: bytes an event.
        batch: events a `publish_many` call; None: the contestant's own number.
    """

    name: str
    title: str
    kind: Kind = "rate"
    window: int = 500
    rate: float | None = None
    groups: int = 1
    payload: int = 256
    batch: int | None = None


MEASURES: Final = {
    each.name: each
    for each in (
        Measure(name="throughput-500", title="500 in flight, deliveries/s"),
        Measure(name="throughput-1", title="1 in flight, deliveries/s", window=1),
        Measure(name="latency-1000", title="at 1,000/s, ms", kind="latency", rate=1000.0),
        Measure(name="groups-4", title="4 groups, deliveries/s", groups=4),
        Measure(name="groups-16", title="16 groups, deliveries/s", groups=16),
        Measure(name="payload-4k", title="4 KiB, MB/s", kind="bytes", payload=4096),
        Measure(name="payload-64k", title="64 KiB, MB/s", kind="bytes", payload=65536, window=50),
        Measure(name="many-500", title="publish_many of 500, deliveries/s", batch=500),
    )
}
