"""Reading the body of a request, up to a limit."""

from collections.abc import Mapping
from typing import Final

from starlette.types import Receive

from actorbus.errors import ActorbusError

BODY_BYTES: Final = 4 * 1024 * 1024
"""Longest body: Dapr's `--max-body-size` as it comes."""


class BodyTooLongError(ActorbusError):
    """The body is longer than `BODY_BYTES`."""

    def __init__(self) -> None:
        super().__init__(f"the body is longer than {BODY_BYTES} bytes")


class DisconnectedError(ActorbusError):
    """The client has gone before its body was whole: nobody waits for an answer."""

    def __init__(self) -> None:
        super().__init__("the client has gone")


async def read_body(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body. How slow it may be is the server's to say.

    Raises:
        BodyTooLongError: it is, or says so in advance.
        DisconnectedError: it never came.
    """
    declared = headers.get(b"content-length", b"")
    if len(declared) > 20 or int(declared or b"0") > BODY_BYTES:  # noqa: PLR2004 - digits
        raise BodyTooLongError
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise DisconnectedError
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > BODY_BYTES:
            raise BodyTooLongError
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
