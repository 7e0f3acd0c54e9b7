"""Train one study in every way that must give the same numbers, and name what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from optrial.data import Dataset
from optrial.engine import Training
from optrial.engine.backends.reference import ReferenceEngine
from optrial.errors import StudyError
from optrial.plan import pack
from optrial.records import Segment
from optrial.spec import RunSpec, Status
from optrial.study import Study
from tests.mixtures.studies import without
from tests.small import learner_for, train, train_stack
from tests.tolerance import (
    CANCELLED,
    CHAOS_FACTOR,
    MOST_CHAOS,
    PROBE_FLOAT64,
    TRAJECTORY_FLOAT64,
)

_MOST_REPAIRS = 6
_PERTURBATIONS = 4


class RefusedError(Exception):
    """The study is refused before any compute is spent."""


def differences(keys: Mapping[str, Any]) -> list[str]:
    """Return where runs of a study differ between engines, stack widths and resumptions.

    Raises:
        RefusedError: the study or its data has a problem.
    """
    keys, dataset, runs = planned(keys)
    alone = {run.run_id: Alone(run, dataset) for run in runs}
    found: list[str] = []
    for stack in pack(runs, len(runs)):
        stacked = train_stack(stack, dataset, "stacked")
        for run, segment in zip(stack, stacked, strict=True):
            found += _named("stacked", run, alone[run.run_id].differing(segment))
        last = stack[-1]
        single = train(last, dataset, "stacked")
        found += _named("stack of one", last, alone[last.run_id].differing(single))
        resumed = _resumed(stack, dataset, "stacked")
        for run, whole, segment in zip(stack, stacked, resumed, strict=True):
            found += _named("resumed stack", run, _differing_bits(whole, segment))
        (segment,) = _resumed([last], dataset, "reference")
        found += _named("resumed", last, _differing_bits(alone[last.run_id].segment, segment))
        if _takes_numpy(keys, dataset):
            found += _named("numpy", last, alone[last.run_id].differing(_by_numpy(last, dataset)))
    return found


class Alone:
    """A run trained by itself in the reference engine, and how far rounding alone may move it."""

    def __init__(self, run: RunSpec, dataset: Dataset) -> None:
        self._run = run
        self._dataset = dataset
        self.segment = train(run, dataset, "reference")

    def differing(self, other: Segment) -> list[str]:
        """Return which status, curve or value of another engine differs by more than rounding.

        A gradient that cancels is rounding alone: it depends on the order of a sum, and so does its
        sign, which a rule such as Rprop follows by a whole step. Another engine is right, too, if
        it agrees, without further excuse, with a run in which these gradients have another sign.
        """
        lines = list(_unequal(self.segment, other, self._allowed_by_chaos))
        if lines and any(not list(_unequal(one, other)) for one in self._other_signs):
            return []
        return lines

    @cached_property
    def _other_signs(self) -> list[Segment]:
        """The run with gradients that cancel set to zero, or to either sign."""
        return [self._retrained(partial(_set_signs, sign)) for sign in (0.0, -1.0, 1.0)]

    def _allowed_by_chaos(self, metric: str) -> float:
        return min(CHAOS_FACTOR * self._moved.get(metric, 0.0), MOST_CHAOS)

    @cached_property
    def _moved(self) -> dict[str, float]:
        """How far each curve moves when weights start one last digit away."""
        moved: dict[str, float] = {}
        for seed in range(_PERTURBATIONS):
            curves = self._perturbed(seed).curves
            for metric, curve in self.segment.curves.items():
                if metric in curves and len(curves[metric].values) == len(curve.values):
                    distance = relative_distance(curve.values, curves[metric].values)
                    moved[metric] = max(moved.get(metric, 0.0), distance)
        return moved

    def _perturbed(self, seed: int) -> Segment:
        return self._retrained(partial(_perturb, torch.Generator().manual_seed(seed)))

    def _retrained(self, change: Callable[[nn.Module], None]) -> Segment:
        """Train the run with a change of its model, made before the first step."""
        learner = learner_for([self._run], self._dataset, "reference")
        assert isinstance(learner, ReferenceEngine)
        change(learner.model)
        training = Training([self._run], learner)
        for _ in training.run():
            pass
        (segment,) = training.segments()
        return segment


def _perturb(generator: torch.Generator, model: nn.Module) -> None:
    """Move each weight by one last digit."""
    with torch.no_grad():
        for parameter in model.parameters():
            signs = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(torch.nextafter(parameter, signs * torch.inf))


def _set_signs(sign: float, model: nn.Module) -> None:
    """Give gradients that cancel one sign, at each step."""

    def signed(gradient: torch.Tensor) -> torch.Tensor:
        rounding = CANCELLED * gradient.abs().max()
        return torch.where(gradient.abs() <= rounding, sign * rounding, gradient)

    for parameter in model.parameters():
        parameter.register_hook(signed)


def _no_chaos(metric: str) -> float:
    return 0.0


def _unequal(
    one: Segment, other: Segment, allowed: Callable[[str], float] = _no_chaos
) -> Iterator[str]:
    """Yield what differs between two segments of one run by more than rounding.

    Args:
        one: of the reference engine.
        other: of another engine.
        allowed: relative error of a metric that is excused.
    """
    if (one.status, one.step, one.reason) != (other.status, other.step, other.reason):
        yield f"{one.status} {one.step} {one.reason!r}"
        yield f"{other.status} {other.step} {other.reason!r}"
    if set(one.curves) != set(other.curves):
        yield f"curves {set(one.curves) ^ set(other.curves)} are missing"
    for metric in set(one.curves) & set(other.curves):
        first, second = one.curves[metric], other.curves[metric]
        if not np.array_equal(first.steps, second.steps):
            yield f"{metric} at steps {first.steps}, {second.steps}"
            continue
        usual = TRAJECTORY_FLOAT64 if _is_value(metric) else PROBE_FLOAT64
        distance = relative_distance(first.values, second.values)
        if distance > usual and distance > allowed(metric):
            yield f"{metric} {first.values}, {second.values}"


def relative_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two curves, as a share of the largest value of the first.

    Infinite where values that are not finite differ.
    """
    known = np.isfinite(one)
    if not np.array_equal(one[~known], other[~known], equal_nan=True):
        return np.inf
    scale = max(np.abs(one[known]).max(initial=0.0), np.finfo(np.float64).tiny)
    return float(np.abs(one[known] - other[known]).max(initial=0.0) / scale)


