"""Arguments of losses that depend on the data: weights of classes, number of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from optrial.config import StudyFile
from optrial.data import Dataset
from optrial.errors import Problem, counted
from optrial.models import BALANCED
from optrial.target_kinds import LABEL_LOSSES

__all__ = ["loss_arguments", "loss_problems"]


def loss_arguments(study: StudyFile, dataset: Dataset) -> dict[str, Any]:
    """Return the arguments of the loss of a study, with the numbers that `balanced` stands for.

    For `weight` and `alpha` these are samples / (classes x samples of the class), as in
    scikit-learn; for `pos_weight`, the number of zeros for each one. They are counted in the
    training split.
    """
    arguments = study.problem.loss.arguments
    if study.problem.loss.name not in LABEL_LOSSES:
        return arguments
    return {
        name: _balanced(name, dataset) if value == BALANCED else value
        for name, value in arguments.items()
    }


def _balanced(name: str, dataset: Dataset) -> list[float]:
    if name != "pos_weight":
        counts = _counts(dataset)
        return [float(counts.sum() / (len(counts) * count)) for count in counts]
    targets = dataset.splits["train"].targets
    ones = targets.reshape(len(targets), -1).sum(axis=0, dtype=np.float64)
    return [float((len(targets) - count) / count) for count in ones]


def _counts(dataset: Dataset) -> np.ndarray:
    """Return the number of training samples, or positions, of each class."""
    labels = dataset.splits["train"].targets.ravel()
    if dataset.ignored is not None:
        labels = labels[labels != dataset.ignored]
    return np.bincount(labels, minlength=dataset.classes)


def loss_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Yield why the loss of a study does not suit the targets of its dataset."""
    name, arguments = study.problem.loss.name, study.problem.loss.arguments
    is_values = dataset.regression
    if is_values and name in ("cross_entropy", "focal"):
        yield Problem("problem.loss", f"{name} needs class labels; use mse for values.")
        return
    if dataset.classes == 1 and name in ("cross_entropy", "focal"):
        reason = f"{name} needs two classes or more, and the training targets hold one"
        yield Problem("problem.loss", f"{reason}; add samples of another.")
        return
    if dataset.ignored is not None and name not in ("cross_entropy", "focal", "mean_output"):
        if ":" not in name:
            counts = f"{name} counts every position, and the targets hold"
            yield Problem(
                "problem.loss", f"{counts} ignore_index {dataset.ignored}; use cross_entropy."
            )
        return
    if name in ("poisson", "quantile") and not is_values:
        yield Problem("problem.loss", f"{name} needs values to predict; use cross_entropy.")
    elif name == "poisson":
        yield from _not_counts(dataset)
    for key in ("weight", "alpha", "pos_weight"):
        if name in LABEL_LOSSES and (reason := _unfit(key, arguments.get(key), dataset)):
            yield Problem(f"problem.loss.{key}", f"{arguments[key]!r}: {reason}.")


def _not_counts(dataset: Dataset) -> Iterator[Problem]:
    least = min(float(split.targets.min()) for split in dataset.splits.values())
    if least < 0:
        way_out = "use mse"
        if dataset.target_scale is not None:
            way_out = "counts must not be standardized: standardize_targets: false"
        reason = f"poisson needs counts of 0 or more, and a target is {least:g}; {way_out}"
        yield Problem("problem.loss", f"{reason}.")


def _unfit(key: str, value: object, dataset: Dataset) -> str:
    """Return why the weights of a loss do not fit the classes or outputs, or ""."""
    if key == "alpha" and isinstance(value, int | float) and dataset.classes != 2:
        return f"one number is for two classes, and there are {dataset.classes}; give a list"
    if isinstance(value, list | tuple) and len(value) != dataset.classes:
        kind = "output" if key == "pos_weight" else "class"
        kinds = {"output": "outputs", "class": "classes"}[kind]
        number = f"{dataset.classes} {kind if dataset.classes == 1 else kinds}"
        return f"{counted(len(value), 'number')} for {number}"
    if value != BALANCED:
        return ""
    targets = dataset.splits["train"].targets
    if key != "pos_weight":
        missing = np.flatnonzero(_counts(dataset) == 0).tolist()
        return f"class {missing[0]} has no training samples; give a list" if missing else ""
    if dataset.kind == "values":
        return "the targets are probabilities, not 0 and 1; give numbers"
    shares = targets.reshape(len(targets), -1).mean(axis=0)
    constant = np.flatnonzero((shares == 0) | (shares == 1)).tolist()
    return f"output {constant[0]} has one value in all samples; give a list" if constant else ""
