"""The Dapr door beside servers that do nothing: what is computed, and short runs."""

import json
import shutil
from pathlib import Path

import pytest

from bench.dapr.__main__ import main
from bench.dapr.options import MEASURES, parse
from bench.dapr.targets import TARGETS, reached

SHORT = ("--rounds", "1", "--duration", "0.2", "--events", "200", "--name", "short")


def test_a_ratio_is_taken_within_its_round() -> None:
    rounds = [
        {"http_memory": 10.0, "http_empty": 100.0},
        {"http_memory": 30.0, "http_empty": 50.0},
        {"http_memory": 10.0, "http_empty": 50.0},
    ]

    (found,) = reached(rounds)

    assert (found.median, found.least, found.most) == (0.2, 0.1, 0.6)
    assert not found.met


def test_a_ratio_that_is_just_what_it_must_be_is_met() -> None:
    (found,) = reached([{"http_memory": 35.0, "http_empty": 100.0}])

    assert found.met


def test_what_is_not_promised_is_always_met() -> None:
    (found,) = reached([{"publish_sqlite": 1.0, "publish_empty": 100.0}])

    assert found.met


def test_every_target_compares_runs_of_one_measure() -> None:
    measures = [(each.run.partition("_")[0], each.floor) for each in TARGETS]

    assert {measure for measure, _ in measures} == set(MEASURES)
    assert all(floor == f"{measure}_empty" for measure, floor in measures)


def test_measures_keep_their_order_whatever_order_they_are_asked_for_in() -> None:
    assert parse(["--measures", "stream,http"]).measures == ("http", "stream")


def test_an_unknown_measure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--measures", "http,grpc"])
    assert "'grpc' is none of http, publish, stream" in capsys.readouterr().err


@pytest.mark.timeout(120)  # a dozen processes, each of which imports gRPC
@pytest.mark.parametrize(
    "measures",
    [
        "publish,stream",
        pytest.param(
            "http",
            marks=pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed"),
        ),
    ],
)
def test_a_short_run_measures_every_server(tmp_path: Path, measures: str) -> None:
    status = main([*SHORT, "--measures", measures, "--out", str(tmp_path)])

    result = json.loads((tmp_path / "short.json").read_text())
    servers = ("empty", "memory", "sqlite")
    runs = {f"{measure}_{name}" for measure in measures.split(",") for name in servers}
    (figures,) = result["figures"]
    assert status in (0, 2)  # so short a run says nothing about the ratios
    assert figures.keys() == runs
    assert all(rate > 0 for rate in figures.values())
    assert result["environment"]["cores"] > 0
    assert (tmp_path / "short.png").stat().st_size > 0
