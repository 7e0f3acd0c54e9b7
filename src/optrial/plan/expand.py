"""Expand a study and its datasets into the runs to train."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from optrial.code import code_sha256, is_code
from optrial.config import OptimizerEntry, Studies, StudyFile
from optrial.data import Dataset
from optrial.errors import Problem, StudyError, counted
from optrial.garbage import collecting_no_garbage
from optrial.markup import html_block, html_table
from optrial.plan.evaluation import memory_problems, whole_split_notes
from optrial.plan.fields import common_fields, metric_names, schedule_in_steps, setting_fields
from optrial.plan.fit import data_problems, group_problems, matrix_notes, output_notes, tried_batch
from optrial.plan.groups import Placement, groups_of, leaves_matrices, parameters_of, placed
from optrial.plan.space import Point, space_of, under
from optrial.plan.trial import try_optimizers
from optrial.plan.tuning import Trial, choose, tuning_seeds, waves
from optrial.spec import Fold, Phase, Rung, RunSpec, SettingScore, setting_text

__all__ = ["Plan", "make_plan"]

_ROWS_SHOWN = 30  # settings that a notebook shows


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
        rows: Counter[tuple[str, str, str, str]] = Counter()
        for run in self.runs:
            problem, setting = self.problems[run.run_id], self.settings[run.run_id]
            length = f"{run.budget_seconds:g} s" if run.budget_seconds else f"{run.steps:,}"
            rows[problem, run.optimizer, setting, length] += 1
        has_folds = any(run.fold for run in self.runs)
        columns = ["problem", "optimizer", "setting", "steps", "runs" if has_folds else "seeds"]
        cells = [(*texts, str(seeds)) for texts, seeds in rows.items()]
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
        problems[name] = data_problems(study, dataset)
        tried: list[str] = []
        problems[name] += () if problems[name] or scores else group_problems(study, dataset)
        if not (problems[name] or scores):  # else they were tried when the first runs were planned
            batch = tried_batch(dataset, study.precision)
            problems[name], tried = try_optimizers(study, batch, dataset)
            tried += output_notes(study, dataset)
        if not problems[name]:
            expansions[name] = _Expansion(study, dataset, scores, code)
            whole = expansions[name].common["whole_split"]
            problems[name] += memory_problems(study, dataset, whole)
            notes += [*whole_split_notes(study, whole), *tried, *matrix_notes(study, dataset)]
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


@contextmanager
def _at(path: str, source: str = "the study") -> Iterator[None]:
    """Raise problems with a schedule, as a budget shows them, under the path of its part."""
    try:
        yield
    except StudyError as error:
        if not all(p.path.startswith(("schedule", "groups[")) for p in error.problems):
            raise
        raise StudyError((p.under(path) for p in error.problems), source) from None


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
        self.common = common_fields(study, dataset)
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
        trials = [trial for trial in self.tried if trial.rung is None]
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
            setting = self.setting(trial)
            firsts = self._by_fold(trial, common, phase)
            for first, seed in itertools.product(firsts, seeds):
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

    def _by_fold(self, trial: Trial, common: Mapping[str, Any], phase: Phase) -> list[RunSpec]:
        """Return a run of a setting on each fold, or the one on a fixed test split.

        A trial in a rung of successive halving has a part of the budget.
        """
        runs = [self._run(trial, dataset, common, phase) for dataset in self.dataset.versions]
        if self.dataset.folds:
            ids = runs[0].setting_id, runs[0].protocol_id
            return [replace(run, fold=Fold(i, len(runs), *ids)) for i, run in enumerate(runs)]
        if rung := trial.rung:  # never with folds, on which nothing is tuned
            part = Rung(rung.place, rung.total, runs[0].setting_id)
            run = self._run(trial, self.dataset, common, phase, rung.divisor)
            return [replace(run, rung=part)]
        return runs

    def _run(
        self,
        trial: Trial,
        dataset: Dataset,
        common: Mapping[str, Any],
        phase: Phase,
        divisor: int = 1,
    ) -> RunSpec:
        """Return a run of a setting on one version of the dataset, with a part of the budget."""
        entry = self.entries[trial.optimizer]
        index = list(self.entries).index(trial.optimizer)
        with _at(f"optimizers[{index}]", f"study '{self.study.name}'"):
            fields = setting_fields(self.study, entry, dataset, trial.point, divisor)
            fields |= self._placed(entry, fields, trial.point, divisor)
        if phase == "tune":
            fields["probes"] = None
        fields["code"] = self._code(entry)
        return RunSpec(**common, **fields, optimizer=trial.optimizer, seed=0)

    def _placed(
        self, entry: OptimizerEntry, fields: Mapping[str, Any], point: Point, divisor: int
    ) -> dict[str, Any]:
        """Return the fields of a run that depend on the parameters of its model."""
        placement = _placement(self.study, entry, self.dataset, fields["model_arguments"])
        if placement is None:
            return {}
        points = [under(f"groups[{index}].", point) for index in range(len(entry.groups or ()))]
        length = fields["steps"], fields["steps_per_epoch"], divisor
        schedules = []
        for index, own in enumerate(points):
            with _at(f"groups[{index}]"):
                schedules.append(schedule_in_steps(self.study, own.get("schedule"), *length))
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


def _code(studies: Studies) -> dict[str, str]:
    """Name and hash of all user code of a study; datasets are hashed separately."""
    names = dict.fromkeys(n for study in studies.by_name.values() for n in _code_names(study))
    return {name: code_sha256(name) for name in names}


def _code_names(study: StudyFile) -> Iterator[str]:
    problem = study.problem
    optimizers = (code for entry in study.optimizers for code in _codes(entry))
    names = (*optimizers, problem.model.name, problem.loss.name, *metric_names(study))
    return filter(is_code, dict.fromkeys(names))


def _codes(entry: OptimizerEntry) -> Iterator[str]:
    """Yield the names of the rules, classes and schedules of an entry."""
    for part in entry.parts:
        yield part.code
        yield from (str(schedule.get("kind")) for schedule in part.schedule or ())


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
