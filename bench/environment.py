"""The machine and the versions that a result was measured with; no names and no paths."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final

import apsw

from actorbus import VERSION
from bench.options import OUT, ROOT

PACKAGES: Final = (
    "aio-pika",
    "apsw",
    "cloudevents",
    "msgpack",
    "msgspec",
    "orjson",
    "pykka",
    "uvloop",
    "websockets",
)

SYNCS: Final = 20
"""Writes of 4 KiB, each made durable: their median says what a commit must cost on this disk."""


def describe(packages: Sequence[str] = ()) -> dict[str, Any]:
    """All of it, ready for JSON; `packages` are installed distributions named beside our own."""
    OUT.mkdir(exist_ok=True)
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "actorbus": VERSION,
        "revision": _revision(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: _version(name) for name in (*PACKAGES, *packages)}
        | {"sqlite": apsw.sqlite_lib_version()},
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average_at_start": round(os.getloadavg()[0], 2),
        "fdatasync_ms": round(sync_ms(OUT), 3),
    }


def in_short(environment: dict[str, Any]) -> str:
    """One line of it."""
    return (
        f"{environment['cpu']}, {environment['cores']} cores, {environment['kernel']},"
        f" {environment['python']}, fdatasync {environment['fdatasync_ms']} ms,"
        f" load {environment['load_average_at_start']} at the start"
    )


def sync_ms(directory: Path) -> float:
    """Median time of a durable write in `directory`, in milliseconds."""
    path = directory / f"sync-{os.getpid()}"
    times: list[float] = []
    with path.open("wb", buffering=0) as file:
        path.unlink()
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return median(times) * 1000


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The checkout's commit, with `-dirty` if there are changes; None outside of one."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()
