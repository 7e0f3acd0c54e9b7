"""The command line: parses, calls, prints. Nothing else in optrial prints or exits.

Standard output holds results only; progress, notes and errors go to standard error. Exit status:
0 ok, 1 some runs failed, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from optrial.errors import DataError, OptrialError, Problem, StudyError, suggest

if TYPE_CHECKING:
    from rich.console import Console

    from optrial.plan import Outline, Plan
    from optrial.records import Record
    from optrial.study import Study

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Controlled, randomised, paired trials of neural-network optimizers.",
    epilog="Start with:  optrial run quickstart",
)
data_app = typer.Typer(no_args_is_help=True, help="Fetch, verify or locate published datasets.")
app.add_typer(data_app, name="data")

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_FAILED_RUNS_SHOWN = 5
_PAIRS_SHOWN = 4
_ENGINES = {
    "reference": "reference engine",
    "stacked": "stacked engine",
    "compiled": "stacked engine, compiled",
    "numpy": "NumPy engine",
}


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class AuditFormat(StrEnum):
    """How an audit is printed."""

    TEXT = "text"
    JSON = "json"


class ShowFormat(StrEnum):
    """How a summary is printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"


class CurveFormat(StrEnum):
    """How curves are printed or written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class FigureFormat(StrEnum):
    """What figures are written as."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


class PageFormat(StrEnum):
    """How a page is printed."""

    TEXT = "text"
    HTML = "html"
    MARKDOWN = "markdown"


class Listing(StrEnum):
    """What `optrial list` can list."""

    RULES = "rules"
    DATASETS = "datasets"
    MODELS = "models"
    RECIPES = "recipes"
    SCHEDULES = "schedules"
    LOSSES = "losses"
    METRICS = "metrics"


class Engine(StrEnum):
    """Engines by name."""

    AUTO = "auto"
    STACKED = "stacked"
    REFERENCE = "reference"
    NUMPY = "numpy"


class Device(StrEnum):
    """Devices by name."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """Floating-point types by name."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT64 = "float64"


StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="A study file or a recipe.")]
StoreArgument = Annotated[
    str, typer.Argument(metavar="DIR", help="A study's folder, its name, or a postgresql:// URL.")
]
ReportedMetric = Annotated[
    str | None, typer.Option("--metric", help="What optimizers are compared on.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Where downloaded data lies [default: OPTRIAL_DATA, else the user cache]."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: budget.epochs=2. Repeatable."),
]
EngineOption = Annotated[Engine | None, typer.Option(help="Which engine trains.")]
PrecisionOption = Annotated[Precision | None, typer.Option(help="Floating-point type.")]
DeviceOption = Annotated[Device, typer.Option(help="Where to train.")]
SeedsOption = Annotated[int | None, typer.Option(help="Number of seeds.")]


def main() -> None:
    """Run the command line; see the module for exit statuses."""
    debug = "--debug" in sys.argv
    try:
        app(args=[argument for argument in sys.argv[1:] if argument != "--debug"])
    except OptrialError as error:
        if debug:
            raise
        _fail(str(error))
    except KeyboardInterrupt:
        _note("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del debug  # read by main
    if version:
        from optrial import __version__

        typer.echo(f"optrial {__version__}")
        raise typer.Exit


@app.command()
def run(
    study: StudyArgument,
    out: Annotated[
        str | None,
        typer.Option(help="Folder or postgresql:// URL [default: studies/NAME]."),
    ] = None,
    engine: EngineOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    seeds: SeedsOption = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Begin anew; what is there is kept under another name."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")] = False,
) -> None:
    """Train every run of a study that is not recorded yet, then show the summary."""
    loaded = _load_study(study, engine, precision, seeds, settings)
    location = out or str(loaded.default_folder)
    from optrial.report.progress import DownloadBar, SweepBar

    console = _stderr(quiet)
    with SweepBar(console) as watcher:
        results = loaded.run(
            location,
            device=device,
            restart=restart,
            data_dir=data_dir,
            progress=DownloadBar(console),
            watcher=watcher,
        )
    with results:
        _show(results, quiet)
        records, reported = results.records, results.reported
        if not quiet and all(record.status in ("done", "diverged") for record in reported):
            from optrial.analysis.audit import summary_line

            _note(f"{summary_line(results.audit())}: optrial audit {location}")
            if "://" not in location:
                _note(f"report: {results.report(Path(location) / 'report.html')}")
    statuses = Counter(str(record.status) for record in records)
    if not quiet:
        # That a trial diverges is a finding of tuning, and no failure.
        _note_failures([r for r in records if r.phase == "report" or r.status == "error"])
        counted = ", ".join(f"{count} {status}" for status, count in statuses.items())
        _note(f"{len(records)} runs ({counted}) in {location}")
    if watcher.interrupted or not reported:
        _note(f"interrupted; to continue: optrial run {study} --out {location}")
        sys.exit(INTERRUPTED)
    if statuses["error"] or any(record.status == "diverged" for record in reported):
        sys.exit(FAILED)


