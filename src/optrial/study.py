"""A study as a Python object: validate, plan, run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from optrial.analysis.audit import waiver_problems
from optrial.analysis.claims import parse_claims
from optrial.analysis.reported import reported_problems
from optrial.analysis.timing import StudyTiming
from optrial.code import Unidentifiable, register, unidentifiable
from optrial.config import StudyFile, override, parse_study, read_study
from optrial.data import Dataset, Progress, load_dataset, split_objects
from optrial.errors import Problem, StoreError, StudyError, suggest
from optrial.models import needs_whole_split
from optrial.plan import Plan, check_study, make_plan, targets_wanted, validation_wanted
from optrial.recipes import RECIPES, with_recipe
from optrial.records import Store, WeightFiles, set_aside
from optrial.results import Results
from optrial.rules import Rule
from optrial.spec import TRAINING_SECONDS
from optrial.sweep import Unwatched, Watcher, sweep
from optrial.timing import time_study
from optrial.trackers import Tracking, check_trackers

__all__ = ["Study", "compare"]


class Study:
    """A set of runs and the protocol that relates them.

    Takes the keys of a study file as arguments:

        study = optrial.Study(
            problem={"dataset": "digits", "model": {"kind": "mlp", "hidden": [64]}},
            budget={"epochs": 5},
            optimizers=[{"rule": "sgd", "lr": [0.01, 0.1]}, {"rule": "adam"}],
        )
        results = study.run()
        results.summary()

    Raises:
        StudyError: with everything that is wrong, before any data is read.
    """

    def __init__(self, **keys: Any) -> None:
        problem = keys.get("problem")
        if isinstance(problem, Mapping) and problem.get("metrics"):
            metrics = _with_names_each("problem.metrics", problem["metrics"])
            keys["problem"] = {**problem, "metrics": metrics}
        self._prepare(keys, f"study '{keys.get('name', 'study')}'")

    @classmethod
    def from_file(cls, path: str | Path, settings: Iterable[str] = ()) -> Study:
        """Read a study file, or a recipe by name, and apply ``key.path=value`` settings.

        Raises:
            StudyError: the file cannot be read, or with everything that is wrong in it.
        """
        source = RECIPES.get(str(path), Path(path))
        if not source.exists():
            hint = suggest(path, RECIPES).replace("Allowed", "Recipes")
            raise StudyError([Problem("", f"no such file, and no such recipe. {hint}")], str(path))
        return cls._from_keys(override(with_recipe(read_study(source)), settings), str(path))

    @classmethod
    def _from_keys(cls, keys: Mapping[str, Any], source: str) -> Study:
        study = cls.__new__(cls)
        study._prepare(keys, source)
        return study

    def _prepare(self, keys: Mapping[str, Any], source: str) -> None:
        parsed, problems = parse_study(keys)
        if parsed is not None:
            problems += check_study(parsed)
            problems += _batch_metric_problems(parsed)
            labels, metrics = optimizer_labels(parsed), metric_names(parsed)
            claimable = [*metrics, TRAINING_SECONDS]
            problems += parse_claims(parsed.claims, labels, claimable, parsed.directions)[1]
            problems += reported_problems(parsed.reported, labels, metrics)
            problems += waiver_problems(parsed.waive)
            problems += check_trackers(parsed.trackers)
        if problems or parsed is None:
            raise StudyError(problems, source)
        self.config = parsed
        self.keys = dict(keys)

    @property
    def default_folder(self) -> Path:
        """``studies/<name>``, the name reduced to letters, digits, dots and dashes."""
        slug = re.sub(r"[^\w.-]+", "-", self.config.name).strip("-.")
        return Path("studies", slug or "study")

    def location(self, out: str | Path | None = None) -> str:
        """Return the place of the results: `out`, or the default folder if it is None.

        Raises:
            StoreError: `out` is an empty text, as of a shell variable that is not set.
        """
        if out is not None and not str(out):
            raise StoreError("out: '' is not a folder; leave it out for the default, or name one.")
        return str(self.default_folder if out is None else out)

    def load_data(self, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
        """Load the dataset, downloading it if it is published and not here yet.

        Raises:
            DataError: it is missing, damaged or malformed.
        """
        return dataset_of(self.config, data_dir, progress)

    def plan(self, dataset: Dataset | None = None) -> Plan:
        """Expand the study into runs; trains nothing. With `tune`, these are the first trials.

        Raises:
            StudyError: what only the data can tell, such as a batch larger than the training set.
            DataError: the data cannot be loaded.
        """
        return make_plan(self.config, self.load_data() if dataset is None else dataset)

    def timing(self, *, device: str = "auto", rounds: int = 15, memory: bool = True) -> StudyTiming:
        """Time a step of each optimizer alone, taken in turns; see `optrial.timing.time_study`."""
        dataset = self.load_data()
        return time_study(self.plan(dataset), dataset, device=device, rounds=rounds, memory=memory)

    def run(
        self,
        out: str | Path | None = None,
        *,
        device: str = "auto",
        restart: bool = False,
        data_dir: Path | None = None,
        progress: Progress | None = None,
        watcher: Watcher | None = None,
        checkpoint_seconds: float = 1.0,
    ) -> Results:
        """Train every run that `out` does not hold yet, and return the results.

        With `tune`, wave after wave is trained until each optimizer's setting is chosen, then the
        report.

        Args:
            out: a folder or a ``postgresql://`` URL; ``studies/<name>`` by default.
            device: "auto", "cpu" or "cuda".
            restart: start over; the files of the former study are kept in a new folder there.
            data_dir: where downloaded data lies; ``OPTRIAL_DATA`` or the user cache by default.
            progress: is told of downloads.
            watcher: is told of training.
            checkpoint_seconds: least time between two commits of one run.

        Raises:
            StudyError, DataError: bad input, before any training.
            StoreError: `out` cannot be written, or another process is writing to it.
        """
        location = self.location(out)
        if restart and "://" in location:
            raise StoreError("--restart needs a folder; on a server, use another database.")
        weights = None
        if self.config.save:
            if "://" in location:
                raise StoreError("save: needs a folder for the weights; use --out FOLDER.")
            weights = WeightFiles(Path(location))
        tracking = Tracking(self.config.trackers, self.config.name, location)
        watcher = Unwatched() if watcher is None else watcher
        dataset = self.load_data(data_dir, progress)
        for note in dataset.notes:
            watcher.noted(note)
        watcher.preparing("trying models and optimizers on a few samples")
        plan = self.plan(dataset)
        for note in plan.notes:
            watcher.noted(note)
        if restart and (backup := set_aside(Path(location))):
            watcher.noted(f"the former study is kept in {backup}")
        store = Store.open(location, create=True)
        try:
            with tracking.of(store, watcher.noted):
                sweep(
                    plan,
                    dataset,
                    store,
                    device=device,
                    watcher=watcher,
                    checkpoint_seconds=checkpoint_seconds,
                    weights=weights,
                )
        except BaseException:
            store.close()
            raise
        return Results(store, Path(location))


def compare(
    *,
    model: str | Mapping[str, Any] | Callable[..., Any] = "mlp",
    data: Any = "digits",
    optimizers: Iterable[str | type | Callable[..., Any] | Mapping[str, Any]],
    epochs: int | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    **keys: Any,
) -> Results:
    """Train a model with several optimizers and return the results, all from a notebook cell.

        results = optrial.compare(
            model=lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
            data=(inputs, targets),
            optimizers=["sgd", {"rule": "adam", "lr": [0.001, 0.01]}, torch.optim.RAdam],
            epochs=5,
        )

    Args:
        model: as in a study file; or a function or class that returns a module. It may take
            `input_shape` and `classes`.
        data: as in a study file; or arrays: ``{"train": (inputs, targets), "test": ...}``,
            ``(inputs, targets)``, or a `torch.utils.data.Dataset`.
        optimizers: names of rules, entries as in a study file, or `torch.optim.Optimizer` classes
            and functions that take parameters and return an optimizer; in an entry, ``torch`` and
            ``rule_factory`` may be the object itself.
        epochs: length of training; 5 if neither this nor `steps` is given.
        steps: length of training, in place of `epochs`.
        out: where the results are kept: ``studies/<name>`` by default.
        watcher: is told of training.
        keys: any further key of a study file: `seeds`, `batch_size`, ...; besides, `loss` and
            `metrics`, which stand under `problem` there. A metric is a name, a function, or
            ``{"name": function, "better": "lower"}``.

    Raises:
        StudyError, DataError: bad input, before any training.
    """
    if problems := list(_argument_problems(optimizers, keys)):
        raise StudyError(problems, "the comparison")
    if not isinstance(data, str) and not (isinstance(data, Mapping) and "name" in data):
        splits = split_objects("data", data)  # read once: the arrays count, not what holds them
        data = register(_returning(splits.get("all", splits)))
    loss, metrics = keys.pop("loss", "cross_entropy"), keys.pop("metrics", None)
    lengths = {"steps": steps, "epochs": epochs}
    problem = {
        "dataset": data,
        "model": _with_names("model", {"factory": model} if callable(model) else model),
        "loss": _with_names("loss", loss),
        "metrics": _with_names_each("metrics", metrics),
    }
    study = Study(
        problem=problem,
        budget={unit: n for unit, n in lengths.items() if n is not None} or {"epochs": 5},
        optimizers=[_optimizer_entry(f"optimizers[{i}]", o) for i, o in enumerate(optimizers)],
        **keys,
    )
    return study.run(out, watcher=watcher)


def _argument_problems(optimizers: Any, keys: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield problems with the arguments of `compare` that a study does not check."""
    is_list = isinstance(optimizers, Iterable) and not isinstance(optimizers, str | Mapping | Set)
    if not is_list or callable(optimizers):
        yield Problem("optimizers", f"{optimizers!r}: must be a list of optimizers.")
    stand_ins = {"problem": "model, data, loss and metrics", "budget": "steps or epochs"}
    for key in stand_ins.keys() & keys.keys():
        yield Problem(key, f"is given as {stand_ins[key]} here; or use optrial.Study(...).")


