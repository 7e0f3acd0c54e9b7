"""Expand a study and its datasets into the runs to train."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from optrial.code import code_sha256, is_code
from optrial.config import Evaluation, OptimizerEntry, Probing, Span, Studies, StudyFile
from optrial.data import Dataset
from optrial.errors import Problem, StudyError, counted
from optrial.garbage import collecting_no_garbage
from optrial.markup import html_block, html_table
from optrial.models import check_input_shape, resolve_model, try_batch, try_code
from optrial.plan.evaluation import (
    in_original_units,
    memory_problems,
    metric_problems,
    whole_split,
    whole_split_notes,
)
from optrial.plan.groups import (
    Parameters,
    Placement,
    groups_of,
    leaves_matrices,
    matrix_note,
    parameters_of,
    placed,
    placement_problems,
)
from optrial.plan.losses import loss_arguments, loss_problems
from optrial.plan.optimizers import rule_of_entry
from optrial.plan.space import Point, model_axes, space_of, under
from optrial.plan.trial import trial_problem, try_optimizers
from optrial.plan.tuning import Trial, choose, tuning_seeds, waves
from optrial.rules import resolve_schedule
from optrial.spec import (
    Average,
    EarlyStopping,
    Phase,
    ProbeSettings,
    RunSpec,
    SettingScore,
    setting_text,
)

__all__ = ["Plan", "make_plan"]

_ROWS_SHOWN = 30  # settings that a notebook shows
_TRIED_SAMPLES = 32  # user-defined code is tried on so many


@dataclass(frozen=True, repr=False)
class Plan:
    """A study expanded into the runs that are known so far.

    Attributes:
        studies: the study, by problem.
        runs: every run, by problem, optimizer, setting and seed; with `tune`, wave after wave, the
            report last.
        problems: run id -> name of its problem.
        settings: run id -> the values that vary, as every table shows them: ``lr=0.1``.
        phases: run id -> "tune" or "report".
        registered: everything that was fixed before the first run, as text.
        code: name -> hash of all user code, as it was when the study was first expanded.
        why: what the last runs are for, in one line; empty without `tune`.
        notes: what the user should know about user code, one line each.
    """

    studies: Studies
    runs: tuple[RunSpec, ...]
    problems: Mapping[str, str]
    settings: Mapping[str, str]
    phases: Mapping[str, Phase]
    registered: str
    code: Mapping[str, str]
    why: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Plan {self.name!r} {self.hash}: {counted(len(self.runs), 'run')}>"

    def _repr_html_(self) -> str:
        rows: Counter[tuple[str, str, str, int]] = Counter()
        for run in self.runs:
            problem, setting = self.problems[run.run_id], self.settings[run.run_id]
            rows[problem, run.optimizer, setting, run.steps] += 1
        columns = ["problem", "optimizer", "setting", "steps", "seeds"]
        cells = [(*texts, f"{steps:,}", str(seeds)) for (*texts, steps), seeds in rows.items()]
        notes = [f"and {counted(len(cells) - _ROWS_SHOWN, 'more setting')}"]
        table = html_table(columns, cells[:_ROWS_SHOWN], left=3)
        return html_block(repr(self)[1:-1], table, notes=notes * (len(cells) > _ROWS_SHOWN))

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.studies.shared.name

    @cached_property
    def hash(self) -> str:
        """Hash that changes with any run added, changed or removed, but not with tuning results."""
        return sha256(self.registered.encode()).hexdigest()[:12]

    def runs_of(self, problem: str) -> tuple[RunSpec, ...]:
        """Return the runs of one problem."""
        return tuple(run for run in self.runs if self.problems[run.run_id] == problem)


def make_plan(
    studies: Studies,
    datasets: Mapping[str, Dataset],
    scores: Mapping[str, float | None] = MappingProxyType({}),
    code: Mapping[str, str] | None = None,
) -> Plan:
    """Expand every grid axis and seed of a checked study, problem by problem.

    With `tune`, the plan goes as far as `scores` can decide: while a run of a wave has none, that
    wave is the last of its problem; when every wave has, the chosen setting of each optimizer
    follows, with the seeds of the report. The same scores always give the same plan.

    Args:
        studies: the study.
        datasets: the dataset of each problem, by name of the problem.
        scores: run id -> score of a finished run, higher is better; None for a run that failed.
        code: hashes of the plan that this one continues: changes that training makes to the state
            of user code make no other runs.

    Raises:
        StudyError: a batch size beyond the training split, an evaluation on a split that the
            dataset does not have, user code that does not take the data, or two settings or
            problems that are the same run.
    """
    expansions: dict[str, _Expansion] = {}
    problems: dict[str, list[Problem]] = {}
    notes: list[str] = []
    code = _code(studies) if code is None else code  # before any of it is tried
    for name, study in studies.by_name.items():
        dataset = datasets[name]
        problems[name] = list(_data_problems(study, dataset))
        tried: list[str] = []
        problems[name] += () if problems[name] or scores else _group_problems(study, dataset)
        if not (problems[name] or scores):  # else they were tried when the first runs were planned
            batch = _tried_batch(dataset, study.precision)
            problems[name], tried = try_optimizers(study, batch, dataset)
        if not problems[name]:
            expansions[name] = _Expansion(study, dataset, scores, code)
            whole = expansions[name].common["whole_split"]
            problems[name] += memory_problems(study, dataset, whole)
            notes += [*whole_split_notes(study, whole), *tried, *_matrix_notes(study, dataset)]
    source = f"study '{studies.shared.name}'"
    if located := studies.located(problems):
        raise StudyError(located, source)
    with collecting_no_garbage():
        reasons = {name: expansion.expand() for name, expansion in expansions.items()}
    _refuse_equal_problems(studies, expansions, source)
    return Plan(
        studies=studies,
        runs=tuple(run for e in expansions.values() for run in e.runs.values()),
        problems={run_id: name for name, e in expansions.items() for run_id in e.runs},
        settings={run_id: text for e in expansions.values() for run_id, text in e.settings.items()},
        phases={run_id: phase for e in expansions.values() for run_id, phase in e.phases.items()},
        registered="".join(expansion.registered for expansion in expansions.values()),
        code=code,
        why=_joined(reasons),
        notes=tuple(dict.fromkeys(notes)),
    )


def _refuse_equal_problems(
    studies: Studies, expansions: Mapping[str, _Expansion], source: str
) -> None:
    first: dict[str, str] = {}
    for name, expansion in expansions.items():
        for run_id in expansion.runs:
            if run_id in first:
                same = f"has a run that {first[run_id]} has too; keep one of the two problems."
                raise StudyError([Problem(studies.sources[name].place, same)], source)
        first |= dict.fromkeys(expansion.runs, name)


def _joined(reasons: Mapping[str, str]) -> str:
    """Return the reasons of all problems in one line, equal ones once."""
    if len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())


class _Expansion:
    """The runs of a study on one problem, as they are added."""

    def __init__(
        self,
        study: StudyFile,
        dataset: Dataset,
        scores: Mapping[str, float | None],
        code: Mapping[str, str],
    ) -> None:
        self.study = study
        self.dataset = dataset
        self.scores = scores
        self.code = {name: code[name] for name in _code_names(study)}
        self.entries = {entry.label: entry for entry in study.optimizers}
        self.spaces = {name: space_of(study, entry) for name, entry in self.entries.items()}
        self.common = _common_fields(study, dataset)
        self.runs: dict[str, RunSpec] = {}
        self.settings: dict[str, str] = {}
        self.phases: dict[str, Phase] = {}
        self.tried: dict[Trial, list[str]] = {}
        self.registered = ""

    def expand(self) -> str:
        """Add every run that can be known; return what the last ones are for."""
        study, spaces = self.study, self.spaces
        if study.tune is None:
            grids = [Trial(name, point) for name, space in spaces.items() for point in space.grid()]
            self.add(grids, study.seeds, "report")
            return ""
        for wave in waves(study.tune, list(spaces.values()), self.score):
            self.add(wave.trials, tuning_seeds(study), "tune")
            if not self.scores.keys() >= self.runs.keys():
                return f"tuning: {wave.why}"
        trials = list(self.tried)
        chosen = [
            choose(space, [t for t in trials if t.optimizer == name], self.score)
            for name, space in spaces.items()
        ]
        self.add(chosen, study.seeds, "report")
        settings = [f"{trial.optimizer} {setting_text(self.setting(trial))}" for trial in chosen]
        return f"chosen: {', '.join(settings)}"

    def add(self, trials: Iterable[Trial], seeds: Iterable[int], phase: Phase) -> None:
        """Add the runs of some settings with some seeds."""
        common = self.common
        if phase == "tune":  # which neither sees the test split nor keeps any weights
            seen = tuple(split for split in common["evaluate_on"] if split != "test")
            unused: dict[str, Any] = {"save": None, "select": None}
            unused |= {"batch_metrics": False, "evaluate_start": False}
            common = common | {"evaluate_on": seen, **unused}
        for trial in trials:
            fields = _fields(self.study, self.entries[trial.optimizer], self.dataset, trial.point)
            if phase == "tune":
                fields["probes"] = None
            fields |= self._placed(self.entries[trial.optimizer], fields, trial.point)
            fields["code"] = self._code(self.entries[trial.optimizer])
            setting = self.setting(trial)
            first = RunSpec(**common, **fields, optimizer=trial.optimizer, seed=0)
            for seed in seeds:
                run = first.with_seed(seed)
                if run.run_id in self.runs:
                    taken = self.settings[run.run_id]
                    same = f"'{taken}' and '{setting}' are the same run; keep one."
                    problem = Problem(trial.optimizer, same)
                    raise StudyError([problem], f"study '{self.study.name}'")
                self.runs[run.run_id] = run
                self.settings[run.run_id] = setting
                self.phases[run.run_id] = phase
                self.tried.setdefault(trial, []).append(run.run_id)
        self.registered = self.registered or " ".join(self.runs) + self._protocol()

    def _placed(
        self, entry: OptimizerEntry, fields: Mapping[str, Any], point: Point
    ) -> dict[str, Any]:
        """Return the fields of a run that depend on the parameters of its model."""
        placement = _placement(self.study, entry, self.dataset, fields["model_arguments"])
        if placement is None:
            return {}
        points = [under(f"groups[{index}].", point) for index in range(len(entry.groups or ()))]
        length = fields["steps"], fields["steps_per_epoch"]
        schedules = [_schedule(self.study, own.get("schedule"), *length) for own in points]
        groups = groups_of(entry, placement, points, schedules)
        return {"groups": groups, "as_vectors": placement.as_vectors}

    def _code(self, entry: OptimizerEntry) -> dict[str, str]:
        """Name and hash of all user code that the runs of an optimizer use."""
        own = set(_codes(entry))
        others = {code for other in self.entries.values() for code in _codes(other)} - own
        return {name: sha256 for name, sha256 in self.code.items() if name not in others}

    def _protocol(self) -> str:
        """Return the part of the protocol that is fixed before the first wave, as text."""
        if self.study.tune is None:
            return ""
        report = {name: self.common[name] for name in ("evaluate_on", "save", "select")}
        report["select"] = report["select"] and report["select"]._asdict()
        if self.common["batch_metrics"]:  # which says nothing where it is false, as in ids
            report["batch_metrics"] = True
        if self.common["evaluate_start"]:
            report["evaluate_start"] = True
        tune = self.study.tune.model_dump(mode="json")
        return json.dumps(report | {"seeds": self.study.seeds, "tune": tune})

    def setting(self, trial: Trial) -> str:
        """Return the values that vary, as tables show them, the learning rate first."""
        space = self.spaces[trial.optimizer]
        axes = space.axes
        names = [n for n, axis in axes.items() if len(axis.values) > 1 and n != "rule.lr"]
        names = ["rule.lr", *names] if "rule.lr" in axes else names
        return " ".join(
            f"{space.label(name)}={_distinct(trial.point[name], axes[name].values)}"
            for name in names
        )

    def score(self, trial: Trial) -> SettingScore:
        """Return the score of a trial over its runs."""
        return SettingScore.of(self.scores[run_id] for run_id in self.tried[trial])


def _data_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    size = dataset.batched.size
    for value in study.batch_size.values:
        if value != "full" and value > size:
            limit = f"the training split has {size} samples; use at most that, or 'full'"
            yield Problem("batch_size", f"{value}: {limit}.")
            continue
        count = _batches(study, size, size if value == "full" else value)
        if count % study.accumulate:
            reason = f"does not divide the {count} batches of {value} samples of an epoch"
            way_out = "use a divisor or another batch_size"
            way_out += "" if study.drop_last else ", or drop_last: true"
            yield Problem("accumulate", f"{study.accumulate}: {reason}; {way_out}.")
    for split in study.evaluate.on or ():
        if split not in dataset.splits:
            has = ", ".join(dataset.splits)
            yield Problem("evaluate.on", f"'{split}': the dataset has only {has}.")
    if study.early_stopping and "validation" not in dataset.splits:
        has = ", ".join(dataset.splits)
        yield Problem("early_stopping", f"needs a validation split; the dataset has only {has}.")
    if study.tune and "validation" not in dataset.splits:
        has = ", ".join(dataset.splits)
        yield Problem("tune", f"chooses on the validation split; the dataset has only {has}.")
    spans = {
        "budget": study.budget,
        "evaluate.every": study.evaluate.every,
        "probes.every": study.probes and study.probes.every,
    }
    for path, span in spans.items():
        if span and span.tokens is not None and dataset.vocabulary is None:
            way_out = "inputs are numbers; use samples, epochs or steps"
            yield Problem(f"{path}.tokens", f"{span.tokens}: {way_out}.")
    if dataset.splits["train"].text is not None and study.rng == "script":
        yield Problem("rng", "'script' cannot draw windows of a text; use rng: streams.")
    yield from metric_problems(study, dataset)
    unfit = list(loss_problems(study, dataset))
    yield from unfit or _model_problems(study, dataset)


def _group_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield why groups of parameters do not suit a model of the study."""
    distinct: dict[Problem, None] = {}
    for index, entry in enumerate(study.optimizers):
        for parameters in _models(study, dataset) if entry.groups else ():
            wrong = placement_problems(entry, parameters)
            distinct |= dict.fromkeys(p.under(f"optimizers[{index}]") for p in wrong)
    yield from distinct


