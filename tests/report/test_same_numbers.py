"""Command line, page and Python state the same numbers in the same words."""

from __future__ import annotations

from pathlib import Path

import pytest

from optrial import load
from optrial.cli import main
from optrial.report.study_page import study_page
from tests.report.pages import Element, parse_page
from tests.report.studies import made_up_records, store_made_up


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr("sys.argv", ["optrial", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert not done.value.code
    return " ".join(" ".join(capsys.readouterr()).split())


def words(element: Element) -> str:
    """Every text of a part of the page, and every tooltip."""
    titles = [part.attributes.get("title", "") for part in element.all()]
    return " ".join(" ".join([element.text, *titles]).split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    records = made_up_records(["sgd", "adam", "lion", "muon"], (0.01, 0.1), 10, diverged=(13,))
    store_made_up(tmp_path, records)
    return tmp_path


def test_sentences(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with load(folder) as results:
        sentences = results.comparisons()
        page = words(parse_page(study_page(results.view())))
    assert len(sentences) == 1 + 6
    command = printed(monkeypatch, capsys, "compare", str(folder))
    shown = printed(monkeypatch, capsys, "show", str(folder))
    for sentence in sentences:
        assert sentence in command
        assert f"{sentence}." in page
    assert sentences[0] in shown
    assert "adjusted for 6 comparisons" in page
    for word in ("Holm", "Bonferroni", "p = 1.", "p = 0.0)"):
        assert word not in page + command


def test_means(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with load(folder) as results:
        table = results.summary()
        page = parse_page(study_page(results.view()))
    summary = words(page.all("section", id="summary")[0])
    answer = words(page.all("section", id="answer")[0])
    shown = printed(monkeypatch, capsys, "show", str(folder))
    for row in table.to_dict("records"):
        mean = f"{100 * row['test_accuracy_mean']:.2f}"
        cell = f"{mean} ± {100 * row['test_accuracy_std']:.2f}"
        assert cell in shown
        assert cell in summary
        assert mean in answer or not row["best"]
