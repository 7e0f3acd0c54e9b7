"""Train one study in every way that must give the same numbers, and name what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from optrial.data import Dataset
from optrial.engine import Training
from optrial.errors import StudyError
from optrial.plan import pack
from optrial.records import Segment
from optrial.spec import RunSpec, Status
from optrial.study import Study
from tests.mixtures.studies import without
from tests.small import learner_for, train, train_stack
from tests.tolerance import PROBE_FLOAT64, TRAJECTORY_FLOAT64

_MOST_REPAIRS = 6


class RefusedError(Exception):
    """The study is refused before any compute is spent."""


def differences(keys: Mapping[str, Any]) -> list[str]:
    """Return where runs of a study differ between engines, stack widths and resumptions.

    Raises:
        RefusedError: the study or its data has a problem.
    """
    keys, dataset, runs = planned(keys)
    alone = {run.run_id: train(run, dataset, "reference") for run in runs}
    found: list[str] = []
    for stack in pack(runs, len(runs)):
        stacked = train_stack(stack, dataset, "stacked")
        for run, segment in zip(stack, stacked, strict=True):
            found += _named("stacked", run, _differing(alone[run.run_id], segment))
        last = stack[-1]
        single = train(last, dataset, "stacked")
        found += _named("stack of one", last, _differing(stacked[-1], single))
        resumed = _resumed(stack, dataset, "stacked")
        for run, whole, segment in zip(stack, stacked, resumed, strict=True):
            found += _named("resumed stack", run, _differing_bits(whole, segment))
        (segment,) = _resumed([last], dataset, "reference")
        found += _named("resumed", last, _differing_bits(alone[last.run_id], segment))
        if _takes_numpy(keys, dataset):
            found += _named("numpy", last, _differing(alone[last.run_id], _by_numpy(last, dataset)))
    return found


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


def _named(how: str, run: RunSpec, texts: Iterator[str]) -> list[str]:
    return [f"{how}, {run.optimizer} seed {run.seed}: {text}" for text in texts]


def _differing(one: Segment, other: Segment) -> Iterator[str]:
    """Yield which status, curve or value differs by more than rounding."""
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
        scale = max(np.nanmax(np.abs(first.values), initial=0.0), np.finfo(np.float64).tiny)
        tolerance = scale * (TRAJECTORY_FLOAT64 if _is_value(metric) else PROBE_FLOAT64)
        if not np.allclose(first.values, second.values, rtol=0, atol=tolerance, equal_nan=True):
            yield f"{metric} {first.values}, {second.values}"


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
