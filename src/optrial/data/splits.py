"""How samples are divided: a test split off a whole, a validation split off the training split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.data.arguments import Arguments, ArrayArguments
from optrial.data.dataset import Pair
from optrial.errors import DataError

DEFAULT_TEST_FRACTION = 0.2
DEFAULT_VALIDATION_FRACTION = 0.1


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
    from sklearn.model_selection import train_test_split  # noqa: PLC0415  (two seconds to import)

    fraction = fraction or DEFAULT_TEST_FRACTION
    try:
        train, test, train_targets, test_targets = train_test_split(
            inputs, targets, test_size=fraction, random_state=seed, stratify=stratify
        )
    except (ValueError, TypeError) as error:
        raise DataError(
            f"cannot divide the samples by test_fraction {fraction}: {error}"
        ) from error
    return {"train": (train, train_targets), "test": (test, test_targets)}


def divided(place: str, pairs: Mapping[str, Pair], arguments: ArrayArguments) -> dict[str, Pair]:
    """Divide ``all`` samples into train and test, or return the splits that are there.

    Args:
        place: where the samples are from, to begin the error.
        pairs: ``all`` alone, or splits.
        arguments: `test_fraction` and `random_state` are read.

    Raises:
        DataError: a fraction is given for samples that have splits, or they cannot be divided.
    """
    if "all" in pairs:
        return with_test(*pairs["all"], arguments.test_fraction, arguments.random_state)
    if arguments.test_fraction is not None:
        raise DataError(
            f"{place} has splits of its own, so test_fraction {arguments.test_fraction} has no "
            "use; remove it"
        )
    return dict(pairs)


def with_validation(
    name: str, splits: Mapping[str, Pair], arguments: Arguments, wanted: bool
) -> dict[str, Pair]:
    """Hold out part of the training split for validation, where it is asked for or wanted.

    The samples held out are drawn by `split_seed` alone; both parts keep the source's order.

    Args:
        name: of the dataset, for the error.
        splits: as the source gives them.
        arguments: `validation_fraction` and `split_seed` are read.
        wanted: hold out a tenth unless the arguments say otherwise or the source has the split.

    Raises:
        DataError: a fraction is given for a source that has a validation split, or the training
            split is too small to be divided.
    """
    fraction = arguments.validation_fraction
    if "validation" in splits:
        if fraction is None:
            return dict(splits)
        raise DataError(
            f"dataset '{name}' has a validation split of its own, so validation_fraction "
            f"{fraction} has no use; remove it"
        )
    if fraction is None and not wanted:
        return dict(splits)
    inputs, targets = splits["train"]
    chosen = _held_out(len(targets), fraction or DEFAULT_VALIDATION_FRACTION, arguments.split_seed)
    if chosen.all():
        raise DataError(
            f"dataset '{name}' has {len(targets)} training samples, too few to hold out "
            f"{chosen.sum()} for validation; use a smaller validation_fraction or more samples"
        )
    held = {
        "train": (inputs[~chosen], targets[~chosen]),
        "validation": (inputs[chosen], targets[chosen]),
    }
    return {**held, **{split: pair for split, pair in splits.items() if split != "train"}}


def _held_out(samples: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Mark the samples to hold out: at least one, else `fraction` of them, rounded."""
    # Raw output is what NumPy promises to keep from version to version; permutations are not.
    keys = np.random.Philox(np.random.SeedSequence([seed])).random_raw(samples)
    chosen = np.zeros(samples, bool)
    chosen[np.argsort(keys, kind="stable")[: max(1, round(fraction * samples))]] = True
    return chosen
