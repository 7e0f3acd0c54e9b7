"""The page of a finished study is written again only if it would show something else."""

from __future__ import annotations

from pathlib import Path

import pytest

import optrial.current_page
from tests.conftest import Command

STUDY = """
name: twice
problem: {dataset: moons, model: logistic}
batch_size: full
budget: {steps: 4}
seeds: 2
optimizers: [{rule: sgd, lr: 0.1}, {rule: adam, lr: 0.01}]
"""


@pytest.fixture
def audits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry per audit."""
    entries: list[str] = []
    audit = optrial.current_page.audit

    def counted(view: optrial.current_page.StudyView) -> object:
        entries.append(view.name)
        return audit(view)

    monkeypatch.setattr(optrial.current_page, "audit", counted)
    return entries


@pytest.fixture
def page(optrial: Command, audits: list[str], tmp_path: Path) -> Path:
    """Page of a study that was run once."""
    Path("twice.yaml").write_text(STUDY, encoding="utf-8")
    assert optrial("run", "twice.yaml", "--out", tmp_path / "out").status == 0
    assert audits.pop() == "twice"
    return tmp_path / "out" / "report.html"


def test_current_page_is_left_and_the_answer_is_the_same(
    optrial: Command, page: Path, audits: list[str]
) -> None:
    written = page.stat().st_mtime_ns
    answers = [optrial("run", "twice.yaml", "--out", page.parent) for _ in range(2)]
    assert (audits, page.stat().st_mtime_ns) == ([], written)
    assert answers[0].out == answers[1].out
    assert f"report: {page}" in answers[0].err
    assert "audit: " in answers[0].err


def test_page_that_was_edited_or_deleted_is_written_again(
    optrial: Command, page: Path, audits: list[str]
) -> None:
    text = page.read_text("utf-8")
    page.write_text(f"{text} ", encoding="utf-8")
    assert optrial("run", "twice.yaml", "--out", page.parent).status == 0
    assert page.read_text("utf-8") == text
    page.unlink()
    assert optrial("run", "twice.yaml", "--out", page.parent).status == 0
    assert page.read_text("utf-8") == text
    assert len(audits) == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", ["version", "rows", "times"])
def test_page_is_written_again_after_a_change(
    optrial: Command, page: Path, audits: list[str], change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = []
    if change == "version":
        monkeypatch.setattr("optrial.current_page.__version__", "0.0.1")
    elif change == "rows":
        arguments = ["--seeds", "3"]
    else:
        times = page.with_name("timing.json")
        assert optrial("timing", "twice.yaml", "--out", times).status == 0
    text = page.read_text("utf-8")
    for _ in range(2):
        assert optrial("run", "twice.yaml", "--out", page.parent, *arguments).status == 0
    assert len(audits) == 1
    assert (page.read_text("utf-8") == text) == (change == "version")
