"""A disk without room, and a disk that fails: refused in words, never a false `published`."""

import asyncio
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import actorbus
from actorbus.client.delivery import Delivery
from tests.faults.apps import (
    acknowledges,
    backlogs,
    event,
    instance,
    publish,
    quick_reconnects,
    worked_off,
)
from tests.faults.broken_disk import program
from tests.faults.broker import BrokerProcess
from tests.faults.raw import RawClient
from tests.faults.record import Record

TOPIC = "orders"
GROUP = "billing"
DISK = "80m"
"""Little more than the 64 MiB that the broker keeps free."""

FILL_BYTES = 32 * 1024 * 1024
WAIT_SECONDS = 15.0
SUBSCRIBE = {"type": "subscribe", "topic": TOPIC}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("SKIPPED: a small disk can be mounted by root only; run as root to test it")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, size: int) -> None:
    """Leave `size` bytes less; or as many less as there are."""
    descriptor = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        left = size
        while left > 0:
            left -= os.write(descriptor, bytes(min(left, 4096)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


def free(disk: Path) -> None:
    (disk / "filler").unlink()


async def answers_until(client: RawClient, wanted: str, name: str) -> list[str]:
    """Publish until the broker answers so; the ids that it acknowledged on the way."""
    published: list[str] = []
    async with asyncio.timeout(WAIT_SECONDS):
        for number in range(10_000):
            answer = await client.publish(TOPIC, event(f"{name}-{number}"))
            if answer == "published":
                published.append(f"{name}-{number}")
            if answer == wanted:
                return published
            assert answer in {"published", "store_unavailable"}
    raise AssertionError(f"never answered {wanted}")


def test_publishers_are_refused_below_the_reserve_and_served_again_above_it(
    tmp_path: Path, disk: Path
) -> None:
    async def run() -> None:
        record = Record([GROUP])
        broker = BrokerProcess(tmp_path, store=f"sqlite:{disk / 'events.db'}")
        async with broker, RawClient(broker.url, GROUP) as client:
            await client.ask(SUBSCRIBE)
            record.published(await answers_until(client, "published", "before"))
            fill(disk, FILL_BYTES)
            record.published(await answers_until(client, "store_unavailable", "full"))
            status, reason = await broker.health()
            assert (status, "MiB free" in reason) == (503, True)
            free(disk)
            record.published(await answers_until(client, "published", "after"))
            assert await broker.health() == (200, "ok")
            await broker.kill()
            await broker.start()
            async with instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as bus:
                await worked_off(bus, TOPIC)
        assert record.lost() == {GROUP: 0}
        assert record.groups[GROUP].handled.keys() == record.acknowledged

    asyncio.run(run())


def test_a_client_publishes_again_by_itself_when_there_is_room(tmp_path: Path, disk: Path) -> None:
    async def run() -> None:
        record = Record([GROUP])
        broker = BrokerProcess(tmp_path, store=f"sqlite:{disk / 'events.db'}")
        async with (
            broker,
            instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as bus,
            RawClient(broker.url, "witness") as witness,
        ):
            fill(disk, FILL_BYTES)
            record.published(await answers_until(witness, "store_unavailable", "witness"))
            waiting = asyncio.create_task(publish(bus, TOPIC, record, ["patient"]))
            await answers_until(witness, "store_unavailable", "again")
            assert not waiting.done()
            free(disk)
            async with asyncio.timeout(WAIT_SECONDS):
                await waiting
            await worked_off(bus, TOPIC)
        assert record.groups[GROUP].attempts["patient"] == [1]

    asyncio.run(run())


def test_settling_is_durable_on_a_full_disk(tmp_path: Path, disk: Path) -> None:
    count = 500

    async def run() -> None:
        held: list[Delivery] = []
        came = asyncio.Event()

        async def hold(delivery: Delivery) -> None:
            held.append(delivery)
            if len(held) == count:
                came.set()

        broker = BrokerProcess(tmp_path, store=f"sqlite:{disk / 'events.db'}")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(broker)
            bus = await stack.enter_async_context(
                instance(broker.url, GROUP, TOPIC, hold, window=count)
            )
            await bus.publish_many(TOPIC, events=[event(f"{number}") for number in range(count)])
            async with asyncio.timeout(WAIT_SECONDS):
                await came.wait()
            fill(disk, 1 << 30)
            assert all([await delivery.ack(wait=True) for delivery in held])
            await broker.kill()
            free(disk)
            await broker.start()
            assert await backlogs(bus, TOPIC) == 0
        assert len(held) == count

    asyncio.run(run())


def test_a_quota_refuses_publishers_until_it_is_raised(tmp_path: Path) -> None:
    """As a full disk, without the right to mount one."""

    async def run() -> None:
        record = Record([GROUP])
        async with BrokerProcess(tmp_path) as broker, RawClient(broker.url, GROUP) as client:
            await client.ask(SUBSCRIBE)
            record.published(await answers_until(client, "published", "before"))
            limit = (16_384, resource.RLIM_INFINITY)
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, limit)
            record.published(await answers_until(client, "store_unavailable", "full"))
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, unlimited)
            record.published(await answers_until(client, "published", "after"))
            await broker.kill()
            await broker.start()
            async with instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as bus:
                await worked_off(bus, TOPIC)
        assert record.groups[GROUP].handled.keys() == record.acknowledged

    asyncio.run(run())


def test_an_io_error_ends_the_broker_with_70_and_no_false_published(tmp_path: Path) -> None:
    async def run() -> None:
        record = Record([GROUP])
        broken = tmp_path / "broken"
        async with BrokerProcess(tmp_path, program=program(broken)) as broker:
            async with RawClient(broker.url, GROUP) as client:
                await client.ask(SUBSCRIBE)
            async with RawClient(broker.url, "shop") as client:
                record.published(await answers_until(client, "published", "before"))
                broken.touch()
                assert await client.publish(TOPIC, event("fatal")) == "store_unavailable"
            assert await broker.exited() == 70
            broken.unlink()
            await broker.start()
            async with instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)) as bus:
                await worked_off(bus, TOPIC)
        assert record.lost() == {GROUP: 0}

    asyncio.run(run())


def test_apps_outlive_a_broker_with_an_io_error(tmp_path: Path) -> None:
    async def run() -> None:
        record = Record([GROUP])
        broken = tmp_path / "broken"
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            stack.enter_context(quick_reconnects())
            broker = await enter(BrokerProcess(tmp_path, program=program(broken)))
            shop = await enter(actorbus.connect(broker.url, app_id="shop"))
            await enter(instance(broker.url, GROUP, TOPIC, acknowledges(GROUP, record)))
            await publish(shop, TOPIC, record, ["first"])
            broken.touch()
            async with asyncio.TaskGroup() as calls:
                for number in range(20):
                    calls.create_task(publish(shop, TOPIC, record, [f"{number}"]))
                assert await broker.exited() == 70
                broken.unlink()
                await broker.start()
            await worked_off(shop, TOPIC)
        assert record.lost() == {GROUP: 0}
        assert len(record.acknowledged) == 21

    asyncio.run(run())
