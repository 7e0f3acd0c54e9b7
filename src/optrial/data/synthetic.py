"""Datasets that scikit-learn ships or draws."""

from __future__ import annotations

from optrial.data.arguments import (
    BlobsArguments,
    CirclesArguments,
    DigitsArguments,
    MoonsArguments,
    SplitArguments,
)
from optrial.data.dataset import Pair
from optrial.data.splits import with_test

_SPLIT_KEYS = set(SplitArguments.model_fields) - {"random_state"}  # what scikit-learn must not see


def digits(arguments: DigitsArguments) -> dict[str, Pair]:
    """Return the 1,797 digits, (n, 1, 8, 8) with pixels 0..16; the test split is stratified."""
    from sklearn import datasets  # noqa: PLC0415  (two seconds to import)

    bunch = datasets.load_digits()
    fraction, seed = arguments.test_fraction, arguments.random_state
    return with_test(bunch.images[:, None], bunch.target, fraction, seed, stratify=bunch.target)


def moons(arguments: MoonsArguments) -> dict[str, Pair]:
    """Draw two interleaving half circles, (n, 2)."""
    return _drawn("make_moons", arguments)


def circles(arguments: CirclesArguments) -> dict[str, Pair]:
    """Draw a circle inside a circle, (n, 2)."""
    return _drawn("make_circles", arguments)


def blobs(arguments: BlobsArguments) -> dict[str, Pair]:
    """Draw isotropic Gaussian clusters, (n, n_features)."""
    return _drawn("make_blobs", arguments)


def _drawn(function: str, arguments: SplitArguments) -> dict[str, Pair]:
    from sklearn import datasets  # noqa: PLC0415  (two seconds to import)

    inputs, targets = getattr(datasets, function)(**arguments.model_dump(exclude=_SPLIT_KEYS))
    return with_test(inputs, targets, arguments.test_fraction, arguments.random_state)
