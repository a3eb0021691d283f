from collections.abc import Callable
from typing import Any

import pytest

from actorbus.errors import RefusedError
from actorbus.names import check_app_id, check_instance, check_topic

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@-"
WRONG: list[Any] = [
    "",
    "a" * 121,
    "a b",
    "a+b",
    "a\n",
    "\n",
    "a#",
    "ä",
    "a\x00",
    "a*",
    None,
    1,
    True,
    b"a",
    ["a"],
]


@pytest.mark.parametrize("check", [check_topic, check_app_id])
@pytest.mark.parametrize("name", ["a", "a" * 120, ALPHABET, "AMQ.x", "amq", "-", "../x"])
def test_a_name_of_the_alphabet_is_accepted_unchanged(
    check: Callable[[Any], str], name: str
) -> None:
    assert check(name) == name


@pytest.mark.parametrize("check", [check_topic, check_app_id])
@pytest.mark.parametrize("name", WRONG)
def test_any_other_name_is_an_invalid_name(check: Callable[[Any], str], name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check(name)
    assert caught.value.code == "invalid_name"


def test_a_topic_must_not_start_with_the_prefix_of_rabbitmq() -> None:
    with pytest.raises(RefusedError, match=r"amq\.topic"):
        check_topic("amq.topic")


def test_an_app_id_may_start_with_the_prefix_of_rabbitmq() -> None:
    assert check_app_id("amq.app") == "amq.app"


@pytest.mark.parametrize("label", ["a", "pod 1 (é)", "x" * 120, "é" * 60, "😀" * 30])
def test_an_instance_is_printable_text_of_120_bytes(label: Any) -> None:
    assert check_instance(label) == label


@pytest.mark.parametrize(
    "label", ["", "x" * 121, "é" * 61, "a\n", "\x7f", "\ud800", "\u2028", None, 5]
)
def test_any_other_instance_is_an_invalid_name(label: Any) -> None:
    with pytest.raises(RefusedError) as caught:
        check_instance(label)
    assert caught.value.code == "invalid_name"


def test_a_long_name_is_shortened_in_the_message() -> None:
    with pytest.raises(RefusedError) as caught:
        check_topic("x" * 100_000)
    assert len(caught.value.message) < 150
