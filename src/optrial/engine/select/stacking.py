"""Tries whether user code can be trained in a stack with the same numbers as alone."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.data import Dataset
from optrial.engine.backends.reference import ReferenceEngine
from optrial.engine.backends.stacked import stackable_model
from optrial.engine.learner import Learner
from optrial.engine.options import has_own_code
from optrial.engine.select.attributes import Attributes
from optrial.engine.select.measure import Build
from optrial.errors import USER_CODE_ERRORS, reason_of
from optrial.memory import out_of_memory
from optrial.models import foreign_types
from optrial.plan import pack, rule_of
from optrial.rules.trial import stack_problems
from optrial.spec import RunSpec

__all__ = ["why_not_stacked"]

_SAME_GRADIENT = {"float32": 1e-3, "float64": 1e-6, "bfloat16": 0.1}  # relative
_SAME_LOSS = 1e-3  # relative difference of float32 losses that rounding explains after a few steps

Arrays = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


def why_not_stacked(runs: Sequence[RunSpec], dataset: Dataset, build: Build) -> str:
    """Return the reason why runs with user code cannot be one stack; "" if they can.

    Two runs take a few steps as a stack and alone. Catalogued code is known to stack.
    """
    first = runs[0]
    if not has_own_code(first):
        return ""
    model = stackable_model(first, dataset)
    if reason := _why_types_differ(model) or _why_rules_differ(runs):
        return reason
    pair, descents = pack(runs, 2)[0], _descents(runs)
    generators = _generators()
    try:
        losses = _losses(build("stacked", pair))
        changes = _changes(build("stacked", descents), len(descents))
    except USER_CODE_ERRORS as error:  # the reference engine may still train it
        if out_of_memory(error):
            raise
        return reason_of(error)
    learners = [build("reference", [run]) for run in pair]
    alone = np.hstack([_losses(learner) for learner in learners])
    drawn = _why_drawn(generators)
    if reason := drawn or _why_losses_differ(losses, alone) or _why_not_shared(learners[0]):
        return reason
    parameters = {name for name, _ in model.named_parameters()}
    for run, (_, change) in zip(descents, changes, strict=True):
        ((weights, expected),) = _changes(build("reference", [run]), 1)
        names = parameters & expected.keys()
        scale = _norm(expected[name] for name in names)
        scale += 1e-3 * _norm(weights[name] for name in names)  # weights are rounded
        difference = _norm(change[name] - expected[name] for name in names)
        if difference > _SAME_GRADIENT[first.precision] * scale:
            return "in a stack its gradients differ from those of a run on its own"
    return ""


def _generators() -> bytes:
    """Return the states of the global generators of Python and NumPy."""
    return pickle.dumps((random.getstate(), np.random.get_state()))


def _why_types_differ(model: nn.Module) -> str:
    """Return the types of parameters in which a stack has no hyperparameters; or ""."""
    own_types = foreign_types(model, torch.float32)
    return f"its parameters are {' and '.join(map(str, own_types))}" if own_types else ""


def _why_rules_differ(runs: Sequence[RunSpec]) -> str:
    """Return the reason if a user-defined rule takes different steps in a stack; else "".

    Three of its settings are tried; if there are fewer, smaller learning rates are added.
    """
    tried: dict[tuple[str, tuple[str, ...]], list[Mapping[str, float | bool]]] = {}
    for part in (part for run in runs for part in run.known_parts):
        if part.optimizer_kind == "rule_factory":
            settings = tried.setdefault((part.rule, part.modify), [])
            if part.hyperparameters not in settings:
                settings.append(part.hyperparameters)
    for (name, modify), settings in tried.items():
        try:
            rule = rule_of("rule_factory", name, modify)
            known = [rule.defaults | {n: s[n] for n in rule.defaults if n in s} for s in settings]
            smaller = [{**known[0], "lr": known[0]["lr"] * 0.5**power} for power in (1, 2)]
            differs = any(stack_problems(rule, torch.tensor, [*known, *smaller][:3]))
        except USER_CODE_ERRORS as error:
            return reason_of(error)
        if differs:
            return f"'{name}' takes different steps for several runs at once than for one"
    return ""


def _why_drawn(before: bytes) -> str:
    """Return the reason if a stack, unlike a run by itself, advanced the global generators."""
    if _generators() == before:
        return ""
    return "it draws from a generator of Python or NumPy, which the runs of a stack would share"


def _why_losses_differ(stacked: Floats, alone: Floats) -> str:
    if not np.isfinite(alone[0]).all():
        return "its first loss is not finite, which leaves nothing to compare a stack with"
    if not np.allclose(stacked, alone, rtol=_SAME_LOSS, equal_nan=True):
        return "in a stack its numbers differ from those of a run on its own"
    return ""


def _why_not_shared(learner: Learner) -> str:
    """Return why the runs of a stack cannot share the attributes of a model, as they do; or "".

    Attributes that are set at the first step only, such as a mask, may be shared.
    """
    if not isinstance(learner, ReferenceEngine):
        return ""
    before = Attributes(learner.model)
    learner.advance(1)
    if name := Attributes(learner.model).changed(before):
        return f"its attribute '{name}' changes while it trains; use a buffer for what is counted"
    return ""


def _descents(runs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
    """Return runs of gradient descent at two rates for up to two seeds.

    The change in a step is the gradient. A small rate, or a rule that divides by the size of the
    gradient, would hide a wrong one.
    """
    seeds = list(dict.fromkeys(run.seed for run in runs))[:2]
    plain: dict[str, Any] = {
        **{"optimizer": "sgd", "optimizer_kind": "rule", "rule": "sgd", "weight_decay": 0.0},
        **{"schedule": None, "clip_norm": None, "clip_value": None, "loss_limit": None},
        **{"groups": tuple(group for group in runs[0].groups if group.freeze), "as_vectors": ()},
        "modify": (),
    }
    grid = (
        replace(runs[0], seed=seed, hyperparameters={"lr": rate}, **plain)
        for seed in seeds
        for rate in (0.5, 1.0)
    )
    return pack(grid, 4)[0]


def _losses(learner: Learner) -> Floats:
    """Take three steps and evaluate; return all losses, (4, runs), NaN from a divergence on."""
    learner.start(1)
    steps = learner.advance(3).losses
    losses = np.full((4, steps.shape[1]), np.nan)
    losses[: len(steps)] = steps
    losses[3] = learner.evaluate("train", 3).losses
    losses[~np.logical_and.accumulate(np.isfinite(losses))] = np.nan
    return losses


def _changes(learner: Learner, runs: int) -> list[tuple[Arrays, Arrays]]:
    """Take one step; return the weights of each run before it, and their changes."""
    before = [learner.weights(run) for run in range(runs)]
    learner.start(1)
    learner.advance(1)
    after = [learner.weights(run) for run in range(runs)]
    return [
        (old, {name: new[name] - old[name] for name in old if old[name].dtype.kind in "fc"})
        for old, new in zip(before, after, strict=True)
    ]


def _norm(arrays: Iterable[NDArray[Any]]) -> float:
    """Return the norm of arrays as one vector; values that are not finite count as zero."""
    finite = (np.nan_to_num(array, posinf=0.0, neginf=0.0) for array in arrays)
    return math.sqrt(sum(float((np.abs(array) ** 2).sum()) for array in finite))
