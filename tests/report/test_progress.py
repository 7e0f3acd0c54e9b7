"""The progress bar says what is done, the best value so far and the time left, in one line."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

import optrial
from optrial import ProgressBar, Study
from optrial.report.progress import shows_progress
from optrial.spec import Status
from tests.small import small_keys


class Planned:
    """A store that knows the study alone."""

    def __init__(self, **changes: Any) -> None:
        self._study = Study(**small_keys(**changes)).studies.as_dict()

    def study(self) -> dict[str, Any]:
        return self._study


class Watched:
    """A progress bar, and the lines that it has drawn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, width: int = 80, **changes: Any) -> None:
        self.now = 0.0
        monkeypatch.setattr("optrial.report.progress.time.monotonic", lambda: self.now)
        self.file = io.StringIO()
        console = Console(file=self.file, width=width, force_terminal=True, color_system=None)
        self.bar = ProgressBar(console)
        self.bar.on_start(Planned(**changes))  # type: ignore[arg-type]

    def after(self, seconds: float, steps: int) -> str:
        """Return the line after some time in which some steps were taken."""
        self.now += seconds
        self.bar.on_step(steps)
        self.bar.on_end(None)
        lines = re.sub(r"\x1b\[[\d;?]*\w", "", self.file.getvalue()).replace("\r", "\n").split("\n")
        return [line for line in lines if line.strip()][-1]


def test_epochs_best_value_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, budget={"epochs": 5}, evaluate={"on": ["validation"]})
    watched.bar.on_plan(runs=4, steps=100, runs_left=4, steps_left=100)
    watched.bar.on_values("a", 10, {"validation_accuracy": 0.5, "validation_loss": 1.0})
    watched.bar.on_values("b", 10, {"validation_accuracy": 0.875, "validation_loss": 2.0})
    watched.bar.on_values("a", 20, {"validation_accuracy": 0.75})
    line = watched.after(20, 25)
    assert "5/20 epochs" in line
    assert "1:00 left" in line
    assert "best validation accuracy 87.5 %" in line
    assert "0/4 runs" in line


def test_runs_and_time_left_of_a_budget_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, budget={"seconds": 30.0})
    watched.bar.on_plan(runs=4, steps=4 * 10**9, runs_left=3, steps_left=3 * 10**9)
    line = watched.after(20, 25)
    assert "at most 1:30 of training left" in line
    assert "1/4 runs" in line
    assert "steps" not in line


@pytest.mark.parametrize("width", [80, 60, 40, 30])
def test_the_line_fits_and_cuts_no_word(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, width, budget={"epochs": 5}, evaluate={"on": ["validation"]})
    watched.bar.on_plan(runs=4, steps=100, runs_left=4, steps_left=100)
    watched.bar.on_values("a", 10, {"validation_accuracy": 0.5})
    line = watched.after(20, 25)
    assert cell_len(line.rstrip()) <= width
    assert "…" not in line
    assert "5/20 epochs" in line


def test_a_study_in_steps_counts_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.bar.on_plan(runs=2, steps=80, runs_left=2, steps_left=60)
    assert "50/80 steps" in watched.after(1, 30)


def test_problems_of_different_length_count_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [{"dataset": "digits", "budget": {"epochs": 2}}, {"dataset": "moons"}]
    watched = Watched(monkeypatch, problem=problems, budget={"epochs": 5})
    watched.bar.on_plan(runs=2, steps=80, runs_left=2, steps_left=80)
    assert "30/80 steps" in watched.after(1, 30)


def test_runs_that_diverge_count_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.bar.on_plan(runs=2, steps=80, runs_left=2, steps_left=80)
    watched.bar.on_run_end("a", Status.DIVERGED, 35)
    assert "40/80 steps" in watched.after(1, 5)
    assert watched.bar.unfinished == 1


def test_values_are_told_as_they_are_stored(tmp_path: Path) -> None:
    class Values(optrial.Callback):
        def on_values(self, run_id: str, step: int, values: Any) -> None:
            told.append((run_id, step, dict(values)))

    told: list[tuple[str, int, dict[str, float]]] = []
    with Study(**small_keys()).run(tmp_path, callbacks=[Values()], checkpoint_seconds=0) as results:
        (record,) = results.records
        curves = {metric: results.store.curves(metric) for metric in results.store.metrics()}
    assert {run_id for run_id, _, _ in told} == {record.run_id}
    assert told[-1][1] == record.step
    for _, step, values in told:
        for metric, value in values.items():
            (curve,) = curves[metric].values()
            recorded = dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
            assert value == recorded[max(at for at in recorded if at <= step)]


def test_progress_is_shown_where_someone_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not shows_progress()
    Study(**small_keys()).run(tmp_path / "quiet").close()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert shows_progress()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Jupyter's own libraries
def test_a_notebook_shows_progress_and_then_how_long_it_took(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    source = "import optrial\noptrial.compare(optimizers=['sgd'], epochs=1, seeds=2)"
    cell = nbformat.v4.new_code_cell(source)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=place).execute()
    shown = [output["data"].get("text/html", "") for output in notebook.cells[0].outputs]
    assert re.search(r"2 runs in \d+:\d\d", shown[0])
    assert "sgd" in shown[-1]
    assert "<table" in shown[-1]
