"""Folds of a cross-validation: the test samples of each, as scikit-learn chooses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import Arguments, DivisibleArguments, SplitArguments
from optrial.data.dataset import Dataset
from optrial.data.source import Source
from optrial.data.splits import Rule, rule_of
from optrial.errors import DataError, counted

__all__ = ["Folds", "check_folds", "test_rows"]

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Folds:
    """A cross-validation.

    Attributes:
        k: number of folds of a repetition.
        repeats: number of divisions into folds.
        stratified: whether folds keep the proportions of the classes; None for the rule by which
            the dataset chooses its test split.
        shuffle: whether samples are shuffled before they are divided; groups never are.
        seed: `random_state` of scikit-learn.
    """

    k: int
    repeats: int = 1
    stratified: bool | None = None
    shuffle: bool = True
    seed: int = 0


def test_rows(
    place: str, source: Source, arguments: Arguments, folds: Folds, *, has_classes: bool
) -> list[Rows]:
    """Return the places of the test samples of each fold, repetition after repetition.

    They are those of scikit-learn's `KFold`, `StratifiedKFold`, `RepeatedKFold`,
    `RepeatedStratifiedKFold` or `GroupKFold`.

    Args:
        place: origin of the samples, to begin an error.
        source: the samples.
        arguments: arguments of the dataset.
        folds: the cross-validation.
        has_classes: whether targets are classes, which stratified folds need.

    Raises:
        DataError: the samples already have splits, or cannot be divided into such folds.
    """
    if source.text is not None:
        raise DataError(
            f"{place} is a text, which is split into consecutive parts, and folds divide samples; "
            "remove folds"
        )
    if "all" not in source.splits:
        raise DataError(
            f"{place} already has splits, and folds divide all samples; remove folds, or give "
            "the samples without a test split"
        )
    if "test_fraction" in arguments.model_fields_set and isinstance(
        arguments, DivisibleArguments | SplitArguments
    ):
        raise DataError(
            f"{place}: test_fraction {arguments.test_fraction} has no effect beside folds, each of "
            "which has its own test split; remove one of them"
        )
    targets = _labels(source.splits["all"][1])
    rule = _rule(place, source, arguments, folds)
    if rule == "stratified" and not has_classes:
        raise DataError(f"{place}: stratified folds need classes; use stratified: false")
    if problem := _problem(rule, folds, targets, source.groups):
        raise DataError(f"{place}: {problem}")
    by = source.groups if rule == "grouped" else targets
    return [test for _, test in _divisions(rule, folds, len(targets), by)]


def _labels(targets: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return one label per sample, the same for equal rows."""
    if targets.ndim < 2:
        return targets
    rows = targets.reshape(len(targets), -1)
    return rows[:, 0] if rows.shape[1] == 1 else np.unique(rows, axis=0, return_inverse=True)[1]


def _rule(place: str, source: Source, arguments: Arguments, folds: Folds) -> Rule:
    rule: Rule = "stratified" if source.stratified else rule_of(arguments)
    if rule == "chronological":
        raise DataError(
            f"{place}: split: chronological keeps the order of time, and folds do not; remove one "
            "of them"
        )
    if rule == "grouped":
        if folds.stratified:
            raise DataError(f"{place}: folds are stratified or grouped; remove one of them")
        return rule
    if folds.stratified is None:
        return rule
    return "stratified" if folds.stratified else "random"


def _problem(
    rule: Rule, folds: Folds, targets: NDArray[np.generic], groups: NDArray[np.generic] | None
) -> str:
    """Return why samples cannot be divided; empty if they can be."""
    fewer = "use at most {}"
    if folds.k > len(targets):
        return f"{folds.k} folds of {counted(len(targets), 'sample')}; {fewer.format(len(targets))}"
    if rule == "stratified":
        classes, counts = np.unique(targets, return_counts=True)
        least = int(counts.argmin())
        if counts[least] < folds.k:
            samples = counted(int(counts[least]), "sample")
            return (
                f"{folds.k} stratified folds, but class {classes[least]} has {samples}; "
                f"{fewer.format(counts[least])}, or stratified: false"
            )
    if rule == "grouped":
        assert groups is not None  # which a grouped split reads
        distinct = len(set(groups.tolist()))
        if distinct < folds.k:
            there = counted(distinct, "group")
            return f"{folds.k} grouped folds, but there are {there}; {fewer.format(distinct)}"
        if folds.repeats > 1:
            return f"grouped folds have one division, got repeats {folds.repeats}; use repeats: 1"
    return ""


def _divisions(
    rule: Rule, folds: Folds, samples: int, by: NDArray[np.generic] | None
) -> list[tuple[Rows, Rows]]:
    from sklearn.model_selection import (  # two seconds to import  # noqa: PLC0415
        GroupKFold,
        KFold,
        RepeatedKFold,
        RepeatedStratifiedKFold,
        StratifiedKFold,
    )

    rows = np.arange(samples)
    if rule == "grouped":
        return list(GroupKFold(folds.k).split(rows, groups=by))
    stratified = rule == "stratified"
    if folds.repeats > 1:
        repeated = RepeatedStratifiedKFold if stratified else RepeatedKFold
        splitter = repeated(n_splits=folds.k, n_repeats=folds.repeats, random_state=folds.seed)
    else:
        once = StratifiedKFold if stratified else KFold
        seed = folds.seed if folds.shuffle else None
        splitter = once(folds.k, shuffle=folds.shuffle, random_state=seed)
    return list(splitter.split(rows, by))


def check_folds(place: str, folds: Sequence[Dataset]) -> None:
    """Check that models of all folds have the same shapes.

    Raises:
        DataError: the training samples of a fold lack a class or a category that others have.
    """
    first = folds[0]
    for number, fold in enumerate(folds[1:], 2):
        for subject, one, other in (
            ("outputs", first.classes, fold.classes),
            ("inputs", first.input_shape, fold.input_shape),
            ("splits", tuple(first.splits), tuple(fold.splits)),
        ):
            if one != other:
                raise DataError(
                    f"{place}: the {subject} of fold 1 and of fold {number} differ, {one} and "
                    f"{other}, because the training samples of one lack a class or a category; "
                    "use stratified folds, fewer folds, or remove rare values"
                )
