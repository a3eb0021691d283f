"""Trace context from outside."""

import pytest

from transport.dapr.trace import NO_TRACE, Trace, trace_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_context_is_taken_as_it_is() -> None:
    assert trace_of(PARENT, "vendor=1") == Trace(PARENT, "vendor=1")


def test_a_later_version_may_have_more_fields() -> None:
    parent = "cc" + PARENT[2:] + "-what-comes"
    assert trace_of(parent, None) == Trace(parent)


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "x",
        PARENT.upper(),
        PARENT + "-more",
        PARENT[:-1],
        "ff" + PARENT[2:],
        PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        PARENT.replace("00f067aa0ba902b7", "0" * 16),
        PARENT + "\n",
    ],
)
def test_a_malformed_parent_means_no_context_at_all(parent: str | None) -> None:
    assert trace_of(parent, "vendor=1") is NO_TRACE


@pytest.mark.parametrize("state", ["", "a" * 513, "a\x00", "vendor=\xe9"])
def test_a_state_that_is_long_or_no_printable_ascii_is_left_out(state: str) -> None:
    assert trace_of(PARENT, state) == Trace(PARENT)
