"""Datasets that scikit-learn ships or draws."""

from __future__ import annotations

import numpy as np

from optrial.data.arguments import (
    BlobsArguments,
    CirclesArguments,
    DiabetesArguments,
    DigitsArguments,
    DisplacementArguments,
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


def diabetes(arguments: DiabetesArguments) -> dict[str, Pair]:
    """Return 442 patients, (n, 10), and how far their illness went in a year, 25 to 346, (n,)."""
    from sklearn import datasets  # noqa: PLC0415  (two seconds to import)

    # As measured: scikit-learn's own scaling would use the test samples too.
    bunch = datasets.load_diabetes(scaled=False)
    return with_test(bunch.data, bunch.target, arguments.test_fraction, arguments.random_state)


def displacements(arguments: DisplacementArguments) -> dict[str, Pair]:
    """Draw points around the origin of the plane, (n, 2); the test split is the origin itself."""
    generator = np.random.default_rng(arguments.random_state)
    drawn = arguments.noise * generator.standard_normal((arguments.n_samples, 2))
    nothing = np.zeros(arguments.n_samples, np.int64)  # there is nothing to tell apart
    return {"train": (drawn, nothing), "test": (np.zeros((1, 2)), nothing[:1])}


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
