"""A bench that is told to end leaves nothing running."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.options import ROOT

END_SECONDS = 30.0


def children(pid: int) -> set[int]:
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("arguments", "busy"),
    [
        (("bench", "--store", "memory:", "--duration", "50"), "publishing"),
        (
            (
                *("bench.peers", "--only", "relay", "--measures", "throughput-500"),
                *("--duration", "50"),
            ),
            "in flight",
        ),
    ],
)
def test_servers_and_apps_end_with_the_bench(
    arguments: tuple[str, ...], busy: str, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as bench:
        assert bench.stderr is not None
        while busy not in (line := bench.stderr.readline()):
            assert line, "it ended too early"
        started = children(bench.pid)
        bench.send_signal(number)
        bench.stderr.read()

        assert bench.wait(END_SECONDS) == 130
    assert started
    assert not [pid for pid in started if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
