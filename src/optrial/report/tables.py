"""Tables for the terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.markup import escape, render
from rich.table import Column, Table

from optrial.analysis import Flow, SettingSummary, Spread
from optrial.analysis.statistics import time_text
from optrial.analysis.target_results import TargetResult
from optrial.analysis.targets import TargetTimes
from optrial.errors import printable
from optrial.spec import Directions, Status, metric_title, setting_text

__all__ = [
    "cells_of",
    "fit_columns",
    "funnel_table",
    "interval_text",
    "plain_table",
    "reached_text",
    "runs_text",
    "shown_metrics",
    "spread_cell",
    "spread_text",
    "summary_note",
    "summary_table",
    "target_table",
    "targets_note",
]


_COMFORTABLE = 20
"""Least width of a column of text, in characters, if it has cells of that width."""


_NUMBER = r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( %)?"


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """Return a table of plain text, with numbers aligned to the right and None as a dash.

    Names, which are in the first column, and numbers are never wrapped.
    """
    rows = [list(row) for row in rows]
    table = Table(title=_escaped(title) or None, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        numeric = all(_is_number(row[index], named=index == 0) for row in rows)
        table.add_column(
            _escaped(column),
            justify="right" if numeric and rows else "left",
            no_wrap=numeric or index == 0,
        )
    for row in rows:
        table.add_row(*("—" if value is None else _escaped(str(value)) for value in row))
    return table


def _is_number(cell: object, *, named: bool) -> bool:
    """Return True for a number, also as text such as "2,080" unless the column holds names."""
    if isinstance(cell, str) and not named:
        return not cell or re.fullmatch(_NUMBER, cell) is not None
    return isinstance(cell, int | float | None)


def _escaped(text: str) -> str:
    """Return a text that rich and the terminal show as it is."""
    return escape(printable(text))


def fit_columns(table: Table, width: int, expendable: Sequence[str] = ()) -> list[str]:
    """Fit a table into a number of characters: remove columns first, then wrap words.

    No word is ever cut, and headings wrap before a column is removed. Columns are removed in the
    order of `expendable`, then from the right; the first one always stays. Removed columns that fit
    beside those that are left return.

    Returns:
        The headers of the removed columns.
    """
    removed: list[str] = []
    columns = list(table.columns)
    order = [*expendable, *reversed([str(column.header) for column in table.columns[1:]])]
    while order and _total(map(_least_width, table.columns)) > width:
        header = order.pop(0)
        if " ".join(header.split()) not in removed:
            removed.append(" ".join(header.split()))
            table.columns = [c for c in table.columns if str(c.header) != header]
    for name in removed[-2::-1]:
        left = set(map(id, table.columns))
        kept = [c for c in columns if id(c) in left or _name(c) == name]
        if _total(map(_least_width, kept)) <= width:
            table.columns = kept
            removed.remove(name)
    widths = [_least_width(column) for column in table.columns]
    room = width - _total(widths)
    by_need = sorted(range(len(widths)), key=lambda i: _full_width(table.columns[i]) - widths[i])
    for place, index in enumerate(by_need):
        need = _full_width(table.columns[index]) - widths[index]
        share = max(0, min(need, room // (len(by_need) - place)))
        table.columns[index].width = widths[index] + share
        table.columns[index].header = _heading(table.columns[index], widths[index] + share)
        room -= share
    return removed


def _name(column: Column) -> str:
    return " ".join(str(column.header).split())


def cells_of(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of a table as plain text."""
    columns = [[render(str(cell)).plain for cell in column.cells] for column in table.columns]
    headers = [render(str(column.header)).plain for column in table.columns]
    return headers, [list(row) for row in zip(*columns, strict=True)]


def _total(widths: Iterable[int]) -> int:
    """Return the width of a table with columns of these widths, with its lines."""
    return sum(width + 3 for width in widths) + 1


def _lines(texts: Iterable[object]) -> Iterator[str]:
    """Yield the lines of the header or of cells, without markup."""
    for text in texts:
        yield from render(str(text)).plain.splitlines() or [""]


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _full_width(column: Column) -> int:
    return _widest(_lines([column.header, *column.cells]))


