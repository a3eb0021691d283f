import pytest

from bench.options import (
    BacklogOptions,
    BenchError,
    ConnectionsOptions,
    LoadOptions,
    TopicsOptions,
    parse,
)


def load(*arguments: str) -> LoadOptions:
    options = parse(arguments)
    assert isinstance(options, LoadOptions)
    return options


def test_without_arguments_it_is_a_load_test_on_sqlite() -> None:
    assert load() == LoadOptions()


def test_load_may_be_named() -> None:
    assert load("load", "--groups", "2") == load("--groups", "2")


def test_connections_is_a_subcommand() -> None:
    assert parse(["connections", "--count", "7"]) == ConnectionsOptions(count=7)


def test_topics_is_a_subcommand() -> None:
    assert parse(["topics", "--count", "7"]) == TopicsOptions(count=7)


def test_backlog_is_a_subcommand() -> None:
    assert parse(["backlog", "--events", "7"]) == BacklogOptions(events=7)


def test_a_backlog_in_memory_is_refused() -> None:
    with pytest.raises(BenchError, match="keeps no backlog over a restart"):
        parse(["backlog", "--store", "memory:"])


def test_a_run_by_number_of_events_measures_from_the_first() -> None:
    assert load("--events", "10").warmup == 0


def test_a_short_run_warms_up_for_a_quarter_of_it() -> None:
    assert load("--duration", "2").warmup == 0.5


def test_a_warmup_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(BenchError, match="nothing is left to measure"):
        parse(["--duration", "2", "--warmup", "2"])


def test_a_batch_beyond_the_window_is_refused() -> None:
    with pytest.raises(BenchError, match="the window counts events"):
        parse(["--batch", "501"])


@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_a_number_below_one_is_refused(value: str) -> None:
    with pytest.raises(SystemExit):
        parse(["--groups", value])


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_rate_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(SystemExit):
        parse(["--rate", value])
