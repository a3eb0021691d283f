"""The client commands, as processes against a real broker."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from actorbus import GroupStatus, InvalidEventError, connect
from actorbus.commands.publish import _parse
from actorbus.testing import TestBroker
from actorbus.version import VERSION
from transport.cli import main

SECONDS = 20
NO_JSON = (
    "message is not JSON: unexpected end of data: line 1 column 7 (char 6)"
    " (to send it as text: --text)"
)
NO_DATA = "no DATA: give some, or - for the lines of standard input"
NO_TTL = (
    "invalid value for '--ttl': Input should be a valid number, unable to parse string as a number"
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with TestBroker() as broker:
        yield broker.url


class Command:
    """A running `actorbus` command; `shell` adds redirections, as a shell knows them."""

    def __init__(self, url: str, *args: str, shell: str = "") -> None:
        command = (sys.executable, "-m", "transport", *args)
        self.process = subprocess.Popen(
            ("sh", "-c", f'exec "$@" {shell}', "sh", *command) if shell else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            env={**os.environ, "ACTORBUS_URL": url},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, text: str | None = None) -> tuple[int, list[str], list[str]]:
        """Status, output lines and error lines."""
        output, errors = self.process.communicate(text, timeout=SECONDS)
        assert "Traceback" not in errors
        return self.process.returncode, output.splitlines(), errors.splitlines()


def command(
    url: str, *args: str, text: str | None = None, shell: str = ""
) -> tuple[int, list[str], list[str]]:
    """Run a command to its end."""
    with Command(url, *args, shell=shell) as running:
        return running.end(text)


def prepare(url: str, topic: str, *data: Any) -> list[str]:
    """Create the group of "app" on a topic and publish to it; returns the events' ids."""

    async def work() -> list[str]:
        async with connect(url, app_id="app") as bus:
            async with bus.subscribe(topic):
                pass
            return await bus.publish_many(topic, data)

    return asyncio.run(work())


def group(url: str, topic: str) -> GroupStatus:
    """How the one group of a topic is doing."""

    async def work() -> GroupStatus:
        async with connect(url, app_id="app") as bus:
            return (await bus.inspect(topic))[0].groups[0]

    return asyncio.run(work())


def wait_for_the_first(url: str, publisher: Command) -> None:
    """Have a publisher that reads lines for the topic "t" publish one of them."""
    prepare(url, "t")
    assert publisher.process.stdin is not None
    publisher.process.stdin.write("1\n")
    publisher.process.stdin.flush()
    assert len(command(url, "subscribe", "t", "--app-id", "app", "--max", "1")[1]) == 1


def test_publish_prints_an_id_for_each_event(url: str) -> None:
    status, ids, errors = command(url, "publish", "ids", '{"n": 1}', "text", "3")
    assert (status, len(set(ids)), errors) == (0, 3, [])


def test_subscribe_prints_a_line_for_each_event_and_stops_at_max(url: str) -> None:
    ids = prepare(url, "lines", {"n": 1}, "a\nb", b"raw", None)
    status, lines, errors = command(url, "subscribe", "lines", "--app-id", "app", "--max", "3")
    texts = ['{"n":1}', '"a\\nb"', "cmF3"]
    assert (status, errors) == (0, [])
    assert lines == [f"{i} {text}" for i, text in zip(ids, texts, strict=False)]


def test_subscribe_json_prints_whole_events(url: str) -> None:
    ids = prepare(url, "whole", "text")
    _, lines, _ = command(url, "subscribe", "whole", "--app-id", "app", "--max", "1", "--json")
    assert [json.loads(line) for line in lines] == [
        {
            "id": ids[0],
            "source": "app",
            "type": "com.dapr.event.sent",
            "specversion": "0.3",
            "datacontenttype": "text/plain",
            "data": "text",
        }
    ]


def test_max_takes_exactly_so_many_events_from_the_group(url: str) -> None:
    prepare(url, "exact", *range(10))
    assert len(command(url, "subscribe", "exact", "--app-id", "app", "--max", "3")[1]) == 3
    status = group(url, "exact")
    assert (status.backlog, status.delivered, status.redelivered) == (7, 3, 0)


