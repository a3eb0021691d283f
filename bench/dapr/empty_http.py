"""The door's own HTTP server with an app that reads a body and answers 204, and nothing else."""

import asyncio
import signal

import uvloop
from starlette.types import Receive, Scope, Send

from transport.dapr.http_server import HttpServer

_START = {"type": "http.response.start", "status": 204, "headers": []}
_BODY = {"type": "http.response.body", "body": b""}


async def empty(_scope: Scope, receive: Receive, send: Send) -> None:
    """The app."""
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)


async def _main() -> None:
    server = HttpServer(empty)
    print(f"dapr http listening on 127.0.0.1:{await server.start('127.0.0.1', 0)}", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop()


if __name__ == "__main__":
    uvloop.run(_main())
