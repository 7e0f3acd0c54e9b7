"""Division of samples: a test split off all samples, a validation split off the training split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import (
    Arguments,
    DivisibleArguments,
    FunctionArguments,
    GroupedSplit,
    SplitArguments,
    TableArguments,
)
from optrial.data.dataset import Array, Pair
from optrial.data.source import Inputs, Rows, Source
from optrial.errors import DataError, counted

_TEST_FRACTION = 0.2
_VALIDATION_FRACTION = 0.1

Rule: TypeAlias = Literal["random", "stratified", "chronological", "grouped"]


def rule_of(arguments: Arguments) -> Rule:
    """Return the rule by which the arguments choose test and validation samples."""
    if not isinstance(arguments, DivisibleArguments | FunctionArguments | TableArguments):
        return "random"
    return "grouped" if isinstance(arguments.split, GroupedSplit) else arguments.split


def divided(
    place: str, source: Source, arguments: Arguments, test: NDArray[np.intp] | None = None
) -> tuple[dict[str, Rows], Array | None]:
    """Divide ``all`` samples into train and test, or return the splits of the source.

    Test samples are those that scikit-learn chooses, as users choose them.

    Args:
        place: origin of the samples, to begin the error.
        source: ``all`` samples, or splits.
        arguments: `test_fraction`, `random_state` and `split` are read.
        test: places of the test samples of a fold; None to choose them by the arguments.

    Returns:
        the splits, and the groups of the training samples or None.

    Raises:
        DataError: a fraction is given for samples that have splits, or they cannot be divided.
    """
    if "all" not in source.splits:
        if isinstance(arguments, DivisibleArguments) and arguments.test_fraction is not None:
            raise DataError(
                f"{place} already has splits, so test_fraction {arguments.test_fraction} has no "
                "effect; remove it"
            )
        return dict(source.splits), None
    inputs, targets = source.splits["all"]
    rule: Rule = "stratified" if source.stratified else rule_of(arguments)
    fraction, seed = _TEST_FRACTION, 0
    if isinstance(arguments, DivisibleArguments | SplitArguments):
        fraction, seed = arguments.test_fraction or _TEST_FRACTION, arguments.random_state
    choice = _Choice(rule, fraction, seed, source.groups if rule == "grouped" else targets)
    try:
        samples = _count(inputs, targets)
        rows = choice.of(samples) if test is None else _without(test, samples)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{place}: cannot divide the samples by test_fraction {fraction}: {error}"
        ) from error
    parts = [(_at(inputs, chosen), targets[chosen]) for chosen in rows]
    groups = None if source.groups is None else source.groups[rows[0]]
    return dict(zip(("train", "test"), parts, strict=True)), groups


def _without(test: NDArray[np.intp], samples: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the other samples, in their order, and those of a test split."""
    return np.setdiff1d(np.arange(samples), test), test


def _count(inputs: Inputs, targets: Array) -> int:
    sizes = [len(inputs), len(targets)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"inputs and targets have inconsistent numbers of samples: {sizes}")
    return sizes[0]


def _at(inputs: Inputs, rows: NDArray[np.intp]) -> Inputs:
    return inputs[rows] if isinstance(inputs, np.ndarray) else inputs.iloc[rows]


@dataclass(frozen=True)
class _Choice:
    """A way to choose a share of samples.

    Attributes:
        rule: which samples are chosen.
        fraction: share of the samples.
        seed: `random_state` of scikit-learn.
        by: labels of a stratified choice, groups of a grouped one.
    """

    rule: Rule
    fraction: float
    seed: int
    by: Array | None

    def of(self, samples: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the samples that are left and those that are chosen.

        Raises:
            ValueError, TypeError: the samples cannot be divided.
        """
        if self.rule == "chronological":
            first = samples - self._count(samples)
            return np.arange(first), np.arange(first, samples)
        if self.rule == "random":  # as by train_test_split, without the import of scikit-learn
            count = self._count(samples)
            order = np.random.RandomState(self.seed).permutation(samples)
            return order[count:], order[:count]
        from sklearn.model_selection import (  # noqa: PLC0415  (two seconds to import)
            GroupShuffleSplit,
            train_test_split,
        )

        size, rows = {"test_size": self.fraction, "random_state": self.seed}, np.arange(samples)
        if self.rule == "grouped":
            ((kept, chosen),) = GroupShuffleSplit(n_splits=1, **size).split(rows, groups=self.by)
        else:
            kept, chosen = train_test_split(rows, stratify=self.by, **size)
        return kept, chosen

    def _count(self, samples: int) -> int:
        """Return the number of samples to choose, rounded up.

        Raises:
            ValueError: none would be left.
        """
        count = math.ceil(self.fraction * samples)
        if count >= samples:
            raise ValueError(
                f"{counted(samples, 'sample')} cannot be divided so that some are left"
            )
        return count


def held_out(
    name: str, splits: Mapping[str, Rows], groups: Array | None, arguments: Arguments, wanted: bool
) -> NDArray[np.bool_] | None:
    """Mark the training samples to hold out for validation.

    The samples are chosen by `split_seed` and by the same rule as those of the test split.

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
            split is too small to divide.
    """
    fraction = arguments.validation_fraction
    if "validation" in splits:
        if fraction is None:
            return None
        raise DataError(
            f"dataset '{name}' already has a validation split, so validation_fraction "
            f"{fraction} has no effect; remove it"
        )
    if fraction is None and not wanted:
        return None
    targets = splits["train"][1]
    fraction, rule = fraction or _VALIDATION_FRACTION, rule_of(arguments)
    samples, *_ = targets.shape or (1,)
    if rule == "random":
        chosen = _drawn(samples, fraction, arguments.split_seed)
    else:
        by = groups if rule == "grouped" else targets
        chosen = np.zeros(samples, bool)
        try:
            chosen[_Choice(rule, fraction, arguments.split_seed, by).of(samples)[1]] = True
        except (ValueError, TypeError) as error:
            raise DataError(
                f"dataset '{name}' cannot be divided by validation_fraction {fraction}: {error}"
            ) from error
    if chosen.all():
        raise DataError(
            f"dataset '{name}' has {counted(samples, 'training sample')}, too few to hold out "
            f"{chosen.sum()} for validation; use a smaller validation_fraction or more samples"
        )
    return chosen


def _drawn(samples: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Mark samples drawn at random: at least one, else `fraction` of them, rounded."""
    # NumPy guarantees raw output across versions, but not permutations.
    keys = np.random.Philox(np.random.SeedSequence([seed])).random_raw(samples)
    chosen = np.zeros(samples, bool)
    chosen[np.argsort(keys, kind="stable")[: max(1, round(fraction * samples))]] = True
    return chosen


def carved(splits: Mapping[str, Pair], chosen: NDArray[np.bool_] | None) -> dict[str, Pair]:
    """Move the marked training samples to the validation split, in order."""
    if chosen is None:
        return dict(splits)
    inputs, targets = splits["train"]
    others = {split: pair for split, pair in splits.items() if split != "train"}
    return {
        "train": (inputs[~chosen], targets[~chosen]),
        "validation": (inputs[chosen], targets[chosen]),
        **others,
    }
