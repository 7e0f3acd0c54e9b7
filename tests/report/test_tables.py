from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from optrial.analysis import SettingSummary, Spread
from optrial.report import plain_table, summary_note, summary_table
from optrial.report.tables import fit_columns, shown_metrics
from optrial.spec import Directions, Status, setting_text

CATALOGUE = Directions()


def text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def summary(optimizer: str, *, best: bool = False, diverged: int = 0) -> SettingSummary:
    return SettingSummary(
        optimizer=optimizer,
        setting="lr=0.1",
        statuses={Status.DONE: 2} | ({Status.DIVERGED: diverged} if diverged else {}),
        metrics={
            "train_loss": Spread(0.5, 0.1, 2),
            "train_loss_epoch": Spread(1.23456789, 0.00123, 2),
            "validation_accuracy": Spread(0.98, float("nan"), 1),
            "validation_loss": Spread(3.0, 0.1, 2),
        },
        best=best,
    )


def test_summary_shows_means_deviations_and_failures() -> None:
    shown = text(
        summary_table("study", [summary("adam", best=True), summary("sgd", diverged=1)], CATALOGUE)
    )
    assert "1.2346 ± 0.0012" in shown
    assert "98.00 │" in shown
    assert "1 of 3 diverged" in shown
    assert "lr=0.1 *" in shown
    assert "validation_loss" not in shown


def test_rates_have_three_digits() -> None:
    assert setting_text("lr=0.0031622776 beta1=0.9") == "lr=0.00316 beta1=0.9"
    assert setting_text("lr=3.16228e-05") == "lr=3.16e-05"
    assert setting_text("name=v1.2345 lr=0.001") == "name=v1.2345 lr=0.001"


def test_markup_in_names_is_text() -> None:
    assert "[red]" in text(summary_table("[bold]", [summary("[red]x[/red]")], CATALOGUE))
    assert "[red]" in text(plain_table(["[bold]"], [["[red]"]]))


def test_headings_wrap_before_a_column_is_removed() -> None:
    table = plain_table(["name", "validation accuracy (%)", "runs"], [["adam", "97.1", "2,080"]])
    assert fit_columns(table, 34) == []
    lines = text(table).splitlines()
    assert max(map(len, lines)) <= 34
    assert [line.count("validation") + line.count("accuracy (%)") for line in lines[1:3]] == [1, 1]
    assert fit_columns(table, 22) == ["runs"]


def test_numbers_are_aligned_also_as_text() -> None:
    rows = [["1", "2,080", "0.5 to 1"], ["2", "30", ""], ["3", None, "x"]]
    table = plain_table(["layer", "parameters", "range"], rows)
    assert [column.justify for column in table.columns] == ["left", "right", "left"]


def test_missing_numbers_are_dashes() -> None:
    assert "—" in text(plain_table(["a"], [[None], [1.5]]))


def test_note_says_what_the_table_does_not() -> None:
    select = "validation_accuracy"
    assert "not tested" in summary_note([summary("adam")], [], select)
    assert "by mean validation accuracy" in summary_note([summary("adam", best=True)], [], select)
    diverged = [replace(summary("adam"), setting=f"lr={rate}") for rate in (1e30, 1e31)]
    assert "does not evaluate" in summary_note(diverged, [], None)
    assert "does not evaluate" not in summary_note(diverged, [], select)


def test_accuracies_replace_losses_and_no_other_metric() -> None:
    recorded = ["train_loss", "test_loss", "test_my_accuracy", "test_accuracy", "test_roc_auc"]
    directions = Directions({"my_accuracy": None, "accuracy": None})
    assert shown_metrics(recorded, directions) == recorded
    declared = Directions({"my_accuracy": None})
    assert shown_metrics(recorded, declared) == ["train_loss", *recorded[2:]]


def test_batches_of_a_users_metric_are_no_evaluation() -> None:
    recorded = ["train_loss", "train_eval_score", "test_accuracy", "test_eval_score"]
    directions = Directions({"eval_score": "higher"})
    assert shown_metrics(recorded, directions) == ["train_loss", *recorded[2:]]


def test_an_empty_study_renders() -> None:
    assert "study" in text(summary_table("study", [], CATALOGUE))
    assert summary_note([], [], None)
