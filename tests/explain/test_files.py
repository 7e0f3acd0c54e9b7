"""Pages of all rules, and files of landscapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from optrial.errors import OptrialError, StudyError
from optrial.explain.files import write_landscape, write_rule_docs
from optrial.explain.landscape import make_landscape
from optrial.rules import MODIFIERS, RULES


def test_docs_link_to_files_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: RULES[name] for name in ("sgd", "lars")}
    monkeypatch.setattr("optrial.explain.files.RULES", few)
    write_rule_docs(tmp_path / "rules")
    written = {file.name for file in (tmp_path / "rules").iterdir()}
    pages = {f"{name}.{kind}" for name in few for kind in ("md", "png")}
    assert written == {"index.md", *pages, *(f"{name}.md" for name in MODIFIERS)}
    assert "(lars.png)" in (tmp_path / "rules" / "lars.md").read_text("utf-8")
    assert "(lars.md)" in (tmp_path / "rules" / "index.md").read_text("utf-8")


def test_docs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "rules").write_text("in the way")
    with pytest.raises(OptrialError, match="rules cannot be written: File exists"):
        write_rule_docs(tmp_path / "rules")


@pytest.mark.parametrize(
    ("suffix", "start"), [("html", b"<!doctype html>"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_the_suffix_decides_what_is_written(suffix: str, start: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"picture.{suffix}"
    landscape = make_landscape(steps=5)
    write_landscape(landscape, file)
    first = file.read_bytes()
    assert first.startswith(start)
    write_landscape(landscape, file)
    assert file.read_bytes() == first


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    landscape = make_landscape(steps=5)
    with pytest.raises(StudyError, match="Allowed: html, gif, png, pdf, svg"):
        write_landscape(landscape, tmp_path / "picture.bmp")
    for suffix in ("html", "png"):
        with pytest.raises(OptrialError, match="cannot be written: No such file"):
            write_landscape(landscape, tmp_path / "missing" / f"picture.{suffix}")