@app.command()
def plan(
    study: StudyArgument,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    seeds: SeedsOption = None,
    settings: Settings = None,
    data_dir: DataDir = None,
) -> None:
    """Show what a study would run, and about how long it would take.

    Trains none of it; to know the time, a few steps are tried and thrown away.
    """
    from optrial.engine import Engines
    from optrial.plan import estimate, outline
    from optrial.report.progress import DownloadBar

    loaded = _load_study(study, engine, precision, seeds, settings)
    dataset = loaded.load_data(data_dir, DownloadBar(_stderr(quiet=False)))
    made = loaded.plan(dataset)
    first = made.runs[0]
    with _stderr(quiet=False).status("trying a few steps"):
        choices = Engines(dataset, first.precision, device).choose(made.runs)
    width = max(choice.width for choice in choices)
    cost = estimate(made.runs, dataset, width)
    engines = dict.fromkeys(_ENGINES[choice.engine] for choice in choices)
    seconds = sum(choice.seconds for choice in choices) + cost.evaluation_seconds
    sizes = ", ".join(f"{size:,} {split}" for split, size in dataset.sizes.items())
    imports = dict.fromkeys(name for run in made.runs for name in run.code)
    imports |= dict.fromkeys([dataset.name] if ":" in dataset.name else [])
    tuning = outline(made.study)
    if tuning:  # what is not planned yet will take as long a run
        seconds *= (tuning.tuning_runs + tuning.report_runs) / len(made.runs)
    _print_plan(made)
    _print_pairs(
        {
            "dataset": f"{dataset.name}: {sizes}; inputs {dataset.input_shape}, "
            f"{dataset.classes} {'outputs' if dataset.regression else 'classes'}",
            "imports": ", ".join(imports) or "no code of the study's own",
            "training": f"{' and '.join(engines)}, up to {width} runs at a time; "
            f"{first.precision}, rng {first.rng}",
            "evaluation": f"every {first.evaluate_every:,} steps on {', '.join(first.evaluate_on)}",
            "parameters": f"{cost.parameters:,} in the largest model",
            "time": f"about {_duration(seconds)} on this machine",
            "memory": f"about {cost.peak_bytes / 1e6:,.0f} MB beside the program itself",
            "plan": f"{made.hash}: {len(made.runs)} runs in {len(made.groups)} groups",
            **_outlined(tuning),
        }
    )
    notes = [*(choice.note for choice in choices), _seeds_note(made)]
    for note in dict.fromkeys(filter(None, notes)):
        _note(note)


@app.command()
def show(
    store: StoreArgument,
    format_: Annotated[ShowFormat, typer.Option("--format", help="How to print.")] = (
        ShowFormat.TABLE
    ),
) -> None:
    """Print the summary table of a study."""
    from optrial.report.texts import summary_latex, summary_markdown

    with _load_results(store) as results:
        if format_ is ShowFormat.TABLE:
            _show(results, quiet=False)
            return
        as_text = summary_latex if format_ is ShowFormat.LATEX else summary_markdown
        typer.echo(as_text(results.study.get("name", ""), results.settings()), nl=False)


@app.command()
def report(
    store: StoreArgument,
    out: Annotated[
        Path | None, typer.Option(help="FILE.html [default: report.html in the study's folder].")
    ] = None,
    metric: ReportedMetric = None,
) -> None:
    """Write one self-contained HTML page: the answer first, then everything behind it."""
    with _load_results(store) as results:
        _note(f"wrote {results.report(out or _beside(results, 'report.html'), metric)}")


