"""What the README and the docs show is run; what they point to exists."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from optrial.study import Study
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """The code blocks of a language, each with its page."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page.name, code) for page in PAGES for code in fence.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_runs(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})


@pytest.mark.parametrize(("page", "code"), blocks("yaml"))
def test_studies_are_valid(page: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(code, encoding="utf-8")
    assert Study.from_file(tmp_path / "study.yaml").plan().runs


def test_commands_of_the_readme_run_in_order(optrial: Command, tmp_path: Path) -> None:
    study = next(code for page, code in blocks("yaml") if page == "README.md")
    short = study.replace("epochs: 10", "epochs: 1").replace("seeds: 5", "seeds: 1")
    (tmp_path / "study.yaml").write_text(short, encoding="utf-8")
    lines = [line for _, code in blocks("sh") for line in code.splitlines()]
    commands = [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("optrial")
    ]
    assert {command[0] for command in commands} >= {
        "plan",
        "run",
        "show",
        "runs",
        "curves",
        "explain",
    }
    for command in commands:
        assert optrial(*command).status == 0, command


def test_the_readme_shows_an_example_that_is_in_the_repository() -> None:
    study = next(code for page, code in blocks("yaml") if page == "README.md")
    assert study in (ROOT / "examples" / "which-one.yaml").read_text("utf-8")


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(
    example: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(example.parent), *sys.path])
    runpy.run_path(str(example), run_name="__main__")
    assert "adam" in capsys.readouterr().out


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name
)
def test_example_studies_are_valid(example: Path) -> None:
    assert Study.from_file(example).plan().runs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert all((page.parent / link).exists() for link in local), local
