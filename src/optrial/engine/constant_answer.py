"""Loss and metrics of the best constant answer: a model that ignores its inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy  # imports its modules when they are first used
import torch
from numpy.typing import NDArray
from torch import Tensor

from optrial.code import is_code
from optrial.data import Dataset
from optrial.models import Objective, Units, build_objective, finished
from optrial.spec import MetricName, RunSpec, catalogued

__all__ = ["constant_answer", "units_of"]

MOST_CLASSES = 10_000
"""With more classes, no answer is computed: the time grows with the square of their number."""
MOST_OUTPUTS = 2**24
"""Outputs that a metric of a whole split is computed from."""
_OUTPUTS_AT_ONCE = 2**22
_LEAST_SHARE = 1e-12
"""Share of a class that the training split lacks; its logarithm must be finite."""

Row = NDArray[np.float64]
"""Outputs for one sample, (outputs,)."""

_known: dict[str, dict[str, float]] = {}  # by data, loss and metrics


def constant_answer(spec: RunSpec, dataset: Dataset) -> dict[str, float]:
    """Return what the best constant answer scores on each metric of a run, by name.

    The answer is fitted to the training split: the shares of the classes, or the means and medians
    of the values, whichever scores better. User functions are left out.
    """
    key = json.dumps(
        [
            *(dataset.sha256, spec.loss, spec.loss_arguments, spec.metrics, spec.evaluate_on),
            spec.original_units,
        ]
    )
    if key not in _known:
        _known[key] = dict(_scores(spec, dataset))
    return _known[key]


def _scores(spec: RunSpec, dataset: Dataset) -> Iterator[tuple[str, float]]:
    rows = _answers(spec, dataset)
    evaluated = dict.fromkeys(("train", *spec.evaluate_on))
    splits = {name: dataset.splits[name].targets for name in evaluated if name in dataset.splits}
    if dataset.ignored is not None:
        splits = {name: labels[labels != dataset.ignored] for name, labels in splits.items()}
    for name in ("loss", *spec.metrics):
        score, metric = _scorer(spec, name, units_of(spec, dataset)), catalogued(name)
        best = max if metric and metric.better == "higher" else min
        if score is None:
            continue
        for split, targets in splits.items():
            per_token = dataset.bytes_per_token.get(split)
            values = [finished(name, score(row, targets), per_token) for row in rows]
            if finite := [value for value in values if math.isfinite(value)]:
                yield str(MetricName.evaluation(name, split)), best(finite)
                if split == "train":
                    yield str(MetricName(name, "train")), best(finite)


def _answers(spec: RunSpec, dataset: Dataset) -> list[Row]:
    """Return the candidates for the best constant answer; empty if there is none."""
    targets = dataset.splits["train"].targets
    if dataset.kind in ("labels", "positions"):
        count = max(2, dataset.classes)
        if count > MOST_CLASSES or targets.dtype.kind not in "iu" or not _within(dataset, count):
            return []
        counted = targets if dataset.ignored is None else targets[targets != dataset.ignored]
        counts = np.bincount(counted.ravel(), minlength=count)
        return [_of_classes(spec, counts / counts.sum(), single=dataset.classes == 1)]
    values = targets.reshape(len(targets), -1).astype(np.float64)
    if spec.loss == "bce":
        return [_log_odds(values.mean(axis=0)) + np.log(_weights(spec, "pos_weight"))]
    if spec.loss == "poisson":
        return [np.log(np.maximum(values.mean(axis=0), _LEAST_SHARE))]
    if spec.loss == "quantile":
        levels = np.atleast_1d(np.asarray(spec.loss_arguments.get("q", 0.5)))
        return [np.quantile(values, levels, axis=0, method="inverted_cdf").T.ravel()]
    return [values.mean(axis=0), np.median(values, axis=0)]


def _within(dataset: Dataset, count: int) -> bool:
    """Return whether all labels are 0 to `count` - 1; a user's loss may give others a meaning."""
    labels = [split.targets for split in dataset.splits.values()]
    if dataset.ignored is not None:
        labels = [part[part != dataset.ignored] for part in labels]
    return all(len(part) and part.min() >= 0 and part.max() < count for part in labels)


