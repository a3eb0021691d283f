"""A client that stops reading: cut off in time, at nobody else's cost. With the real time-outs."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

import actorbus
from actorbus.client.bus import Bus
from tests.faults.apps import acknowledges, instance, publish, worked_off
from tests.faults.broker import BrokerProcess
from tests.faults.raw import DeafClient
from tests.faults.record import Record

TOPIC = "orders"
GROUP = "billing"
EVENTS = 300
LARGE = {"padding": "." * 64_000}
CUT_OFF_SECONDS = 25.0
"""What the protocol's users are promised."""

STILL = 10
"""Looks in a row, 50 ms apart, that must find the same."""


class Outcome(msgspec.Struct):
    """What happened while one client did not read.

    Attributes:
        seconds: from the last publish until all events were handled.
        attempts: of each event, as the healthy instance saw them.
        held: the broker's count of what the deaf client held, before it was cut off.
        slow_consumers: the broker's count.
        latencies: of events on another topic meanwhile, publish to delivery, seconds.
    """

    seconds: float
    attempts: dict[str, list[int]]
    held: int
    slow_consumers: float
    latencies: list[float]


async def stop_reading(directory: Path) -> Outcome:
    record = Record([GROUP])
    async with BrokerProcess(directory) as broker:
        subscribe = {"type": "subscribe", "topic": TOPIC, "options": {"ack_wait_ms": 120_000}}
        deaf = await asyncio.to_thread(DeafClient, broker.url, GROUP, subscribe, 60_000)
        async with (
            actorbus.connect(broker.url, app_id="watcher") as bystander,
            instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as healthy,
        ):
            watch = asyncio.create_task(round_trips(bystander))
            for start in range(0, EVENTS, 10):
                ids = [f"{number}" for number in range(start, start + 10)]
                await publish(healthy, TOPIC, record, ids, LARGE)
            began = time.monotonic()
            held = await stuck_at(healthy)
            await record.complete(CUT_OFF_SECONDS + 5)
            seconds = time.monotonic() - began
            watch.cancel()
            await worked_off(healthy, TOPIC)
            slow = await broker.metric("actorbus_slow_consumers_total")
        deaf.close()
        (latencies,) = await asyncio.gather(watch, return_exceptions=False)
    return Outcome(seconds, dict(record.groups[GROUP].attempts), held, slow, latencies)


async def stuck_at(bus: Bus) -> int:
    """Wait until only the deaf client holds anything; how much.

    What the other instance holds is settled within moments, so the count must stand still.
    """
    counts: list[int] = []
    async with asyncio.timeout(10):
        while len(counts) < STILL or len(set(counts[-STILL:])) > 1 or not counts[-1]:
            (status,) = await bus.inspect(TOPIC)
            (group,) = status.groups
            counts.append(group.backlog if group.backlog == group.in_flight else 0)  # type: ignore[arg-type]  # SQLite knows it
            await asyncio.sleep(0.05)
    return counts[-1]


async def round_trips(bus: Bus) -> list[float]:
    """Publish and receive one small event after the other, until cancelled."""
    latencies: list[float] = []
    async with bus.subscribe("other") as deliveries:
        try:
            while True:
                began = time.monotonic()
                await bus.publish("other", 1)
                await (await anext(deliveries)).ack()
                latencies.append(time.monotonic() - began)
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return latencies


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run, of which each test looks at one side."""
    return asyncio.run(stop_reading(tmp_path_factory.mktemp("slow_reader")))


def test_it_is_cut_off_in_time_and_counted(outcome: Outcome) -> None:
    assert outcome.slow_consumers == 1
    assert outcome.seconds < CUT_OFF_SECONDS


def test_all_that_it_held_goes_to_the_other_instance(outcome: Outcome) -> None:
    assert set(outcome.attempts) == {f"{number}" for number in range(EVENTS)}
    assert sorted(map(tuple, outcome.attempts.values())) == (
        [(1,)] * (EVENTS - outcome.held) + [(2,)] * outcome.held
    )


def test_it_holds_no_more_than_its_unsent_bytes_allow(outcome: Outcome) -> None:
    assert 0 < outcome.held < EVENTS // 2


def test_no_other_connection_is_slowed(outcome: Outcome) -> None:
    latencies = sorted(outcome.latencies)
    assert len(latencies) > 500
    assert latencies[len(latencies) // 2] < 0.05
    assert latencies[-1] < 2.0
