"""The page of licences is current for the packages that are installed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_of_licences_is_current() -> None:
    pytest.importorskip("packaging")
    script = runpy.run_path(str(DOCS / "make_licences.py"))
    page = (DOCS / "licences.md").read_text(encoding="utf-8")
    cells = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    written = {
        name.removeprefix("| "): licence.removesuffix(" |") for name, _, licence in cells[1:]
    }
    installed = {name: script["licence"](name) for name in script["needed_for"]()}
    assert {"torch", "numpy", "sqlalchemy"} <= set(installed)
    assert {name: written.get(name) for name in installed} == installed
