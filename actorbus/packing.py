"""MessagePack: how the project packs and unpacks."""

import threading
from typing import Any, Final

import msgpack
import msgspec

from actorbus.errors import UndecodableError


class _Packers(threading.local):
    """One packer a thread, with its buffer: `msgpack.packb` makes both anew, in twice the time."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_packers: Final = _Packers()

_FOREIGN: Final = 0
"""The one key that stands for all keys of a map that are not text."""

_LOOKED_THROUGH: Final = 100_000
"""Maps of a message with such keys that are made all the same, in 0.1 s: 8 MiB may hold more."""


def pack(value: Any) -> bytes:
    """Return a value as MessagePack.

    Raises:
        TypeError, ValueError, OverflowError: for what it can't hold.
    """
    packed: bytes = _packers.pack(value)
    return packed


pack_plain: Final = msgspec.msgpack.Encoder().encode
"""`pack` for a `str` or `bytes`, in a third of the time; other types it may pack otherwise, or
where `pack` refuses them."""

_decode: Final = msgspec.msgpack.Decoder().decode


def unpack_checked(packed: bytes) -> Any:
    """`unpack` for what the broker has checked and packed, in half the time.

    Raises:
        UndecodableError: it is damaged all the same.
    """
    try:
        return _decode(packed)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise UndecodableError(f"message is not MessagePack: {first_line(error)}") from None


def unpack(packed: bytes) -> Any:
    """Return the one value in `packed`; binary values are bytes.

    A map with keys that are not text is decodable but wrong, so it becomes a map with the key 0
    in their place. They never enter a dictionary themselves: the hash of a number is no secret,
    and a client could choose a million that collide.

    Raises:
        UndecodableError: for what is not MessagePack, or not one value, or for 100,000 maps among
            which are keys that are not text.
    """
    try:
        return _unpack(packed)
    except Exception as error:  # noqa: BLE001 - msgpack raises many kinds, none documented
        raise UndecodableError(f"message is not MessagePack: {first_line(error)}") from None


def _unpack(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(packed, strict_map_key=True)  # text, or bytes
    except ValueError:  # damaged, or with other keys
        return msgpack.unpackb(packed, strict_map_key=False, object_pairs_hook=_TextKeys())


class _TextKeys:
    """Makes the maps of one message, as many as are worth the time."""

    def __init__(self) -> None:
        self._left = _LOOKED_THROUGH

    def __call__(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        self._left -= 1
        if self._left < 0:
            raise UndecodableError("keys of maps must be text")
        texts: dict[Any, Any] = {key: value for key, value in pairs if isinstance(key, str)}
        if len(texts) < len(pairs) and any(not isinstance(key, str) for key, _ in pairs):
            texts[_FOREIGN] = True
        return texts


def first_line(error: BaseException) -> str:
    """Return what another library says, short enough for a message of ours."""
    return str(error).partition("\n")[0][:100].lower() or type(error).__name__
