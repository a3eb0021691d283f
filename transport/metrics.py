"""`/metrics`: what the broker counts, in Prometheus' text format."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from actorbus.version import VERSION

if TYPE_CHECKING:
    from actors.supervisor import Supervisor
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


def render(broker: "Broker") -> str:
    """All metrics of a broker as text."""
    registry = CollectorRegistry()
    registry.register(_BrokerCollector(broker))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


class _BrokerCollector(Collector):
    """Reads the counters at the moment of the request."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Every metric, with its labels."""
        info = GaugeMetricFamily("actorbus_info", "Constant 1.", labels=["version"])
        info.add_metric([VERSION], 1)
        yield info
        yield GaugeMetricFamily(
            "actorbus_up",
            "1 while the broker accepts work.",
            value=self._broker.health() is None,
        )
        yield from _broker(self._broker.supervisor)
        yield from _topics(self._broker.supervisor)
        yield from _groups(self._broker.supervisor)


def _broker(supervisor: "Supervisor") -> Iterator[Metric]:
    counters = supervisor.counters
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


def _topics(supervisor: "Supervisor") -> Iterator[Metric]:
    published = CounterMetricFamily(
        "actorbus_topic_published", "Events made durable, by topic.", labels=["topic"]
    )
    waiting = GaugeMetricFamily(
        "actorbus_topic_waiting_bytes", "Bytes that wait for the store.", labels=["topic"]
    )
    for name, cell in supervisor.topics.items():
        published.add_metric([name], cell.counters.published)
        waiting.add_metric([name], cell.budget.held)
    yield published
    yield waiting


def _groups(supervisor: "Supervisor") -> Iterator[Metric]:
    labels = ["topic", "app_id"]
    families: dict[str, Metric] = {
        name: CounterMetricFamily(f"actorbus_group_{name}", text, labels=labels)
        for name, text in GROUP_COUNTERS.items()
    }
    families |= {
        name: GaugeMetricFamily(f"actorbus_group_{name}", text, labels=labels)
        for name, text in GROUP_GAUGES.items()
    }
    for name, topic in supervisor.topics.items():
        for app_id, group in topic.groups.items():
            for counter, family in families.items():
                value = getattr(group.counters, counter)
                assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
                family.add_metric([name, app_id], value)
    yield from families.values()
