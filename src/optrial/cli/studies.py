"""Commands that take a study: run it, or say what running it would do."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from optrial.cli.data_summary import data_notes, print_data
from optrial.cli.options import (
    DataDir,
    Device,
    DeviceOption,
    EngineOption,
    PrecisionOption,
    SeedsOption,
    Settings,
    StudyArgument,
    load_study,
)
from optrial.cli.output import (
    FAILED,
    INTERRUPTED,
    duration,
    note,
    print_pairs,
    print_table,
    prints_apart,
    show_summary,
    stderr,
)
from optrial.spec import FINAL

if TYPE_CHECKING:
    from optrial.data import Dataset
    from optrial.plan import Outline, Plan
    from optrial.records import Record

__all__ = ["plan", "run"]

_FAILED_RUNS_SHOWN = 5
_ENGINES = {
    "reference": "reference engine",
    "stacked": "stacked engine",
    "compiled": "stacked engine, compiled",
    "numpy": "NumPy engine",
}


def run(
    study: StudyArgument,
    out: Annotated[
        str | None,
        typer.Option(help="Folder or postgresql:// URL \\[default: studies/NAME]."),
    ] = None,
    engine: EngineOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    seeds: SeedsOption = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Start over; move what is there to a folder backup-..."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no notes.")] = False,
) -> None:
    """Train every run of a study that is not recorded yet, then show the summary."""
    from optrial.report.progress import DownloadBar, ProgressBar

    console = stderr(quiet)
    bar = ProgressBar(console)
    with prints_apart():
        loaded = load_study(study, engine, precision, seeds, settings)
        location = loaded.location(out)
        results = loaded.run(
            location,
            device=device,
            restart=restart,
            data_dir=data_dir,
            progress=DownloadBar(console),
            callbacks=[bar],
        )
    with results:
        show_summary(results, quiet)
        records, reported = results.records, results.reported
        if not quiet and all(record.status in FINAL for record in reported):
            from optrial.analysis.audit import summary_line

            note(f"{summary_line(results.audit())}: optrial audit {location}")
            if "://" not in location:
                note(f"report: {results.report(Path(location) / 'report.html')}")
    statuses = Counter(str(record.status) for record in records)
    if not quiet:
        # That a trial diverges is a finding of tuning, and no failure.
        _note_failures([r for r in records if r.phase == "report" or r.status == "error"])
        counted = ", ".join(f"{count} {status}" for status, count in statuses.items())
        note(f"{len(records)} runs ({counted}) in {location}")
    if bar.unfinished or not reported:
        note(f"interrupted; to continue: optrial run {study} --out {location}")
        sys.exit(INTERRUPTED)
    if statuses["error"] or any(record.status == "diverged" for record in reported):
        sys.exit(FAILED)


def _note_failures(records: Sequence[Record]) -> None:
    failed = [record for record in records if record.reason and record.status != "done"]
    for record in failed[:_FAILED_RUNS_SHOWN]:
        label = f"{record.optimizer} {record.setting} seed={record.seed}"
        note(f"{record.status}: {label}: {record.reason}")
    if len(failed) > _FAILED_RUNS_SHOWN:
        note(f"... and {len(failed) - _FAILED_RUNS_SHOWN} more; see: optrial runs")


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

    with prints_apart():
        loaded = load_study(study, engine, precision, seeds, settings)
        dataset = loaded.load_data(data_dir, DownloadBar(stderr(quiet=False)))
        with stderr(quiet=False).status("trying models and optimizers on a few samples"):
            made = loaded.plan(dataset)
        first = made.runs[0]
        with stderr(quiet=False).status("trying a few steps"):
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
    print_data(dataset)
    runs, groups = len(made.runs), len(made.groups)
    print_pairs(
        {
            "dataset": f"{dataset.name}: {sizes}; inputs {dataset.input_shape}, "
            f"{dataset.classes} {_outputs_word(dataset)}",
            "imports": ", ".join(imports) or "no code of the study's own",
            "training": f"{' and '.join(engines)}, up to {width} runs at a time; "
            f"{first.precision}, rng {first.rng}",
            "evaluation": f"every {first.evaluate_every:,} steps on {', '.join(first.evaluate_on)}",
            "parameters": f"{cost.parameters:,} in the largest model",
            "time": f"about {duration(seconds)} on this machine",
            "memory": f"about {cost.peak_bytes / 1e6:,.0f} MB beside the program itself",
            "plan": f"{made.hash}: {runs} run{'s' * (runs != 1)} in "
            f"{groups} group{'s' * (groups != 1)}",
            **_outlined(tuning),
        }
    )
    engine_notes = (choice.note for choice in choices)
    notes = [*data_notes(dataset), *made.notes, *engine_notes, _seeds_note(made)]
    for line in dict.fromkeys(filter(None, notes)):
        note(line)


def _outputs_word(dataset: Dataset) -> str:
    labelled = dataset.kind in ("labels", "positions") and dataset.classes > 1
    words = ("class", "classes") if labelled else ("output", "outputs")
    return words[dataset.classes > 1]


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
    print_table(columns, rows, made.study.name)


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
