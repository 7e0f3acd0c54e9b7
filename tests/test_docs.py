"""What the README and the docs show is run; what they point to exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import Command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
NAMED = re.compile(r"# (\w+\.py)\n")
"""First line of a block that is a file: others on the page import or name it."""


def blocks(language: str) -> list[tuple[str, str]]:
    """The code blocks of a language, each with its page."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page.name, code) for page in PAGES for code in fence.findall(page.read_text("utf-8"))]


def first_line(text: str) -> str:
    """What a page, or a block of code, is called in the names of tests."""
    return text.partition("\n")[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the pages show, which code can import."""
    for _, code in blocks("python"):
        if name := NAMED.match(code):
            (tmp_path / name[1]).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "code"), blocks("python"), ids=first_line)
def test_python_runs(page: str, code: str, folder: Path) -> None:
    exec(compile(code, page, "exec"), {})


@pytest.mark.parametrize(
    ("page", "code"), [b for b in blocks("yaml") if b[0] != "README.md"], ids=first_line
)
def test_studies_run(page: str, code: str, folder: Path, optrial: Command) -> None:
    (folder / "study.yaml").write_text(code, encoding="utf-8")
    answer = optrial("run", "study.yaml", "--seeds", 1)
    assert answer.status == 0, answer.err


def test_commands_run_in_order(optrial: Command, tmp_path: Path) -> None:
    """Those of the README, then those of the other pages, on the study that the README shows."""
    study = next(code for page, code in blocks("yaml") if page == "README.md")
    short = study.replace("epochs: 10", "epochs: 1").replace("seeds: 5", "seeds: 1")
    (tmp_path / "study.yaml").write_text(short, encoding="utf-8")
    lines = [line for _, code in blocks("sh") for line in code.splitlines()]
    commands = [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("optrial")
    ]
    named = {command[0] for command in commands}
    assert named >= {"plan", "run", "show", "runs", "curves", "explain", "evaluate", "landscape"}
    for command in commands:
        assert optrial(*command).status == 0, command


def test_the_readme_shows_an_example_that_is_in_the_repository() -> None:
    study = next(code for page, code in blocks("yaml") if page == "README.md")
    assert study in (ROOT / "examples" / "which-one.yaml").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
        target = page.parent / link if link else page
        if "://" in link:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
