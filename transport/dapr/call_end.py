"""How a call ends that no row of Dapr's error table describes."""

import grpc


class CallEnd(Exception):  # noqa: N818 - streams end in order, too
    """A call or stream ends with this status.

    Attributes:
        code: of gRPC. The SDKs open a stream again after UNAVAILABLE, UNKNOWN and INTERNAL.
    """

    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
