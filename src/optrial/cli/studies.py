"""Commands that run a study, or show its plan."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypedDict

import typer

from optrial.callbacks import Callback
from optrial.cli.data_summary import data_notes, print_data
from optrial.cli.options import (
    CheckpointOption,
    DataDir,
    Device,
    DeviceOption,
    EngineOption,
    ExecutorOption,
    JobsOption,
    ParallelConfigOption,
    PlaceOption,
    PrecisionOption,
    QuietOption,
    SeedsOption,
    Settings,
    StorageOption,
    StoreArgument,
    StudyArgument,
    TrustOption,
    changes_of,
    default_place,
    load_study,
    parallel_of,
    place_named,
    trust_of,
)
from optrial.cli.output import (
    FAILED,
    HUNG,
    draw,
    duration,
    end_at_once,
    note,
    print_pairs,
    prints_apart,
    show_summary,
    status_of_signal,
    stderr,
)
from optrial.cli.problems import print_models
from optrial.errors import Problem, StudyError, all_listed, counted, listed
from optrial.interruption import Interrupted
from optrial.spec import FINAL, metric_title, setting_text

if TYPE_CHECKING:
    from optrial.config import Parallel, StudyFile
    from optrial.data import Dataset
    from optrial.engine import Choice
    from optrial.plan import Estimate, Outline, Plan, PlannedParameter
    from optrial.records import Record
    from optrial.results import Results
    from optrial.spec import RunSpec
    from optrial.study import Study
    from optrial.user_output import UserOutput

__all__ = ["plan", "run", "worker"]

_FAILED_RUNS_SHOWN = 5
_ENGINES = {
    "reference": "reference engine",
    "stacked": "stacked engine",
    "compiled": "stacked engine, compiled",
    "stacked+onednn": "stacked engine, oneDNN",
    "compiled+onednn": "stacked engine, compiled, oneDNN",
    "numpy": "NumPy engine",
}


def run(
    study: StudyArgument,
    out: PlaceOption = None,
    engine: EngineOption = None,
    device: DeviceOption = Device.AUTO,
    precision: PrecisionOption = None,
    seeds: SeedsOption = None,
    settings: Settings = None,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    checkpoint_seconds: CheckpointOption = 1.0,
    executor: ExecutorOption = None,
    n_jobs: JobsOption = None,
    parallel_config: ParallelConfigOption = None,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Start over; earlier files move to a folder backup-..."),
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Train every run of a study that is not recorded yet, then show the summary.

    An interrupted study continues where it stopped. Exit status 1 if a run failed, 124 if a run
    exceeded the study's timeout and could not be interrupted.
    """
    from optrial.finished import finished, note_finished
    from optrial.report.progress import ProgressBar

    bar, signals = ProgressBar(stderr(quiet)), _Signals()
    place = default_place() if out is None else out
    changes = changes_of(engine, precision, seeds, settings)
    options: _Training = {
        "device": device,
        "restart": restart,
        "data_dir": data_dir,
        "checkpoint_seconds": checkpoint_seconds,
        "parallel": parallel_of(parallel_config, executor, n_jobs),
    }
    results = None if restart else finished(study, changes, place)
    if results is None:
        with prints_apart():
            loaded = load_study(study, None, None, None, changes, trust, quiet=quiet)
            place = loaded.location(place)
            try:
                results = loaded.run(place, progress=False, callbacks=[bar, signals], **options)
            except Interrupted as interruption:
                note(_way_on(study, place))
                sys.exit(status_of_signal(*interruption.args))
    place = str(results.folder) if place is None else place
    with results:
        records = _show_results(results, place, quiet)
        reported = [record for record in records if record.phase == "report"]
        statuses = Counter(str(record.status) for record in records)
        if bar.unfinished or not reported:
            note(_way_on(study, place))
            sys.exit(status_of_signal(signals.first))
        if signals.first is None:  # or else more waves may follow
            note_finished(results.store, records)
    if statuses["error"] or any(record.status == "diverged" for record in reported):
        sys.exit(FAILED)


class _Training(TypedDict):
    """Arguments of `Study.run` that are options of the command."""

    device: Device
    restart: bool
    data_dir: Path | None
    checkpoint_seconds: float
    parallel: Parallel


