import pytest

from bench.options import BenchError
from bench.payload import Payload, unpack


def test_data_has_the_size_asked_for() -> None:
    assert len(Payload(0, 256).pack(1, 2)) == 256


def test_data_tells_publisher_number_and_time() -> None:
    assert unpack(Payload(3, 64).pack(70_000, 123_456_789_012)) == (3, 70_000, 123_456_789_012)


def test_data_of_exactly_the_header_has_no_padding() -> None:
    assert unpack(Payload(1, 20).pack(2, 3)) == (1, 2, 3)


def test_data_too_small_for_the_header_is_refused() -> None:
    with pytest.raises(BenchError, match="20 bytes are needed"):
        Payload(0, 19)