def _of_classes(spec: RunSpec, shares: Row, *, single: bool) -> Row:
    """Return the answer from the shares of the classes, as the loss takes it."""
    if single:
        return _log_odds(shares[1:]) + np.log(_weights(spec, "pos_weight"))
    if spec.loss == "mse":
        return shares
    smoothing = spec.loss_arguments.get("label_smoothing", 0.0)
    assert isinstance(smoothing, int | float)
    smoothed = _weights(spec, "weight") * ((1 - smoothing) * shares + smoothing / len(shares))
    return np.log(np.maximum(smoothed, _LEAST_SHARE))


def _weights(spec: RunSpec, name: str) -> NDArray[np.float64]:
    """Return weights of classes or outputs, which broadcast over them."""
    return np.asarray(spec.loss_arguments.get(name, 1.0), np.float64)


def units_of(spec: RunSpec, dataset: Dataset) -> Units | None:
    """Return the units of the metrics of values; None for those of the targets."""
    scale = dataset.target_scale
    if scale is None or not spec.original_units:
        return None
    return Units(scale.mean.tolist(), scale.std.tolist())


def _log_odds(shares: Row) -> Row:
    odds: Row = scipy.special.logit(np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE))
    return odds


def _scorer(
    spec: RunSpec, name: str, units: Units | None
) -> Callable[[Row, NDArray[np.generic]], float] | None:
    """Return a function from an answer and the targets of a split to a value; None if unknown.

    The best constant answer of the focal loss is not known.
    """
    function = spec.loss if name == "loss" else name
    if is_code(function) or function in ("mean_output", "focal"):
        return None
    if name != "loss":
        of_values = spec.loss in ("poisson", "quantile")
        objective = build_objective(
            spec.loss if of_values else "mean_output",
            spec.loss_arguments if of_values else {},
            [name],
            units=units,
        )
        if objective.split_metrics:
            return lambda row, targets: _of_split(objective, row, targets)
        (metric,) = objective.metrics
        return lambda row, targets: _mean(metric, row, targets)
    loss = build_objective(spec.loss, spec.loss_arguments, []).loss
    return lambda row, targets: _mean(
        lambda outputs, batch: loss(outputs, batch) * len(batch),
        row,
        targets,
        _weights(spec, "weight"),
    )


def _mean(
    sum_over: Callable[[Tensor, Tensor], Tensor],
    row: Row,
    targets: NDArray[np.generic],
    weights: NDArray[np.float64] | float = 1.0,
) -> float:
    """Return the mean over samples of a function that sums over a batch.

    Args:
        sum_over: the function.
        row: outputs for one sample.
        targets: targets of a split.
        weights: weights of the classes, (classes,), or one number.
    """
    outputs = torch.from_numpy(row)
    if targets.dtype.kind == "i":  # one call per class; every position counts
        counts = np.bincount(targets.ravel())
        counts = counts * np.broadcast_to(weights, max(len(row), len(counts)))[: len(counts)]
        sums: list[float] = [
            float(count) * float(sum_over(outputs[None], torch.tensor([label])))
            for label, count in enumerate(counts)
            if count
        ]
        return math.fsum(sums) / math.fsum(counts)
    size = max(1, _OUTPUTS_AT_ONCE // len(row))
    parts = torch.split(torch.from_numpy(targets), size)
    total = sum(float(sum_over(_repeated(outputs, part), part)) for part in parts)
    return total / len(targets)


def _repeated(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs of one sample for each of some targets, in their shape if it has as many."""
    rows = outputs.expand(len(targets), -1)
    return rows.reshape(targets.shape) if rows.numel() == targets.numel() else rows


def _of_split(objective: Objective, row: Row, targets: NDArray[np.generic]) -> float:
    """Return a metric that needs all outputs of a split; NaN if there are too many."""
    labels = targets.dtype.kind == "i"
    answers = targets.size if labels else len(targets)
    if answers * len(row) > MOST_OUTPUTS:
        return math.nan
    outputs = torch.from_numpy(row).expand(answers, -1)
    flat = torch.from_numpy(targets.ravel() if labels else targets)
    (metric,) = objective.split_metrics.values()
    return metric(outputs, flat).value