def _way_on(study: str, place: str) -> str:
    from optrial.records import shown_location

    return f"interrupted; to continue: optrial run {study} --out {shown_location(place)}"


def _show_results(results: Results, place: str, quiet: bool) -> Sequence[Record]:
    """Print the results of a study, and write its page; return its runs."""
    from optrial.current_page import CurrentPage
    from optrial.records import shown_location

    file = None if "://" in place else Path(place) / "report.html"
    page = None if quiet else CurrentPage(results, file)
    view = results.view()
    show_summary(view, quiet)
    shown, records = shown_location(place), view.records
    reported = [record for record in records if record.phase == "report"]
    if page and reported and all(record.status in FINAL for record in reported):
        note(f"{page.update(view)}; details: optrial audit {shown}")
        if file is not None:
            note(f"report: {file}")
    if not quiet:
        # A trial that diverges is a result of tuning, not a failure.
        _note_failures([r for r in records if r.phase == "report" or r.status == "error"])
        statuses = Counter(str(record.status) for record in records)
        by_status = ", ".join(f"{count} {status}" for status, count in statuses.items())
        note(f"{counted(len(records), 'run')} ({by_status}) in {shown}")
    return records


def worker(
    store: StoreArgument = None,
    device: DeviceOption = Device.AUTO,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    checkpoint_seconds: CheckpointOption = 1.0,
    executor: ExecutorOption = None,
    n_jobs: JobsOption = None,
    parallel_config: ParallelConfigOption = None,
    quiet: QuietOption = False,
    storage: StorageOption = None,
) -> None:
    """Train parts of a study that a PostgreSQL server holds, beside other processes.

    It ends when all runs have ended. Exit status 1 if a run failed.
    """
    from optrial.records import shown_location
    from optrial.report.progress import ProgressBar
    from optrial.study import Study

    location = place_named(store, storage)
    if "://" not in location:
        message = (
            f"'{location}' is a folder, into which one process trains. Workers share a study on a "
            "server: optrial run STUDY --out postgresql://USER@HOST/DATABASE"
        )
        raise StudyError([Problem("DIR", message)], "the command")
    place = shown_location(location)
    bar, signals = ProgressBar(stderr(quiet)), _Signals()
    with prints_apart():
        try:
            results = Study.from_store(location, trust_of(trust, quiet=quiet)).run(
                location,
                device=device,
                data_dir=data_dir,
                progress=False,
                callbacks=[bar, signals],
                checkpoint_seconds=checkpoint_seconds,
                parallel=parallel_of(parallel_config, executor, n_jobs),
            )
        except Interrupted as interruption:
            note("interrupted")
            sys.exit(status_of_signal(*interruption.args))
    with results:
        statuses = Counter(str(record.status) for record in results.records)
    if not quiet:
        by_status = ", ".join(f"{count} {status}" for status, count in statuses.items())
        note(f"{counted(sum(statuses.values()), 'run')} ({by_status}) in {place}")
    if bar.unfinished:
        note("interrupted; start the worker again to continue")
        sys.exit(status_of_signal(signals.first))
    if statuses["error"]:
        sys.exit(FAILED)


class _Signals(Callback):
    """Ends the process at the second signal, whatever the main thread is doing.

    Attributes:
        first: the first signal; None before it.
    """

    first: int | None = None

    def on_signal(self, number: int, again: bool) -> None:
        """Note the first signal; at a further one, show the cursor again and exit."""
        self.first = self.first or number
        if again:
            text = "interrupted; everything stored so far is kept"
            end_at_once(text, status_of_signal(self.first))

    def on_hang(self, reason: str) -> None:
        """End the process, whose main thread does not react."""
        way_on = "it cannot be interrupted, so the process ends; run again to train the others"
        end_at_once(f"{reason}; {way_on}", HUNG)


def _note_failures(records: Sequence[Record]) -> None:
    failed = [record for record in records if record.reason and record.status != "done"]
    alike: dict[tuple[str, str], list[str]] = {}
    for record in failed:
        alike.setdefault((record.status, record.reason), []).append(record.title)
    for (status, reason), labels in list(alike.items())[:_FAILED_RUNS_SHOWN]:
        runs = labels[0] if len(labels) == 1 else f"{len(labels)} runs ({listed(labels)})"
        note(f"{status}: {runs}: {reason}")
    if more := sum(map(len, list(alike.values())[_FAILED_RUNS_SHOWN:])):
        note(f"... and {more} more; see: optrial runs")


