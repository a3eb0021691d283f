"""A private RabbitMQ for tests: ports, name, epmd and directory of its own, loopback only."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CTL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
START_SECONDS = 60.0
STOP_SECONDS = 30.0

_PORTS = range(15_000, 32_000)
_searches = count()


class RabbitNode:
    """One node of Debian's rabbitmq-server, with no plugins and two schedulers.

    Args:
        vhosts: made at the start, one for each test; a later `rabbitmqctl add_vhost` takes half
            a second, but each also makes the start 40 ms longer.
    """

    def __init__(self, vhosts: int = 1) -> None:
        self._vhosts = vhosts
        self._directory = Path(tempfile.mkdtemp(prefix="actorbus-rabbitmq-"))
        self.port, distribution, epmd = _free_ports(3)
        self._environment = self._environ(distribution, epmd)
        self._epmd = epmd
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        self._write_files()

    @staticmethod
    def missing() -> str | None:
        """Why there can be no node on this machine, or None."""
        return None if SERVER.exists() else f"{SERVER} is missing: apt-get install rabbitmq-server"

    def start(self) -> None:
        """Start the node and wait until it takes connections."""
        output = (self._directory / "output").open("ab")
        with output:
            self._process = subprocess.Popen(
                [SERVER],
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"rabbitmq did not start:\n{self._log()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the node in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node without warning, as a crash would."""
        self._end(signal.SIGKILL)

    def remove(self) -> None:
        """Kill the node and delete everything it wrote."""
        self.kill()
        subprocess.run(
            ["epmd", "-port", str(self._epmd), "-kill"],
            check=False,
            capture_output=True,
            timeout=10,
        )
        shutil.rmtree(self._directory, ignore_errors=True)

    def url(self, vhost: str | None = None) -> str:
        """The URL of a vhost: of an unused one unless it is named."""
        if vhost is None:
            number = next(self._numbers)
            vhost = f"t{number}"
            if number >= self._vhosts:
                self.ctl("add_vhost", vhost)
                self.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def ctl(self, *arguments: str) -> str:
        """The output of `rabbitmqctl`."""
        return subprocess.run(
            [CTL, "--quiet", *arguments],
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(STOP_SECONDS)

    def _environ(self, distribution: int, epmd: int) -> dict[str, str]:
        directory = self._directory
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),  # the cookie
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node: one process
        }

    def _write_files(self) -> None:
        vhosts = ["/", *(f"t{number}" for number in range(self._vhosts))]
        definitions = {
            "vhosts": [{"name": name} for name in vhosts],
            "users": [{"name": "guest", "password": "guest", "tags": ["administrator"]}],
            "permissions": [
                {"user": "guest", "vhost": name, "configure": ".*", "write": ".*", "read": ".*"}
                for name in vhosts
            ],
        }
        (self._directory / "definitions.json").write_text(json.dumps(definitions))
        (self._directory / "plugins").write_text("[].")
        (self._directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"load_definitions = {self._directory}/definitions.json\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "disk_free_limit.absolute = 50MB\n"
            "log.console = false\n"
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _log(self) -> str:
        return (self._directory / "output").read_text(errors="replace")[-4000:]


def running_node(vhosts: int = 1) -> Iterator[RabbitNode]:
    """A started node, removed at the end."""
    node = RabbitNode(vhosts)
    try:
        node.start()
        yield node
    finally:
        node.remove()


def _free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives out by itself.

    A node that was killed must get its ports back, whatever connects or listens in the meantime.
    Each process searches from a place of its own, so that two that run tests side by side do not
    find the same ports.
    """
    free: list[int] = []
    for _ in _PORTS:
        port = _PORTS[(next(_searches) + os.getpid() * 37) % len(_PORTS)]
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == number:
            return free
    raise RuntimeError(f"no {number} ports are free from {_PORTS.start} to {_PORTS.stop}")
