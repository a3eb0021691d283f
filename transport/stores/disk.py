"""How much room is left on a disk."""

import shutil
import time
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Free bytes below which nothing new is kept, so that settling and trimming still have room."""

_LOOK_SECONDS: Final = 0.1


class DiskSpace:
    """Watches the free bytes of the disk that a directory is on; looks every 100 ms at most."""

    def __init__(self, directory: Path, reserve: int = RESERVE_BYTES) -> None:
        self._directory = directory
        self._reserve = reserve
        self._look_at = 0.0
        self._shortage: str | None = None

    def shortage(self) -> str | None:
        """What is wrong, or None when there is room."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._shortage = self._look()
        return self._shortage

    def due(self) -> bool:
        """Whether `shortage` would look, which may take time."""
        return time.monotonic() >= self._look_at

    def _look(self) -> str | None:
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            return f"the free space of {self._directory} can't be told: {error.strerror}"
        if free >= self._reserve:
            return None
        needed = self._reserve // 1024**2
        return f"{free // 1024**2} MiB free on the disk of the store, {needed} are needed"