def _matrix_notes(study: StudyFile, dataset: Dataset) -> Iterator[str]:
    for entry in study.optimizers:
        for parameters in _models(study, dataset) if leaves_matrices(entry) else ():
            if note := matrix_note(entry, parameters):
                yield note


def _models(study: StudyFile, dataset: Dataset) -> Iterator[Parameters]:
    """Yield the parameters of each model of a study."""
    kind, axes = study.problem.model.name, model_axes(study.problem.model)
    for values in itertools.product(*(axis.values for axis in axes.values())):
        arguments = resolve_model(kind, dict(zip(axes, values, strict=True)))
        yield parameters_of(
            (kind, arguments), dataset.input_shape, dataset.classes, dataset.vocabulary
        )


def _placement(
    study: StudyFile, entry: OptimizerEntry, dataset: Dataset, arguments: Mapping[str, Any]
) -> Placement | None:
    """Return which parameters of a model are in which group; None if its entry has one rule."""
    if not (entry.groups or leaves_matrices(entry)):
        return None
    model = (study.problem.model.name, arguments)
    return placed(
        entry, parameters_of(model, dataset.input_shape, dataset.classes, dataset.vocabulary)
    )


def _model_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield problems of every grid point of the model with samples of this shape."""
    axes, loss = model_axes(study.problem.model), study.problem.loss
    kind = study.problem.model.name
    metrics = _metrics(study)
    own_code = any(map(is_code, (kind, loss.name, *metrics)))
    # Models of the catalogue are known to return one output per class or value, and no more.
    tried = own_code or dataset.kind == "positions" or dataset.vocabulary is not None
    tried |= dataset.splits["train"].targets.ndim > 2
    batch = _tried_batch(dataset, study.precision)
    sizes = [small for small in _small_batches(study, dataset) if own_code or small.samples == 1]
    distinct: dict[Problem, None] = {}
    for values in itertools.product(*(axis.values for axis in axes.values())):
        model = (kind, dict(zip(axes, values, strict=True)))
        unfit = check_input_shape(*model, dataset.input_shape, dataset.vocabulary, dataset.classes)
        wrong = [fault.under("model") for fault in unfit]
        problem = trial_problem(study, dataset, batch, model[1])
        if tried and not wrong:
            wrong = try_code(problem, metrics, keyed=study.rng != "script")
        distinct |= dict.fromkeys(fault.under("problem") for fault in wrong)
        for small in sizes if not wrong else ():
            if reason := try_batch(problem.first(small.samples)):
                distinct[small.problem(reason, dataset.batched.size)] = None
    yield from distinct


class _SmallBatch(NamedTuple):
    """A batch that has fewer samples than `try_code` gets."""

    batch_size: int
    samples: int

    def problem(self, reason: str, size: int) -> Problem:
        """Return why a training split of a size cannot be cut into such batches."""
        count = "one" if self.samples == 1 else str(self.samples)
        if self.samples == self.batch_size:
            text = f"a batch has {count} of {size} samples, {reason}; use a larger one."
        else:
            text = (
                f"the last batch of an epoch has {count} of {size} samples, {reason}; use "
                "drop_last: true or another size."
            )
        return Problem("batch_size", f"{self.batch_size}: {text}")


def _small_batches(study: StudyFile, dataset: Dataset) -> Iterator[_SmallBatch]:
    """Yield the batches, full ones and last ones, that are smaller than the one tried."""
    size, tried = dataset.batched.size, _tried_samples(dataset)
    cut = study.sampling == "epoch" and not study.drop_last
    for value in study.batch_size.values:
        if value != "full" and value <= size:
            for samples in (value, size % value if cut else 0):
                if 0 < samples < tried:
                    yield _SmallBatch(value, samples)


def _tried_samples(dataset: Dataset) -> int:
    """Return on how many samples code is tried: no other dimension of the data is as long."""
    train = dataset.splits["train"]
    taken = {*train.inputs.shape[1:], *train.targets.shape[1:], dataset.classes}
    free = (n for n in range(_TRIED_SAMPLES, 1, -1) if n not in taken)
    return min(next(free, _TRIED_SAMPLES), len(train.targets))


def _tried_batch(dataset: Dataset, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Return some training samples as a model gets them, the largest label among them."""
    split = dataset.splits["train"]
    rows = np.arange(_tried_samples(dataset))
    inputs, targets = split.inputs, split.targets
    if targets.dtype.kind == "i":
        rows[-1] = targets.reshape(len(targets), -1).max(axis=1).argmax()
    dtype = np.float64 if precision == "float64" else np.float32

    def as_trained(values: np.ndarray) -> np.ndarray:
        return values if values.dtype.kind == "i" else values.astype(dtype)

    return as_trained(inputs[rows]), as_trained(targets[rows])


