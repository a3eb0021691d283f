"""Cutting standard input into lines."""

import pytest

from actorbus.commands import lines
from actorbus.commands.lines import Line, LineSplitter


def split(*pieces: bytes) -> list[Line]:
    splitter = LineSplitter()
    return [*(line for piece in pieces for line in splitter.feed(piece)), *splitter.end()]


def test_lines_have_the_numbers_that_an_editor_shows() -> None:
    assert split(b"a\n\n\nb\nc") == [Line(1, "a"), Line(4, "b"), Line(5, "c")]


def test_a_line_may_come_in_pieces() -> None:
    assert split(b"on", b"e\ntw", b"o", b"\n") == [Line(1, "one"), Line(2, "two")]


def test_a_text_that_is_cut_between_its_bytes_is_whole() -> None:
    assert split("ä".encode()[:1], "ä".encode()[1:]) == [Line(1, "ä")]


def test_line_ends_of_windows_and_its_byte_order_mark_are_no_data() -> None:
    assert split(b"\xef\xbb\xbf1\r\n2\r\n\r\n") == [Line(1, "1"), Line(2, "2")]


def test_a_line_that_is_no_text_is_named_and_the_next_goes_on() -> None:
    assert split(b"\xff\n2\n") == [Line(1, "", "not UTF-8 text"), Line(2, "2")]


@pytest.mark.parametrize("cut", [0, 3, 11, 25])
def test_a_line_that_is_too_long_is_skipped_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES", 10)
    stream = b"x" * 30 + b"\nnext\n"
    wrong = Line(1, "", "longer than 10 bytes")
    assert split(stream[:cut], stream[cut:]) == [wrong, Line(2, "next")]


def test_no_more_than_the_longest_line_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_BYTES", 10)
    splitter = LineSplitter()
    for _ in range(100):
        assert splitter.feed(b"xxxx") == []
        assert len(splitter._rest) <= 10
    assert splitter.end() == [Line(1, "", "longer than 10 bytes")]
