"""Commands that show, check and export the recorded results of a study."""

from __future__ import annotations

import gc
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optrial.cli import complete
from optrial.cli.options import (
    AuditFormat,
    BetterOption,
    ComparedStores,
    DataDir,
    Device,
    DeviceOption,
    FigureFormat,
    Format,
    OutOption,
    ReportedMetric,
    RowFormat,
    ShowFormat,
    Split,
    SpreadsheetOption,
    StorageOption,
    StoreArgument,
    StoresArgument,
    TimeUnit,
    TrustOption,
    direction_of,
    load_results,
    place_named,
    place_of,
    trust_of,
)
from optrial.cli.output import (
    FAILED,
    note,
    print_pairs,
    print_rows,
    prints_apart,
    save_parquet,
    say,
    say_sentence,
    show_summary,
    width,
)
from optrial.errors import Problem, StudyError, counted

if TYPE_CHECKING:
    from optrial.records import Verification
    from optrial.results import Results

__all__ = [
    "audit",
    "best",
    "compare",
    "curves",
    "evaluate",
    "export",
    "figures",
    "report",
    "runs",
    "show",
    "upgrade",
    "verify",
]


def show(
    store: StoresArgument = None,
    file_format: Annotated[ShowFormat, typer.Option("--format", help="Format of the table.")] = (
        ShowFormat.TABLE
    ),
    storage: StorageOption = None,
) -> None:
    """Show final metrics per optimizer and setting, and which optimizer is best."""
    with load_results(store, storage) as results:
        if file_format is ShowFormat.TABLE:
            show_summary(results.view(), quiet=False)
        elif file_format is ShowFormat.LATEX:
            say(results.to_latex(), end="")
        else:
            say(results.to_markdown(), end="")


