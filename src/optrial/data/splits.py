"""How samples are divided: a test split off a whole, a validation split off the training split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import (
    Arguments,
    ArrayArguments,
    FunctionArguments,
    GroupedSplit,
    ImageFolderArguments,
    TableArguments,
)
from optrial.data.dataset import Pair
from optrial.data.source import Rows, Source
from optrial.errors import DataError

DEFAULT_TEST_FRACTION = 0.2
DEFAULT_VALIDATION_FRACTION = 0.1

Rule: TypeAlias = Literal["random", "stratified", "chronological", "grouped"]


def with_test(
    inputs: Any, targets: Any, fraction: float | None, seed: int, stratify: Any = None
) -> dict[str, Pair]:
    """Divide into train and test by scikit-learn's `train_test_split`, so that users' splits agree.

    Args:
        inputs: shape (n, ...).
        targets: shape (n,) or (n, outputs).
        fraction: part of the samples that becomes the test split; None for a fifth.
        seed: `random_state` of the division.
        stratify: labels whose proportions both splits keep.

    Raises:
        DataError: inputs and targets differ in length, or are too few to divide.
    """
    rule: Rule = "random" if stratify is None else "stratified"
    train, test = _test_rows(rule, inputs, targets, fraction, seed, stratify)
    return {"train": (inputs[train], targets[train]), "test": (inputs[test], targets[test])}


def rule_of(arguments: Arguments) -> Rule:
    """Return the rule by which the arguments choose samples."""
    own = (ArrayArguments, FunctionArguments, ImageFolderArguments, TableArguments)
    split = arguments.split if isinstance(arguments, own) else "random"
    return "grouped" if isinstance(split, GroupedSplit) else split


def divided(place: str, source: Source, arguments: Arguments) -> tuple[dict[str, Rows], Any]:
    """Divide ``all`` samples into train and test, or return the splits that are there.

    Args:
        place: where the samples are from, to begin the error.
        source: ``all`` alone, or splits.
        arguments: `test_fraction`, `random_state` and `split` are read.

    Returns:
        the splits, and the groups of the training samples or None.

    Raises:
        DataError: a fraction is given for samples that have splits, or they cannot be divided.
    """
    fraction = getattr(arguments, "test_fraction", None)
    if "all" not in source.splits:
        if fraction is not None and isinstance(arguments, ArrayArguments | ImageFolderArguments):
            raise DataError(
                f"{place} has splits of its own, so test_fraction {fraction} has no use; remove it"
            )
        return dict(source.splits), None
    inputs, targets = source.splits["all"]
    rule, seed = rule_of(arguments), getattr(arguments, "random_state", 0)
    by = source.groups if rule == "grouped" else targets
    try:
        rows = _test_rows(rule, inputs, targets, fraction, seed, by)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    train, test = ((_at(inputs, chosen), targets[chosen]) for chosen in rows)
    groups = None if source.groups is None else source.groups[rows[0]]
    return {"train": train, "test": test}, groups


def _at(inputs: Any, rows: NDArray[np.intp]) -> Any:
    return inputs.iloc[rows] if hasattr(inputs, "iloc") else inputs[rows]


def _test_rows(
    rule: Rule, inputs: Any, targets: Any, fraction: float | None, seed: int, by: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of the training and of the test split, by scikit-learn.

    Args:
        rule: how they are chosen.
        inputs: shape (n, ...).
        targets: shape (n, ...).
        fraction: part of the samples that becomes the test split; None for a fifth.
        seed: of the choice.
        by: labels of a stratified split, groups of a grouped one.
    """
    from sklearn.utils import indexable  # noqa: PLC0415  (two seconds to import)

    fraction = fraction or DEFAULT_TEST_FRACTION
    try:
        indexable(inputs, targets)
        return _chosen(rule, len(targets), fraction, seed, by)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"cannot divide the samples by test_fraction {fraction}: {error}"
        ) from error


def _chosen(
    rule: Rule, samples: int, fraction: float, seed: int, by: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from sklearn.model_selection import (  # noqa: PLC0415  (two seconds to import)
        GroupShuffleSplit,
        train_test_split,
    )

    rows = np.arange(samples)
    if rule == "chronological":
        first = samples - math.ceil(fraction * samples)
        if first < 1:
            raise ValueError(f"{samples} samples are too few")
        return rows[:first], rows[first:]
    if rule == "grouped":
        division = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
        ((kept, held),) = division.split(rows, groups=by)
        return kept, held
    stratify = by if rule == "stratified" else None
    kept, held = train_test_split(rows, test_size=fraction, random_state=seed, stratify=stratify)
    return kept, held


def held_out(
    name: str, splits: Mapping[str, Rows], groups: Any, arguments: Arguments, wanted: bool
) -> NDArray[np.bool_] | None:
    """Mark the training samples to hold out for validation, where it is asked for or wanted.

    The samples are chosen by `split_seed` and in the same way as those of the test split.

    Args:
        name: of the dataset, for the error.
        splits: as the source gives them.
        groups: of the training samples, for a grouped split.
        arguments: `validation_fraction`, `split_seed` and `split` are read.
        wanted: hold out a tenth unless the arguments say otherwise or the source has the split.

    Returns:
        one boolean per training sample, or None to hold out nothing.

    Raises:
        DataError: a fraction is given for a source that has a validation split, or the training
            split is too small to be divided.
    """
    fraction = arguments.validation_fraction
    if "validation" in splits:
        if fraction is None:
            return None
        raise DataError(
            f"dataset '{name}' has a validation split of its own, so validation_fraction "
            f"{fraction} has no use; remove it"
        )
    if fraction is None and not wanted:
        return None
    targets = splits["train"][1]
    share, rule = fraction or DEFAULT_VALIDATION_FRACTION, rule_of(arguments)
    samples, *_ = np.shape(targets) or (1,)
    chosen = np.zeros(samples, bool)
    if rule == "random":
        chosen = _drawn(samples, share, arguments.split_seed)
    else:
        by = groups if rule == "grouped" else targets
        try:
            chosen[_chosen(rule, samples, share, arguments.split_seed, by)[1]] = True
        except (ValueError, TypeError) as error:
            raise DataError(
                f"dataset '{name}' cannot be divided by validation_fraction {share}: {error}"
            ) from error
    if chosen.all():
        raise DataError(
            f"dataset '{name}' has {samples} training samples, too few to hold out "
            f"{chosen.sum()} for validation; use a smaller validation_fraction or more samples"
        )
    return chosen


def carved(splits: Mapping[str, Pair], chosen: NDArray[np.bool_] | None) -> dict[str, Pair]:
    """Move the training samples that are marked to the validation split, in order."""
    if chosen is None:
        return dict(splits)
    inputs, targets = splits["train"]
    parts = {
        "train": (inputs[~chosen], targets[~chosen]),
        "validation": (inputs[chosen], targets[chosen]),
    }
    return {**parts, **{split: pair for split, pair in splits.items() if split != "train"}}


def _drawn(samples: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Mark samples drawn at random: at least one, else `fraction` of them, rounded."""
    # Raw output is what NumPy promises to keep from version to version; permutations are not.
    keys = np.random.Philox(np.random.SeedSequence([seed])).random_raw(samples)
    chosen = np.zeros(samples, bool)
    chosen[np.argsort(keys, kind="stable")[: max(1, round(fraction * samples))]] = True
    return chosen
