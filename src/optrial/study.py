"""A study as a Python object: validate, plan, time, run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from optrial.analysis.audit import waiver_problems
from optrial.analysis.claims import parse_claims
from optrial.analysis.reported import reported_problems
from optrial.analysis.targets import target_problems
from optrial.callbacks import Callback, Callbacks
from optrial.changes import changed, changes
from optrial.code import Trust, as_trust
from optrial.config import (
    ExecutorName,
    Parallel,
    Studies,
    StudyFile,
    is_several,
    override,
    parse_study,
    read_study,
)
from optrial.data import Dataset, Progress, some_samples
from optrial.errors import Problem, StoreError, StudyError, suggest
from optrial.interruption import stop_on_signal
from optrial.keys import (
    AxisValues,
    Evaluation,
    Length,
    Optimizer,
    Probes,
    Trackers,
    Tuning,
)
from optrial.keys import Problem as ProblemValue
from optrial.models import needs_whole_split
from optrial.passwords import holds_password
from optrial.plan import (
    Plan,
    PlannedModel,
    check_size,
    check_study,
    code_in,
    datasets_of,
    make_plan,
    planned_models,
)
from optrial.recipes import RECIPES, with_recipe
from optrial.records import Store, WeightFiles, set_aside, shown_location
from optrial.report.figures import plot
from optrial.report.samples import draw_samples, samples_figure
from optrial.results import Results
from optrial.spec import TRAINING_SECONDS, MetricName
from optrial.supervision import imported, supervised
from optrial.sweep import sweep
from optrial.timing import StudyTiming
from optrial.timing.measure import time_study
from optrial.trackers import Tracking, check_trackers
from optrial.user_objects import with_names_in_list
from optrial.user_output import collected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Study", "recorded_metrics"]

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
        budget: length of training, ``{"steps": n}`` or ``{"epochs": n}``.
        optimizers: rules or optimizer classes with hyperparameters, each one value or several.
        name: name of the study, also of its folder.
        batch_size: samples per step, or "full"; one value or several. By default 128, and "full"
            for a function of two variables.
        evaluate: when the model is evaluated and on which splits; by default every epoch, on every
            split but the training split.
        seeds: number of seeds, or a list of them; each optimizer runs with each seed.
        tune: choose each optimizer's setting in trials before it runs with `seeds`.
        targets: values of metrics to reach, such as {"validation_accuracy": 0.95}; the steps and
            seconds to each are reported.
        claims: what the study is meant to show, such as "adam > sgd on test_accuracy".
        waive: audit rules that are broken on purpose, each with the reason.
        engine: "auto" takes the faster of "stacked" (many runs as one program) and "reference"
            (the plain PyTorch loop); "numpy" trains MLPs by hand-written backpropagation.
        compile: whether the stacked engine compiles its step; "auto" if that saves time.
        precision: floating-point type of the computation.
        rng: "streams" keys every draw by seed, step and purpose, alike in all engines; "script"
            uses one global generator, as an ordinary script does.
        sampling: "epoch" draws each sample once per epoch; or "with_replacement".
        shuffle: whether each epoch has a new order.
        drop_last: whether to drop a smaller last batch of an epoch.
        zero_grad: False accumulates gradients over steps.
        loss_limit: training loss above which a run counts as diverged.
        threads: CPU threads of the training, for numbers that are equal to the last digit.
        timeout: seconds after which a run ends with an error; not part of its id.
        save: keep each run's weights: "final", or "best" by the selecting validation metric.
        probes: diagnostics measured during training, such as ["gradient_norm"].
        trackers: services that show runs while they train: "tensorboard", "wandb", "mlflow".
        reported: published results, ``{metric: {optimizer: value}}``.
        notes: free text.
        unknown: refused, with the key that was probably meant.

    Raises:
        StudyError: lists all problems, before any data is read.
    """

    _is_stored = False  # whether it was read from a store, whose plan it keeps

    def __init__(
        self,
        *,
        problem: ProblemValue | Sequence[ProblemValue] | Mapping[str, ProblemValue],
        budget: Length,
        optimizers: Sequence[Optimizer],
        name: str = "study",
        batch_size: AxisValues | None = None,
        evaluate: Evaluation | None = None,
        seeds: int | Sequence[int] = 3,
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
        zero_grad: bool = True,
        loss_limit: float | None = None,
        threads: int | None = None,
        timeout: float | None = None,
        save: Literal["final", "best"] | None = None,
        probes: Probes | None = None,
        trackers: Trackers = (),
        reported: Mapping[str, Mapping[str, float]] | None = None,
        notes: str = "",
        **unknown: object,
    ) -> None:
        keys: dict[str, object] = {
            "problem": _with_named_metrics("problem", problem),
            "budget": budget,
            "optimizers": optimizers,
            "name": name,
            "seeds": seeds,
            "tune": tune,
            "claims": claims,
            "engine": engine,
            "compile": compile,
            "precision": precision,
            "rng": rng,
            "sampling": sampling,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "zero_grad": zero_grad,
            "loss_limit": loss_limit,
            "threads": threads,
            "timeout": timeout,
            "save": save,
            "probes": probes,
            "trackers": trackers,
            "notes": notes,
        }
        optional = {
            "batch_size": batch_size,
            "evaluate": evaluate,
            "targets": targets,
            "waive": waive,
            "reported": reported,
        }
        keys |= {key: value for key, value in optional.items() if value is not None}
        trust = Trust(anywhere=True, tell=_say_nothing)
        self.studies = _checked({**keys, **unknown}, f"study '{name}'", trust)

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
        source = RECIPES.get(str(path), Path(path))
        if not os.path.exists(source):  # noqa: PTH110  that of Path raises for overlong names
            hint = suggest(path, RECIPES).replace("Allowed", "Recipes")
            raise StudyError([Problem("", f"no such file, and no such recipe. {hint}")], str(path))
        trust = as_trust(trust)
        trust.folders = [*trust.folders, source.parent]
        study = cls.__new__(cls)
        keys = override(with_recipe(read_study(source)), settings)
        study.studies = _checked(keys, str(path), trust)
        return study

    @classmethod
    def from_store(cls, location: str | Path, trust: Iterable[str | Path] | Trust = ()) -> Study:
        """Read the study that a store holds, to train the runs that are planned there.

        `run` refuses to train it where code or data differ from those it was planned with.

        Args:
            location: a folder or a ``postgresql://`` URL.
            trust: see `from_file`.

        Raises:
            StudyError: the study cannot be read, or names code that is not here.
            StoreError: the store cannot be read, or holds no study.
        """
        with Store.open(location) as store:
            keys = store.study()
        place = shown_location(location)
        if not keys:
            raise StoreError(f"{place}: no study is planned yet. Start: optrial run STUDY --out")
        study = cls.__new__(cls)
        study.studies = _checked(keys, f"the study in {place}", as_trust(trust))
        study._is_stored = True
        return study

    @property
    def config(self) -> StudyFile:
        """The study on its first problem, after defaults."""
        return self.studies.shared

    @property
    def default_folder(self) -> Path:
        """``studies/<name>``, the name reduced to letters, digits, dots and dashes."""
        slug = re.sub(r"[^\w.-]+", "-", self.config.name).strip("-.")
        return Path("studies", slug or "study")

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
        """Load the dataset of each problem, by its name, equal ones once; see `load_data`."""
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
        """Return the plan on one problem alone, by default the first; see `plan`."""
        studies = self.studies.only(problem)
        with supervised(_TRIAL):
            return make_plan(studies, dict.fromkeys(studies.by_name, dataset))

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

    def run(
        self,
        out: str | Path | None = None,
        *,
        device: str = "auto",
        restart: bool = False,
        data_dir: Path | None = None,
        progress: Progress | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint_seconds: float = 1.0,
        executor: ExecutorName | None = None,
        n_jobs: int | Literal["auto"] | None = None,
        parallel: str | Path | Mapping[str, object] | Parallel | None = None,
    ) -> Results:
        """Train every run that is not recorded in `out` yet, and return the results.

        With `tune`, trials are trained in waves until each optimizer's setting is chosen, and then
        the runs that are reported.

        SIGINT (Ctrl-C) and SIGTERM stop after the current step and store a checkpoint; running the
        study again continues.

        Args:
            out: a folder or a ``postgresql://`` URL; ``studies/<name>`` by default.
            device: "auto", "cpu" or "cuda".
            restart: start over; earlier files are moved to a backup folder in `out`.
            data_dir: folder of downloaded data; ``OPTRIAL_DATA`` or the user cache by default.
            progress: follows downloads.
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
        hooks = Callbacks(callbacks)
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
                datasets = self.load_datasets(data_dir, progress)
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


def recorded_metrics(study: StudyFile) -> list[str]:
    """Return the names of the metrics that a study records, without probes."""
    labels = ["loss", *(entry.label for entry in study.problem.judges)]
    means = ["loss", *_mean_labels(study)]
    splits = study.evaluate.on or ("validation", "test")
    names = [
        *(
            MetricName(label, "train")
            for label in means[: None if study.evaluate.batch_metrics else 1]
        ),
        *(MetricName(label, "train", epoch_mean=True) for label in means),
        *(MetricName.evaluation(label, split) for split in splits for label in labels),
    ]
    return [str(name) for name in names]


def _say_nothing(text: str) -> None:
    del text


def _checked(keys: Mapping[str, Any], source: str, trust: Trust) -> Studies:
    """Validate the keys of a study, and the names and expressions in them.

    Code that is not trusted is not imported.

    Raises:
        StudyError: lists all problems; `source` tells where the keys are from.
    """
    studies, problems = parse_study(keys)
    if studies is not None and (refused := _refused_code(studies, trust)):
        raise StudyError([*problems, *refused], source)
    if studies is not None:
        shared = studies.shared
        problems += studies.located(
            {name: _problems_of_one(study) for name, study in studies.by_name.items()}
        )
        problems += studies.conflicts()
        labels = [entry.label for entry in shared.optimizers]
        metrics = [name for study in studies.by_name.values() for name in recorded_metrics(study)]
        claimable = list(dict.fromkeys([*metrics, TRAINING_SECONDS]))
        known = (labels, claimable, studies.directions, list(studies.by_name))
        problems += parse_claims(shared.claims, *known)[1]
        problems += waiver_problems(shared.waive)
        problems += check_trackers(shared.trackers)
        problems += _password_problems(keys)
        problems += check_size(studies) if not problems else ()
    if problems or studies is None:
        raise StudyError(problems, source)
    return studies


def _refused_code(studies: Studies, trust: Trust) -> list[Problem]:
    """Import the code that a study may run; return the problems of the rest."""
    code = {problem: code_in(study) for problem, study in studies.by_name.items()}
    names = dict.fromkeys(name for names in code.values() for name in names.values())
    refusals = imported(names, trust)
    return studies.located(
        {
            problem: [Problem(path, refusals[n]) for path, n in names.items() if n in refusals]
            for problem, names in code.items()
        }
    )


def _password_problems(value: object, path: str = "") -> Iterator[Problem]:
    """Refuse URLs with a password or token anywhere in a study, which is stored and shown."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _password_problems(item, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _password_problems(item, f"{path}[{index}]")
    elif isinstance(value, str) and holds_password(value):
        yield Problem(
            path,
            "must not hold a password or token, which would be stored with the study; read it from "
            "an environment variable.",
        )