def test_lines_of_standard_input_become_events(url: str) -> None:
    status, lines, errors = command(url, "publish", "stdin", "-", text='{"n": 1}\n\ntext\r\nlast')
    assert (status, errors) == (0, [])
    assert lines[0].startswith("published 3 events to stdin in ")


def test_a_line_that_is_no_event_is_named_and_the_others_are_published(url: str) -> None:
    text = f'1\n\n{{"n": \n{2**70}\n"\udcff"\n3\n'
    status, lines, errors = command(url, "publish", "bad", "-", text=text)
    assert status == 1
    assert lines[0].startswith("published 2 events to bad in ")
    assert errors == [
        f"actorbus: line 3: {NO_JSON}",
        "actorbus: line 4: data contains an integer past 64 bits",
        "actorbus: line 5: not UTF-8 text",
    ]


def test_a_file_that_cannot_be_published_any_further_says_where_it_stopped(
    tmp_path: Path,
) -> None:
    with TestBroker() as broker, Command(broker.url, "publish", "t", "-") as publisher:
        wait_for_the_first(broker.url, publisher)
        broker.kill()
        tokens = tmp_path / "tokens"
        tokens.write_text(f'"{"0" * 64}" = "someone-else"\n')
        broker._arguments += ("--tokens", str(tokens))
        broker.start()
        status, lines, errors = publisher.end("2\n3\n")
    assert status == 1
    assert lines[0].startswith("published 1 events to t in ")
    assert any("stopped at lines 2 to 3: unauthorized: " in line for line in errors)


def test_many_lines_of_a_file_are_published(url: str, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(5000)))
    with path.open() as file:
        done = subprocess.run(
            (sys.executable, "-m", "transport", "publish", "many", "-", "--url", url),
            stdin=file,
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
    assert done.stdout.startswith("published 5000 events to many in ")


def test_groups_off_a_terminal_is_a_plain_table_printed_once(url: str) -> None:
    prepare(url, "table", 1, 2)
    status, lines, errors = command(url, "groups")
    assert (status, errors) == (0, [])
    assert lines[0].split("\t")[:4] == ["topic", "app id", "instances", "backlog"]
    (row,) = [line.split("\t") for line in lines if line.startswith("table\t")]
    assert row[:9] == ["table", "app", "0", "2", "0", "0", "0", "0", "0"]


def test_groups_json_is_one_document(url: str) -> None:
    prepare(url, "document", 1)
    ((line,), _) = command(url, "groups", "--json")[1:]
    (entry,) = [entry for entry in json.loads(line) if entry["topic"] == "document"]
    assert (entry["published"], entry["groups"][0]["backlog"]) == (1, 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("publish", "no topic", "1"), "invalid_name: topic must be"),
        (("subscribe", "t", "--app-id", "no app"), "invalid_name: app_id must be"),
        (("subscribe", "t", "--app-id", "a", "--ack-wait", "0"), "invalid_option: ack_wait must"),
        (("publish", "t", "1", "--url", "nonsense"), "nonsense is no WebSocket URL"),
        (("publish", "t", "1", "--ttl", "-1"), "malformed: ttl must be"),
        (("publish", "t", '{"n"'), "invalid_event: message is not JSON: "),
        (("publish", "t", "\udcff"), "invalid_event: data contains a lone surrogate"),
        (("publish", "t", "1", "--url", "ws://127.0.0.1:99999/v1"), "ws://127.0.0.1:99999/v1 is n"),
        (("publish", "t", "1", "--url", "ws://a\n"), r"malformed: url must be an address as ws://"),
    ],
)
def test_a_users_error_is_one_line_and_a_status(url: str, args: tuple[str, ...], said: str) -> None:
    status, lines, errors = command(url, *args)
    assert (status, lines, len(errors)) == (1, [], 1)
    assert errors[0].startswith(f"actorbus: {said}")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("publish",), "missing argument 'topic' (see: actorbus publish --help)"),
        (("publish", "t"), f"invalid value: {NO_DATA} (see: actorbus publish --help)"),
        (("subscribe", "t"), "missing option '--app-id' (see: actorbus subscribe --help)"),
        (("frobnicate",), "no such command 'frobnicate' (see: actorbus --help)"),
        (("publish", "t", "1", "--ttl", "x"), f"{NO_TTL} (see: actorbus publish --help)"),
    ],
)
def test_a_wrong_usage_is_one_line_and_status_2(
    args: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["actorbus", *args])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr() == ("", f"actorbus: {said}\n")


