"""The documentation as a site: it builds without a warning and asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REQUEST = re.compile(
    r"<(?:script|img|iframe|source|embed)[^>]*\ssrc=[\"']?((?:https?:)?//[^\"'> ]+)"
    r"|<link(?![^>]*canonical)[^>]*\shref=[\"']?((?:https?:)?//[^\"'> ]+)"
    r"|(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)"
)
"""What makes a browser ask another computer, as it loads a page or a style sheet."""


def run(*command: object) -> None:
    """Run a program of the same environment in the repository.

    Raises:
        AssertionError: it failed.
    """
    ended = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as scripts/docs builds it."""
    pytest.importorskip("material", reason="pip install -e '.[docs]' to test the site")
    folder = tmp_path_factory.mktemp("site")
    run("docs/make_rules.py")
    run("docs/make_notebooks.py")
    commands = ["--name", "optrial", "--title", "Commands", "--output", "docs/commands.md"]
    run("-m", "typer", "optrial.cli", "utils", "docs", *commands)
    run("-m", "mkdocs", "build", "--strict", "--site-dir", folder)
    return folder


@pytest.mark.slow
def test_site_has_every_page(site: Path) -> None:
    made = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    sources = (ROOT / "docs").rglob("*.md")
    assert made >= {page.relative_to(ROOT / "docs").with_suffix("") for page in sources}


@pytest.mark.slow
def test_site_asks_nothing_of_the_network(site: Path) -> None:
    files = [file for file in site.rglob("*") if file.suffix in {".html", ".css"}]
    asked = {match[0] for file in files for match in REQUEST.finditer(file.read_text("utf-8"))}
    assert files
    assert not asked


@pytest.mark.slow
def test_formulas_are_mathml(site: Path) -> None:
    page = (site / "rules" / "adam.html").read_text("utf-8")
    assert "<math" in page
    assert "$$" not in page


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://unpkg.com/a.js">',
        "<img alt=x src=//example.org/a.png>",
        '<link rel="stylesheet" href="https://example.org/a.css">',
        "a { background: url('https://example.org/a.png') }",
        '@import "https://example.org/a.css"',
    ],
)
def test_requests_are_recognized(text: str) -> None:
    assert REQUEST.search(text)


@pytest.mark.parametrize("text", ['<a href="https://example.org">', '<script src="a/b.js">'])
def test_links_are_no_requests(text: str) -> None:
    assert not REQUEST.search(text)
