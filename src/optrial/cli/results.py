"""Commands that take the folder of a study, and show, check or write what is recorded there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optrial.cli.options import (
    AuditFormat,
    BetterOption,
    CurveFormat,
    DataDir,
    Device,
    DeviceOption,
    FigureFormat,
    Format,
    ReportedMetric,
    ShowFormat,
    StoreArgument,
    TimeUnit,
    load_results,
)
from optrial.cli.output import (
    FAILED,
    note,
    output,
    print_table,
    prints_apart,
    show_summary,
)
from optrial.errors import Problem, StudyError

if TYPE_CHECKING:
    from optrial.records import Record

__all__ = ["audit", "compare", "curves", "evaluate", "figures", "report", "runs", "show"]


def show(
    store: StoreArgument,
    format_: Annotated[ShowFormat, typer.Option("--format", help="How to print.")] = (
        ShowFormat.TABLE
    ),
) -> None:
    """Print the summary table of a study."""
    from optrial.report.texts import summary_latex, summary_markdown

    with load_results(store) as results:
        if format_ is ShowFormat.TABLE:
            show_summary(results, quiet=False)
            return
        as_text = summary_latex if format_ is ShowFormat.LATEX else summary_markdown
        name, settings = results.study.get("name", ""), results.settings()
        typer.echo(as_text(name, settings, results.directions), nl=False)


def report(
    store: StoreArgument,
    out: Annotated[
        Path | None, typer.Option(help="FILE.html \\[default: report.html in the study's folder].")
    ] = None,
    metric: ReportedMetric = None,
    better: BetterOption = None,
) -> None:
    """Write one self-contained HTML page: the answer first, then everything behind it."""
    with load_results(store) as results:
        file = out or _beside(results, "report.html")
        note(f"wrote {results.report(file, metric, better)}")


def figures(
    store: StoreArgument,
    format_: Annotated[FigureFormat, typer.Option("--format", help="What to write.")] = (
        FigureFormat.PNG
    ),
    out: Annotated[
        Path | None, typer.Option(help="FOLDER \\[default: figures in the study's folder].")
    ] = None,
    metric: ReportedMetric = None,
    better: BetterOption = None,
) -> None:
    """Draw the figures of a study for print, one column wide."""
    with load_results(store) as results:
        folder = out or _beside(results, "figures")
        written = results.figures(folder, format_.value, metric, better)
    for file in written:
        note(f"wrote {file}")
    if not written:
        note("nothing to draw yet: no run has ended")


def runs(
    store: StoreArgument,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Print one row per run: setting, seed, status and final metrics."""
    from optrial.records import flat_rows, run_rows, write_csv, write_json

    with load_results(store) as results:
        records = results.records
    if format_ is Format.JSON:
        write_json(run_rows(records), sys.stdout)
    elif format_ is Format.CSV:
        write_csv(flat_rows(records), sys.stdout)
    else:
        _print_runs(records)


def _print_runs(records: Sequence[Record]) -> None:
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    about_columns = ["run_id", "optimizer", "setting", "phase", "seed", "status", "step"]
    columns = [*about_columns, *metrics, "reason"]
    rows = []
    for record in records:
        values = [record.metrics.get(metric) for metric in metrics]
        cells = [None if value is None else float(f"{value:.6g}") for value in values]
        rows.append([*(getattr(record, n) for n in about_columns), *cells, record.reason])
    print_table(columns, rows)


def curves(
    store: StoreArgument,
    metric: Annotated[str, typer.Option(help="Which metric: train_loss, test_accuracy, ...")],
    wide: Annotated[
        bool, typer.Option("--wide", help="One row per step, one column per run.")
    ] = False,
    format_: Annotated[CurveFormat, typer.Option("--format", help="How to print.")] = (
        CurveFormat.CSV
    ),
    out: Annotated[Path | None, typer.Option(help="File to write instead.")] = None,
) -> None:
    """Print one row per recorded value of a metric: run, step, epoch, value."""
    from optrial.analysis.wide import write_parquet
    from optrial.records import curve_rows, write_csv, write_json

    if format_ is CurveFormat.PARQUET and out is None:
        raise StudyError([Problem("--out", "is needed for parquet: --out FILE.parquet.")])
    with load_results(store) as results:
        if format_ is CurveFormat.PARQUET and out is not None:
            write_parquet(results.wide_curves(metric) if wide else results.curves(metric), out)
            note(f"wrote {out}")
            return
        if _is_still_to_come(results, metric):
            rows: list[dict[str, Any]] = []
            note(f"nothing is recorded of {metric} yet")
        elif wide:
            rows = _wide_rows(results, metric)
        else:
            rows = list(curve_rows(results.store, metric))
    with output(out) as stream:
        if format_ is CurveFormat.JSON:
            write_json(rows, stream)
        elif format_ is CurveFormat.CSV:
            write_csv(rows, stream)
        else:
            print_table(list(rows[0]) if rows else [], [list(row.values()) for row in rows])


