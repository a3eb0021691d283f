"""Values that events may have, and those that must not get into one."""

from typing import Any, Final

import msgpack
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzz: Final = settings(
    deadline=None,  # the first text drawn builds Unicode's tables
    suppress_health_check=[HealthCheck.too_slow],
)

SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON_DATA: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
DATA: Final = JSON_DATA | st.binary()
ANYTHING: Final = st.recursive(
    SCALARS | st.integers() | st.floats() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.binary(), inner, max_size=4)
    ),
    max_leaves=12,
)


def nested(depth: int, kind: str = "array") -> Any:
    """`depth` arrays or maps, one in the other."""
    value: Any = 1
    for level in range(depth):
        is_map = kind == "map" or (kind == "mixed" and level % 2)
        value = {"a": value} if is_map else [value]
    return value


HOSTILE_DATA: Final = [
    ({"a": b"x"}, "bytes"),
    ([b""], "bytes"),
    ({1: 2}, "key"),
    ({None: 2}, "key"),
    ({b"a": 2}, "key"),
    ({True: 2}, "key"),
    ({1.5: 2}, "key"),
    ({"a": 1, 0: True}, "key"),
    (float("nan"), "finite"),
    (float("inf"), "finite"),
    (float("-inf"), "finite"),
    (2**64, "64 bits"),
    (-(2**63) - 1, "64 bits"),
    pytest.param(10**5000, "64 bits", id="10**5000"),
    ("\ud800", "surrogate"),
    ("a\udfffb", "surrogate"),
    ({"\ud800": 1}, "surrogate"),
    (msgpack.ExtType(1, b"x"), "ExtType"),
    (msgpack.Timestamp(1), "Timestamp"),
]