def _heading(column: Column, width: int) -> str:
    """Return the header on lines of a width, which has room for each of its words."""
    header = str(column.header)
    if _widest(_lines([header])) <= width:
        return header
    lines: list[str] = []
    for word in header.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _widest(_lines([joined])) <= width:
            lines[-1] = joined
        else:
            lines.append(word)
    return "\n".join(lines)


def _least_width(column: Column) -> int:
    """Return the width that a column needs so that no word is cut."""
    header = _widest(render(str(column.header)).plain.split())
    full = _widest(_lines(column.cells))
    if column.no_wrap:
        return max(header, full)
    words = _widest(word for text in _lines(column.cells) for word in text.split())
    return max(header, min(_COMFORTABLE, full), words)


def summary_table(name: str, summaries: Sequence[SettingSummary], directions: Directions) -> Table:
    """Return one row per setting: runs, failures, mean ± standard deviation of final metrics."""
    recorded = dict.fromkeys(metric for summary in summaries for metric in summary.metrics)
    metrics = shown_metrics(recorded, directions)
    table = Table(title=_escaped(name), title_justify="left", header_style="bold")
    table.add_column("optimizer", no_wrap=True)
    table.add_column("setting")
    table.add_column("runs", justify="right")
    for metric in metrics:
        heading = directions.heading(metric).replace(" (epoch", "\n(epoch")
        table.add_column(escape(heading), justify="right", no_wrap=True)
    previous = ""
    for summary in summaries:
        if previous not in ("", summary.optimizer):
            table.add_section()
        cells = [spread_cell(summary, metric, directions) for metric in metrics]
        table.add_row(
            _escaped(summary.optimizer) if summary.optimizer != previous else "",
            _escaped(setting_text(summary.setting)) + (" *" if summary.best else ""),
            runs_text(summary),
            *cells,
            style="bold" if summary.best else None,
        )
        previous = summary.optimizer
    return table


def funnel_table(flows: Sequence[Flow]) -> Table:
    """Return one row per optimizer: planned, started and used runs of tuning and report."""
    columns = ["optimizer", "trials", "tuning runs", "chosen", "report runs", "at the edge"]
    rows = []
    for optimizer in dict.fromkeys(flow.optimizer for flow in flows):
        by_phase = {flow.phase: flow for flow in flows if flow.optimizer == optimizer}
        tuning, reported = by_phase.get("tune"), by_phase.get("report")
        rows.append(
            [
                optimizer,
                tuning.settings if tuning else None,
                _flow_cell(tuning),
                setting_text(reported.chosen) if reported else None,
                _flow_cell(reported),
                ", ".join(reported.at_edge) if reported else None,
            ]
        )
    return plain_table(columns, rows, "planned → run → used")


def target_table(result: TargetResult, problem: str = "") -> Table:
    """Return one row per optimizer: runs that reached a target, median steps and seconds.

    Args:
        result: the target on one problem.
        problem: its name, where the study has several.
    """
    columns = ["optimizer", "reached it", "median steps", "95 % interval"]
    title = f"time to {result.target}" + (f" on {problem}" if problem else "")
    if not result.seconds:
        return plain_table(columns, target_cells(result), title)
    seconds = [time_text(t.median, t.observed, "seconds") for t in result.seconds]
    rows = zip(target_cells(result), seconds, strict=True)
    return plain_table([*columns, "seconds"], [[*cells, time] for cells, time in rows], title)


def target_cells(result: TargetResult) -> list[list[str]]:
    """Return the cells of `target_table`, without seconds."""
    return [
        [
            times.contender.name,
            reached_text(times),
            time_text(times.median, times.observed, "steps"),
            interval_text(times),
        ]
        for times in result.steps
    ]


def reached_text(times: TargetTimes) -> str:
    """Return how many runs reached a target, and how many diverged before."""
    diverged = f", {times.diverged} diverged" if times.diverged else ""
    return f"{times.reached} of {times.runs}{diverged}"


