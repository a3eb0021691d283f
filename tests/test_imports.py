"""The direction of imports, and what the pure modules leave alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "actorbus": {"actorbus"},
    "actors": {"actorbus", "actors"},
    "transport": {"actorbus", "actors", "transport"},
}

PURE = {"bits", "leases", "line", "members", "retry", "window", "effects", "messages"}

CLOCK = "clock"
"""Holds both the value `Now`, which pure modules are given, and the machine's clock."""

IMPURE = {"pykka", "asyncio", "websockets", "time", "random", "structlog", "datetime", "secrets"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of all that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


ALL = [path for package in MAY_IMPORT for path in modules(package)]


def pure_modules() -> list[Path]:
    """The modules that decide, and whatever of `actors` they import."""
    known = {path.stem: path for path in modules("actors")}
    found: set[str] = set()
    waiting = {stem for stem in known if stem in PURE or stem.endswith("_state")}
    while waiting:
        stem = waiting.pop()
        found.add(stem)
        names = {name.split(".")[1] for name in imported(known[stem]) if name[:7] == "actors."}
        waiting |= names & known.keys() - found
    return [known[stem] for stem in sorted(found - {CLOCK})]


PURE_MODULES = pure_modules()


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ours = {top(name) for name in imported(path)} & {*MAY_IMPORT, "tests", "bench"}
    assert ours <= allowed


@pytest.mark.parametrize("path", PURE_MODULES, ids=name_of)
def test_pure_modules_know_no_machine(path: Path) -> None:
    assert not {top(name) for name in imported(path)} & IMPURE


def test_every_pure_module_is_found() -> None:
    assert {path.stem for path in PURE_MODULES} >= {*PURE, "group_state", "topic_state"}


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_only_the_runtime_knows_pykkas_inside(path: Path) -> None:
    if path == ROOT / "actors" / "runtime.py":
        return
    names = [name for name in imported(path) if top(name) == "pykka"]
    assert not [name for name in names if any(part.startswith("_") for part in name.split("."))]
    defined = {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not defined & {"_create_actor_inbox", "_create_future", "_start_actor_loop"}


def test_a_wrong_direction_would_be_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f() -> None:\n    from transport.broker import Broker\n")
    assert "transport" in {top(name) for name in imported(module)}