def plan(
    study: StudyArgument,
    engine: EngineOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = Device.AUTO,
    seeds: SeedsOption = None,
    settings: Settings = None,
    trust: TrustOption = None,
    data_dir: DataDir = None,
    out: PlaceOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train a few steps to measure the speed.")
    ] = False,
    groups: Annotated[
        bool,
        typer.Option("--groups", help="Only list the parameters of the model by group."),
    ] = False,
    summary: Annotated[
        bool,
        typer.Option("--summary", help="Only list the layers of each model."),
    ] = False,
) -> None:
    """Show the runs of a study, its data and an estimate of time and memory.

    Nothing is trained or stored without --measure.
    """
    if groups or summary:
        loaded = load_study(study, engine, precision, seeds, settings, trust)
        if summary:
            print_models(loaded, data_dir)
        if groups:
            _print_groups(loaded, data_dir)
        return
    from optrial.changes import changes_at
    from optrial.plan import code_in, outline
    from optrial.report.progress import DownloadBar
    from optrial.user_output import collected

    with prints_apart(), collected(note) as output:
        loaded = load_study(study, engine, precision, seeds, settings, trust)
        datasets = loaded.load_datasets(data_dir, DownloadBar(stderr(quiet=False)))
        with _status("trying models and optimizers on a few samples", output):
            made = loaded.plan(datasets)
        with _status("trying a few steps" if measure else "estimating", output):
            costs = {
                problem: _cost(
                    made.runs_of(problem),
                    made.studies.by_name[problem],
                    dataset,
                    device,
                    measure=measure,
                )
                for problem, dataset in datasets.items()
            }
    several = len(datasets) > 1
    left = _left(made, datasets, loaded.location(default_place() if out is None else out))
    tunings = {problem: outline(study) for problem, study in made.studies.by_name.items()}
    whole = {"runs": f"{_run_count(made, tunings)} (plan {made.hash})"} | left
    for problem, dataset in datasets.items():
        title = f"{made.name}: {problem}" if several else made.name
        _print_plan(made, problem, title, further=several)
        print_data(dataset)
        code = code_in(made.studies.by_name[problem])
        pairs = _described(made.runs_of(problem), dataset, costs[problem], code)
        pairs["time"] += " (all runs, also those recorded)" * bool(left)
        print_pairs({**({} if several else whole), **_outlined(tunings[problem]), **pairs})
    if several:
        print_pairs(whole)
    notes = [line for dataset in datasets.values() for line in data_notes(dataset)]
    notes += [
        *made.notes,
        *changes_at(made, loaded.location(default_place() if out is None else out)),
        *(note for cost in costs.values() for c in cost.choices for note in c.notes),
    ]
    for line in dict.fromkeys(filter(None, [*notes, _seeds_note(made)])):
        note(line)


def _print_groups(study: Study, data_dir: Path | None) -> None:
    """Print a table of the parameters of each model, for each optimizer."""
    from optrial.report import plain_table

    tables: dict[str, list[PlannedParameter]] = {}
    with prints_apart():
        for problem in study.studies.by_name:
            parameters = study.parameter_groups(problem, data_dir)
            several = f"{problem}: " if len(study.studies.by_name) > 1 else ""
            for parameter in parameters:
                varying = [
                    f"{name}={value}"
                    for name, value in parameter.model.items()
                    if any(other.model[name] != value for other in parameters)
                ]
                title = " ".join([f"{several}{parameter.optimizer}", *varying])
                tables.setdefault(title, []).append(parameter)
    columns = ["parameter", "shape", "roles", "group", "rule", "values"]
    for title, listed_parameters in tables.items():
        rows = [
            [
                parameter.name,
                " × ".join(map(str, parameter.shape)) or "1",
                " ".join(parameter.roles),
                parameter.group,
                _rule_text(parameter),
                _values_text(parameter.values),
            ]
            for parameter in listed_parameters
        ]
        table = plain_table(columns, rows, title)
        draw(table, ["values", "roles", "shape"], further=len(tables) > 1)


def _rule_text(parameter: PlannedParameter) -> str:
    if not parameter.rule:
        return "frozen"
    return f"{parameter.rule} (as a vector)" if parameter.as_vector else parameter.rule


