"""Metadata of publish requests."""

import pytest

from transport.dapr.request_metadata import is_raw, overrides, ttl_seconds


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_every_true_of_go_asks_for_raw(text: str) -> None:
    assert is_raw({"rawPayload": text})


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False", ""])
def test_every_false_of_go_does_not(text: str) -> None:
    assert not is_raw({"rawPayload": text})


def test_raw_payload_is_spelled_exactly() -> None:
    assert not is_raw({"rawpayload": "true"})


@pytest.mark.parametrize("text", ["yes", "tRUE", " true", '"true"'])
def test_another_raw_payload_is_an_error_with_its_value(text: str) -> None:
    with pytest.raises(ValueError, match="rawPayload value must be a valid boolean: actual is "):
        is_raw({"rawPayload": text})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("+5", 5), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), (".5s", 0.5)],
)
def test_a_time_to_live_is_seconds_or_a_duration_of_go(text: str, seconds: float) -> None:
    assert ttl_seconds({"ttlInSeconds": text}) == seconds


@pytest.mark.parametrize("name", ["ttlInSeconds", "ttlinseconds", "TTL", "ttl"])
def test_its_name_may_have_any_case(name: str) -> None:
    assert ttl_seconds({name: "7"}) == 7


@pytest.mark.parametrize("text", ["0", "-1", "-5m", "0s", ""])
def test_nothing_left_to_live_means_no_limit(text: str) -> None:
    assert ttl_seconds({"ttlInSeconds": text}) is None


@pytest.mark.parametrize("text", ["soon", "1 s", "5d", "1e3", "٣", "1" * 200, "s", "1.2.3s"])
def test_another_time_to_live_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="ttl value must be a valid integer or duration"):
        ttl_seconds({"ttlInSeconds": text})


def test_times_outside_the_brokers_range_are_brought_into_it() -> None:
    assert ttl_seconds({"ttl": "1ns"}) == 0.001
    assert ttl_seconds({"ttl": "9" * 18}) == 2**53 / 1000


def test_overrides_are_found_by_their_prefix_and_empty_ones_are_none() -> None:
    metadata = {"cloudevent.id": "7", "CloudEvent.Type": "t", "cloudevent.source": "", "id": "x"}
    assert overrides(metadata) == {"id": "7", "type": "t"}