def test_the_version_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["actorbus", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr() == (f"actorbus {VERSION}\n", "")


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("<&-", "can't read standard input: bad file descriptor"),
        (">/dev/full", "can't write to standard output: no space left on device"),
        (">&-", "can't write to standard output: bad file descriptor"),
    ],
)
def test_a_standard_stream_that_fails_is_one_line(url: str, shell: str, said: str) -> None:
    text = None if "<" in shell else "1\n"
    status, lines, errors = command(url, "publish", "t", "-", text=text, shell=shell)
    assert (status, lines, errors) == (1, [], [f"actorbus: {said}"])


def test_a_closed_standard_error_changes_nothing(url: str) -> None:
    status, ids, _ = command(url, "publish", "t", "1", shell="2>&-")
    assert (status, len(ids)) == (0, 1)


def test_warnings_off_a_terminal_are_plain_lines() -> None:
    with TestBroker() as broker, Command(broker.url, "publish", "t", "-") as publisher:
        wait_for_the_first(broker.url, publisher)
        broker.kill()
        broker.start()
        status, _, errors = publisher.end("2\n")
    assert status == 0
    assert errors
    assert all("reconnecting" in line and "\x1b" not in line for line in errors)


def test_a_broker_that_is_not_there_is_one_line_that_says_what_to_do() -> None:
    status, lines, errors = command("ws://127.0.0.1:1/v1", "groups")
    assert (status, lines) == (1, [])
    assert len(errors) == 1
    assert errors[0].startswith("actorbus: no broker answers at ws://127.0.0.1:1/v1 (")
    assert errors[0].endswith("): is it running? start one with: actorbus serve")


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_ends_a_subscriber_cleanly(url: str, sent: signal.Signals, status: int) -> None:
    topic = f"signal-{status}"
    prepare(url, topic, 1)
    with Command(url, "subscribe", topic, "--app-id", "app") as subscriber:
        assert subscriber.line().endswith(" 1")
        subscriber.process.send_signal(sent)
        assert subscriber.end() == (status, [], [])
    assert group(url, topic).backlog == 0  # the acknowledgement was flushed


def test_a_reader_that_goes_away_ends_a_subscriber_quietly(url: str) -> None:
    prepare(url, "pipe", 1)
    with Command(url, "subscribe", "pipe", "--app-id", "app") as subscriber:
        subscriber.line()
        assert subscriber.process.stdout is not None
        subscriber.process.stdout.close()
        prepare(url, "pipe", 2)
        assert subscriber.process.wait(SECONDS) == 0
        assert subscriber.process.stderr is not None
        assert subscriber.process.stderr.read() == ""
        subscriber.process.stdout = None


def test_an_interrupted_publisher_that_waits_for_input_ends(url: str) -> None:
    prepare(url, "interrupt")
    with Command(url, "publish", "interrupt", "-") as publisher:
        assert publisher.process.stdin is not None
        publisher.process.stdin.write("1\n")
        publisher.process.stdin.flush()
        command(url, "subscribe", "interrupt", "--app-id", "app", "--max", "1")
        assert publisher.process.poll() is None
        publisher.process.send_signal(signal.SIGINT)
        assert publisher.process.wait(SECONDS) == 130


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"n": 1}', {"n": 1}),
        ("1", 1),
        ("null", None),
        ("text", "text"),
        ("NaN", "NaN"),
        ("1e400", "1e400"),
        ('"quoted"', "quoted"),
        ("", ""),
        ('" {', '" {'),
    ],
)
def test_data_is_json_if_it_parses_else_text(text: str, data: object) -> None:
    assert _parse(text) == data


@pytest.mark.parametrize("text", ['{"n": 1', "[1,", " {n: 1}", "[INFO] no JSON"])
def test_data_that_begins_as_json_must_be_json(text: str) -> None:
    with pytest.raises(InvalidEventError, match="--text"):
        _parse(text)