def _values_text(values: Mapping[str, Sequence[object]]) -> str:
    shown = {
        name: ",".join(f"{v:g}" if isinstance(v, float) else f"{v}" for v in several)
        for name, several in values.items()
    }
    return " ".join(f"{name}={text}" for name, text in shown.items())


@contextmanager
def _status(task: str, output: UserOutput) -> Iterator[None]:
    """Show a task while it runs."""
    with output.apart():
        spinner = stderr(quiet=False).status(task)
        spinner.start()
    try:
        yield
    finally:
        with output.apart():
            spinner.stop()


def _left(made: Plan, datasets: Mapping[str, Dataset], location: str) -> dict[str, str]:
    """Return a line about the runs that are not recorded yet; empty if nothing is stored."""
    from optrial.errors import StoreError, counted
    from optrial.records import Store
    from optrial.sweep import continued

    try:
        with Store.open(location) as store:
            whole = continued(made, datasets, store)
            ended = {r.run_id for r in store.runs(everything=True) if r.status in FINAL}
    except StoreError:
        return {}
    total, left = len(whole.runs), sum(run.run_id not in ended for run in whole.runs)
    if not left:
        return {"left": f"nothing: {counted(total, 'run')} recorded in {location}"}
    return {"left": f"{left} of {counted(total, 'run')}; the others are recorded in {location}"}


class _Cost(NamedTuple):
    """Cost of all runs of one problem, and how those planned so far would be trained."""

    choices: Sequence[Choice]
    seconds: float
    basis: str
    estimate: Estimate


def _cost(
    runs: Sequence[RunSpec], study: StudyFile, dataset: Dataset, device: str, *, measure: bool
) -> _Cost:
    from optrial.engine import Engines
    from optrial.plan import estimate, evaluated_splits, outline
    from optrial.supervision import supervised

    with supervised("trying a few steps to choose how to train"):
        engines = Engines(dataset, runs[0].precision, device)
        choices = engines.choose(runs) if measure else engines.forecast(runs)
    width = max(choice.width for choice in choices)
    cost = estimate(runs, dataset, width, on_cuda=engines.on_cuda)
    training, evaluation = sum(choice.seconds for choice in choices), cost.evaluation_seconds
    seconds = training + evaluation
    if tuning := outline(study):  # runs that are not planned yet will take as long per step
        evaluate_on = evaluated_splits(study, dataset)
        report = [replace(run, evaluate_on=evaluate_on) for run in runs]
        reported = estimate(report, dataset, width, on_cuda=engines.on_cuda).evaluation_seconds
        seconds = tuning.seconds(len(runs), training, evaluation, reported)
    timed = "measured speeds" if measure else "kept speeds"
    bases = sorted({"a model of the cost" if choice.modelled else timed for choice in choices})
    return _Cost(choices, seconds, " and ".join(bases), cost)


def _described(
    runs: Sequence[RunSpec],
    dataset: Dataset,
    cost: _Cost,
    code: Mapping[str, str],
) -> dict[str, str]:
    """Describe the data, the training and the cost of one problem.

    Args:
        runs: runs of the problem.
        dataset: data.
        cost: their cost.
        code: names of user code, by their place in the study.
    """
    first = runs[0]
    splits = dict.fromkeys(split for run in runs for split in run.evaluate_on)
    engines = dict.fromkeys(_ENGINES[choice.engine] for choice in cost.choices)
    width = max(choice.width for choice in cost.choices)
    sizes = ", ".join(f"{size:,} {split}" for split, size in dataset.sizes.items())
    sizes += f" in fold 1 of {len(dataset.folds)}" if dataset.folds else ""
    imports = dict.fromkeys(name for run in runs for name in run.code)
    imports |= {name: None for path, name in code.items() if path.startswith("problem.dataset.")}
    at_least = "at least" if any(run.closure for run in runs) else "about"
    return {
        "dataset": f"{dataset.name}: {sizes}; inputs {dataset.input_shape}, "
        f"{dataset.classes} {_outputs_word(dataset)}",
        "your code": ", ".join(imports) or "none",
        "training": f"{' and '.join(engines)}, up to {counted(width, 'run')} at a time; "
        f"{first.precision}, rng {first.rng}",
        "evaluation": f"{first.evaluated_steps} on {', '.join(splits)}"
        if splits
        else "none: neither a validation nor a test split",
        "parameters": f"{cost.estimate.parameters:,} in the largest model",
        "time": f"{at_least} {duration(cost.seconds)} on this machine, from {cost.basis}",
        "memory": f"about {cost.estimate.peak_bytes / 1e6:,.0f} MB beside the program itself",
    }


