"""What a broker counts, kept by the supervisor so that it outlives a restarted actor.

Each value is written by one actor alone and read by `inspect` and the metrics.
"""

import msgspec


class GroupCounters(msgspec.Struct):
    """One group in this broker; the first four only rise."""

    delivered: int = 0
    redelivered: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    in_flight: int = 0
    instances: int = 0
    delayed: int = 0


class TopicCounters(msgspec.Struct):
    """One topic in this broker: events made durable since its start."""

    published: int = 0


class BrokerCounters(msgspec.Struct):
    """The broker as a whole.

    Attributes:
        connections: open ones.
        slow_consumers: connections cut off because they did not read.
        refused: frames answered with an error, by code.
        restarts: actors restarted after a failure, by kind.
    """

    connections: int = 0
    connected: int = 0
    slow_consumers: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    restarts: dict[str, int] = msgspec.field(default_factory=dict)
    published: int = 0
    delivered: int = 0

    def restart(self, kind: str) -> None:
        """Count a failure of an actor of this kind."""
        self.restarts[kind] = self.restarts.get(kind, 0) + 1

    def refuse(self, code: str) -> None:
        """Count a refusal."""
        self.refused[code] = self.refused.get(code, 0) + 1