@app.command()
def figures(
    store: StoreArgument,
    format_: Annotated[FigureFormat, typer.Option("--format", help="What to write.")] = (
        FigureFormat.PNG
    ),
    out: Annotated[
        Path | None, typer.Option(help="FOLDER [default: figures in the study's folder].")
    ] = None,
    metric: ReportedMetric = None,
) -> None:
    """Draw the figures of a study for print, one column wide."""
    with _load_results(store) as results:
        written = results.figures(out or _beside(results, "figures"), format_.value, metric)
    for file in written:
        _note(f"wrote {file}")
    if not written:
        _note("nothing to draw yet: no run has ended")


@app.command()
def runs(
    store: StoreArgument,
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
) -> None:
    """Print one row a run: setting, seed, status and final metrics."""
    from optrial.records import flat_rows, run_rows, write_csv, write_json

    with _load_results(store) as results:
        records = results.records
    if format_ is Format.JSON:
        write_json(run_rows(records), sys.stdout)
    elif format_ is Format.CSV:
        write_csv(flat_rows(records), sys.stdout)
    else:
        _print_runs(records)


@app.command()
def curves(
    store: StoreArgument,
    metric: Annotated[str, typer.Option(help="Which metric: train_loss, test_accuracy, ...")],
    wide: Annotated[bool, typer.Option("--wide", help="One row a step, one column a run.")] = False,
    format_: Annotated[CurveFormat, typer.Option("--format", help="How to print.")] = (
        CurveFormat.CSV
    ),
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
) -> None:
    """Print one row a recorded value of a metric: run, step, epoch, value."""
    from optrial.analysis.wide import write_parquet
    from optrial.records import curve_rows, write_csv, write_json

    if format_ is CurveFormat.PARQUET and out is None:
        raise StudyError([Problem("--out", "is needed for parquet: --out FILE.parquet.")])
    with _load_results(store) as results:
        if format_ is CurveFormat.PARQUET and out is not None:
            write_parquet(results.wide_curves(metric) if wide else results.curves(metric), out)
            _note(f"wrote {out}")
            return
        rows = _wide_rows(results, metric) if wide else list(curve_rows(results.store, metric))
    with _output(out) as stream:
        if format_ is CurveFormat.JSON:
            write_json(rows, stream)
        elif format_ is CurveFormat.CSV:
            write_csv(rows, stream)
        else:
            _print_table(list(rows[0]) if rows else [], [list(row.values()) for row in rows])