def _common_fields(study: StudyFile, dataset: Dataset) -> dict[str, Any]:
    """Return the fields that all runs of a study share."""
    component = study.problem.dataset
    splits = tuple(split for split in dataset.splits if split != "train")
    return {
        "dataset": component.name,
        "dataset_arguments": dataset.arguments,
        "dataset_sha256": dataset.sha256,
        "loss": study.problem.loss.name,
        "loss_arguments": loss_arguments(study, dataset),
        "metrics": _metrics(study),
        "early_stopping": _early_stopping(study),
        "original_units": in_original_units(study, dataset),
        "loss_limit": study.loss_limit,
        "model": study.problem.model.name,
        "evaluate_on": study.evaluate.on or splits,
        "batch_metrics": study.evaluate.batch_metrics,
        "evaluate_start": study.evaluate.start,
        "whole_split": whole_split(study, dataset),
        "engine": study.engine,
        "compile": study.compile,
        "precision": study.precision,
        "rng": study.rng,
        "sampling": study.sampling,
        "shuffle": study.shuffle,
        "drop_last": study.drop_last,
        "accumulate": study.accumulate,
        "zero_grad": study.zero_grad,
        "threads": study.threads,
        "save": study.save,
        "select": study.selection if study.save == "best" else None,
    }


def _metrics(study: StudyFile) -> tuple[str, ...]:
    return tuple(entry.name for entry in study.problem.judges)


