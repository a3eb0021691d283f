"""Who takes part, and in what."""

from importlib import import_module
from typing import Final

import msgspec

from bench.options import BenchError
from bench.peers.measures import Measure
from bench.peers.peer import Peer


class Contestant(msgspec.Struct, frozen=True, kw_only=True):
    """One of those compared.

    Attributes:
        name: on the command line and in the JSON.
        title: for a person.
        module: of `bench.peers`, whose `open_peer(variant)` makes the peer.
        keeps: what is safe once a publish is answered.
        batch: events a call in measures that leave it open.
        many: has `publish_many`.
        only: the measures that make sense; None for all.
    """

    name: str
    title: str
    module: str
    variant: str
    keeps: str
    batch: int = 1
    many: bool = False
    only: frozenset[str] | None = None

    @property
    def ours(self) -> bool:
        """Whether it is actorbus."""
        return self.module == "actorbus_broker"

    def takes_part(self, measure: Measure) -> bool:
        """Whether the measure can be taken of it."""
        if measure.batch is not None:
            return self.many
        return self.only is None or measure.name in self.only

    def open(self) -> Peer:
        """The peer itself.

        Raises:
            BenchError: its client library is not installed.
        """
        try:
            module = import_module(f"bench.peers.{self.module}")
        except ModuleNotFoundError as error:
            raise BenchError(
                f"{self.name} needs the package {error.name}, which is not installed here;"
                " run `make bench-peers`"
            ) from None
        peer: Peer = module.open_peer(self.variant)
        return peer


CONTESTANTS: Final = {
    each.name: each
    for each in (
        Contestant(
            name="relay",
            title="relay, 1 a frame",
            module="relay",
            variant="single",
            keeps="nothing",
        ),
        Contestant(
            name="relay-50",
            title="relay, 50 a frame",
            module="relay",
            variant="many",
            keeps="nothing",
            batch=50,
            only=frozenset({"throughput-500", "payload-4k"}),
        ),
        Contestant(
            name="nats",
            title="NATS",
            module="nats_jetstream",
            variant="default",
            keeps="in the page cache; synced every 2 min",
        ),
        Contestant(
            name="nats-always",
            title="NATS, sync always",
            module="nats_jetstream",
            variant="always",
            keeps="synced",
        ),
        Contestant(
            name="aio-pika",
            title="RabbitMQ, aio-pika by hand",
            module="aio_pika_queue",
            variant="quorum",
            keeps="synced, by a quorum of one",
        ),
        Contestant(
            name="web-stomp",
            title="RabbitMQ, Web STOMP",
            module="web_stomp",
            variant="quorum",
            keeps="synced, by a quorum of one",
        ),
        Contestant(
            name="mosquitto",
            title="Mosquitto, QoS 1",
            module="mosquitto",
            variant="qos1",
            keeps="in memory; a snapshot every 30 min",
            only=frozenset(
                {"throughput-500", "throughput-1", "latency-1000", "groups-4", "groups-16"}
            ),
        ),
        Contestant(
            name="redis",
            title="Redis Streams",
            module="redis_streams",
            variant="always",
            keeps="synced",
        ),
        Contestant(
            name="sqlite",
            title="actorbus, SQLite",
            module="actorbus_broker",
            variant="sqlite",
            keeps="synced",
            many=True,
        ),
        Contestant(
            name="rabbitmq",
            title="actorbus, RabbitMQ",
            module="actorbus_broker",
            variant="rabbitmq",
            keeps="synced, by a quorum of one",
            many=True,
        ),
        Contestant(
            name="memory",
            title="actorbus, memory",
            module="actorbus_broker",
            variant="memory",
            keeps="nothing",
            many=True,
        ),
    )
}
