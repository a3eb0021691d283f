"""MessagePack: how the project packs and unpacks."""

import threading
from typing import Any, Final

import msgpack

from actorbus.errors import UndecodableError


class _Packers(threading.local):
    """One packer a thread, with its buffer: `msgpack.packb` makes both anew, in twice the time."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer().pack


_packers: Final = _Packers()

_FOREIGN: Final = 0
"""The one key that stands for all keys of a map that are not text."""


def pack(value: Any) -> bytes:
    """Return a value as MessagePack.

    Raises:
        TypeError, ValueError, OverflowError: for what it can't hold.
    """
    packed: bytes = _packers.pack(value)
    return packed


def unpack(packed: bytes) -> Any:
    """Return the one value in `packed`; binary values are bytes.

    A map with keys that are not text is decodable but wrong, so it becomes a map with the key 0
    in their place. They never enter a dictionary themselves: the hash of a number is no secret,
    and a client could choose a million that collide.

    Raises:
        UndecodableError: for what is not MessagePack, or not one value.
    """
    try:
        return _unpack(packed)
    except Exception as error:  # noqa: BLE001 - msgpack raises many kinds, none documented
        raise UndecodableError(f"message is not MessagePack: {first_line(error)}") from None


def _unpack(packed: bytes) -> Any:
    try:
        return msgpack.unpackb(packed, strict_map_key=True)  # text, or bytes
    except ValueError:  # damaged, or with other keys
        return msgpack.unpackb(packed, strict_map_key=False, object_pairs_hook=_text_keys)


def _text_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    texts: dict[Any, Any] = {key: value for key, value in pairs if isinstance(key, str)}
    if any(not isinstance(key, str) for key, _ in pairs):
        texts[_FOREIGN] = True
    return texts


def first_line(error: BaseException) -> str:
    """Return what another library says, short enough for a message of ours."""
    return str(error).partition("\n")[0][:100].lower() or type(error).__name__
