"""How a call ends that no row of Dapr's error table describes."""

from typing import Any

import grpc
from google.protobuf.message import DecodeError


class CallEnd(Exception):  # noqa: N818 - streams end in order, too
    """A call or stream ends with this status.

    Attributes:
        code: of gRPC. The SDKs open a stream again after UNAVAILABLE, UNKNOWN and INTERNAL.
    """

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


async def next_request(context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
    """The next message of a stream; `grpc.aio.EOF` once its client has ended its side.

    Raises:
        CallEnd: what came is no message.
    """
    try:
        return await context.read()
    except DecodeError:
        raise CallEnd(
            grpc.StatusCode.INVALID_ARGUMENT, "the request is no message of this call"
        ) from None
