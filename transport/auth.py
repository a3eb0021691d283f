"""Who may come in: tokens for app IDs, and the origins of browsers' pages.

The token file is TOML, one line a token: `"<SHA-256 hex of the token>" = "app-id"`.
"""

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from actorbus.errors import ActorbusError, ErrorCode, RefusedError
from actorbus.names import check_app_id
from actorbus.quote import quote

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BEARER: Final = "bearer "
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")


class TokenFileError(ActorbusError):
    """The token file can't be used; the message names the file and the entry, never a key.

    A key may be a token that someone forgot to hash.
    """


class OriginError(ActorbusError):
    """An origin that no browser sends: it would never match."""


class Tokens:
    """The app IDs that tokens open.

    Args:
        digests: SHA-256 hex digest of a token → its app ID.
    """

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._digests = dict(digests)
        self._trusted: set[str] = set()

    @classmethod
    def of(cls, token: str, app_id: str) -> Self:
        """One token, as it is, for one app."""
        return cls({_digest_of(token): app_id})

    def trust(self) -> str:
        """A new token that opens every app ID, for a door of this process; it is never stored."""
        token = secrets.token_urlsafe(32)
        self._trusted.add(_digest_of(token))
        return token

    def app_of(self, token: str | None) -> str:
        """The app ID that a token opens.

        Raises:
            RefusedError: `unauthorized`.
        """
        if not token:
            raise RefusedError(
                ErrorCode.UNAUTHORIZED,
                "this broker needs a token: in hello, or in the header Authorization: Bearer",
            )
        digest = _digest_of(token)
        found = None
        for known, app_id in self._digests.items():  # all of them: the time tells nothing
            if hmac.compare_digest(known, digest):
                found = app_id
        if found is None:
            raise RefusedError(ErrorCode.UNAUTHORIZED, "the token is not known to this broker")
        return found

    def check(self, token: str | None, app_id: str) -> None:
        """Refuse a token that does not open this app ID.

        Raises:
            RefusedError: `unauthorized`, or `forbidden` for another app's token.
        """
        if token and _digest_of(token) in self._trusted:
            return
        if self.app_of(token) != app_id:
            raise RefusedError(ErrorCode.FORBIDDEN, f"the token is not for app ID {app_id}")


def _digest_of(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def bearer(headers: Sequence[str]) -> str | None:
    """The token in the first `Authorization` header that has one."""
    for header in headers:
        if header[: len(_BEARER)].lower() == _BEARER:
            return header[len(_BEARER) :].strip()
    return None


def check_origins(origins: Collection[str]) -> frozenset[str]:
    """The origins that may connect, each as browsers send it (RFC 6454, 6.2), or "*" for any.

    Raises:
        OriginError: for one that would never match.
    """
    for origin in origins:
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            raise OriginError(
                f"--origin {quote(origin)} is none: give scheme://host[:port] in lower case, "
                "without a path or a slash at the end"
            )
    return frozenset(origins)


def load_tokens(path: Path) -> Tokens:
    """Read a token file.

    Raises:
        TokenFileError: it can't be read, or says something else than tokens.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenFileError(f"token file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TokenFileError(f"token file {path}: {error}") from None
    if not content:
        raise TokenFileError(f"token file {path} names no token: nobody could connect")
    digests: dict[str, str] = {}
    for number, (key, app) in enumerate(content.items(), 1):
        place = f"token file {path}, entry {number}"
        digest = _digest(place, key)
        if digest in digests:
            raise TokenFileError(f"{place}: the same token stands above; leave one out")
        digests[digest] = _app(place, app)
    return Tokens(digests)


def _digest(place: str, key: str) -> str:
    digest = key.lower()
    if not _DIGEST.fullmatch(digest):
        raise TokenFileError(
            f"{place}: the key is no SHA-256 in hex; make one with: printf %s TOKEN | sha256sum"
        )
    return digest


def _app(place: str, app: object) -> str:
    try:
        return check_app_id(app)
    except RefusedError as error:
        raise TokenFileError(f"{place}: {error.message}") from None
