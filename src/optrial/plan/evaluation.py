"""What evaluation needs to know of a problem: metrics that fit its targets, functions that are no
means over samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from optrial.config import StudyFile
from optrial.data import Dataset
from optrial.errors import Problem
from optrial.metric_names import catalogued
from optrial.models import needing_whole_split
from optrial.plan.space import model_axes

__all__ = ["metric_problems", "whole_split", "whole_split_notes"]

_TRIED_SAMPLES = 60
_KINDS = {
    "labels": ("class labels", "mse, mae or r2"),
    "values": ("values to predict", "accuracy or f1_macro"),
}

Targets = NDArray[np.generic]


def whole_split(study: StudyFile, dataset: Dataset) -> tuple[str, ...]:
    """Return the code of the user's that is evaluated on a whole split at once.

    These are names of metrics, declared or recognised, "loss" and "model"; see `RunSpec`.
    """
    problem = study.problem
    names = dict.fromkeys(entry.name for entry in problem.judges if entry.whole_split)
    unknown = [entry.name for entry in problem.judges if entry.name not in names]
    axes = model_axes(problem.model)
    samples = _of_all_classes(dataset)
    for values in itertools.product(*(axis.values for axis in axes.values())):
        model = problem.model.name, dict(zip(axes, values, strict=True))
        loss = problem.loss.name, problem.loss.arguments
        names |= dict.fromkeys(needing_whole_split(model, loss, unknown, samples, dataset.classes))
    return tuple(names)


def whole_split_notes(study: StudyFile, names: tuple[str, ...]) -> Iterator[str]:
    """Say in a line each what is evaluated on a whole split without being asked."""
    declared = {entry.name for entry in study.problem.judges if entry.whole_split}
    for name in names:
        if name == "model":
            yield (
                f"the outputs of '{study.problem.model.name}' for a sample depend on the samples "
                "beside it, so each split is evaluated as one batch"
            )
        elif name not in declared:
            label = study.problem.loss.name if name == "loss" else name
            yield f"'{label}' is no mean over samples, so it is computed from a whole split at once"


def metric_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Return what keeps metrics of the catalogue from having a value on this dataset."""
    splits = study.evaluate.on or tuple(name for name in dataset.splits if name != "train")
    for index, entry in enumerate(study.problem.metrics or ()):
        path = f"problem.metrics[{index}]"
        metric = None if entry.is_code else catalogued(entry.name)
        if metric is None:
            continue
        if metric.targets == ("labels" if dataset.regression else "values"):
            wanted, use = _KINDS[metric.targets]
            yield Problem(path, f"{entry.name} needs {wanted}; use {use}.")
            continue
        defined = _DEFINED.get(entry.name)
        for split in splits if defined else ():
            if split in dataset.splits and (
                reason := defined(dataset, dataset.splits[split].targets)
            ):
                yield Problem(path, f"{entry.name} has no value on the {split} split: {reason}.")


def _every_class(dataset: Dataset, targets: Targets) -> str:
    """A curve of each class needs samples that belong to it and samples that do not."""
    if dataset.regression:
        return ""
    missing = sorted({*range(max(2, dataset.classes))} - {*np.unique(targets).astype(int).tolist()})
    if not missing:
        return ""
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return f"no sample of class {shown}; use another split or balanced_accuracy"


def _two_classes(dataset: Dataset, targets: Targets) -> str:
    del targets
    if dataset.regression or dataset.classes <= 2:
        return ""
    return f"it is for two classes, and there are {dataset.classes}; use its _macro form"


def _no_zeros(dataset: Dataset, targets: Targets) -> str:
    del dataset
    zeros = int((np.asarray(targets) == 0).sum())
    return f"{zeros} targets are 0, by which it divides; use mae" if zeros else ""


def _above_minus_one(dataset: Dataset, targets: Targets) -> str:
    del dataset
    least = float(np.asarray(targets).min())
    return f"a target is {least:g}, and log(1 + target) needs more than -1" if least <= -1 else ""


def _varied(dataset: Dataset, targets: Targets) -> str:
    del dataset
    values = np.asarray(targets).reshape(len(targets), -1)
    constant = bool((values == values[:1]).all(axis=0).any())
    return "its targets are all equal; use mse or mae" if constant else ""


_DEFINED: Mapping[str, Callable[[Dataset, Targets], str]] = {
    **dict.fromkeys(("roc_auc", "average_precision"), _every_class),
    **dict.fromkeys(("f1", "precision", "recall"), _two_classes),
    "mape": _no_zeros,
    **dict.fromkeys(("msle", "rmsle"), _above_minus_one),
    **dict.fromkeys(("r2", "explained_variance"), _varied),
}


def _of_all_classes(dataset: Dataset) -> tuple[Targets, Targets]:
    """Return some training samples: of each class in turn, or spread over the values."""
    train = dataset.splits["train"]
    targets = train.targets.reshape(len(train.targets), -1)[:, 0]
    order = targets.argsort(kind="stable")
    if not dataset.regression:  # the first of each class, then the second of each, ...
        rank = np.empty(len(order), np.int64)
        for label in np.unique(targets):
            rows = np.flatnonzero(targets == label)
            rank[rows] = np.arange(len(rows))
        order = np.lexsort((targets, rank))[:_TRIED_SAMPLES]
    count = min(_TRIED_SAMPLES, len(order))
    rows = order[np.linspace(0, len(order) - 1, count).astype(int)]
    return train.inputs[rows].astype(np.float32), train.targets[rows]
