"""Every example runs as it is, from a folder of its own, through the commands a user types."""

from __future__ import annotations

import ast
import io
import os
import runpy
import shutil
import sys
import tokenize
from pathlib import Path

import nbformat
import pytest

import optrial as package
from tests.conftest import Command

EXAMPLES = Path(__file__).parents[1] / "examples"
STUDIES = sorted(path.name for path in EXAMPLES.glob("*.yaml"))
SHORT = ("--seeds", 1, "--set", "budget.epochs=1")
WRITES_ITS_DATA = {"house-prices.yaml": "house_prices.py"}
HOMEWORK = "fashion-mnist-homework.yaml"
NEEDS_DATA = pytest.mark.skipif(
    "OPTRIAL_DATA" not in os.environ, reason="OPTRIAL_DATA is not set: no Fashion-MNIST here"
)
MOST_LINES = 24
"""Lines that a user writes for a task, without comments, docstrings and empty lines."""
PACKAGES = {"foreign-optimizers.yaml": "pytorch_optimizer"}
LONG = {"residual-cnn.yaml", "several-problems.yaml", "which-one.yaml"}
OUTCOMES = {
    "foreign-optimizers.yaml": ["adamw", "AdaBelief", "Adan", "RAdam", "8 done"],
    "house-prices.yaml": ["momentum", "adam", "prodigy", "7 done"],
    "residual-cnn.yaml": ["nesterov", "adamw", "muon", "5 done"],
    "several-problems.yaml": ["circles", "diabetes", "Average ranks over 4 problems"],
    "which-one.yaml": ["sgd", "momentum", "adam", " done"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the examples."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a file as `python NAME` does, which imports what lies beside it."""
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    runpy.run_path(name, run_name="__main__")


@pytest.mark.parametrize(
    "study",
    [
        pytest.param(study, marks=pytest.mark.slow) if study in LONG else study
        for study in STUDIES
        if study != HOMEWORK
    ],
)
def test_studies_run(
    study: str, folder: Path, optrial: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    if study in PACKAGES:
        pytest.importorskip(PACKAGES[study], reason="pip install pytorch-optimizer to test it")
    if study in WRITES_ITS_DATA:
        script(WRITES_ITS_DATA[study], monkeypatch)
    answer = optrial("run", study, *SHORT)
    assert answer.status == 0, answer.err
    for text in OUTCOMES[study]:
        assert text in answer.out + answer.err


@pytest.mark.slow
def test_the_study_of_the_readme_has_a_clean_audit(folder: Path, optrial: Command) -> None:
    assert optrial("run", "which-one.yaml", "--quiet").status == 0
    answer = optrial("audit", "which-one")
    assert answer.status == 0, answer.out


@pytest.mark.slow
def test_data_of_ones_own(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script("own_data.py", monkeypatch)
    assert "rmsprop_nesterov" in capsys.readouterr().out


def lines_of(code: str) -> int:
    """Return the number of lines of Python without comments, docstrings and empty lines."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    empty = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    written = {
        line
        for token in tokens
        if token.type not in (*empty, tokenize.ENDMARKER)
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(written - docstrings)


def test_a_task_takes_less_than_25_lines() -> None:
    study = (EXAMPLES / HOMEWORK).read_text(encoding="utf-8").splitlines()
    assert len([line for line in study if line.removeprefix("#   ").strip()]) <= MOST_LINES
    assert lines_of((EXAMPLES / "transformer.py").read_text(encoding="utf-8")) <= MOST_LINES
    notebook = nbformat.read(EXAMPLES / "my-rule.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(map(lines_of, code)) <= MOST_LINES


@pytest.mark.slow
@NEEDS_DATA
def test_a_homework_ends_with_a_conclusion_and_figures(folder: Path, optrial: Command) -> None:
    short = ["--seeds", 2, "--set", "budget={steps: 50}", "--set", "tune={seeds: 1, extend: false}"]
    answer = optrial("run", HOMEWORK, *short)
    assert answer.status == 0, answer.err
    name = HOMEWORK.removesuffix(".yaml")
    verdict, *sentences = optrial("compare", name).out.splitlines()
    assert answer.err.count(verdict) == 1
    assert len(sentences) == 6 + 1  # pairs of four optimizers, and the claim
    assert optrial("best", name).out.startswith(verdict)
    optrial("figures", name)
    drawn = {file.stem for file in (folder / "studies" / name / "figures").iterdir()}
    assert {"curves-test_accuracy", "differences", "sensitivity", "tuning"} <= drawn


@pytest.mark.slow
def test_a_transformer_ends_with_a_rate_and_its_weights(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script("transformer.py", monkeypatch)
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert "at lr " in printed
    assert "torch.optim." in printed
    (study,) = (folder / "studies").iterdir()
    with package.load(study.name) as results:
        assert results.best().value > 0.8
        assert results.recommendation().code in printed


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Jupyter's own libraries
def test_a_rule_in_a_notebook_ends_with_a_table(folder: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(folder / "my-rule.ipynb", as_version=4)
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    (table,) = (output.text for output in outputs[-1])
    assert r"\toprule" in table
    assert r"root & lr=" in table
    shown = [output["data"] for cell in outputs[1:-1] for output in cell if "data" in output]
    assert any("<table" in data.get("text/html", "") for data in shown)
    assert any("image/png" in data for data in shown)
