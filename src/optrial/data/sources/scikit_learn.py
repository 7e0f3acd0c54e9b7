"""Datasets that scikit-learn ships or draws."""

from __future__ import annotations

from sklearn import datasets

from optrial.data.arguments import (
    Arguments,
    BlobsArguments,
    CirclesArguments,
    MoonsArguments,
    SplitArguments,
)
from optrial.data.source import Request, Source

_NOT_OF_THE_GENERATOR = set(SplitArguments.model_fields) - {"random_state"}


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
    return Source({"all": datasets.make_moons(**_keywords(request.arguments))})


def draw_circles(request: Request[CirclesArguments]) -> Source:
    """Draw a circle inside a circle, (n, 2)."""
    return Source({"all": datasets.make_circles(**_keywords(request.arguments))})


def draw_blobs(request: Request[BlobsArguments]) -> Source:
    """Draw isotropic Gaussian clusters, (n, n_features)."""
    return Source({"all": datasets.make_blobs(**_keywords(request.arguments))})


def _keywords(arguments: SplitArguments) -> dict[str, object]:
    """Return the arguments of the generator of scikit-learn."""
    return arguments.model_dump(exclude=_NOT_OF_THE_GENERATOR)
