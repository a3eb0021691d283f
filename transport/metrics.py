"""`/metrics`: what the broker counts, in Prometheus' text format."""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from actorbus.version import VERSION
from actors.counters import BrokerCounters, GroupCounters

if TYPE_CHECKING:
    from transport.broker import Broker

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

GROUP_COUNTERS: Final = {
    "delivered": "Deliveries, redeliveries included.",
    "redelivered": "Deliveries beyond an event's first.",
    "dead_lettered": "Events moved to a dead-letter topic.",
    "dropped": "Events given up without a dead-letter topic.",
}
GROUP_GAUGES: Final = {
    "in_flight": "Deliveries that are leased now.",
    "instances": "Connected instances.",
    "delayed": "Events that wait for their next attempt.",
}


class GroupSample(msgspec.Struct, frozen=True):
    """What is counted of one group; its counters go on counting."""

    app_id: str
    counters: GroupCounters


class TopicSample(msgspec.Struct, frozen=True):
    """What is counted of one topic."""

    topic: str
    published: int
    waiting: int
    groups: list[GroupSample]


class Sample(msgspec.Struct, frozen=True):
    """What a broker has counted, to be read by another thread."""

    up: bool
    counters: BrokerCounters
    topics: list[TopicSample]


async def render(broker: "Broker") -> str:
    """All metrics of a broker as text, made by a thread: 10,000 groups take a second."""
    async with broker.rendering:
        return await asyncio.to_thread(_text, _sample(broker))


def _sample(broker: "Broker") -> Sample:
    supervisor = broker.supervisor
    counters = msgspec.structs.replace(
        supervisor.counters,
        refused=dict(supervisor.counters.refused),
        restarts=dict(supervisor.counters.restarts),
    )
    topics = [
        TopicSample(
            name,
            cell.counters.published,
            cell.budget.held,
            [GroupSample(app_id, group.counters) for app_id, group in cell.groups.items()],
        )
        for name, cell in supervisor.topics.items()
    ]
    return Sample(broker.health() is None, counters, topics)


def _text(sample: Sample) -> str:
    registry = CollectorRegistry()
    registry.register(_BrokerCollector(sample))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


class _BrokerCollector(Collector):
    """One sample as metrics."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        """Every metric, with its labels."""
        info = GaugeMetricFamily("actorbus_info", "Constant 1.", labels=["version"])
        info.add_metric([VERSION], 1)
        yield info
        up = self._sample.up
        yield GaugeMetricFamily("actorbus_up", "1 while the broker accepts work.", value=up)
        yield from _broker(self._sample.counters)
        yield from _topics(self._sample.topics)
        yield from _groups(self._sample.topics)


def _broker(counters: BrokerCounters) -> Iterator[Metric]:
    for name, text, value in (
        ("connections_opened", "Connections that said hello.", counters.connections),
        ("events_published", "Events made durable.", counters.published),
        ("events_delivered", "Deliveries sent.", counters.delivered),
        (
            "slow_consumers",
            "Connections cut off because they did not read.",
            counters.slow_consumers,
        ),
    ):
        yield CounterMetricFamily(f"actorbus_{name}", text, value=value)
    yield GaugeMetricFamily("actorbus_connections", "Open connections.", value=counters.connected)
    refused = CounterMetricFamily("actorbus_refusals", "Error answers.", labels=["code"])
    for code, number in counters.refused.items():
        refused.add_metric([code], number)
    yield refused
    restarts = CounterMetricFamily(
        "actorbus_restarts", "Actors that failed and were restarted.", labels=["kind"]
    )
    for kind, number in counters.restarts.items():
        restarts.add_metric([kind], number)
    yield restarts


def _topics(topics: list[TopicSample]) -> Iterator[Metric]:
    published = CounterMetricFamily(
        "actorbus_topic_published", "Events made durable, by topic.", labels=["topic"]
    )
    waiting = GaugeMetricFamily(
        "actorbus_topic_waiting_bytes", "Bytes that wait for the store.", labels=["topic"]
    )
    for sample in topics:
        published.add_metric([sample.topic], sample.published)
        waiting.add_metric([sample.topic], sample.waiting)
    yield published
    yield waiting


def _groups(topics: list[TopicSample]) -> Iterator[Metric]:
    labels = ["topic", "app_id"]
    families: dict[str, Metric] = {
        name: CounterMetricFamily(f"actorbus_group_{name}", text, labels=labels)
        for name, text in GROUP_COUNTERS.items()
    }
    families |= {
        name: GaugeMetricFamily(f"actorbus_group_{name}", text, labels=labels)
        for name, text in GROUP_GAUGES.items()
    }
    for sample in topics:
        for group in sample.groups:
            for counter, family in families.items():
                value = getattr(group.counters, counter)
                assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
                family.add_metric([sample.topic, group.app_id], value)
    yield from families.values()
