import pytest

from bench.options import BenchError
from bench.peers.stomp_frames import Frame, decode, encode


def test_a_frame_is_encoded_as_the_specification_has_it() -> None:
    assert encode("ACK", {"id": "7"}) == b"ACK\nid:7\n\n\0"


def test_a_body_may_hold_zeros_if_its_length_is_said() -> None:
    sent = encode("MESSAGE", {"ack": "a", "content-length": "3"}, b"\0\n\0")

    assert list(decode(sent)) == [Frame("MESSAGE", {"ack": "a", "content-length": "3"}, b"\0\n\0")]


def test_a_body_without_a_length_ends_at_the_first_zero() -> None:
    assert [frame.body for frame in decode(b"ERROR\n\noh\0")] == [b"oh"]


def test_frames_of_one_message_are_told_apart() -> None:
    received = encode("RECEIPT", {"receipt-id": "1"}) + b"\n" + encode("RECEIPT", {})

    assert [frame.headers for frame in decode(received)] == [{"receipt-id": "1"}, {}]


def test_a_heart_beat_is_no_frame() -> None:
    assert list(decode(b"\n")) == []


def test_the_first_of_equal_headers_counts() -> None:
    assert next(decode(b"RECEIPT\nid:1\nid:2\n\n\0")).headers == {"id": "1"}


@pytest.mark.parametrize(
    "cut", [b"RECEIPT\nid:1\n", b"MESSAGE\n\nx", b"MESSAGE\ncontent-length:9\n\nx\0"]
)
def test_a_frame_that_is_cut_off_is_an_error(cut: bytes) -> None:
    with pytest.raises(BenchError, match="a stomp frame without"):
        list(decode(cut))
