"""CPU time and memory of a process, from Linux' /proc or a broker's `/metrics`."""

import os
import re
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import msgspec

from bench.options import BenchError

SCRAPE_SECONDS: Final = 5.0


class Usage(msgspec.Struct, frozen=True):
    """What a process has used.

    Attributes:
        cpu_seconds: user and system, since it started.
        rss_bytes: resident now.
        peak_bytes: resident at most so far; None where it can't be known.
    """

    cpu_seconds: float
    rss_bytes: int
    peak_bytes: int | None


def together(one: Usage, other: Usage) -> Usage:
    """What two processes have used; the peak is unknown, since theirs may be at other times."""
    return Usage(
        cpu_seconds=one.cpu_seconds + other.cpu_seconds,
        rss_bytes=one.rss_bytes + other.rss_bytes,
        peak_bytes=None,
    )


def of_process(pid: int) -> Usage:
    """Usage of a process of this machine.

    Raises:
        BenchError: there is no such process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        raise BenchError("the broker has ended in the middle of the run") from None
    ticks = stat.rpartition(")")[2].split()[11:13]  # utime and stime: proc(5), after the name
    return Usage(
        cpu_seconds=sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
        rss_bytes=_kib(status, "VmRSS"),
        peak_bytes=_kib(status, "VmHWM"),
    )


def _kib(status: str, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def of_broker(url: str) -> Usage:
    """Usage of a broker that runs elsewhere, as its `/metrics` tells it.

    Raises:
        BenchError: it does not answer, or tells nothing of it.
    """
    address = re.sub(r"^ws(s?)://([^/]+).*$", r"http\1://\2/metrics", url)
    try:
        with urlopen(address, timeout=SCRAPE_SECONDS) as answer:
            text = answer.read().decode()
    except OSError as error:
        raise BenchError(f"{address} does not answer: {error}") from None
    return from_metrics(text)


def from_metrics(text: str) -> Usage:
    """Usage from the Prometheus text format.

    Raises:
        BenchError: the two metrics are not in it.
    """
    values = dict(re.findall(r"^process_(\w+) (\S+)$", text, re.MULTILINE))
    try:
        cpu, rss = float(values["cpu_seconds_total"]), float(values["resident_memory_bytes"])
    except KeyError as missing:
        raise BenchError(f"the broker's /metrics has no process_{missing.args[0]}") from None
    return Usage(cpu_seconds=cpu, rss_bytes=int(rss), peak_bytes=None)
