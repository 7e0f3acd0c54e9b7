"""Datasets that scikit-learn ships or draws."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from sklearn import datasets

from optrial.data.arguments import (
    Arguments,
    BlobsArguments,
    CirclesArguments,
    MoonsArguments,
    SplitArguments,
)
from optrial.data.fitting import require_memory
from optrial.data.source import Request, Source

_VALUE_BYTES = 8 + 8 + 4  # as drawn, while it is scaled, and as float32
_NOT_OF_THE_GENERATOR = set(SplitArguments.model_fields) - {"random_state"}

_Drawn = TypeVar("_Drawn", MoonsArguments, CirclesArguments, BlobsArguments)


def read_digits(_: Request[Arguments]) -> Source:
    """Return the 1,797 digits, (n, 1, 8, 8) with pixels 0..16; the test split is stratified."""
    images, labels = datasets.load_digits(return_X_y=True)
    return Source({"all": (images.reshape(-1, 1, 8, 8), labels)}, stratified=True)


def read_diabetes(_: Request[Arguments]) -> Source:
    """Return 442 patients, (n, 10), and the progression of their disease after a year, (n,)."""
    # As measured: scikit-learn's own scaling would use the test samples too.
    return Source({"all": datasets.load_diabetes(return_X_y=True, scaled=False)})


def draw_moons(request: Request[MoonsArguments]) -> Source:
    """Draw two interleaving half circles, (n, 2)."""
    return Source({"all": datasets.make_moons(**_keywords(request, 2))})


def draw_circles(request: Request[CirclesArguments]) -> Source:
    """Draw a circle inside a circle, (n, 2)."""
    return Source({"all": datasets.make_circles(**_keywords(request, 2))})


def draw_blobs(request: Request[BlobsArguments]) -> Source:
    """Draw isotropic Gaussian clusters, (n, n_features)."""
    centers = request.arguments.centers
    features = len(centers[0]) if isinstance(centers, tuple) else request.arguments.n_features
    return Source({"all": datasets.make_blobs(**_keywords(request, features))})


def _keywords(request: Request[_Drawn], features: int) -> dict[str, object]:
    """Return the arguments of the generator of scikit-learn, which draws that many features."""
    arguments = request.arguments
    values = features * float(np.sum(arguments.n_samples))
    require_memory(f"dataset '{request.title}'", _VALUE_BYTES * values)
    return arguments.model_dump(exclude=_NOT_OF_THE_GENERATOR)