def interval_text(times: TargetTimes) -> str:
    """Return the interval of median steps; a dash if it is unknown."""
    interval = times.median
    if not interval.known or math.isinf(interval.low):
        return "—"
    high = (
        f"{interval.high:,.0f}" if math.isfinite(interval.high) else f"over {times.observed:,.0f}"
    )
    return f"{interval.low:,.0f} to {high}"


def targets_note(results: Sequence[TargetResult]) -> str:
    """Return how to read the tables of `target_table`."""
    note = (
        "Time to target: Kaplan-Meier medians, which count runs that did not reach it. "
        "Differences are not tested here."
    )
    reasons = dict.fromkeys(result.why_no_seconds for result in results if result.why_no_seconds)
    return " ".join([note, *(f"No seconds are shown: {reason}." for reason in reasons)])


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
    pairing: Literal["seed", "fold"] = "seed",
    *,
    untrained: bool = False,
) -> str:
    """Return how to read the summary table, and what it does not show.

    Args:
        summaries: its rows.
        flows: planned, started and used runs of each optimizer.
        select: the metric that selects settings; None if there is none.
        pairing: what pairs the runs of different optimizers.
        untrained: whether no run has a step.
    """
    most = max((s.runs for s in summaries), default=0)
    over = "seeds" if pairing == "seed" else "the runs of all folds"
    spread = (
        f"mean ± standard deviation over {over}" if most > 1 else "one seed: no spread is known"
    )
    if untrained:
        return f"Values of the initial weights, {spread}. Nothing was trained."
    lines = [f"Final values, {spread}. Differences are not tested here."]
    phases = {flow.phase for flow in flows}
    if phases == {"tune", "report"}:
        lines.append("* chosen by tuning, on the validation split and with other seeds than these.")
    elif "tune" in phases:
        lines.append("Tuning has not ended: these are its trials.")
    elif select and any(summary.best for summary in summaries):
        lines.append(f"* the optimizer's best setting by mean {metric_title(select)}.")
    elif not select and len({s.setting for s in summaries}) > 1:
        lines.append(
            "No setting is marked best: the study does not evaluate on a validation split."
        )
    return " ".join(lines)


def shown_metrics(recorded: Iterable[str], directions: Directions) -> list[str]:
    """Return the metrics of the summary table: the training loss and the study's metrics.

    Evaluated losses are left out if an accuracy of the catalogue is shown.
    """
    names = list(recorded)
    training = [m for m in ("train_loss_epoch", "train_loss") if m in names][:1]
    evaluated = {m: name for m in names if (name := directions.parse(m)).evaluated}
    if any(directions.percent(metric) for metric in evaluated):
        return training + [m for m, name in evaluated.items() if not name.is_loss]
    return training + [m for m, name in evaluated.items() if not name.of_training]


def spread_cell(summary: SettingSummary, metric: str, directions: Directions) -> str:
    """Return a metric of a setting, accuracies in percent; see `spread_text`."""
    return spread_text(summary.metrics.get(metric), percent=directions.percent(metric))


def spread_text(spread: Spread | None, *, percent: bool = False) -> str:
    """Return mean ± standard deviation; a dash if no run finished.

    Args:
        spread: the metric over seeds.
        percent: whether a fraction is shown in percent.
    """
    if spread is None:
        return "—"
    scale = 100 if percent else 1
    mean, deviation = scale * spread.mean, scale * spread.deviation
    usual = 1e-3 <= abs(mean) < 1e4 or mean == 0
    digits = ".2f" if percent else ".4f" if usual else ".3g"
    text = f"{mean:{digits}}"
    return text if math.isnan(deviation) else f"{text} ± {deviation:{digits}}"


def runs_text(summary: SettingSummary) -> str:
    """Return the number of runs, or how many of them are not done: ``2 of 8 diverged``."""
    statuses = summary.statuses.items()
    others = [f"{n} of {summary.runs} {status}" for status, n in statuses if status != Status.DONE]
    return ", ".join(others) or str(summary.runs)
