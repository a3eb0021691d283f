import os

import pytest

from bench.options import BenchError
from bench.usage import from_metrics, of_process

METRICS = """\
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.25
process_resident_memory_bytes 5.24288e+07
"""


def test_a_process_has_used_memory() -> None:
    usage = of_process(os.getpid())

    assert usage.peak_bytes is not None
    assert 0 < usage.rss_bytes <= usage.peak_bytes


def test_cpu_time_is_what_the_kernel_counts() -> None:
    before = os.times()
    usage = of_process(os.getpid())
    after = os.times()

    slack = 0.05  # /proc counts in ticks of 10 ms
    assert before.user + before.system - slack <= usage.cpu_seconds
    assert usage.cpu_seconds <= after.user + after.system + slack


def test_a_process_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(BenchError, match="ended in the middle"):
        of_process(2**22 + 1)


def test_usage_is_read_from_metrics() -> None:
    usage = from_metrics(METRICS)

    assert (usage.cpu_seconds, usage.rss_bytes, usage.peak_bytes) == (1.25, 50 * 2**20, None)


def test_metrics_without_usage_are_refused() -> None:
    with pytest.raises(BenchError, match="process_cpu_seconds_total"):
        from_metrics("actorbus_up 1\n")