def _problems_of_one(study: StudyFile) -> list[Problem]:
    """Return the problems of a study on one of its datasets."""
    labels = [entry.label for entry in study.optimizers]
    metrics = recorded_metrics(study)
    targets = target_problems(study.targets, metrics, study.directions)
    reported = reported_problems(study.reported, labels, metrics)
    return [*check_study(study), *_batch_metric_problems(study), *targets, *reported]


def _with_named_metrics(path: str, problem: object) -> object:
    """Replace user-defined metric functions in one or several problems by names."""
    if isinstance(problem, list | tuple):
        return [_with_named_metrics(f"{path}[{i}]", entry) for i, entry in enumerate(problem)]
    if is_several(problem):
        return {n: _with_named_metrics(f"{path}.{n}", entry) for n, entry in problem.items()}
    if not isinstance(problem, Mapping) or not problem.get("metrics"):
        return problem
    return {**problem, "metrics": with_names_in_list(f"{path}.metrics", problem["metrics"])}


def _mean_labels(study: StudyFile) -> list[str]:
    """Return the labels of the metrics that are means over samples, so that a batch has them."""
    return [
        entry.label
        for entry in study.problem.judges
        if not needs_whole_split(entry.name, [entry.name] * entry.whole_split)
    ]


def _batch_metric_problems(study: StudyFile) -> Iterator[Problem]:
    if study.evaluate.batch_metrics and not _mean_labels(study):
        yield Problem(
            "evaluate.batch_metrics",
            "the study has no metrics that are means over samples; leave it out: train_loss is "
            "recorded at every step.",
        )
