"""Whether the app listens."""

import asyncio
from typing import Final

import structlog

from actorbus.client.backoff import Backoff
from transport.dapr.sidecar.config import SidecarError

log = structlog.get_logger("actorbus.dapr")

LOOK: Final = (0.1, 2.0)
"""First and longest wait before looking again, seconds."""

ATTEMPT_SECONDS: Final = 2.0
"""How long one attempt to connect may take."""

PATIENCE_SECONDS: Final = 5.0
"""After so long a first wait is worth a line in the log."""


class Presence:
    """Knows whether the app's port takes connections, from when it first did.

    Args:
        host: where the app listens.
        port: same.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._here = asyncio.Event()
        self._gone = asyncio.Event()
        self._search: asyncio.Task[None] | None = None

    @property
    def here(self) -> bool:
        """The app listened when that was last known."""
        return self._here.is_set()

    async def first(self, seconds: float) -> None:
        """Return once the app listens.

        Raises:
            SidecarError: it does not within `seconds`.
        """
        address = f"{self._host}:{self._port}"
        timer = asyncio.get_running_loop().call_later(
            PATIENCE_SECONDS, log.info, "waiting_for_app", address
        )
        try:
            async with asyncio.timeout(seconds):
                await self._find()
        except TimeoutError:
            raise SidecarError(
                f"nothing listens on {address} after {seconds:g} s: is --app-port the app's port?"
                " a slow app needs a longer --app-wait"
            ) from None
        finally:
            timer.cancel()
        self._here.set()

    def lost(self) -> None:
        """The app was not to be reached: look for it until it is back."""
        if self._here.is_set():
            self._here.clear()
            self._gone.set()
            log.warning("app_away", address=f"{self._host}:{self._port}")
            self._search = asyncio.create_task(self._return())

    async def back(self, seconds: float | None = None) -> bool:
        """Wait until it is here; False if that took longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._here.wait()
        except TimeoutError:
            return False
        return True

    async def gone(self) -> None:
        """Wait until it is away."""
        await self._gone.wait()

    def close(self) -> None:
        """Look no more."""
        if self._search is not None:
            self._search.cancel()

    async def _return(self) -> None:
        await self._find()
        log.info("app_back", address=f"{self._host}:{self._port}")
        self._gone.clear()
        self._here.set()

    async def _find(self) -> None:
        backoff = Backoff(*LOOK)
        while not await self._answers():  # noqa: ASYNC110 - nothing tells when a port is opened
            await asyncio.sleep(backoff.next())

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True
