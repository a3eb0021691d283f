"""`kill -9` loses nothing that was acknowledged and brings nothing back that was settled."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conformance.kit import Reader
from tests.transport.stores.sqlite.kit import sqlite

WORKER = """
import asyncio, sys
from pathlib import Path

import structlog

from transport.stores.sqlite.store import SqliteStore

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def publish(store, lane):
    number = 0
    while True:
        names = [f"{lane}:{number + index}" for index in range(3)]
        await store.append("t", tuple(name.encode() for name in names), None)
        print(*names, sep="\\n", flush=True)
        number += 3

async def settle(store):
    feed = await store.feed("t", "a", None)
    at = feed.position
    while True:
        found = await feed.fetch(at, 2000)
        for run in found.runs:
            for index in range(run.index, run.index + run.count, 2):
                await feed.settle([(run.batch.first + index, 1)])
                print("settled", run.batch.events[index].decode(), flush=True)
        at = found.next

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open(sys.exit)
    await store.join("t", "a", {}, "new")
    await store.join("t", "b", {}, "new")
    await asyncio.gather(*(publish(store, lane) for lane in range(8)), settle(store))

asyncio.run(main())
"""


class Said(msgspec.Struct):
    """What the child had acknowledged when it was killed."""

    appended: set[bytes]
    settled: set[bytes]


def run_and_kill(path: Path, lines: int) -> Said:
    command = [sys.executable, "-c", WORKER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        said += child.stdout.read().splitlines(keepends=True)
    whole = [line.strip() for line in said if line.endswith(b"\n")]
    settled = {line.split()[1] for line in whole if line.startswith(b"settled ")}
    return Said({line for line in whole if not line.startswith(b"settled ")}, settled)


async def read(path: Path, app_id: str) -> list[bytes]:
    async with sqlite(path) as store:
        (info,) = await store.topics(after=None, limit=1)
        (backlog,) = (group.backlog for group in info.groups if group.app_id == app_id)
        assert backlog is not None
        reader = await Reader.of(store, "t", app_id)
        seen = await reader.take(backlog)
        await reader.close()
        return [one.event for one in seen]


@pytest.mark.parametrize("lines", [50, 500, 3000])
def test_a_killed_store_has_all_that_was_acknowledged(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "actorbus.db"
    said = run_and_kill(path, lines)
    assert len(said.appended) > 20
    unread = asyncio.run(read(path, "b"))
    assert said.appended - set(unread) == set()
    assert len(unread) == len(set(unread))
    left = set(asyncio.run(read(path, "a")))
    assert left & said.settled == set()
    # One settle is under way at a time, so at most one is durable and not yet told.
    assert len(set(unread) - left - said.settled) <= 1