def _is_still_to_come(results: Any, metric: str) -> bool:
    """Whether the study records a metric that no run has reached yet."""
    left = any(record.status in ("planned", "interrupted") for record in results.records)
    if not left or metric in results.store.metrics():
        return False
    from optrial.config import stored_study
    from optrial.study import recorded_metrics

    studies = stored_study(results.study)
    probes = studies.shared.probes
    names = [name for study in studies.by_name.values() for name in recorded_metrics(study)]
    return metric in (*names, *(probes.measure if probes else ()))


def _wide_rows(results: Any, metric: str) -> list[dict[str, Any]]:
    """Return the curves of a metric, one row a step; None where a run has no value."""
    table = results.wide_curves(metric).astype(object)
    return list(table.where(table.notna(), None).to_dict("records"))


def compare(
    store: StoreArgument,
    first: Annotated[str, typer.Argument(metavar="A", help="An optimizer of the study.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    metric: Annotated[
        str | None, typer.Option(help="Metric to compare \\[default: the reported one].")
    ] = None,
    better: BetterOption = None,
    target: Annotated[
        str | None,
        typer.Option(help="Compare the time to a target instead: 'validation_accuracy 0.95'."),
    ] = None,
    unit: Annotated[
        TimeUnit, typer.Option("--in", help="How the time to a target is measured.")
    ] = TimeUnit.STEPS,
) -> None:
    """Compare two optimizers in one sentence, and judge the claims of the study."""
    from optrial.analysis.statistics import sentence, target_sentence

    if target and (metric or better):
        problem = "names the metric already; leave out --metric and --better."
        raise StudyError([Problem("--target", problem)])
    with load_results(store) as results:
        if target:
            name, value = _named_target(results, target)
            pair = results.compare_to_target(first, second, name, value, unit.value)
            typer.echo(target_sentence(pair))
        else:
            typer.echo(sentence(results.compare(first, second, metric, better)))
        for result in results.audit().claims:
            typer.echo(f"{result.verdict}: {result.sentence}")


def _named_target(results: Any, text: str) -> tuple[str, float]:
    """Read ``METRIC VALUE``, or the metric alone of a target of the study."""
    metric, _, value = text.strip().rpartition(" ")
    named = results.study.get("targets") or {}
    if not metric and isinstance(named.get(value), int | float):
        return value, named[value]
    with suppress(ValueError):
        if metric:
            return metric.strip(), float(value)
    way_out = "must be a metric and a value, such as 'validation_accuracy 0.95'"
    raise StudyError([Problem("--target", f"'{text}': {way_out}.")])


def audit(
    store: StoreArgument,
    format_: Annotated[AuditFormat, typer.Option("--format", help="How to print.")] = (
        AuditFormat.TEXT
    ),
) -> None:
    """Check whether a comparison supports what it is to show.

    Exit status 0 if nothing was found, 1 for warnings, 2 for findings that block a claim.
    """
    from optrial.analysis.audit import as_json, report_text
    from optrial.records import write_json

    with load_results(store) as results:
        report = results.audit()
    if format_ is AuditFormat.JSON:
        write_json(as_json(report), sys.stdout)
    else:
        typer.echo(report_text(report))
    sys.exit(report.exit_status)


def evaluate(
    store: StoreArgument,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    device: DeviceOption = Device.AUTO,
    data_dir: DataDir = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Evaluate the saved weights of each run again, beside what was recorded.

    Exit status 1 if a value differs from the recorded one.
    """
    from optrial.records import write_csv, write_json
    from optrial.saved import evaluate_saved

    with load_results(store) as results, prints_apart():
        found = list(
            evaluate_saved(results.store, results.folder, split, data_dir=data_dir, device=device)
        )
    rows = [
        {
            "run_id": each.record.run_id,
            "optimizer": each.record.optimizer,
            "setting": each.record.setting,
            "seed": each.record.seed,
            "metric": each.metric,
            "value": each.value,
            "recorded": each.recorded,
        }
        for each in found
    ]
    if format_ is Format.JSON:
        write_json(rows, sys.stdout)
    elif format_ is Format.CSV:
        write_csv(rows, sys.stdout)
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    if different := sum(each.differs for each in found):
        note(f"{different} of {len(found)} values differ from those recorded")
        sys.exit(FAILED)


def _beside(results: Any, name: str) -> Path:
    """Return a place in the study's folder; in the current one for a study on a server."""
    return (results.folder if results.folder.is_dir() else Path()) / name
