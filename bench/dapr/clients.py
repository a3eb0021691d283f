"""The load: `wrk`, and Dapr's Python SDK in a process of its own."""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import actorbus
from bench.dapr.options import APP, CONNECTIONS, STREAM_TOPIC, TOPIC, DaprOptions
from bench.dapr.servers import Server
from bench.options import ROOT, BenchError

SPARE_SECONDS: Final = 180.0
"""What a client may take beyond its duration."""

FILL: Final = 1000
"""Events that are published in one call, for a subscriber to take."""

_SCRIPT: Final = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "text/plain"
wrk.body = string.rep("x", {payload})
"""


async def requests(server: Server, options: DaprOptions) -> float:
    """POSTs per second that were answered with success.

    Raises:
        BenchError: `wrk` is missing, or a request failed.
    """
    await _group(server, TOPIC)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT.format(payload=options.payload))
        script.flush()
        seconds = f"-d{max(1, round(options.duration))}s"
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", seconds, "-s", script.name]
        text = await _run([*command, f"http://{server.http}/v1.0/publish/pubsub/{TOPIC}"], {})
    failed = re.search(r"(Non-2xx.*|Socket errors.*)", text)
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if failed is not None or found is None:
        raise BenchError(f"wrk: {failed[1] if failed else text!r:.200}")
    return float(found[1])


async def publish(server: Server, options: DaprOptions) -> float:
    """Events per second of the SDK's `publish_event`, one after the other."""
    await _group(server, TOPIC)
    arguments = [str(options.duration), str(options.payload)]
    return await _sdk("bench.dapr.sdk_publish", arguments, server)


async def subscribe(server: Server, options: DaprOptions) -> float:
    """Events per second that one streaming subscription of the SDK takes.

    A broker has them before: the SDK must not wait for a publisher.
    """
    await _group(server, STREAM_TOPIC)
    if server.url:
        await _fill(server.url, options)
    return await _sdk("bench.dapr.sdk_subscribe", [str(options.events)], server)


MEASURES: Final[dict[str, Callable[[Server, DaprOptions], Awaitable[float]]]] = {
    "http": requests,
    "publish": publish,
    "stream": subscribe,
}


async def _group(server: Server, topic: str) -> None:
    """A group that nobody reads: a topic without one keeps nothing, and publishing costs less."""
    if server.url:
        async with actorbus.connect(server.url, app_id=APP) as bus:
            await bus.flow(0)
            async with bus.subscribe(topic):
                pass


async def _fill(url: str, options: DaprOptions) -> None:
    attributes = {"datacontenttype": "text/plain"}
    async with actorbus.connect(url, app_id=APP) as bus:
        for begin in range(0, options.events, FILL):
            data = ["x" * options.payload] * min(FILL, options.events - begin)
            await bus.publish_many(STREAM_TOPIC, data, attributes=attributes)


async def _sdk(module: str, arguments: Sequence[str], server: Server) -> float:
    return float(await _run([sys.executable, "-m", module, *arguments], server.environment))


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise BenchError(
            f"{command[0]} is missing: apt-get install {command[0]}, or leave out --measures http"
        ) from None
    try:
        async with asyncio.timeout(SPARE_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchError(f"{command[0]} says nothing for {SPARE_SECONDS:g} s") from None
    if process.returncode:
        raise BenchError(f"{' '.join(command)[:200]} failed: {err.decode()[-500:]}")
    return out.decode()
