"""The commands on a terminal: colours, columns, the live table, the progress bar."""

import asyncio
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self

import pytest
from rich.console import Console

from actorbus.testing import TestBroker
from tests.actorbus.client.fake_broker import FakeBroker, Peer, run, until
from tests.actorbus.commands.test_commands import prepare

groups: Any = import_module("actorbus.commands.groups")  # its package has a function of that name

SECONDS = 20
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TestBroker() as broker:
        yield broker.url


class Terminal:
    """A command on a terminal of its own; standard input may be a file."""

    def __init__(
        self, url: str, *args: str, columns: int = 80, stdin: IO[str] | None = None
    ) -> None:
        self.text = ""
        self._descriptor, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            (sys.executable, "-m", "transport", *args),
            stdin=inside if stdin is None else stdin,
            stdout=inside,
            stderr=inside,
            env={**kept, "ACTORBUS_URL": url, "TERM": "xterm-256color"},
        )
        os.close(inside)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._descriptor)

    def until(self, pattern: str) -> str:
        """Read until the screen has shown this, without its colours."""
        deadline = time.monotonic() + SECONDS
        while not re.search(pattern, ESCAPES.sub("", self.text)):
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text
        return self.text

    def end(self) -> tuple[int, str]:
        """Status, and all that was shown."""
        while self._read():
            pass
        return self.process.wait(SECONDS), self.text.replace("\r\n", "\n")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], SECONDS)
        try:
            piece = os.read(self._descriptor, 65536) if ready else b""
        except OSError:  # so a terminal tells that nobody is at its other end
            return False
        self.text += piece.decode(errors="replace")
        return bool(piece)


def test_events_are_coloured_and_in_columns(url: str) -> None:
    prepare(url, "colours", {"n": 1}, "text")
    with Terminal(url, "subscribe", "colours", "--app-id", "app", "--max", "2") as terminal:
        status, text = terminal.end()
    assert status == 0
    first, second = text.splitlines()
    assert re.fullmatch(r"\x1b\[2m\S+\x1b\[0m \x1b\[1m\{.*\x1b\[0m", first)
    plain = [ESCAPES.sub("", line) for line in (first, second)]
    assert plain[0].endswith(' {"n":1}')
    assert plain[1].endswith(' "text"')


def test_an_event_cannot_command_the_terminal(url: str) -> None:
    prepare(url, "evil", "\x1b[2J\x9b2J\x7f\u202e")
    with Terminal(url, "subscribe", "evil", "--app-id", "app", "--max", "1") as terminal:
        _, text = terminal.end()
    shown = ESCAPES.sub("", text)
    assert shown.endswith(' "\\u001b[2J\\u009b2J\\u007f\\u202e"\n')


def test_an_error_is_one_line_with_a_colour(url: str) -> None:
    with Terminal(url, "publish", "no topic", "1") as terminal:
        status, text = terminal.end()
    assert status == 1
    assert text.startswith("\x1b[1;31mactorbus: \x1b[0minvalid_name: topic must be")
    assert text.count("\n") == 1


def test_the_table_of_groups_is_live_until_interrupted(url: str) -> None:
    prepare(url, "live:warning:x", 1)
    with Terminal(url, "groups") as terminal:
        terminal.until(r"live:warning:x +app +0 +1 ")
        prepare(url, "live:warning:x", 2)
        terminal.until(r"live:warning:x +app +0 +2 ")
        terminal.process.send_signal(signal.SIGINT)
        status, text = terminal.end()
    assert status == 130
    assert text.endswith("\x1b[?25h")  # the cursor is back
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("columns", "row"), [(80, "0 +1234 +0 +0 +0 +0"), (120, "0 +1234( +0){5}")]
)
def test_the_table_of_groups_keeps_its_numbers_whole(url: str, columns: int, row: str) -> None:
    prepare(url, f"{columns}/a-topic/with-a-name/of-some-length", *range(1234))
    with Terminal(url, "groups", "--once", columns=columns) as terminal:
        status, text = terminal.end()
    assert status == 0
    shown = [line.rstrip() for line in ESCAPES.sub("", text).splitlines()]
    pattern = rf"{columns}/a-topic\S* +app +{row} +\d+\.\ds"
    assert [line for line in shown if re.fullmatch(pattern, line)]
    assert "…" not in text


def test_the_table_says_when_the_broker_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(groups, "ANSWER_SECONDS", 0.2)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)

    async def answer(peer: Peer, topic: str) -> None:
        frame = await peer.expect("inspect")
        topics = [{"topic": topic, "published": 1, "groups": []}]
        await peer.send({"type": "inspected", "ref": frame["ref"], "topics": topics})

    async def test() -> None:
        async with FakeBroker() as broker:
            showing = asyncio.ensure_future(
                groups._groups(
                    console, app_id="cli", watch=True, json=False, url=broker.url, token=None
                )
            )
            peer = await broker.greeted()
            await answer(peer, "first")
            await until(lambda: "no answer to inspect within 0.2 s" in screen.getvalue())
            while "second" not in screen.getvalue():
                await answer(peer, "second")
            showing.cancel()
            await asyncio.wait([showing])

    run(test())


def test_publishing_a_file_shows_a_progress_bar_and_names_wrong_lines_above_it(
    url: str, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    path.write_text('{"n": 1}\n' * 20_000 + "{bad\n" + '{"n": 1}\n' * 20_000)
    with path.open() as file, Terminal(url, "publish", "bar", "-", stdin=file) as terminal:
        status, text = terminal.end()
    assert status == 1
    assert "publishing" in text
    shown = [line.rpartition("\r")[2] for line in ESCAPES.sub("", text).splitlines()]
    (wrong,) = [line for line in shown if "line 20001" in line]
    assert wrong.startswith("actorbus: line 20001: message is not JSON: ")
    assert shown[-1].startswith("published 40000 events to bar in ")