def _fields(
    study: StudyFile, entry: OptimizerEntry, dataset: Dataset, point: Point
) -> dict[str, Any]:
    """Return the fields that the runs of one setting share."""
    size = dataset.batched.size
    batch_size = size if point["batch_size"] == "full" else point["batch_size"]
    steps_per_epoch = _batches(study, size, batch_size) // study.accumulate
    samples = batch_size * study.accumulate
    tokens = 0 if dataset.vocabulary is None else samples * math.prod(dataset.input_shape)
    epoch = _Epoch(steps_per_epoch, samples, tokens)
    steps = epoch.steps_of(study.budget)
    return {
        **_optimizer_fields(entry, under("rule.", point)),
        "model_arguments": resolve_model(study.problem.model.name, under("model.", point)),
        "batch_size": batch_size,
        "steps_per_epoch": steps_per_epoch,
        "steps": steps,
        "evaluate_every": epoch.steps_of(study.evaluate.every),
        "schedule": _schedule(study, point.get("schedule"), steps, steps_per_epoch),
        "clip_norm": point.get("clip_norm"),
        "clip_value": point.get("clip_value"),
        "sam_rho": point.get("sam_rho"),
        "sam_adaptive": entry.adaptive_sam is not None,
        "average": _average(point),
        "probes": study.probes and _probes(study.probes, study.evaluate, epoch),
    }


