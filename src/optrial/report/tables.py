"""Tables for the terminal: they show what `optrial.analysis` returns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from optrial.analysis import Flow, SettingSummary, Spread
from optrial.spec import Directions, Status

__all__ = [
    "funnel_table",
    "plain_table",
    "runs_text",
    "shown_metrics",
    "spread_text",
    "summary_note",
    "summary_table",
]


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """Return a table of plain text; numbers and None are set to the right, None as a dash."""
    rows = [list(row) for row in rows]
    table = Table(title=escape(title) or None, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(escape(column), justify="right" if numeric and rows else "left")
    for row in rows:
        table.add_row(*("—" if value is None else escape(str(value)) for value in row))
    return table


def summary_table(name: str, summaries: Sequence[SettingSummary], directions: Directions) -> Table:
    """Return one row a setting: runs, failures, and mean ± standard deviation of final metrics."""
    recorded = dict.fromkeys(metric for summary in summaries for metric in summary.metrics)
    metrics = shown_metrics(recorded, directions)
    table = Table(title=escape(name), title_justify="left", header_style="bold")
    table.add_column("optimizer")
    table.add_column("setting")
    table.add_column("runs", justify="right")
    for metric in metrics:
        table.add_column(metric, justify="right")
    previous = ""
    for summary in summaries:
        if previous not in ("", summary.optimizer):
            table.add_section()
        cells = [spread_text(summary.metrics.get(metric)) for metric in metrics]
        table.add_row(
            escape(summary.optimizer) if summary.optimizer != previous else "",
            escape(summary.setting) + (" *" if summary.best else ""),
            runs_text(summary),
            *cells,
            style="bold" if summary.best else None,
        )
        previous = summary.optimizer
    return table


def funnel_table(flows: Sequence[Flow]) -> Table:
    """Return one row an optimizer: how far its trials and its runs for the report came."""
    columns = ["optimizer", "trials", "tuning runs", "chosen", "report runs", "at the edge"]
    rows = []
    for optimizer in dict.fromkeys(flow.optimizer for flow in flows):
        own = {flow.phase: flow for flow in flows if flow.optimizer == optimizer}
        tuning, reported = own.get("tune"), own.get("report")
        rows.append(
            [
                optimizer,
                tuning.settings if tuning else None,
                _flow_cell(tuning),
                reported.chosen if reported else None,
                _flow_cell(reported),
                ", ".join(reported.at_edge) if reported else None,
            ]
        )
    return plain_table(columns, rows, "planned → run → used")


def _flow_cell(flow: Flow | None) -> str | None:
    if flow is None:
        return None
    failed = {"diverged": flow.diverged, "error": flow.error}
    why = ", ".join(f"{count} {name}" for name, count in failed.items() if count)
    return f"{flow.planned} → {flow.run} → {flow.used}" + (f" ({why})" if why else "")


def summary_note(
    summaries: Sequence[SettingSummary],
    flows: Sequence[Flow],
    select: str | None,
) -> str:
    """Explain how to read the summary table, and what it does not say.

    Args:
        summaries: its rows.
        flows: how far the runs of each optimizer came.
        select: the metric that selects settings; None where nothing may.
    """
    most = max((s.runs for s in summaries), default=0)
    spread = "mean ± standard deviation over seeds" if most > 1 else "one seed: no spread is known"
    lines = [f"Final values, {spread}. Differences are not tested here."]
    phases = {flow.phase for flow in flows}
    if phases == {"tune", "report"}:
        lines.append("* chosen by tuning, on the validation split and with other seeds than these.")
    elif "tune" in phases:
        lines.append("Tuning has not ended: these are its trials.")
    elif select and any(summary.best for summary in summaries):
        lines.append(f"* the optimizer's best setting by mean {select}.")
    elif len({s.setting for s in summaries}) > 1:
        lines.append("No setting is marked best: the study evaluates on no validation split.")
    return " ".join(lines)


def shown_metrics(recorded: Iterable[str], directions: Directions) -> list[str]:
    """Return the metrics of the summary table: the training loss and the study's metrics.

    Evaluated losses are left out where an accuracy of the catalogue is shown instead.
    """
    names = list(recorded)
    training = [m for m in ("train_loss_epoch", "train_loss") if m in names][:1]
    evaluated = [m for m in names if m.startswith(("validation_", "test_", "train_eval_"))]
    if any(directions.percent(metric) for metric in evaluated):
        return training + [m for m in evaluated if directions.label(m) != "loss"]
    return training + [m for m in evaluated if not m.startswith("train_")]


def spread_text(spread: Spread | None) -> str:
    """Return mean ± standard deviation; a dash where no run finished."""
    if spread is None:
        return "—"
    digits = ".4f" if 1e-3 <= abs(spread.mean) < 1e4 or spread.mean == 0 else ".3g"
    mean = f"{spread.mean:{digits}}"
    return mean if math.isnan(spread.deviation) else f"{mean} ± {spread.deviation:{digits}}"


def runs_text(summary: SettingSummary) -> str:
    """Return the number of runs, and what happened to those that are not done."""
    others = [f"{n} {status}" for status, n in summary.statuses.items() if status != Status.DONE]
    return ", ".join([str(summary.runs), *others])
