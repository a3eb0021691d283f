from bench.measure import Histogram
from bench.results import Idle, latency_ms, medians


def idle(kib_each: float) -> Idle:
    return Idle(
        connections=10,
        start_mib=50.0,
        end_mib=51.0,
        kib_each=kib_each,
        opening_cpu_us=1.0,
        idle_cpu_percent=0.0,
    )


def test_the_median_of_rounds_is_taken_number_by_number() -> None:
    assert medians([idle(3.0), idle(1.0), idle(2.0)])["kib_each"] == 2.0


def test_latencies_are_in_milliseconds() -> None:
    latencies = Histogram()
    latencies.record(2_000_000)

    assert round(latency_ms(latencies)["p50"], 1) == 2.0


def test_percentiles_are_named_as_people_write_them() -> None:
    latencies = Histogram()
    latencies.record(1)

    assert list(latency_ms(latencies)) == ["p50", "p90", "p99", "p99.9", "p99.99", "p100"]


def test_nothing_measured_has_no_latencies() -> None:
    assert latency_ms(Histogram()) == {}