def _average(point: Point) -> Average | None:
    if "average_ema" in point:
        return Average("ema", float(point["average_ema"]))
    return Average("tail", float(point["average_tail"])) if "average_tail" in point else None


def _batches(study: StudyFile, size: int, batch_size: int) -> int:
    """Return the number of batches of an epoch."""
    return (math.floor if study.drop_last else math.ceil)(size / batch_size)


def _schedule(
    study: StudyFile, schedule: Mapping[str, Any] | None, steps: int, steps_per_epoch: int
) -> dict[str, Any] | None:
    """Return a schedule with all durations in steps; one of a plateau with its direction."""
    if schedule is None:
        return None
    resolved = resolve_schedule(schedule, steps, steps_per_epoch)
    if resolved["kind"] == "plateau":
        resolved["better"] = study.directions.better(resolved["metric"])
    return resolved


def _early_stopping(study: StudyFile) -> EarlyStopping | None:
    stopping, selection = study.early_stopping, study.selection
    if stopping is None:
        return None
    metric = stopping.metric or (selection.metric if selection else "validation_loss")
    better = study.directions.better(metric) or "lower"
    return EarlyStopping(stopping.patience, metric, better, stopping.min_delta)


def _probes(probing: Probing, evaluation: Evaluation, epoch: _Epoch) -> ProbeSettings:
    every = epoch.steps_of(probing.every or evaluation.every)
    return ProbeSettings(tuple(probing.measure), every, probing.per_layer)


