"""What the documentation shows, run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from actorbus.testing import TestBroker

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None
    return match[1]


def test_the_readmes_app_takes_its_own_event() -> None:
    with TestBroker() as broker:
        source = block("python").replace("ws://localhost:8090/v1", broker.url)
        app = subprocess.Popen(
            [sys.executable, "-u", "-c", source], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert app.stdout is not None
            line = app.stdout.readline()
        finally:
            app.kill()
            app.wait(10)
            app.stdout.close()  # type: ignore[union-attr]  # it was piped
    assert line.split(maxsplit=1)[1] == "{'n': 1} 1\n"


def test_the_readmes_frames_are_understood() -> None:
    from websockets.sync.client import connect

    hello, subscribe, publish, _ = block("json").strip().splitlines()
    with TestBroker() as broker, connect(broker.url) as socket:
        for frame in (hello, subscribe, publish):
            socket.send(frame)
        kinds = [json.loads(socket.recv(10))["type"] for _ in range(4)]
    assert kinds[:2] == ["welcome", "subscribed"]
    assert sorted(kinds[2:]) == ["deliver", "published"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize(("page", "least"), [("docs/semantics.md", 60), ("docs/dapr.md", 60)])
def test_the_tests_that_a_page_names_exist(page: str, least: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / page).read_text())
    assert len(named) > least
    missing = [
        f"{path}::{name}"
        for path, name in named
        if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_chapter_of_the_semantics_is_shown() -> None:
    page = (ROOT / "docs/semantics.md").read_text(encoding="utf-8")
    text, _, table = page.partition("## Where it is shown")
    shown = {row.split("|")[1].strip() for row in table.splitlines() if row.startswith("| ")}
    chapters = set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    assert chapters - {"Words", "What is not promised"} == shown - {""}


def test_every_feature_of_dapr_works_or_is_said_not_to() -> None:
    page = (ROOT / "docs/dapr.md").read_text(encoding="utf-8")
    table = page.partition("## Dapr's features, row by row")[2]
    rows = [row.split("|")[1:4] for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) == 36
    verdicts = ("works", "better", "partly", "differs", "as in Dapr", "not yet")
    assert [row for row in rows if not row[1].strip().startswith(verdicts)] == []
    assert [row for row in rows if "::" not in row[2]] == []
