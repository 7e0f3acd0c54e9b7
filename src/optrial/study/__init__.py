"""A study as a Python object: validate, plan, time, run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from optrial.callbacks import Callback, Callbacks
from optrial.changes import changed, changes
from optrial.code import Trust, as_trust
from optrial.config import (
    Axis,
    ExecutorName,
    Parallel,
    Studies,
    StudyFile,
)
from optrial.data import Dataset, Progress, some_samples
from optrial.errors import StoreError, counted, listed
from optrial.interruption import stop_on_signal
from optrial.keys import (
    AxisValues,
    BudgetKeys,
    Evaluation,
    Folding,
    Optimizer,
    Probes,
    Stopping,
    Trackers,
    Tuning,
)
from optrial.keys import Problem as ProblemValue
from optrial.lr_range.curves import LrRange
from optrial.lr_range.measure import measure_lr_range
from optrial.markup import html_block, html_table
from optrial.plan import (
    Plan,
    PlannedModel,
    PlannedParameter,
    datasets_of,
    make_plan,
    planned_groups,
    planned_models,
)
from optrial.recipes import source_of, study_keys
from optrial.records import Store, WeightFiles, set_aside, shown_location, study_folder
from optrial.report.figures import plot
from optrial.report.progress import ProgressBar, shows_progress
from optrial.report.samples import draw_samples, samples_figure
from optrial.results import Results
from optrial.study.checking import checked, recorded_metrics
from optrial.supervision import supervised
from optrial.sweep import sweep
from optrial.timing import StudyTiming
from optrial.timing.measure import time_study
from optrial.trackers import Tracking
from optrial.user_objects import with_named_optimizers, with_named_problem
from optrial.user_output import collected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Study", "recorded_metrics"]

_CONTENT = (
    *("problem", "batch_size", "budget", "evaluate", "optimizers", "tune", "precision", "rng"),
    *("sampling", "shuffle", "drop_last", "zero_grad", "loss_limit"),
)
"""Keys that make a study another comparison, so that it has another folder without a name."""

_UNUSUAL = {"accumulate": 1, "early_stopping": None, "folds": None}
"""Further such keys, which leave the name alone where they have their defaults."""

_GENERATED = re.compile(r"_[0-9a-f]{12}$")
_LONGEST = 40  # characters of a generated folder before its hash
_TRIAL = "trying models and optimizers on a few samples"


class Study:
    """A set of runs and the protocol that relates them.

    The arguments are the keys of a study file, which the documentation describes in full:

        study = optrial.Study(
            problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [64]}},
            budget={"epochs": 5},
            optimizers=[{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam"}],
        )
        results = study.run()
        results.summary()

    Args:
        problem: dataset, model, loss and metrics, or a function of two variables.
        budget: length of training: ``{"steps": n}``, ``{"epochs": n}`` or ``{"seconds": s}``.
        optimizers: rules or optimizer classes with hyperparameters, each one value or several.
            `rule` may hold a `Rule`, an optimizer class or a function; it gives the entry its name.
        name: name of the study, also of its folder. Without it, studies that differ in more than
            their seeds and claims have their own folders.
        batch_size: samples per step, or "full"; one value or several. By default 128, and "full"
            for a function of two variables.
        evaluate: when the model is evaluated and on which splits; by default every epoch, on every
            split but the training split.
        seeds: number of seeds, or a list of them; each optimizer runs with each seed.
        folds: cross-validation with this many folds; every optimizer and seed runs on each.
        tune: choose each optimizer's setting in trials before it runs with `seeds`.
        targets: values of metrics to reach, such as {"validation_accuracy": 0.95}; the steps and
            seconds to each are reported.
        claims: what the study is meant to show, such as "adam > sgd on test_accuracy".
        waive: audit rules that are broken on purpose, each with the reason.
        engine: "auto" takes the faster of "stacked" (many runs as one program) and "reference"
            (the plain PyTorch loop); "numpy" trains MLPs by hand-written backpropagation.
        compile: whether the stacked engine compiles its step; "auto" if that saves time.
        precision: floating-point type of the computation.
        rng: "streams" keys every draw by seed, step and purpose, in the same way in all engines;
            "script" uses one global generator, as an ordinary script does.
        sampling: "epoch" draws each sample once per epoch; or "with_replacement".
        shuffle: whether each epoch has a new order.
        drop_last: whether to drop a smaller last batch of an epoch.
        accumulate: number of batches whose gradients are averaged in a step.
        zero_grad: False accumulates gradients over steps.
        loss_limit: training loss above which a run counts as diverged.
        threads: CPU threads of the training, for numbers that are equal to the last digit.
        timeout: seconds after which a run ends with an error; not part of its id.
        save: keep each run's weights: "final", or "best" by the selecting validation metric.
        early_stopping: ends a run when validation has not improved for a number of evaluations.
        probes: diagnostics measured during training, such as ["gradient_norm"].
        trackers: services that show runs while they train: "tensorboard", "wandb", "mlflow".
        reported: published results, ``{metric: {optimizer: value}}``.
        notes: free text.
        unknown: refused, with the key that was probably meant.

    Raises:
        StudyError: lists all problems, before any data is read.
    """

    _is_named = True  # whether it has a name from its author
    _is_stored = False  # whether it was read from a store, whose plan it keeps

    def __init__(
        self,
        *,
        problem: ProblemValue | Sequence[ProblemValue] | Mapping[str, ProblemValue],
        budget: BudgetKeys,
        optimizers: Sequence[Optimizer],
        name: str | None = None,
        batch_size: AxisValues | None = None,
        evaluate: Evaluation | None = None,
        seeds: int | Sequence[int] = 3,
        folds: int | Folding | None = None,
        tune: Tuning | None = None,
        targets: Mapping[str, float] | None = None,
        claims: Sequence[str] = (),
        waive: Mapping[str, str] | None = None,
        engine: Literal["auto", "stacked", "reference", "numpy"] = "auto",
        compile: Literal["auto", "always", "never"] = "auto",  # noqa: A002  the study's key
        precision: Literal["float32", "bfloat16", "float64"] = "float32",
        rng: Literal["streams", "script"] = "streams",
        sampling: Literal["epoch", "with_replacement"] = "epoch",
        shuffle: bool = True,
        drop_last: bool = False,
        accumulate: int = 1,
        zero_grad: bool = True,
        loss_limit: float | None = None,
        threads: int | None = None,
        timeout: float | None = None,
        save: Literal["final", "best"] | None = None,
        early_stopping: int | Stopping | None = None,
        probes: Probes | None = None,
        trackers: Trackers = (),
        reported: Mapping[str, Mapping[str, float]] | None = None,
        notes: str = "",
        **unknown: object,
    ) -> None:
        keys: dict[str, object] = {
            "problem": with_named_problem("problem", problem),
            "budget": budget,
            "optimizers": optimizers,
            "seeds": seeds,
            "folds": folds,
            "tune": tune,
            "claims": claims,
            "engine": engine,
            "compile": compile,
            "precision": precision,
            "rng": rng,
            "sampling": sampling,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "accumulate": accumulate,
            "zero_grad": zero_grad,
            "loss_limit": loss_limit,
            "threads": threads,
            "timeout": timeout,
            "save": save,
            "early_stopping": early_stopping,
            "probes": probes,
            "trackers": trackers,
            "notes": notes,
        }
        if isinstance(optimizers, list | tuple):
            keys["optimizers"] = with_named_optimizers(optimizers)
        optional = {
            "name": name,
            "batch_size": batch_size,
            "evaluate": evaluate,
            "targets": targets,
            "waive": waive,
            "reported": reported,
        }
        keys |= {key: value for key, value in optional.items() if value is not None}
        trust = Trust(anywhere=True, tell=lambda text: None)  # noqa: ARG005
        source = "the study" if name is None else f"study '{name}'"
        self.studies = checked({**keys, **unknown}, source, trust)
        self._is_named = name is not None

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        settings: Iterable[str] = (),
        trust: Iterable[str | Path] | Trust = (),
    ) -> Study:
        """Read a study file, or a recipe by name, and apply ``key.path=value`` settings.

        A study file may name code, which is imported here. A line that names it goes to the logger
        ``optrial`` first. Code outside the current folder and the folder of the file is refused.

        Args:
            path: the file, or the name of a recipe.
            settings: changes of single keys.
            trust: folders, files and modules whose code may run wherever it lies, beside those of
                the environment variable ``OPTRIAL_TRUST``.

        Raises:
            StudyError: the file cannot be read, or is not valid; lists all problems.
        """
        source = source_of(path)
        trust = as_trust(trust)
        trust.folders = [*trust.folders, source.parent]
        study = cls.__new__(cls)
        study.studies = checked(study_keys(path, settings), str(path), trust)
        return study

    @classmethod
    def from_store(cls, location: str | Path, trust: Iterable[str | Path] | Trust = ()) -> Study:
        """Read the study that a store holds, to train the runs that are planned there.

        `run` refuses to train it if code or data differ from those it was planned with.

        Args:
            location: a folder or a ``postgresql://`` URL.
            trust: see `from_file`.

        Raises:
            StudyError: the study cannot be read, or names code that is not available here.
            StoreError: the store cannot be read, or holds no study.
        """
        with Store.open(location) as store:
            keys = store.study()
        place = shown_location(location)
        if not keys:
            raise StoreError(f"{place}: no study is planned yet. Start: optrial run STUDY --out")
        study = cls.__new__(cls)
        study.studies = checked(keys, f"the study in {place}", as_trust(trust))
        study._is_stored = True
        return study

    @property
    def config(self) -> StudyFile:
        """The study on its first problem, after defaults."""
        return self.studies.shared

    @property
    def default_folder(self) -> Path:
        """``studies/<name>``; see `optrial.records.study_folder`.

        The folder of a study without a name is named after its problem, and a hash of the keys that
        make it another comparison.
        """
        return study_folder(self.config.name if self._is_named else self._name_of_content())

    def _name_of_content(self) -> str:
        keys = self.studies.as_dict()
        values = [keys.get(key) for key in _CONTENT]
        values += [
            {key: keys[key]} for key, none in _UNUSUAL.items() if keys.get(key, none) != none
        ]
        content = json.dumps(values, sort_keys=True, default=str)
        problems = (_GENERATED.sub("", name) for name in self.studies.by_name)
        return f"{'-'.join(problems)[:_LONGEST]}-{sha256(content.encode()).hexdigest()[:6]}"

    def __repr__(self) -> str:
        shared = self.config
        unit, length = next((k, v) for k, v in shared.budget if v is not None)
        optimizers = counted(len(shared.optimizers), "optimizer")
        seeds = counted(len(shared.seeds), "seed")
        if shared.folds:
            seeds += f", {counted(shared.folds.count, 'fold')}"
        problems = listed(list(self.studies.by_name))
        return f"<Study {shared.name!r} of {problems}: {optimizers}, {length:,} {unit}, {seeds}>"

    def _repr_html_(self) -> str:
        rows = [
            (entry.label, _axes_text(entry.hyperparameters)) for entry in self.config.optimizers
        ]
        return html_block(
            repr(self)[1:-1], html_table(["optimizer", "hyperparameters"], rows, left=2)
        )

    def location(self, out: str | Path | None = None) -> str:
        """Return the location of the results: `out`, or the default folder if it is None.

        Raises:
            StoreError: `out` is an empty string, such as an unset shell variable.
        """
        if out is not None and not str(out):
            raise StoreError("out: '' is not a folder; leave it out for the default, or name one.")
        return str(self.default_folder if out is None else out)

    def load_data(
        self,
        data_dir: Path | None = None,
        progress: Progress | None = None,
        problem: str | None = None,
    ) -> Dataset:
        """Load the dataset of a problem, downloading it if it is published and missing.

        Args:
            data_dir: folder of downloaded data; ``OPTRIAL_DATA`` or the user cache by default.
            progress: follows downloads.
            problem: name of the problem; the first one by default.

        Raises:
            StudyError: the study has no such problem.
            DataError: the data is missing, damaged or malformed.
        """
        studies = self.studies.only(problem)
        (dataset,) = self._load(studies, data_dir, progress).values()
        return dataset

    def load_datasets(
        self, data_dir: Path | None = None, progress: Progress | None = None
    ) -> dict[str, Dataset]:
        """Load the dataset of each problem, by name, and equal ones only once; see `load_data`."""
        return self._load(self.studies, data_dir, progress)

    def _load(
        self, studies: Studies, data_dir: Path | None, progress: Progress | None
    ) -> dict[str, Dataset]:
        with supervised("loading the data") as output:
            shown = progress and output.around(progress)
            return datasets_of(studies, data_dir and data_dir.absolute(), shown)

    def plan(self, data: Dataset | Mapping[str, Dataset] | None = None) -> Plan:
        """Expand the study into runs without training any; with `tune`, into the first trials.

        Args:
            data: the dataset of each problem, by its name; or one for all. Loaded by default.

        Raises:
            StudyError: a problem that only the data shows, such as a batch larger than the
                training split.
            DataError: the data cannot be loaded.
        """
        if isinstance(data, Dataset):
            data = dict.fromkeys(self.studies.by_name, data)
        with stop_on_signal(), supervised(_TRIAL):
            return make_plan(self.studies, self.load_datasets() if data is None else data)

    def plan_on(self, problem: str | None, dataset: Dataset) -> Plan:
        """Return the plan on one problem alone, by default the first; see `plan`.

        For a cross-validation, this is the plan on the first fold.
        """
        studies = self.studies.only(problem)
        one_fold = replace(dataset, folds=())
        with supervised(_TRIAL):
            return make_plan(studies, dict.fromkeys(studies.by_name, one_fold))

    def models(
        self, problem: str | None = None, data_dir: Path | None = None
    ) -> list[PlannedModel]:
        """Return the layers, parameters and memory of each model on a problem.

        Args:
            problem: name of the problem; the first one by default.
            data_dir: folder of downloaded data.
        """
        dataset = self.load_data(data_dir, problem=problem)
        plan = self.plan_on(problem, dataset)
        with supervised(_TRIAL):
            return planned_models(plan, dataset)

    def parameter_groups(
        self, problem: str | None = None, data_dir: Path | None = None
    ) -> list[PlannedParameter]:
        """Return which parameter is in which group of each optimizer, with rule and values.

        Args:
            problem: name of the problem; the first one by default.
            data_dir: folder of downloaded data.
        """
        dataset = self.load_data(data_dir, problem=problem)
        plan = self.plan_on(problem, dataset)
        with supervised(_TRIAL):
            return planned_groups(plan, dataset)

    def samples_figure(
        self,
        split: str = "train",
        count: int | None = None,
        problem: str | None = None,
        data_dir: Path | None = None,
    ) -> Figure:
        """Return a figure of samples of a split, with their labels.

        Images, series and rows of a table are shown one by one, points of a plane together. Inputs
        are shown as models get them; images are brought back to the range of their pixels.

        Args:
            split: "train", "validation" or "test".
            count: number of samples; by default as many as fit.
            problem: name of the problem; the first one by default.
            data_dir: folder of downloaded data.

        Raises:
            DataError: the dataset has no such split, or cannot be loaded.
        """
        data = self.load_data(data_dir, problem=problem)
        return samples_figure(*some_samples(data, split, count), title=f"{data.name}, {split}")

    def plot_samples(
        self,
        split: str = "train",
        count: int | None = None,
        axes: Axes | None = None,
        problem: str | None = None,
        *,
        data_dir: Path | None = None,
    ) -> Axes:
        """Draw samples of a split on one pair of axes and return them; see `samples_figure`.

        Args:
            split: see `samples_figure`.
            count: see `samples_figure`.
            axes: matplotlib axes to draw on; by default those of a new figure.
            problem: see `samples_figure`.
            data_dir: see `samples_figure`.

        Raises:
            DataError: as `samples_figure`.
        """
        data = self.load_data(data_dir, problem=problem)
        return plot(draw_samples, *some_samples(data, split, count), axes=axes)

    def timing(
        self,
        *,
        device: str = "auto",
        engines: Sequence[str] = (),
        rounds: int = 15,
        memory: bool = True,
        problem: str | None = None,
    ) -> StudyTiming:
        """Time a training step of each optimizer on one problem, by default the first.

        See `optrial.timing.measure.time_study`, which documents the arguments.
        """
        with supervised("timing"):
            dataset = self.load_data(problem=problem)
            plan = self.plan_on(problem, dataset)
            return time_study(
                plan, dataset, device=device, engines=engines, rounds=rounds, memory=memory
            )

    def lr_range(
        self,
        data: Dataset | None = None,
        *,
        low: float = 1e-6,
        high: float | None = None,
        steps: int = 200,
        device: str = "auto",
        problem: str | None = None,
    ) -> LrRange:
        """Train each optimizer on one problem, by default the first, while its learning rate grows.

        See `optrial.lr_range.measure.measure_lr_range`, which documents the other arguments.

        Args:
            data: data of the problem, if it is loaded.
            low: learning rate of the first step.
            high: learning rate of the last step.
            steps: number of steps.
            device: "auto", "cpu" or "cuda".
            problem: name of the problem.

        Raises:
            StudyError: a value is out of its range, or an optimizer has no learning rate.
        """
        with supervised("the range test"):
            dataset = data or self.load_data(problem=problem)
            plan = self.plan_on(problem, dataset)
            return measure_lr_range(plan, dataset, low=low, high=high, steps=steps, device=device)

    def run(
        self,
        out: str | Path | None = None,
        *,
        device: str = "auto",
        restart: bool = False,
        data_dir: Path | None = None,
        progress: bool | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint_seconds: float = 1.0,
        executor: ExecutorName | None = None,
        n_jobs: int | Literal["auto"] | None = None,
        parallel: str | Path | Mapping[str, object] | Parallel | None = None,
    ) -> Results:
        """Train every run that is not recorded in `out` yet, and return the results.

        With `tune`, trials are trained in waves until each optimizer's setting is chosen, and then
        the runs that are reported.

        SIGINT (Ctrl-C), SIGTERM, SIGHUP (a closed terminal) and SIGXCPU stop after the current step
        and store a checkpoint; running the study again continues.

        Args:
            out: a folder or a ``postgresql://`` URL; ``studies/<name>`` by default.
            device: "auto", "cpu" or "cuda".
            restart: start over; earlier files are moved to a backup folder in `out`.
            data_dir: folder of downloaded data; ``OPTRIAL_DATA`` or the user cache by default.
            progress: whether to show progress; by default in a notebook and in a terminal, unless a
                callback shows it.
            callbacks: follow training; see `optrial.Callback`.
            checkpoint_seconds: seconds of training that a crash loses at most; see
                `docs/reliability.md`.
            executor: "local" trains in this process, "processes" in worker processes, "ray" on a
                Ray cluster; "auto", the default, in this process or in worker processes.
            n_jobs: number of stacks of runs that are trained at once; by default "auto".
            parallel: further keys, or a YAML file of them; see `docs/how-to/many-cores.md`.

        Raises:
            StudyError, DataError: bad input, before any training.
            StoreError: `out` cannot be written, or another process is writing to it.
            KeyboardInterrupt: a signal came before training, or a second one while it was ending.
        """
        location = self.location(out)
        workers = Parallel.read(parallel, {"executor": executor, "n_jobs": n_jobs})
        hooks = Callbacks(_with_progress(list(callbacks), progress))
        weights = self._weight_files(location, restart)
        # User code may change the current folder.
        place = location if "://" in location else str(Path(location).absolute())
        hooks.add(Tracking(self.config.trackers, self.config.name, place, hooks.on_message))
        with ExitStack() as on_failure:
            with (
                stop_on_signal(hooks.on_signal) as stop,
                hooks,
                collected(hooks.on_message) as output,
            ):
                follower = output.around(hooks)
                datasets = self.load_datasets(data_dir, follower)
                plan = self._plan_with_messages(datasets, follower)
                if restart and (backup := set_aside(Path(location))):
                    follower.on_message(f"the earlier study is kept in {backup}")
                store = on_failure.enter_context(
                    Store.open(location, create=True, tell=follower.on_message)
                )
                if self._is_stored:
                    _check_planned(plan, store)
                for note in changes(plan, store):
                    follower.on_message(note)
                follower.on_start(store)
                sweep(
                    plan,
                    datasets,
                    store,
                    stop,
                    device=device,
                    callback=follower,
                    checkpoint_seconds=checkpoint_seconds,
                    weights=weights,
                    parallel=workers,
                )
            on_failure.pop_all()
        return Results(store, Path(shown_location(location)))

    def _weight_files(self, location: str, restart: bool) -> WeightFiles | None:
        """Return the place of saved weights, if the study saves any.

        Raises:
            StoreError: a server cannot hold weights, or cannot be restarted.
        """
        on_server = "://" in location
        if restart and on_server:
            raise StoreError("--restart needs a folder; on a server, use another database.")
        if self.config.save and on_server:
            raise StoreError("save: needs a folder for the weights; use --out FOLDER.")
        return WeightFiles(Path(location).absolute()) if self.config.save else None

    def _plan_with_messages(self, datasets: Mapping[str, Dataset], hooks: Callback) -> Plan:
        for note in dict.fromkeys(note for data in datasets.values() for note in data.notes):
            hooks.on_message(note)
        hooks.on_prepare(_TRIAL)
        plan = self.plan(datasets)
        for note in plan.notes:
            hooks.on_message(note)
        return plan


def _with_progress(callbacks: list[Callback], wanted: bool | None) -> list[Callback]:
    """Return the callbacks, with a progress bar if one is wanted."""
    if wanted is None:
        wanted = shows_progress() and not any(isinstance(c, ProgressBar) for c in callbacks)
    return [*callbacks, ProgressBar()] if wanted else callbacks


def _check_planned(plan: Plan, store: Store) -> None:
    """Refuse a plan other than that of the store, which this process is to train.

    Raises:
        StoreError: names what differs.
    """
    if plan.hash != store.plan_hash():
        raise StoreError(
            f"{store.shown}: this machine would train other runs than those planned there, because "
            f"of its {changed(plan, store) or 'version of optrial'}. Use the same code, data and "
            "version on all machines."
        )


def _axes_text(axes: Mapping[str, Axis]) -> str:
    """Return names with one value, or with several in brackets."""
    values = {
        name: [f"{v:g}" if isinstance(v, float) else str(v) for v in axis.values]
        for name, axis in axes.items()
    }
    return ", ".join(
        f"{name} {texts[0]}" if len(texts) == 1 else f"{name} [{', '.join(texts)}]"
        for name, texts in values.items()
    )