def _outputs_word(dataset: Dataset) -> str:
    labelled = dataset.kind in ("labels", "positions") and dataset.classes > 1
    words = ("class", "classes") if labelled else ("output", "outputs")
    return words[dataset.classes > 1]


def _run_count(made: Plan, tunings: Mapping[str, Outline | None]) -> str:
    """Return the number of runs, with those of later waves of a tuning."""
    count = sum(
        tuning.tuning_runs + tuning.report_runs if tuning else len(made.runs_of(problem))
        for problem, tuning in tunings.items()
    )
    grow = any(study.tune and study.tune.extends for study in made.studies.by_name.values())
    return "at least " * grow + f"{count:,}"


def _print_plan(made: Plan, problem: str, title: str, *, further: bool) -> None:
    """Print the settings of a problem.

    Args:
        made: the plan.
        problem: name of the problem.
        title: title of the table.
        further: whether the command prints several such tables.
    """
    from optrial.report import plain_table

    groups: dict[tuple[str, str], list[RunSpec]] = {}
    for run_ in made.runs_of(problem):
        groups.setdefault((run_.optimizer, made.settings[run_.run_id]), []).append(run_)
    folds = {run.fold.place for run in made.runs_of(problem) if run.fold}
    rows = [
        [
            optimizer,
            setting_text(setting),
            group[0].rule,
            *([len(folds)] if folds else []),
            len({run.seed for run in group}),
            f"{seconds:g} s"
            if (seconds := group[0].budget_seconds)
            else _least_and_most(run.steps for run in group),
            _least_and_most(run.batch_size for run in group),
        ]
        for (optimizer, setting), group in groups.items()
    ]
    columns = ["optimizer", "setting", "rule", *(["folds"] if folds else [])]
    columns += ["seeds", "steps", "batch size"]
    expendable = ["rule", "batch size", "steps"]
    draw(plain_table(columns, rows, title), expendable, further=further)


def _least_and_most(counts: Iterable[int]) -> int | str:
    """Return a count; ``7 to 8`` where folds differ."""
    distinct = set(counts)
    least, most = min(distinct), max(distinct)
    return most if least == most else f"{least} to {most}"


def _outlined(tuning: Outline | None) -> dict[str, str]:
    """Return the lines about tuning; the runs of the plan are those of the first wave."""
    if tuning is None:
        return {}
    more = f", then at most {counted(tuning.waves - 1, 'more wave')}" if tuning.waves > 1 else ""
    trials = f"{counted(tuning.trials, 'trial')} of each optimizer"
    if tuning.rungs:
        counts = all_listed([f"{rung.trials:,}" for rung in tuning.rungs])
        shares = [f"1/{rung.divisor}" if rung.divisor > 1 else "all" for rung in tuning.rungs]
        trials = f"{counts} trials of each optimizer, with {all_listed(shares)} of the budget,"
        more = ""
    return {
        "tuning": f"{trials} on {metric_title(tuning.select)}: "
        f"{counted(tuning.tuning_runs, 'run')}{more}",
        "report": f"{counted(tuning.report_runs, 'run')} of the chosen settings, with other seeds",
    }


def _seeds_note(made: Plan) -> str:
    """Return a note if there are too few seeds to tell any difference from chance."""
    from optrial.analysis.statistics import minimum_pairs

    studies = [study for study in made.studies.by_name.values() if study.folds is None]
    if not studies or not any(run.steps for run in made.runs):
        return ""
    optimizers = len(made.studies.shared.optimizers)
    seeds = min(len(study.seeds) for study in studies)
    needed = minimum_pairs(comparisons=max(1, optimizers * (optimizers - 1) // 2))
    if optimizers < 2 or seeds >= needed:
        return ""
    return (
        f"{counted(seeds, 'seed')} cannot separate {optimizers} optimizers, however large the "
        f"differences are; {needed} can (--seeds {needed})"
    )
