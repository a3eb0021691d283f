"""Whole runs, short ones, with real processes and sockets."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main


def run(out: Path, *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--store", "memory:", "--out", str(out), "--name", "run"]) == 0
    result: dict[str, Any] = json.loads((out / "run.json").read_text())
    return result


def test_every_group_of_a_load_test_gets_every_event_once(tmp_path: Path) -> None:
    result = run(tmp_path, "--events", "999", "--publishers", "2", "--groups", "2")

    groups = result["rounds"][0]["groups"]
    assert [group["verdict"] for group in groups] == [
        {"received": 999, "lost": 0, "duplicates": 0, "unconfirmed": 0}
    ] * 2


def test_instances_of_a_group_share_its_events(tmp_path: Path) -> None:
    result = run(tmp_path, "--events", "3000", "--instances", "2", "--encoding", "json")

    shares = result["rounds"][0]["groups"][0]["by_instance"]
    assert sum(shares) == 3000
    assert min(shares) > 0


def test_an_open_loop_publishes_at_its_rate(tmp_path: Path) -> None:
    arguments = ("--rate", "400", "--duration", "0.5", "--warmup", "0.1", "--batch", "2")

    assert run(tmp_path, *arguments)["rounds"][0]["published"] == 200


def test_nothing_is_left_at_the_broker_after_a_run(tmp_path: Path) -> None:
    result = run(tmp_path, "--events", "100")

    assert result["rounds"][0]["groups"][0]["unsettled"] == 0


def test_a_plot_lies_beside_the_result(tmp_path: Path) -> None:
    run(tmp_path, "--events", "100")

    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_idle_connections_are_counted_and_weighed(tmp_path: Path) -> None:
    result = run(tmp_path, "connections", "--count", "20", "--idle", "0.1")

    assert result["median"]["connections"] == 20
    assert result["median"]["kib_each"] > 0


def test_idle_connections_may_go_to_a_bare_server(tmp_path: Path) -> None:
    result = run(tmp_path, "connections", "--bare", "--count", "20", "--idle", "0.1")

    assert result["options"]["bare"] is True
    assert result["median"]["kib_each"] > 0


def test_many_topics_are_weighed_and_loaded(tmp_path: Path) -> None:
    median = run(tmp_path, "topics", "--count", "20", "--duration", "0.3")["median"]

    assert median["topics"] == 20
    assert median["alone_per_second"] > 0
    assert median["among_per_second"] > 0


def test_a_backlog_outlasts_its_broker_and_is_drained(tmp_path: Path) -> None:
    arguments = ["backlog", "--events", "2000", "--duration", "0.3"]

    assert main([*arguments, "--out", str(tmp_path), "--name", "run"]) == 0

    result = json.loads((tmp_path / "run.json").read_text())
    median = result["median"]
    assert (median["events"], median["lost"], median["duplicates"]) == (2000, 0, 0)
    assert result["kind"] == "backlog"
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_payload_too_small_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--payload", "10", "--store", "memory:", "--out", str(tmp_path)]

    assert main(arguments) == 1
    assert "publisher 0: --payload 10 is too small" in capsys.readouterr().err


def test_a_store_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", "nothing:"]) == 1
    assert "unknown store scheme" in capsys.readouterr().err
