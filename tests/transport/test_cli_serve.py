"""`serve` as a process of its own."""

import gc
import hashlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from transport.cli import COLLECTION, spare_collector

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 15.0


@contextmanager
def serving(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`python -m transport serve` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "transport", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listening(process: subprocess.Popen[str]) -> str:
    """The URL in the line that it prints once it is ready."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], DEADLINE)
    assert ready
    line = process.stdout.readline()
    found = re.fullmatch(r"actorbus listening on (ws://127\.0\.0\.1:[1-9]\d*/v1)\n", line)
    assert found is not None, line
    return found[1]


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a broker that is to end by itself: its status, output and errors."""
    with serving(*arguments, environment=environment) as process:
        out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, out, err


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_listens_and_a_signal_stops_it(how: int, tmp_path: Path) -> None:
    with serving("--store", f"sqlite:{tmp_path}/events.db") as process:
        with connect(listening(process)) as app:
            app.send('{"type":"hello","app_id":"billing"}')
            assert json.loads(app.recv(5))["type"] == "welcome"
            started = time.monotonic()
            process.send_signal(how)
            assert json.loads(app.recv(5))["type"] == "goaway"
            with pytest.raises(ConnectionClosed) as end:
                app.recv(5)
            assert end.value.rcvd is not None
            assert end.value.rcvd.code == 1001
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert time.monotonic() - started < 8
    assert out == ""
    assert "Traceback" not in err
    entries = [json.loads(line) for line in err.splitlines()]
    assert entries[-1]["event"] == "stopped"


def test_a_second_signal_leaves_at_once() -> None:
    with (
        serving("--store", "memory:", "--grace", "10") as process,
        connect(listening(process)) as app,
    ):
        app.send('{"type":"hello","app_id":"billing"}')
        app.send('{"type":"subscribe","topic":"orders","ref":1}')
        while json.loads(app.recv(5))["type"] != "subscribed":
            pass
        app.send('{"type":"publish","topic":"orders","data":1}')
        while json.loads(app.recv(5))["type"] != "deliver":
            pass
        process.send_signal(signal.SIGTERM)
        assert json.loads(app.recv(5))["type"] == "goaway"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=5)
    assert process.returncode == -signal.SIGTERM


def test_a_log_that_nobody_takes_does_not_stop_it() -> None:
    with serving("--store", "memory:") as process:
        url = listening(process)
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        with connect(url) as app:
            app.send('{"type":"hello","app_id":"billing"}')
            assert json.loads(app.recv(5))["type"] == "welcome"
        process.terminate()
        assert process.wait(DEADLINE) == 0


def test_an_origin_that_is_none_is_one_line() -> None:
    status, _, err = run("--store", "memory:", "--origin", "https://a.example/")
    assert status == 1
    assert re.fullmatch(r"actorbus: --origin 'https://a\.example/' is none: .*\n", err)


def test_the_store_comes_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "from-environment.db"
    with serving(environment={"ACTORBUS_STORE": f"sqlite:{file}"}) as process:
        listening(process)
        assert file.exists()


def test_tokens_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(f'"{hashlib.sha256(b"secret").hexdigest()}" = "billing"\n')
    with serving("--store", "memory:", "--tokens", str(file)) as process:
        url = listening(process)
        with connect(url) as app:
            app.send('{"type":"hello","app_id":"billing"}')
            assert json.loads(app.recv(5))["code"] == "unauthorized"
        with connect(url) as app:
            app.send('{"type":"hello","app_id":"billing","token":"secret"}')
            assert json.loads(app.recv(5))["type"] == "welcome"
        process.terminate()
        _, err = process.communicate(timeout=DEADLINE)
    assert "secret" not in err


def test_it_takes_more_connections_than_the_soft_limit_of_files() -> None:
    with serving("--store", "memory:") as process:
        url = listening(process)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        found = re.search(r"Max open files\s+(\d+)\s+(\d+)", limits)
        assert found is not None
        assert found[1] == found[2]
        assert url


# --- a user's errors --------------------------------------------------------------------------


def assert_one_line(err: str, *parts: str) -> None:
    lines = [line for line in err.splitlines() if not line.startswith("{")]  # the log is JSON
    assert len(lines) == 1, err
    assert lines[0].startswith("actorbus: ")
    for part in parts:
        assert part in lines[0]


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, out, err = run("--store", "memory:", "--port", port)
    assert (status, out) == (1, "")
    assert_one_line(err, f"127.0.0.1:{port}", "in use", "--port")


def test_a_host_that_is_none_is_one_line() -> None:
    status, _, err = run("--store", "memory:", "--host", "a..b")
    assert status == 1
    assert_one_line(err, "a..b", "--host")


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("redis://localhost", "redis"),
        ("sqlite:/nowhere/at/all/events.db", "/nowhere/at/all"),
        ("amqp://user:pass@host:x/", "rabbitmq"),
    ],
)
def test_a_bad_store_url_is_one_line_and_no_secret(store: str, told: str) -> None:
    status, out, err = run("--store", store)
    assert (status, out) == (78, "")
    assert_one_line(err, told)
    assert "pass@" not in err


def test_a_file_that_another_broker_holds_is_one_line(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path}/events.db"
    with serving("--store", store) as process:
        listening(process)
        status, out, err = run("--store", store)
    assert (status, out) == (78, "")
    assert_one_line(err, "events.db")


def test_a_bad_token_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    status, _, err = run("--store", "memory:", "--tokens", str(file))
    assert status == 1
    assert_one_line(err, str(file))
    file.write_text("plain-token = 'billing'\n")
    status, _, err = run("--store", "memory:", "--tokens", str(file))
    assert status == 1
    assert_one_line(err, str(file), "SHA-256")
    assert "plain" not in err


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--nonsense"]])
def test_a_wrong_option_is_told_without_a_traceback(arguments: list[str]) -> None:
    status, out, err = run("--store", "memory:", *arguments)
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    assert arguments[0] in err


def test_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "transport", "--version"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
        cwd=ROOT,
    )
    assert re.fullmatch(r"actorbus \d+\.\d+\.\d+\S*\n", done.stdout)


def test_the_collector_leaves_alone_what_is_there_at_the_start() -> None:
    before = gc.get_threshold()
    try:
        spare_collector()
        assert gc.get_threshold() == COLLECTION
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