@app.command()
def compare(
    store: StoreArgument,
    first: Annotated[str, typer.Argument(metavar="A", help="An optimizer of the study.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    metric: Annotated[str | None, typer.Option(help="By default the reported one.")] = None,
) -> None:
    """Say in a sentence what may be said of two optimizers, and how the study's claims fare."""
    from optrial.analysis.statistics import sentence

    with _load_results(store) as results:
        typer.echo(sentence(results.compare(first, second, metric)))
        for result in results.audit().claims:
            typer.echo(f"{result.verdict}: {result.sentence}")


@app.command()
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

    with _load_results(store) as results:
        report = results.audit()
    typer.echo(as_json(report) if format_ is AuditFormat.JSON else report_text(report))
    sys.exit(report.exit_status)


@app.command()
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

    with _load_results(store) as results:
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
        _print_table(list(rows[0]), [list(row.values()) for row in rows])
    if different := sum(each.recorded not in (None, each.value) for each in found):
        _note(f"{different} of {len(found)} values differ from those recorded")
        sys.exit(FAILED)


@app.command(name="list")
def list_(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List rules, datasets, models, recipes, schedules, losses or metrics."""
    from optrial.listings import listing

    _print_table(*listing(what))


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="Name of a recipe; see: optrial list recipes.")],
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead.")] = None,
) -> None:
    """Print a shipped study, or copy it to a file to make it your own."""
    from optrial.recipes import RECIPES

    if name not in RECIPES:
        raise StudyError([Problem("", f"is not a recipe. {suggest(name, RECIPES)}")], name)
    text = RECIPES[name].read_text(encoding="utf-8")
    if out is None:
        typer.echo(text, nl=False)
        return
    _write(out, text)
    _note(f"run it with: optrial run {out}")


@app.command()
def explain(
    rules: Annotated[list[str], typer.Argument(metavar="RULE...", help="One or more rules.")],
    format_: Annotated[
        PageFormat, typer.Option("--format", help="How to print.")
    ] = PageFormat.TEXT,
    out: Annotated[Path | None, typer.Option(help="Write it to this file instead.")] = None,
) -> None:
    """Explain update rules: equations, terms, hyperparameters, and how they differ."""
    if format_ is PageFormat.TEXT:
        from optrial.rules import render_explanation

        text = render_explanation(rules)
    else:
        from optrial.explaining import explain_html, explain_markdown

        text = (explain_html if format_ is PageFormat.HTML else explain_markdown)(rules)
    if out is None:
        typer.echo(text)
        return
    _write(out, text)


@app.command()
def landscape(
    function: Annotated[str, typer.Argument(help="rosenbrock, beale, ...")] = "rosenbrock",
    optimizers: Annotated[
        str | None, typer.Option(help="sgd:lr=0.001,adam:lr=0.01 [default: a few, best rates].")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps that each optimizer takes.")] = 200,
    start: Annotated[str | None, typer.Option(help="x,y [default: the function's own].")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Draw to FILE.html (animated), .png, .pdf or .svg.")
    ] = None,
) -> None:
    """Show which paths optimizers take on a function of two variables."""
    from optrial.landscape import (
        DEFAULT_OPTIMIZERS,
        check_format,
        landscape_rows,
        make_landscape,
        write_landscape,
    )

    if out is not None:
        check_format(out)
    made = make_landscape(function, optimizers or DEFAULT_OPTIMIZERS, steps, start)
    _print_table(*landscape_rows(made), made.title)
    if out is not None:
        write_landscape(made, out)
        _note(f"wrote {out}")


@data_app.command()
def fetch(name: str, data_dir: DataDir = None) -> None:
    """Download a published dataset; replace damaged files."""
    from optrial.data import data_directory
    from optrial.data import fetch as fetch_dataset
    from optrial.report.progress import DownloadBar

    fetch_dataset(name, data_directory(data_dir), DownloadBar(_stderr(quiet=False)))
    path(name, data_dir)


@data_app.command()
def verify(name: str, data_dir: DataDir = None) -> None:
    """Check the files of a published dataset against their checksums."""
    from optrial.data import FileStatus, data_directory
    from optrial.data import verify as verify_dataset

    statuses = verify_dataset(name, data_directory(data_dir))
    _print_table(["file", "status"], [[file, status.value] for file, status in statuses.items()])
    if any(status is not FileStatus.OK for status in statuses.values()):
        raise DataError(f"{name} is not complete; to repair it: optrial data fetch {name}")


@data_app.command()
def path(name: str, data_dir: DataDir = None) -> None:
    """Print where the files of a published dataset are, or would be."""
    from optrial.data import data_directory, files

    for file in files(name, data_directory(data_dir)):
        typer.echo(file)


def _beside(results: Any, name: str) -> Path:
    """Return a place in the study's folder; in the current one for a study on a server."""
    return (results.folder if results.folder.is_dir() else Path()) / name


def _wide_rows(results: Any, metric: str) -> list[dict[str, Any]]:
    """Return the curves of a metric, one row a step; None where a run has no value."""
    table = results.wide_curves(metric).astype(object)
    return list(table.where(table.notna(), None).to_dict("records"))


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    """Give standard output, or a new file; one that is there is never replaced."""
    if out is None:
        yield sys.stdout
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise StudyError([Problem("--out", f"{error.strerror}.")], str(out)) from error
    _note(f"wrote {out}")


def _write(out: Path, text: str) -> None:
    """Write a new file; one that is there is never replaced."""
    with _output(out) as file:
        file.write(text)


def _load_study(
    source: str,
    engine: Engine | None,
    precision: Precision | None,
    seeds: int | None,
    settings: Sequence[str] | None,
) -> Study:
    from optrial.study import Study

    options: Mapping[str, Any] = {"engine": engine, "precision": precision, "seeds": seeds}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return Study.from_file(source, [*(settings or []), *given])


def _load_results(location: str) -> Any:
    """Open the results at a folder or URL, or those of a study named so."""
    from optrial.results import load

    named = Path("studies", location)
    is_name = "://" not in location and not Path(location).exists() and named.exists()
    return load(named if is_name else location)


def _show(results: Any, quiet: bool) -> None:
    from optrial.analysis import funnel
    from optrial.report import funnel_table, summary_note, summary_table

    summaries, flows = results.settings(), funnel(results.records)
    _stdout().print(summary_table(results.study.get("name", ""), summaries))
    if any(flow.phase == "tune" for flow in flows):
        _stdout().print(funnel_table(flows))
    if not quiet:
        _note(summary_note(summaries, flows))
        for line in _statements(results):
            _note(line)


def _statements(results: Any) -> list[str]:
    """What may be said of the optimizers: which is best, and how it stands to the others."""
    from optrial.analysis.statistics import best_sentence, sentence

    lines = []
    for problem in results.view().problems:
        if problem.comparisons is None:
            lines.append(problem.not_compared)
            continue
        lines.append(best_sentence(problem.comparisons))
        lines += [f"  {sentence(pair)}" for pair in problem.pairs[:_PAIRS_SHOWN]]
    return [line for line in lines if line]


def _seeds_note(made: Plan) -> str:
    """Say so where there are too few seeds for any difference to be told from chance."""
    from optrial.analysis.statistics import minimum_pairs

    optimizers, seeds = len(made.study.optimizers), len(made.study.seeds)
    needed = minimum_pairs(comparisons=max(1, optimizers * (optimizers - 1) // 2))
    if optimizers < 2 or seeds >= needed:
        return ""
    return (
        f"{seeds} seeds cannot show a difference at 5 % between {optimizers} optimizers compared "
        f"with each other: at least {needed} are needed (--seeds {needed}); stacked, they are cheap"
    )


def _note_failures(records: Sequence[Record]) -> None:
    failed = [record for record in records if record.reason]
    for record in failed[:_FAILED_RUNS_SHOWN]:
        label = f"{record.optimizer} {record.setting} seed={record.seed}"
        _note(f"{record.status}: {label}: {record.reason}")
    if len(failed) > _FAILED_RUNS_SHOWN:
        _note(f"... and {len(failed) - _FAILED_RUNS_SHOWN} more; see: optrial runs")


def _print_plan(made: Plan) -> None:
    groups: dict[tuple[str, str], list[Any]] = {}
    for run_ in made.runs:
        groups.setdefault((run_.optimizer, made.settings[run_.run_id]), []).append(run_)
    number = {run_.run_id: n for n, group in enumerate(made.groups, 1) for run_ in group}
    rows = [
        [
            optimizer,
            setting,
            group[0].rule,
            len(group),
            group[0].steps,
            group[0].batch_size,
            number[group[0].run_id],
        ]
        for (optimizer, setting), group in groups.items()
    ]
    columns = ["optimizer", "setting", "rule", "seeds", "steps", "batch size", "group"]
    _print_table(columns, rows, made.study.name)


def _outlined(tuning: Outline | None) -> dict[str, str]:
    """What a plan says of tuning; the runs that it lists are those of the first wave."""
    if tuning is None:
        return {}
    more = f", then at most {tuning.waves - 1} waves more" if tuning.waves > 1 else ""
    return {
        "tuning": f"{tuning.trials} trials of each optimizer on {tuning.select}: "
        f"{tuning.tuning_runs} runs{more}",
        "report": f"{tuning.report_runs} runs of the chosen settings, with other seeds",
    }


def _print_runs(records: Sequence[Record]) -> None:
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    about_columns = ["run_id", "optimizer", "setting", "phase", "seed", "status", "step"]
    columns = [*about_columns, *metrics, "reason"]
    rows = []
    for record in records:
        values = [record.metrics.get(metric) for metric in metrics]
        cells = [None if value is None else float(f"{value:.6g}") for value in values]
        rows.append([*(getattr(record, n) for n in about_columns), *cells, record.reason])
    _print_table(columns, rows)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    from optrial.report import plain_table

    _stdout().print(plain_table(columns, rows, title))


def _print_pairs(pairs: Mapping[str, str]) -> None:
    width = max(map(len, pairs))
    for key, value in pairs.items():
        typer.echo(f"{key:>{width}}  {value}")


def _stdout() -> Console:
    from rich.console import Console

    # Without a terminal there is no width to keep: nothing is cut or folded.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def _stderr(quiet: bool) -> Console:
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, highlight=False)


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _fail(text: str) -> NoReturn:
    typer.echo(f"error: {text}", err=True)
    sys.exit(BAD_INPUT)
