"""Checks of metrics against the targets, and functions that are not means over samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from optrial.code import is_code
from optrial.config import StudyFile
from optrial.data import Dataset
from optrial.errors import USER_CODE_ERRORS, OptrialError, Problem, StudyError, one_line
from optrial.memory import memory_limit, out_of_memory, shortage
from optrial.models import needing_whole_split, needs_whole_split
from optrial.plan.space import model_axes
from optrial.plan.trial import trial_problem
from optrial.spec import PER_TOKEN, catalogued, has_units, top_count

__all__ = [
    "EVALUATED_AT_ONCE",
    "KEPT_OUTPUTS",
    "MOST_SAMPLES",
    "in_original_units",
    "kept_outputs",
    "memory_problems",
    "metric_problems",
    "whole_split",
    "whole_split_notes",
]

EVALUATED_AT_ONCE = 2**26
"""Activations that are computed at once; bounds the memory of evaluation, not its result."""

MOST_SAMPLES = 2**15
"""Samples times runs that are evaluated at once, at most."""

KEPT_OUTPUTS = 2**26
"""Numbers that runs of a stack put out for a whole split and that are kept at once, unless one run
alone puts out more."""
_TRIED_SAMPLES = 60
_TRIED_TARGETS = 2048
_KINDS = {
    "labels": ("class labels", "mse, mae or r2"),
    "values": ("values to predict", "accuracy or f1_macro"),
}

Targets = NDArray[np.generic]


def whole_split(study: StudyFile, dataset: Dataset) -> tuple[str, ...]:
    """Return the user-defined code that is evaluated on a whole split at once.

    These are names of metrics, declared or recognised, "loss" and "model"; see `RunSpec`.

    Raises:
        StudyError: code raises an error on samples that it accepted before.
    """
    problem = study.problem
    names = dict.fromkeys(entry.name for entry in problem.judges if entry.whole_split)
    unknown = [entry.name for entry in problem.judges if entry.name not in names]
    axes = model_axes(problem.model)
    inputs, targets = _tried_samples(dataset)
    for values in itertools.product(*(axis.values for axis in axes.values())):
        arguments = dict(zip(axes, values, strict=True))
        tried = trial_problem(study, dataset, (inputs, targets), arguments)
        try:
            names |= dict.fromkeys(needing_whole_split(tried, unknown))
        except USER_CODE_ERRORS as error:
            if isinstance(error, OptrialError) or out_of_memory(error):
                raise
            raised = f"user code raised {one_line(error).rstrip('.')}"
            reason = (
                f"{raised} on samples that it accepted before; it must not change between calls."
            )
            raise StudyError([Problem("problem", reason)]) from error
    return tuple(names)


def whole_split_notes(study: StudyFile, names: tuple[str, ...]) -> Iterator[str]:
    """Name in a line each the code that is evaluated on a whole split without being asked."""
    declared = {entry.name for entry in study.problem.judges if entry.whole_split}
    for name in names:
        if name == "model":
            yield (
                f"the outputs of '{study.problem.model.name}' for a sample depend on the samples "
                "beside it, so each split is evaluated as one batch"
            )
        elif name not in declared:
            label = study.problem.loss.name if name == "loss" else name
            yield (
                f"'{label}' does not appear to be a mean over samples, so it is computed from a "
                "whole split at once"
            )


def metric_problems(study: StudyFile, dataset: Dataset) -> Iterator[Problem]:
    """Return what keeps metrics of the catalogue from having a value on this dataset."""
    for index, entry in enumerate(study.problem.metrics or ()):
        path = f"problem.metrics[{index}]"
        metric = None if entry.is_code else catalogued(entry.name)
        if metric is None:
            continue
        if metric.targets == ("labels" if dataset.regression else "values"):
            wanted, use = _KINDS[metric.targets]
            yield Problem(path, f"{entry.name} needs {wanted}; use {use}.")
            continue
        if entry.name in ("mse", "mae") and (dataset.kind, dataset.classes) == ("labels", 1):
            yield Problem(path, f"{entry.name} does not apply to labels of one logit; use f1.")
            continue
        if entry.name in PER_TOKEN and (reason := _not_per_token(study, dataset, entry.name)):
            yield Problem(path, f"{entry.name} {reason}.")
            continue
        if entry.name in ("mse", "mae") and dataset.ignored is not None:
            counted = f"counts every position, and the targets hold ignore_index {dataset.ignored}"
            yield Problem(path, f"{entry.name} {counted}; use accuracy or perplexity.")
            continue
        if metric.targets != "labels" and (reason := _no_median(study)):
            yield Problem(path, f"{entry.name} {reason}.")
            continue
        if dataset.kind == "multilabel" and entry.name in _ONE_LABEL:
            way_out = f"use {_ONE_LABEL[entry.name]}"
            if dataset.splits["train"].targets.shape[1:] == (1,):
                way_out = "the targets are a column (n, 1): give them as (n,)"
            yield Problem(path, f"{entry.name} needs one label per sample; {way_out}.")
            continue
        if reason := _not_ranked(dataset, top_count(entry.name)):
            yield Problem(path, f"{entry.name} {reason}.")
            continue
        defined = _DEFINED.get(entry.name, _always)
        for split in _evaluated(study, dataset):
            if reason := defined(dataset, dataset.original(dataset.splits[split].targets)):
                yield Problem(path, f"{entry.name} has no value on the {split} split: {reason}.")


def in_original_units(study: StudyFile, dataset: Dataset) -> bool:
    """Return whether metrics of a study are computed in the units of the data, before scaling."""
    names = [entry.name for entry in study.problem.judges]
    return dataset.target_scale is not None and any(map(has_units, names))


def _not_per_token(study: StudyFile, dataset: Dataset, metric: str) -> str:
    """Return why a cross entropy in other units has no value on a dataset, or ""."""
    loss = study.problem.loss.name
    if dataset.classes < 2 or dataset.kind not in ("labels", "positions"):
        return "needs class labels with an output for each class; use log_loss"
    if loss not in ("cross_entropy", "focal") and not is_code(loss):
        return "needs the outputs that cross_entropy trains; use this loss"
    if metric == "bits_per_byte" and not dataset.bytes_per_token:
        return "needs a text, whose bytes are known; use bits_per_token"
    return ""


def _not_ranked(dataset: Dataset, count: int | None) -> str:
    """Return why a label cannot be missing among the `count` largest outputs, or ""."""
    if count is None:
        return ""
    if dataset.kind == "multilabel":
        return "needs one label per sample; use f1_macro"
    if dataset.classes == 1:
        return "does not apply to labels of one logit; use accuracy"
    if count >= dataset.classes:
        largest = dataset.classes - 1
        use = f"top_{largest}_accuracy" if largest > 1 else "accuracy"
        return f"is 1 for every model of {dataset.classes} classes; use {use}"
    return ""


def kept_outputs(
    dataset: Dataset, splits: Iterable[str], metrics: Iterable[str], names: Collection[str]
) -> int:
    """Return how many outputs of one run are kept at once to evaluate it; 0 for means alone.

    Args:
        dataset: what it is evaluated on.
        splits: the names of these splits.
        metrics: the names of its metrics.
        names: see `whole_split`.
    """
    if "loss" not in names and not any(needs_whole_split(name, names) for name in metrics):
        return 0
    targets = [dataset.splits[split].targets for split in splits]
    per_target = 1 if dataset.regression else dataset.classes
    return max((target.size * per_target for target in targets), default=0)


def memory_problems(
    study: StudyFile, dataset: Dataset, names: Collection[str]
) -> Iterator[Problem]:
    """Return why the outputs of a split do not fit into memory, if they do not.

    Args:
        study: the study.
        dataset: what it evaluates on.
        names: see `whole_split`.
    """
    metrics = [entry.name for entry in study.problem.judges]
    kept = kept_outputs(dataset, _evaluated(study, dataset), metrics, names)
    needed = kept * (8 if study.precision == "float64" else 4)
    limit = memory_limit()
    if needed > limit.free:
        yield Problem(
            "problem.metrics",
            f"a metric or the loss needs all outputs of a split at once, which "
            f"{shortage(needed, limit)}; use means over samples, such as accuracy, or evaluate on "
            "fewer samples.",
        )


def _evaluated(study: StudyFile, dataset: Dataset) -> tuple[str, ...]:
    """Return the splits that are evaluated, as far as the dataset has them."""
    splits = study.evaluate.on or [name for name in dataset.splits if name != "train"]
    return tuple(split for split in splits if split in dataset.splits)


def _always(dataset: Dataset, targets: Targets) -> str:
    """Return no reason: most metrics have a value on all targets that they take."""
    del dataset, targets
    return ""


def _no_median(study: StudyFile) -> str:
    """Return why no output of a model predicts the values, or ""."""
    levels = study.problem.loss.arguments.get("q")
    if study.problem.loss.name != "quantile" or not isinstance(levels, list) or 0.5 in levels:
        return ""
    return f"needs one prediction per value, the median; add 0.5 to q, {levels}"


def _counts(dataset: Dataset, targets: Targets) -> str:
    del dataset
    least = float(np.asarray(targets).min())
    return f"a target is {least:g}, and it is for counts of 0 or more; use mse" if least < 0 else ""


def _every_class(dataset: Dataset, targets: Targets) -> str:
    """A curve of each class needs samples that belong to it and samples that do not."""
    if dataset.kind == "multilabel":
        positive = np.asarray(targets).reshape(len(targets), -1).mean(axis=0)
        constant = np.flatnonzero((positive == 0) | (positive == 1)).tolist()
        return f"label {constant[0]} is the same in all samples; use log_loss" if constant else ""
    missing = sorted({*range(max(2, dataset.classes))} - {*np.unique(targets).astype(int).tolist()})
    if not missing:
        return ""
    shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return f"no sample of class {shown}; use another split or balanced_accuracy"


def _two_classes(dataset: Dataset, targets: Targets) -> str:
    del targets
    if dataset.classes <= 2:
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


_ONE_LABEL = {
    **dict.fromkeys(("f1", "precision", "recall"), "its _macro form"),
    **dict.fromkeys(("balanced_accuracy", "matthews", "cohen_kappa"), "f1_macro"),
}
_DEFINED: Mapping[str, Callable[[Dataset, Targets], str]] = {
    **dict.fromkeys(("roc_auc", "average_precision"), _every_class),
    **dict.fromkeys(("f1", "precision", "recall"), _two_classes),
    "mape": _no_zeros,
    "poisson_deviance": _counts,
    **dict.fromkeys(("msle", "rmsle"), _above_minus_one),
    **dict.fromkeys(("r2", "explained_variance"), _varied),
}


def _tried_samples(dataset: Dataset) -> tuple[Targets, Targets]:
    """Return inputs of some training samples, and targets of these and of further ones.

    They come from each class in turn, or spread over the values, in random order.
    """
    train, draws = dataset.splits["train"], np.random.default_rng(0)
    targets = train.targets.reshape(len(train.targets), -1)[:, 0]
    order = targets.argsort(kind="stable")
    if dataset.regression:
        count = min(_TRIED_TARGETS, len(order))
        rows = draws.permutation(order[np.linspace(0, len(order) - 1, count).astype(int)])
    else:  # a sample of each class, then another of each, ...
        _, classes, sizes = np.unique(targets, return_inverse=True, return_counts=True)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
        rows = np.lexsort((draws.permutation(len(sizes))[classes], rank))[:_TRIED_TARGETS]
    inputs = train.inputs[rows[:_TRIED_SAMPLES]]
    return inputs if inputs.dtype.kind == "i" else inputs.astype(np.float32), train.targets[rows]
