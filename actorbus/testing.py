"""A broker for the tests of apps: a real one, in a process of its own.

    with TestBroker() as broker:
        async with actorbus.connect(broker.url, app_id="billing") as bus: ...

It listens on a free port and keeps events in memory unless told otherwise.
"""

import asyncio
import contextlib
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Final, Self
from urllib.parse import urlsplit

from actorbus.errors import ConnectionLostError

START_SECONDS: Final = 20.0
"""A broker is up in about one second; machines under load take longer."""

STOP_SECONDS: Final = 35.0
"""A broker stops in order within 30 s (protocol: command line)."""

COMMAND: Final = (sys.executable, "-P", "-m", "transport", "serve")
"""-P: a folder of the app that happens to be named `transport` is not the broker."""

READY: Final = "actorbus listening on "

ERROR_CHARACTERS: Final = 2000
"""How much of the broker's output an error carries."""


class TestBroker:
    """A broker process, for as long as the `with` or `async with` lasts.

    Args:
        store: where it keeps events, as for `actorbus serve --store`.
        args: further arguments of `actorbus serve`.
        deadline: seconds until it must be ready.

    Attributes:
        url: where it listens, once started.
    """

    __test__ = False  # not a test case, whatever pytest makes of its name

    def __init__(
        self,
        *,
        store: str = "memory:",
        args: Sequence[str] = (),
        deadline: float = START_SECONDS,
    ) -> None:
        self.url = ""
        self._arguments = ("--store", store, *args)
        self._port = "0"
        self._deadline = deadline
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            ConnectionLostError: it did not start; the message ends with what it wrote.
        """
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        """Start it, as `with` does, without holding up the event loop."""
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    def start(self) -> None:
        """Start it, and wait until it listens. After `stop` or `kill`: on the port it had."""
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - see `kill`
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and package
            (*COMMAND, "--port", self._port, *self._arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process, lines), daemon=True).start()
        try:
            line = lines.get(timeout=self._deadline)
        except queue.Empty:
            line = ""
        if not line.startswith(READY):
            said = self.errors()
            self.kill()
            raise ConnectionLostError(
                f"the broker did not start within {self._deadline:g} s; it wrote: {said or line!r}"
            )
        self.url = line.removeprefix(READY).strip()
        self._port = str(urlsplit(self.url).port)

    def stop(self) -> None:
        """Stop it in order (SIGTERM), or else by force. Again: does nothing."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed
            self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def errors(self) -> str:
        """The end of what it has written to standard error so far."""
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read()[-ERROR_CHARACTERS:].strip()


def _read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str]") -> None:
    """Pass lines on until the process ends; then an empty one, for who still waits."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")
