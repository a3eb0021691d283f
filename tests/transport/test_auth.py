"""Tokens: the file, and who may claim which app ID."""

import hashlib
from pathlib import Path

import pytest

from actorbus.errors import RefusedError
from transport.auth import TokenFileError, Tokens, bearer, load_tokens


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def write(path: Path, text: str) -> Path:
    file = path / "tokens.toml"
    file.write_text(text)
    return file


def test_a_token_opens_its_app_id_alone(tmp_path: Path) -> None:
    tokens = load_tokens(
        write(tmp_path, f'"{digest("a")}" = "billing"\n"{digest("b").upper()}" = "stock"\n')
    )
    tokens.check("a", "billing")
    tokens.check("b", "stock")
    with pytest.raises(RefusedError) as refused:
        tokens.check("a", "stock")
    assert refused.value.code == "forbidden"


@pytest.mark.parametrize("token", [None, "", "A", "a ", digest("a"), "é", "\ud800"])
def test_any_other_token_is_unauthorized(token: str | None) -> None:
    with pytest.raises(RefusedError) as refused:
        Tokens({digest("a"): "billing"}).check(token, "billing")
    assert refused.value.code == "unauthorized"


def test_two_tokens_may_open_one_app_id() -> None:
    tokens = Tokens({digest("old"): "billing", digest("new"): "billing"})
    assert tokens.app_of("old") == tokens.app_of("new") == "billing"


def test_every_known_digest_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(known: str, given: str) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr("transport.auth.hmac.compare_digest", compare)
    digests = {digest(token): "billing" for token in ("a", "b", "c")}
    Tokens(digests).check("a", "billing")
    assert compared == list(digests)


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        (["Bearer abc"], "abc"),
        (["bearer   abc "], "abc"),
        (["Basic abc"], None),
        (["Bearer"], None),
        (["Basic x", "Bearer abc"], "abc"),
    ],
)
def test_the_token_of_the_header(headers: list[str], token: str | None) -> None:
    assert bearer(headers) == token


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "names no token"),
        ("= 5", "Invalid"),
        ("secret-token = 'billing'", "entry 1: the key is no SHA-256 in hex"),
        (f'"{digest("a")}" = "no spaces"', "entry 1: "),
        (f'"{digest("a")}" = 5', "entry 1: "),
        (f'"{digest("a")}" = "a"\n"{digest("a").upper()}" = "b"', "entry 2: the same token"),
        (f'["{digest("a")}"]\nx = "y"', "entry 1: "),
    ],
)
def test_a_wrong_file_is_named_with_its_entry(tmp_path: Path, text: str, told: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(TokenFileError) as wrong:
        load_tokens(file)
    assert str(file) in wrong.value.message
    assert told in wrong.value.message
    assert "\n" not in wrong.value.message


def test_a_token_that_was_not_hashed_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(TokenFileError) as wrong:
        load_tokens(write(tmp_path, "my-secret = 'billing'"))
    assert "my-sec" not in wrong.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(TokenFileError, match=str(path)):
            load_tokens(path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(TokenFileError, match=str(file)):
        load_tokens(file)


def test_a_trusted_token_opens_every_app_id_but_names_none() -> None:
    tokens = Tokens({digest("a"): "billing"})
    token = tokens.trust()
    tokens.check(token, "billing")
    tokens.check(token, "shop")
    with pytest.raises(RefusedError):
        tokens.app_of(token)


def test_no_two_trusted_tokens_are_the_same() -> None:
    tokens = Tokens({})
    assert tokens.trust() != tokens.trust()