def stored_study(keys: Mapping[str, Any]) -> StudyFile:
    """Return the study that a store holds.

    Libraries needed only for training, such as a sampler's or a tracker's, need not be installed.

    Raises:
        StudyError: this optrial cannot read it.
    """
    study, problems = parse_study(keys)
    if study is None or problems:
        raise StudyError(problems, "the stored study")
    return study


def dataset_of(
    study: StudyFile, data_dir: Path | None = None, progress: Progress | None = None
) -> Dataset:
    """Load the dataset of a study; see `Study.load_data`."""
    dataset = study.problem.dataset
    return load_dataset(
        dataset.name,
        dataset.arguments,
        data_dir=data_dir,
        progress=progress,
        validation=validation_wanted(study),
        targets=targets_wanted(study),
    )


def optimizer_labels(study: StudyFile) -> list[str]:
    """What the optimizers of a study are called."""
    return [entry.label for entry in study.optimizers]


def metric_names(study: StudyFile) -> list[str]:
    """The metrics that a study records."""
    labels = [entry.label for entry in study.problem.judges]
    means = _mean_labels(study)
    splits = study.evaluate.on or ("validation", "test")
    evaluated = ["train_eval" if split == "train" else split for split in splits]
    return [
        "train_loss",
        *(f"train_{label}" for label in means if study.evaluate.batch_metrics),
        *(f"train_{label}_epoch" for label in ["loss", *means]),
        *(f"{split}_{label}" for split in evaluated for label in ["loss", *labels]),
    ]


