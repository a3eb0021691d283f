"""A comparison: what is computed, and one short run with real processes and sockets."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.options import BenchError
from bench.peers.__main__ import main
from bench.peers.comparison import rotated
from bench.peers.contestants import CONTESTANTS, Contestant
from bench.peers.measures import MEASURES
from bench.peers.options import parse
from bench.peers.results import Figure, Outcome, Sample, Spread, spread, wrong
from bench.peers.targets import TARGETS, Target, reached

SMALL = ("--measures", "throughput-500", "--rounds", "1", "--duration", "0.3")


def sample(per_second: float = 1.0, lost: int = 0, duplicates: int = 0) -> Sample:
    return Sample(
        published=10,
        failed=0,
        lost=lost,
        duplicates=duplicates,
        per_second=per_second,
        mb_per_second=0.0,
        latency_ms={"p50": 0.5},
        server_cpu_us=1.0,
    )


def outcome(round_: int, contestant: str, result: Sample | None) -> Outcome:
    return Outcome(round=round_, measure="throughput-500", contestant=contestant, sample=result)


def target(better: Any = "more", must: float = 2.0, aim: float | None = 4.0) -> Target:
    return Target(
        name="a / b",
        ours=Figure("a", "throughput-500", "per_second"),
        theirs=Figure("b", "throughput-500", "per_second"),
        better=better,
        must=must,
        aim=aim,
    )


def test_a_ratio_is_taken_within_its_round() -> None:
    outcomes = [
        outcome(1, "a", sample(30.0)),
        outcome(1, "b", sample(10.0)),
        outcome(2, "b", sample(40.0)),
        outcome(2, "a", sample(20.0)),
    ]

    assert target().ratios(outcomes) == {1: 3.0, 2: 0.5}


def test_a_round_without_one_of_the_two_has_no_ratio() -> None:
    outcomes = [outcome(1, "a", sample(30.0)), outcome(1, "b", None), outcome(2, "b", sample(1.0))]

    assert target().ratios(outcomes) == {}


def test_nothing_delivered_makes_no_ratio() -> None:
    assert target().ratios([outcome(1, "a", sample(3.0)), outcome(1, "b", sample(0.0))]) == {}


@pytest.mark.parametrize(
    ("better", "ratio", "verdict"),
    [
        ("more", 4.0, "aim"),
        ("more", 2.0, "must"),
        ("more", 1.9, "missed"),
        ("less", 4.0, "must"),
        ("less", 2.0, "aim"),
        ("less", 4.1, "missed"),
    ],
)
def test_a_ratio_reaches_the_best_bound_that_it_touches(
    better: str, ratio: float, verdict: str
) -> None:
    must, aim = (2.0, 4.0) if better == "more" else (4.0, 2.0)

    assert target(better, must, aim).verdict(ratio) == verdict


def test_a_target_without_an_aim_is_reached_by_its_must() -> None:
    assert target(aim=None).verdict(100.0) == "must"


def test_a_target_that_was_not_measured_has_no_verdict() -> None:
    assert {each.verdict for each in reached([])} == {"-"}


def test_bounds_are_written_with_their_direction() -> None:
    assert [target().bound(2.0), target("less").bound(1.25), target().bound(None)] == [
        "≥ 2",
        "≤ 1.25",
        "-",
    ]


def test_targets_compare_only_what_takes_part() -> None:
    figures = [figure for each in TARGETS for figure in (each.ours, each.theirs)]

    assert not [
        figure
        for figure in figures
        if not CONTESTANTS[figure.contestant].takes_part(MEASURES[figure.measure])
    ]


def test_a_figure_may_lie_within_the_latencies() -> None:
    figure = Figure("a", "throughput-500", "latency_ms.p50")

    assert figure.of([outcome(3, "a", sample())]) == {3: 0.5}


def test_a_percentile_that_was_not_measured_is_none() -> None:
    assert Figure("a", "throughput-500", "latency_ms.p99").of([outcome(1, "a", sample())]) == {}


def test_values_of_rounds_have_a_median_and_ends() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(median=2.0, least=1.0, most=3.0)


def test_no_values_have_no_median() -> None:
    assert spread([]) is None


def test_losses_and_duplicates_are_summed_by_contestant() -> None:
    outcomes = [
        outcome(1, "a", sample(lost=1)),
        outcome(2, "a", sample(lost=2, duplicates=5)),
        outcome(1, "b", sample()),
        outcome(2, "b", None),
    ]

    assert wrong(outcomes) == {"a": (3, 5)}


def test_every_round_begins_with_another_contestant() -> None:
    assert [rotated("abc", by) for by in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_batches_are_published_only_by_those_that_can() -> None:
    able = [each.name for each in CONTESTANTS.values() if each.takes_part(MEASURES["many-500"])]

    assert able == [each.name for each in CONTESTANTS.values() if each.ours]


def test_contestants_and_measures_are_taken_in_the_order_of_the_command_line() -> None:
    options = parse(["--only", "memory,relay", "--measures", "throughput-1"])

    assert [each.name for each in options.contestants] == ["memory", "relay"]
    assert [each.name for each in options.measures] == ["throughput-1"]


def test_an_unknown_contestant_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "relay,nobody"])
    assert "unknown: nobody" in capsys.readouterr().err


def test_a_client_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name}", name="somelib")

    monkeypatch.setattr("bench.peers.contestants.import_module", missing)
    contestant = Contestant(name="x", title="X", module="x", variant="", keeps="")

    with pytest.raises(BenchError, match="x needs the package somelib"):
        contestant.open()


def test_every_contestant_gets_every_event_once(tmp_path: Path) -> None:
    only = ("--only", "relay,relay-50,memory")

    assert main([*SMALL, *only, "--out", str(tmp_path), "--name", "run"]) == 0

    result = json.loads((tmp_path / "run.json").read_text())
    samples = {each["contestant"]: each["sample"] for each in result["outcomes"]}
    assert samples.keys() == {"relay", "relay-50", "memory"}
    assert all(each["published"] > 0 for each in samples.values())
    assert not [each for each in samples.values() if each["lost"] or each["duplicates"]]
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