def best(
    store: StoresArgument = None,
    metric: ReportedMetric = None,
    better: BetterOption = None,
    problem: Annotated[
        str | None, typer.Option(metavar="NAME", help="Problem to recommend for \\[default: each].")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Show the best optimizer and run, the setting to use, and a line of PyTorch."""
    from optrial.analysis.recommendation import recommend

    with load_results(store, storage) as results:
        view = results.view(metric, direction_of(better))
        names = [problem] if problem else [p.name for p in view.problems]
        for index, name in enumerate(names):
            say("\n" * bool(index), end="")
            answer = results.best(name, metric, direction_of(better))
            say_sentence(f"{name}: {answer}" if len(names) > 1 else str(answer))
            (one,) = (p for p in view.problems if p.name == name)
            pairs = dict(answer.pairs)
            recommendation = recommend(one)
            if recommendation:
                pairs["recommendation"] = recommendation.text
            print_pairs(pairs)
            if recommendation and recommendation.code:
                say(f"\n{_fitted(recommendation.code)}")


def _fitted(code: str) -> str:
    """Return statements; in a terminal that is too narrow, calls have one argument per line."""
    if not sys.stdout.isatty():
        return code
    lines = []
    for line in code.splitlines():
        call, _, rest = line.partition("(")
        if len(line) > width() and line[0] not in " #" and rest.endswith(")"):
            arguments = re.split(r", (?=\w+=)", rest[:-1])
            lines += [f"{call}(", *(f"    {argument}," for argument in arguments), ")"]
        else:
            lines.append(line)
    return "\n".join(lines)


def report(
    store: StoresArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="FILE.html \\[default: report.html in the study's folder]."
        ),
    ] = None,
    metric: ReportedMetric = None,
    better: BetterOption = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the web browser.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Write one self-contained HTML page: results, statistics, audit and figures."""
    with load_results(store, storage) as results:
        file = out or _beside(results, "report.html")
        note(f"wrote {results.report(file, metric, direction_of(better))}")
    if open_page:
        import webbrowser

        if not webbrowser.open(file.absolute().as_uri()):
            note(f"no web browser was found; open {file}")


def figures(
    store: StoresArgument = None,
    file_format: Annotated[FigureFormat, typer.Option("--format", help="Format of the files.")] = (
        FigureFormat.PNG
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the figures \\[default: figures in the study's folder]."
        ),
    ] = None,
    metric: ReportedMetric = None,
    better: BetterOption = None,
    storage: StorageOption = None,
) -> None:
    """Draw the figures of a study for a paper, one column wide."""
    with load_results(store, storage) as results:
        folder = out or _beside(results, "figures")
        written = results.figures(folder, file_format.value, metric, direction_of(better))
    for file in written:
        note(f"wrote {file}")
    if not written:
        note("nothing to draw yet: no run has ended")


def export(
    store: StoresArgument = None,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    metric: ReportedMetric = None,
    better: BetterOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")
    ] = False,
    storage: StorageOption = None,
) -> None:
    """Write a study as for a paper: methods, results, tables, figures and references.

    DIR/study.md and DIR/study.tex hold all of it; parts of it can be included by a paper.
    """
    with load_results(store, storage) as results:
        files = results.export(out, metric, direction_of(better), overwrite=overwrite)
    note(f"wrote {counted(len(files), 'file')} in {out}; start with {out / 'study.md'}")


def runs(
    store: StoresArgument = None,
    file_format: Annotated[RowFormat, typer.Option("--format", help="Format of the rows.")] = (
        RowFormat.TABLE
    ),
    out: OutOption = None,
    spreadsheet: SpreadsheetOption = False,
    storage: StorageOption = None,
) -> None:
    """Print one row per run: setting, seed, status, hyperparameters and final metrics.

    A table shows final metrics with six digits; the other formats hold every column and digit.
    """
    from optrial.analysis import run_rows, runs_frame

    with load_results(store, storage) as results:
        records = results.records
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    if file_format is RowFormat.PARQUET and not spreadsheet:
        save_parquet(runs_frame(records), out)
    elif file_format is RowFormat.TABLE:
        several = ["problem"] * (len({record.problem for record in records}) > 1)
        folds = ["fold"] * any(record.spec.fold for record in records)
        rungs = ["rung"] * any(record.spec.rung for record in records)
        columns = ("run_id", *several, "optimizer", "setting", "phase", *folds, *rungs)
        columns += ("seed", "status", "step")
        rows = [
            {name: _six_digits(row[name]) for name in (*columns, *metrics, "reason")}
            for row in run_rows(records)
        ]
        expendable = ["reason", "phase", "step", *metrics[:-1]]
        print_rows(rows, file_format, out, expendable, spreadsheet)
    else:
        print_rows(run_rows(records), file_format, out, spreadsheet=spreadsheet)


def _six_digits(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def curves(
    store: StoresArgument = None,
    *,
    metric: Annotated[
        str,
        typer.Option(
            "--metric",
            metavar="METRIC",
            help="train_loss, test_accuracy, ...",
            autocompletion=complete.metrics,
        ),
    ],
    wide: Annotated[
        bool, typer.Option("--wide", help="One row per step and one column per run.")
    ] = False,
    file_format: Annotated[RowFormat, typer.Option("--format", help="Format of the rows.")] = (
        RowFormat.CSV
    ),
    out: OutOption = None,
    spreadsheet: SpreadsheetOption = False,
    storage: StorageOption = None,
) -> None:
    """Print one row per recorded value of a metric: run, step, epoch, value."""
    with load_results(store, storage) as results:
        if _is_still_to_come(results, metric):
            note(f"nothing is recorded for {metric} yet")
            rows: list[dict[str, object]] = []
        else:
            table = results.wide_curves(metric) if wide else results.curves(metric)
            if file_format is RowFormat.PARQUET and not spreadsheet:
                save_parquet(table, out)
                return
            missing_as_none = table.astype(object).where(table.notna(), None) if wide else table
            rows = missing_as_none.to_dict("records")  # type: ignore[assignment]
    print_rows(rows, file_format, out, spreadsheet=spreadsheet)


def _is_still_to_come(results: Results, metric: str) -> bool:
    """Return True if the study records a metric that no run has reached yet."""
    unfinished = any(record.status in ("planned", "interrupted") for record in results.records)
    if not unfinished or metric in results.store.metrics():
        return False
    from optrial.config import stored_study
    from optrial.study import recorded_metrics

    studies = stored_study(results.study)
    probes = studies.shared.probes
    names = [name for study in studies.by_name.values() for name in recorded_metrics(study)]
    return metric in (*names, *(probes.measure if probes else ()))


def compare(
    store: ComparedStores = None,
    metric: ReportedMetric = None,
    better: BetterOption = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="TARGET",
            help="Compare the time to a target instead: 'validation_accuracy 0.95'.",
        ),
    ] = None,
    unit: Annotated[
        TimeUnit, typer.Option("--in", help="Unit of the time to a target.")
    ] = TimeUnit.STEPS,
    problem: Annotated[
        str | None, typer.Option(metavar="NAME", help="Problem to compare on \\[default: each].")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Compare two optimizers, or all pairs, in sentences, and judge the claims of the study."""
    from optrial.analysis.statistics import sentence, target_sentence

    if target and (metric or better):
        message = "names the metric already; leave out --metric and --better."
        raise StudyError([Problem("--target", message)], "the command line")
    places, pair = _places_and_pair(store or [])
    if target and not pair:
        message = "needs two optimizers: optrial compare STUDY A B --target TARGET."
        raise StudyError([Problem("--target", message)], "the command line")
    with load_results(places, storage) as results:
        problems = [problem] if problem else [p.name for p in results.view().problems]
        for name in problems:
            if not pair:
                lines = results.comparisons(metric, direction_of(better), name)
            elif target:
                metric, value = _named_target(results, target)
                arrivals = results.compare_to_target(*pair, metric, value, unit.value, name)
                lines = [target_sentence(arrivals)]
            else:
                lines = [sentence(results.compare(*pair, metric, direction_of(better), name))]
            for line in lines:
                say_sentence(f"{name}: {line}" if len(problems) > 1 else line)
        for result in results.claims():
            say_sentence(result.sentence)


def _places_and_pair(words: list[str]) -> tuple[list[str] | None, tuple[str, str] | None]:
    """Divide the arguments of `compare` into studies and two optimizers, if any are named.

    Raises:
        StudyError: one optimizer is named.
    """
    if len(words) < 2 or all(map(_is_store, words[-2:])):
        return words or None, None
    if len(words) == 2 and _is_store(words[0]):
        message = f"expected two optimizers or none, got only '{words[1]}'."
        raise StudyError([Problem("A B", message)], "the command line")
    return words[:-2] or None, (words[-2], words[-1])


def _is_store(word: str) -> bool:
    return "://" in word or Path(place_of(word), "study.db").is_file()


def _named_target(results: Results, text: str) -> tuple[str, float | None]:
    """Read ``METRIC VALUE``, or the metric alone of a target of the study."""
    from optrial.analysis.claims import parse_target

    try:
        return parse_target(text, results.directions)
    except ValueError as error:
        message = f"'{text}': {error}"
        raise StudyError([Problem("--target", message)], "the command line") from error


def audit(
    store: StoresArgument = None,
    file_format: Annotated[
        AuditFormat, typer.Option("--format", help="Format of the findings.")
    ] = AuditFormat.TEXT,
    storage: StorageOption = None,
) -> None:
    """Check whether the runs support a comparison, and how to fix what does not.

    Exit status 0 without findings, 1 with warnings, 2 with findings that block a claim.
    """
    from optrial.analysis.audit import as_json, report_text
    from optrial.analysis.audit.report import WIDTH
    from optrial.records import write_json

    with load_results(store, storage) as results:
        report = results.audit()
    if file_format is AuditFormat.JSON:
        write_json(as_json(report), sys.stdout)
    else:
        say(report_text(report, width=min(width(), WIDTH)), end="")
    sys.exit(report.exit_status)


def evaluate(
    store: StoresArgument = None,
    split: Annotated[Split, typer.Option(help="Split to evaluate on.")] = Split.TEST,
    device: DeviceOption = Device.AUTO,
    data_dir: DataDir = None,
    file_format: Annotated[Format, typer.Option("--format", help="Format of the rows.")] = (
        Format.TABLE
    ),
    trust: TrustOption = None,
    storage: StorageOption = None,
) -> None:
    """Evaluate the saved weights of each run again and compare with the recorded values.

    Needs a study with `save: final` or `save: best`. Exit status 1 if a value differs.
    """
    gc.enable()  # for user code
    with load_results(store, storage) as results, prints_apart():
        evaluations = results.evaluate(
            split, data_dir=data_dir, device=device, trust=trust_of(trust)
        )
    several = len({evaluated.record.problem for evaluated in evaluations}) > 1
    rows = [
        {
            "run_id": evaluated.record.run_id,
            **({"problem": evaluated.record.problem} if several else {}),
            "optimizer": evaluated.record.optimizer,
            "setting": evaluated.record.setting,
            "seed": evaluated.record.seed,
            "metric": evaluated.metric,
            "value": evaluated.value,
            "recorded": evaluated.recorded,
        }
        for evaluated in evaluations
    ]
    print_rows(rows, file_format)
    if different := sum(evaluated.differs for evaluated in evaluations):
        note(f"{different} of {len(evaluations)} values differ from those recorded")
        sys.exit(FAILED)


def upgrade(store: StoreArgument = None, storage: StorageOption = None) -> None:
    """Upgrade a store that an older optrial wrote, after a backup; `optrial run` does so too."""
    from optrial.records import shown_location
    from optrial.records import upgrade as upgrade_store

    place = place_named(store, storage)
    note(upgrade_store(place) or f"{shown_location(place)} is up to date")


def verify(
    store: StoreArgument = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Move damaged runs to a backup; the next run trains them again."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    storage: StorageOption = None,
) -> None:
    """Check everything stored, and saved weights, against checksums and each other.

    Exit status 1 if something is damaged and was not repaired.
    """
    from optrial.records import verify as verify_store
    from optrial.records import write_json

    result = verify_store(place_named(store, storage), repair=repair)
    if as_json:
        write_json(asdict(result) | {"intact": result.intact}, sys.stdout)
    else:
        for finding in result.findings:
            say(finding)
        note(_verified(result))
    if result.backup:
        note(f"the earlier state is kept in {result.backup}")
        runs_to_train = counted(len(result.retrained), "run")
        note(f"{runs_to_train} to train again: optrial run STUDY --out {result.location}")
    elif not result.intact:
        note(f"to repair: optrial verify {result.location} --repair")
        sys.exit(FAILED)


def _verified(result: Verification) -> str:
    """Return how much was checked, and how much of it is damaged."""
    words = {"runs": "run", "curves": "curve part", "plans": "plan", "weights": "weight file"}
    checked = [counted(result.counts.get(name, 0), word) for name, word in words.items()]
    damage = counted(len(result.findings), "finding") if result.findings else "nothing is damaged"
    return f"{damage} in {', '.join(checked)}"


def _beside(results: Results, name: str) -> Path:
    """Return a path in the study's folder, or in the current one for a study on a server."""
    return (results.folder if results.folder.is_dir() else Path()) / name