def _mean_labels(study: StudyFile) -> list[str]:
    """Return the names of the metrics that have values of batches, as means over samples have."""
    return [
        entry.label
        for entry in study.problem.judges
        if not needs_whole_split(entry.name, [entry.name] * entry.whole_split)
    ]


def _batch_metric_problems(study: StudyFile) -> Iterator[Problem]:
    """Metrics of batches need a metric; a function that is descended usually has none."""
    if study.evaluate.batch_metrics and not _mean_labels(study):
        yield Problem(
            "evaluate.batch_metrics",
            "the study has no metrics that are means over samples; leave it out: train_loss is "
            "recorded at every step.",
        )


def _returning(arrays: Any) -> Callable[[], Any]:
    """Return a function that returns arrays, as a study names a dataset."""

    def data() -> Any:
        return arrays

    return data


def _named(path: str, thing: Any) -> str:
    """Return a name for an object that `compare` takes.

    Raises:
        StudyError: it cannot be told from others like it.
    """
    try:
        return register(thing)
    except Unidentifiable as error:
        name = getattr(thing, "__name__", None) or type(thing).__name__
        problem = Problem(path, f"{name} {unidentifiable(error)}")
        raise StudyError([problem], "the comparison") from error


def _with_names(path: str, entry: Any) -> Any:
    """Replace the user's own objects in an entry of a study by names."""
    if isinstance(entry, Mapping):
        code = {key: entry[key] for key in _CODE_KEYS if not isinstance(entry.get(key, ""), str)}
        named = {key: thing for key, thing in code.items() if callable(thing) or key != "name"}
        return {**entry, **{key: _named(f"{path}.{key}", thing) for key, thing in named.items()}}
    return _named(path, entry) if callable(entry) else entry


def _with_names_each(path: str, entries: Any) -> Any:
    """Replace the user's own objects in a list of entries by names."""
    if not isinstance(entries, list | tuple):
        return entries
    return [_with_names(f"{path}[{index}]", entry) for index, entry in enumerate(entries)]


_CODE_KEYS = ("factory", "name", "torch", "rule_factory")


def _optimizer_entry(path: str, entry: Any) -> Any:
    """Turn what `compare` takes as an optimizer into an entry of a study file."""
    if isinstance(entry, str):
        return {"rule": entry}
    if isinstance(entry, Mapping):
        return _with_names(path, entry)
    if not callable(entry) and not isinstance(entry, Rule):
        message = (
            f"{entry!r}: must be the name of a rule, an entry such as {{'rule': 'adam', 'lr': "
            "0.01}, a class of torch.optim.Optimizer (not an instance), or a Rule."
        )
        raise StudyError([Problem(path, " ".join(message.split()))], "the comparison")
    return {"torch" if _takes_parameters(entry) else "rule_factory": _named(path, entry)}


def _takes_parameters(entry: Any) -> bool:
    """Return whether an object makes optimizers; one that makes a rule requires no argument."""
    if isinstance(entry, type) or not callable(entry):
        return isinstance(entry, type)
    try:
        parameters = inspect.signature(entry).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return bool(required)
