"""Trials of user-defined optimizers and rules on a few samples, before any run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from optrial.config import Axis, OptimizerEntry, StudyFile
from optrial.data import Dataset
from optrial.errors import USER_CODE_ERRORS, Problem, one_line
from optrial.models import TrialOptimizer, TrialProblem, gradients_of, try_optimizer
from optrial.plan.groups import axes_of, has_own_rule, parameters_of, placed, whole_entry
from optrial.plan.losses import loss_arguments
from optrial.plan.optimizers import rule_of_entry
from optrial.plan.space import model_axes
from optrial.rules import Rule, apply_all, initialise_all, warmup_starts
from optrial.rules.trial import repeats

__all__ = ["Batch", "trial_problem", "try_optimizers"]

_SAMPLES = 8
_MOST_SETTINGS = 64  # of one entry
_SECONDS = 10.0  # after which only one setting of each further entry is tried
_STEPS = 2

Batch = tuple[np.ndarray, np.ndarray]
Setting = Mapping[str, Any]


def trial_problem(
    study: StudyFile, dataset: Dataset, batch: Batch, model_arguments: Setting
) -> TrialProblem:
    """Return the problem of a study with one setting of its model, on some samples.

    The largest token and a position that does not count are put among them, if the data has such.

    Args:
        study: the study.
        dataset: its data.
        batch: samples as a model gets them, and targets.
        model_arguments: arguments of the model.
    """
    inputs, targets = batch
    if dataset.vocabulary is not None:
        inputs = inputs.copy()
        inputs.reshape(-1)[0] = dataset.vocabulary - 1
    if dataset.ignored is not None and not (targets == dataset.ignored).any():
        targets = targets.copy()
        targets[0].reshape(-1)[-1] = dataset.ignored
    return TrialProblem(
        (study.problem.model.name, model_arguments),
        (study.problem.loss.name, loss_arguments(study, dataset)),
        inputs,
        targets,
        dataset.classes,
        vocabulary=dataset.vocabulary,
        ignored=dataset.ignored,
        precision=study.precision,
        parts=dataset.parts,
    )


def try_optimizers(
    study: StudyFile, batch: Batch, dataset: Dataset
) -> tuple[list[Problem], list[str]]:
    """Take two steps with each user-defined optimizer; return problems and notes.

    Each combination of its arguments is tried with the first model, or, where these are many, each
    value of each argument; its first setting is also tried with each further model. An entry is
    left at its first problem.

    Args:
        study: a checked study, whose models take the data.
        batch: samples as a model gets them, and targets.
        dataset: the data that they are from.
    """
    samples = (batch[0][-_SAMPLES:], batch[1][-_SAMPLES:])
    tried = [
        trial_problem(study, dataset, samples, arguments)
        for arguments in _settings(model_axes(study.problem.model))
    ]
    problems: list[Problem] = []
    notes: dict[str, None] = {}
    deadline = time.monotonic() + _SECONDS
    for index, entry in enumerate(study.optimizers):
        for number, tried_entry in _user_defined(entry):
            where = f"optimizers[{index}]" + (f".groups[{number}]" if number is not None else "")
            for failures, messages in _trials(tried_entry, tried, entry, number):
                problems += [problem.under(where) for problem in failures]
                notes |= dict.fromkeys(messages)
                if failures or time.monotonic() > deadline:
                    break
    return problems, list(notes)


def _user_defined(entry: OptimizerEntry) -> Iterator[tuple[int | None, OptimizerEntry]]:
    """Yield an entry and its groups by number, where they are code; None for the entry itself."""
    if entry.kind != "rule":
        yield None, entry
    for number, group in enumerate(entry.groups or ()):
        if has_own_rule(entry, group) and group.kind != "rule":
            yield number, whole_entry(entry, group)


def _trials(
    entry: OptimizerEntry,
    problems: Sequence[TrialProblem],
    whole: OptimizerEntry,
    number: int | None,
) -> Iterator[tuple[list[Problem], list[str]]]:
    """Try an entry, or the one that stands for a group of it.

    Args:
        entry: what is tried.
        problems: models, loss and samples.
        whole: the entry of the study.
        number: number of the group; None for the entry itself.
    """
    first, *others = problems
    settings = _settings({**axes_of(entry), **_clip_axes(whole)})
    pairs = [(settings[0], first), *((settings[0], other) for other in others)]
    for setting, problem in [*pairs, *((setting, first) for setting in settings[1:])]:
        if entry.kind == "torch":
            optimizer: TrialOptimizer | None = _optimizer(entry, setting)
            if whole.groups and optimizer:
                optimizer = _divided(optimizer, problem, whole, number)
            yield try_optimizer(optimizer, problem) if optimizer else ([], [])
        else:
            yield _try_rule(entry, setting, problem), []


def _divided(
    optimizer: TrialOptimizer, problem: TrialProblem, whole: OptimizerEntry, number: int | None
) -> TrialOptimizer | None:
    """Give an optimizer its own parameters alone, and the entry's one its groups.

    None if it has no parameters.
    """
    known = problem.input_shape, problem.classes, problem.vocabulary
    placement = placed(whole, parameters_of(problem.model, *known))
    groups = list(zip(whole.groups or (), placement.groups, strict=True))
    if number is not None:
        return replace(optimizer, names=placement.groups[number], alone=False)
    alike = [pair for pair in groups if not (pair[0].freeze or has_own_rule(whole, pair[0]))]
    if not (placement.rest or alike):
        return None
    own = tuple(
        (names, {n: axis.values[0] for n, axis in axes_of(whole_entry(whole, group)).items()})
        for group, names in alike
    )
    alone = not any(has_own_rule(whole, group) for group, _ in groups)
    scheduled = any(part.schedule for part in (whole, *(group for group, _ in alike)))
    return replace(optimizer, names=placement.rest, groups=own, alone=alone, scheduled=scheduled)


def _settings(axes: Mapping[str, Axis]) -> list[Setting]:
    """Return every combination of values; of many, the first with one value changed at a time."""
    values = [axis.values for axis in axes.values()]
    combinations = itertools.islice(itertools.product(*values), _MOST_SETTINGS + 1)
    settings: list[Setting] = [
        dict(zip(axes, combination, strict=True)) for combination in combinations
    ]
    if len(settings) <= _MOST_SETTINGS:
        return settings
    changed = ({**settings[0], name: v} for name, axis in axes.items() for v in axis.values[1:])
    return [settings[0], *itertools.islice(changed, _MOST_SETTINGS - 1)]


def _clip_axes(entry: OptimizerEntry) -> dict[str, Axis]:
    if entry.clip is None:
        return {}
    named = {"clip.norm": entry.clip.norm, "clip.value": entry.clip.value}
    return {name: axis for name, axis in named.items() if axis is not None}


def _optimizer(entry: OptimizerEntry, setting: Setting) -> TrialOptimizer:
    return TrialOptimizer(
        name=entry.code,
        arguments={name: v for name, v in setting.items() if not name.startswith("clip.")},
        closure=entry.closure,
        create_graph=entry.create_graph,
        clip_norm=setting.get("clip.norm"),
        clip_value=setting.get("clip.value"),
        scheduled=bool(entry.schedule),
        warmed={
            name: first
            for schedule in entry.schedule or ()
            for name, first in warmup_starts(schedule).items()
            if not name.endswith("sam.rho")
        },
    )


def _try_rule(entry: OptimizerEntry, setting: Setting, problem: TrialProblem) -> list[Problem]:
    """Take two steps with a user-defined rule, with the same gradients in both."""
    rule = rule_of_entry(entry)
    arguments = {
        name: value if isinstance(value, bool) else float(value)
        for name, value in setting.items()
        if not name.startswith("clip.")
    }
    weight_decay = arguments.pop("weight_decay")
    tried = gradients_of(problem)
    params: Mapping[str, Any] = {name: pair[0] for name, pair in tried.items()}
    curvature = {name: value * 0 + 1 for name, value in params.items()}
    grads = {name: pair[1] for name, pair in tried.items()}
    decay, step = entry.decay or rule.default_decay, 0
    try:
        state = initialise_all(rule, params, arguments)
        for step in range(1, _STEPS + 1):
            moved, state = apply_all(
                rule,
                params,
                grads,
                state,
                step,
                arguments,
                weight_decay,
                decay,
                curvature=curvature,
            )
            for name, value in moved.items():
                if tuple(value.shape) != tuple(params[name].shape):
                    shapes = f"{tuple(value.shape)}, not {tuple(params[name].shape)}"
                    reason = f"'{entry.code}' returned a change of {name} of shape {shapes}."
                    return [Problem("rule_factory", reason)]
            params = moved
    except USER_CODE_ERRORS as error:  # whatever the user's code raises
        where = f"in step {step}" if step else "in init"
        reason = f"'{entry.code}' failed {where}: {one_line(error).rstrip('.')}."
        return [Problem("rule_factory", reason)]
    return _repetition_problems(entry, rule)


def _repetition_problems(entry: OptimizerEntry, rule: Rule) -> list[Problem]:
    """Return the problem of a rule whose changes depend on more than its arguments."""
    try:
        is_same = repeats(rule, torch.tensor)
    except USER_CODE_ERRORS:  # of other shapes than those of the model, on which it was tried
        return []
    reason = (
        f"'{entry.code}' gives a different change when a step is repeated: it draws random "
        "numbers, or keeps something outside its state, such as a counter. Use the state, the "
        "argument step and, for random numbers, draws."
    )
    return [] if is_same else [Problem("rule_factory", reason)]
