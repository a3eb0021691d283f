"""The app as a process of the sidecar's own."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from transport.dapr.sidecar.config import SidecarError

log = structlog.get_logger("actorbus.dapr")

STOP_SECONDS: Final = 15.0
"""What the command may take to end after a signal, before it is killed; Kubernetes gives a pod 30 s
in all."""

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit statuses of shells for commands that can't be run."""


class Command:
    """A process in a session of its own.

    So a Ctrl-C at the terminal goes to the sidecar alone, which passes it on after the app has
    finished the events that it has.

    Args:
        words: program and arguments.
        environment: the whole of it.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._words = words
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it.

        Raises:
            SidecarError: there is no such program.
        """
        program = self._words[0]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._words, env=self._environment, start_new_session=True
            )
        except OSError as error:
            status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            raise SidecarError(f"can't run {program!r:.200}: {error.strerror}", status) from None

    async def wait(self) -> int:
        """Its exit status, once it has ended; 128 and the signal's number if one ended it."""
        assert self._process is not None
        status = await self._process.wait()
        return 128 - status if status < 0 else status

    def send(self, number: int) -> None:
        """Send a signal to it and to the processes that it has started."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def stop(self, number: int) -> int:
        """Ask it to end, or end it; its exit status. Bounded."""
        self.send(number)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                status = await self.wait()
        except TimeoutError:
            log.warning("command_killed", seconds=STOP_SECONDS)
            self.send(signal.SIGKILL)
            status = await self.wait()
        self.send(signal.SIGKILL)  # what it may have left behind
        return status