def _takes_numpy(keys: Mapping[str, Any], dataset: Dataset) -> bool:
    try:
        Study(**{**keys, "engine": "numpy"}).plan(dataset)
    except StudyError:
        return False
    return True


def _by_numpy(run: RunSpec, dataset: Dataset) -> Segment:
    segment = train(run, dataset, "numpy")
    (resumed,) = _resumed([run], dataset, "numpy")
    assert not list(_differing_bits(segment, resumed))
    return segment


def planned(keys: Mapping[str, Any]) -> tuple[Mapping[str, Any], Dataset, Sequence[RunSpec]]:
    """Plan a study without the keys that are refused beside others; return those left, too."""
    for _ in range(_MOST_REPAIRS):
        try:
            study = Study(**keys)
            dataset = study.load_data()
            return keys, dataset, study.plan(dataset).runs
        except StudyError as error:
            reason, keys = error, without(keys, [problem.path for problem in error.problems])
    raise RefusedError(str(reason)) from reason


def _named(how: str, run: RunSpec, texts: Iterable[str]) -> list[str]:
    return [f"{how}, {run.optimizer} seed {run.seed}: {text}" for text in texts]


def _is_value(metric: str) -> bool:
    return metric.startswith(("train_", "validation_", "test_"))


def _differing_bits(whole: Segment, parts: Sequence[Segment]) -> Iterator[str]:
    last = parts[-1]
    if (whole.status, whole.step) != (last.status, last.step):
        yield f"{whole.status} {whole.step}, {last.status} {last.step}"
    if whole.facts.parameters_sha256 != last.facts.parameters_sha256:
        yield "other parameters"
    for metric, curve in whole.curves.items():
        having = [part.curves[metric] for part in parts if metric in part.curves]
        values = np.concatenate([part.values for part in having])
        if not np.array_equal(curve.values, values, equal_nan=True):
            yield f"{metric} {curve.values}, {values}"


def _resumed(runs: Sequence[RunSpec], dataset: Dataset, engine: str) -> list[tuple[Segment, ...]]:
    """Train runs to the middle of their budget, and the rest from a checkpoint."""
    first = Training(runs, learner_for(runs, dataset, engine))
    first.learner.chunk = 1
    for _ in first.run(lambda step: step < runs[0].steps // 2 + 1):
        pass
    before = first.segments()
    if all(segment.status is not Status.INTERRUPTED for segment in before):
        return [(segment,) for segment in before]
    second = Training(runs, learner_for(runs, dataset, engine))
    second.resume(first.checkpoint())
    for _ in second.run():
        pass
    return list(zip(before, second.segments(), strict=True))
