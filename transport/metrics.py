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
from transport.components import Component

if TYPE_CHECKING:
    from transport.broker import Broker

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

BROKER_COUNTERS: Final = {
    "connections": ("connections_opened", "Connections that said hello."),
    "published": ("events_published", "Events made durable."),
    "delivered": ("events_delivered", "Deliveries sent."),
    "slow_consumers": ("slow_consumers", "Connections cut off because they did not read."),
}
"""Field of the counters → name and help."""

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


class ComponentSample(msgspec.Struct, frozen=True):
    """What is counted of one component.

    Attributes:
        labels: its name, if there are several; else none, so that names stay as they are.
    """

    labels: list[str]
    up: bool
    counters: BrokerCounters
    topics: list[TopicSample]


class Sample(msgspec.Struct, frozen=True):
    """What a broker has counted, to be read by another thread."""

    labels: list[str]
    components: list[ComponentSample]


async def render(broker: "Broker") -> str:
    """All metrics of a broker as text, made by a thread: 10,000 groups take a second."""
    async with broker.rendering:
        return await asyncio.to_thread(_text, _sample(broker))


def _sample(broker: "Broker") -> Sample:
    several = len(broker.components) > 1
    components = [_component(broker, one, several=several) for one in broker.components.values()]
    return Sample(["component"] if several else [], components)


def _component(broker: "Broker", component: Component, *, several: bool) -> ComponentSample:
    supervisor = component.supervisor
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
    up = not broker.stopping and component.store.health() is None
    return ComponentSample([component.name] if several else [], up, counters, topics)


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
        yield from _broker(self._sample)
        yield from _topics(self._sample)
        yield from _groups(self._sample)


def _broker(sample: Sample) -> Iterator[Metric]:
    labels = sample.labels
    up = GaugeMetricFamily("actorbus_up", "1 while the broker accepts work.", labels=labels)
    connections = GaugeMetricFamily("actorbus_connections", "Open connections.", labels=labels)
    counted = {
        field: CounterMetricFamily(f"actorbus_{name}", text, labels=labels)
        for field, (name, text) in BROKER_COUNTERS.items()
    }
    refused = CounterMetricFamily("actorbus_refusals", "Error answers.", labels=[*labels, "code"])
    restarts = CounterMetricFamily(
        "actorbus_restarts", "Actors that failed and were restarted.", labels=[*labels, "kind"]
    )
    for one in sample.components:
        up.add_metric(one.labels, one.up)
        connections.add_metric(one.labels, one.counters.connected)
        for field, family in counted.items():
            family.add_metric(one.labels, getattr(one.counters, field))
        for code, number in one.counters.refused.items():
            refused.add_metric([*one.labels, code], number)
        for kind, number in one.counters.restarts.items():
            restarts.add_metric([*one.labels, kind], number)
    yield from (up, connections, *counted.values(), refused, restarts)


def _topics(sample: Sample) -> Iterator[Metric]:
    labels = [*sample.labels, "topic"]
    published = CounterMetricFamily(
        "actorbus_topic_published", "Events made durable, by topic.", labels=labels
    )
    waiting = GaugeMetricFamily(
        "actorbus_topic_waiting_bytes", "Bytes that wait for the store.", labels=labels
    )
    for one in sample.components:
        for topic in one.topics:
            published.add_metric([*one.labels, topic.topic], topic.published)
            waiting.add_metric([*one.labels, topic.topic], topic.waiting)
    yield published
    yield waiting


def _groups(sample: Sample) -> Iterator[Metric]:
    labels = [*sample.labels, "topic", "app_id"]
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
        name: CounterMetricFamily(f"actorbus_group_{name}", text, labels=labels)
        for name, text in GROUP_COUNTERS.items()
    }
    families |= {
        name: GaugeMetricFamily(f"actorbus_group_{name}", text, labels=labels)
        for name, text in GROUP_GAUGES.items()
    }
    for one in sample.components:
        for topic in one.topics:
            for group in topic.groups:
                values = [*one.labels, topic.topic, group.app_id]
                for counter, family in families.items():
                    family.add_metric(values, getattr(group.counters, counter))
    yield from families.values()