def _optimizer_fields(entry: OptimizerEntry, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a run that describe its optimizer."""
    if entry.kind == "torch":
        return {
            "optimizer_kind": "torch",
            "rule": entry.code,
            "hyperparameters": chosen,
            "weight_decay": 0.0,
            "decay": "l2",
            "closure": entry.closure,
            "create_graph": entry.create_graph,
        }
    rule = rule_of_entry(entry)
    weight_decay = float(chosen.pop("weight_decay"))
    return {
        "optimizer_kind": entry.kind,
        "rule": entry.code,
        "hyperparameters": {k: _number(v) for k, v in chosen.items()},
        "weight_decay": weight_decay,
        "decay": entry.decay or rule.default_decay,
        "modify": entry.modifiers,
    }


def _code(studies: Studies) -> dict[str, str]:
    """Name and hash of all user code of a study; datasets are hashed separately."""
    names = dict.fromkeys(n for study in studies.by_name.values() for n in _code_names(study))
    return {name: code_sha256(name) for name in names}


def _code_names(study: StudyFile) -> Iterator[str]:
    problem = study.problem
    optimizers = (code for entry in study.optimizers for code in _codes(entry))
    names = (*optimizers, problem.model.name, problem.loss.name, *_metrics(study))
    return filter(is_code, dict.fromkeys(names))


def _codes(entry: OptimizerEntry) -> Iterator[str]:
    """Yield the names of the rules, classes and schedules of an entry."""
    for part in entry.parts:
        yield part.code
        yield from (str(schedule.get("kind")) for schedule in part.schedule or ())


class _Epoch(NamedTuple):
    """Sizes that turn a length of training into steps.

    Attributes:
        steps: steps of an epoch.
        samples: samples of a step.
        tokens: tokens of a step; 0 for inputs that are no tokens.
    """

    steps: int
    samples: int
    tokens: int

    def steps_of(self, span: Span) -> int:
        """Return a length of training in steps."""
        if span.steps is not None:
            return span.steps
        if span.epochs is not None:
            return span.epochs * self.steps
        if span.samples is not None:
            return math.ceil(span.samples / self.samples)
        return math.ceil((span.tokens or 0) / max(1, self.tokens))


def _number(value: float | bool) -> float | bool:
    return value if isinstance(value, bool) else float(value)


def _distinct(value: Any, values: Iterable[Any]) -> str:
    """Return a value as `_short` does, or all its digits if others of its axis look the same."""
    text = _short(value)
    return text if sum(_short(other) == text for other in values) < 2 else repr(value)


def _short(value: Any) -> str:
    """Six significant digits, fewer where they are zeros."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, dict):  # a schedule
        arguments = [
            f"{name}:{_short(argument)}" for name, argument in value.items() if name != "kind"
        ]
        return ",".join([str(value.get("kind", "")), *arguments])
    return f"{value:.6g}" if is_number else str(value).replace(" ", "")
