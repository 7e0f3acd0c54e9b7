"""Datasets drawn by NumPy: moons, circles, blobs, palindromes, and points around the origin.

Moons, circles and blobs are those of scikit-learn 1.8, bit for bit, without the seconds that its
import takes. NumPy does not change what a `RandomState` draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from optrial.data.arguments import (
    BlobsArguments,
    CirclesArguments,
    DisplacementArguments,
    MoonsArguments,
    PalindromeArguments,
    TeacherArguments,
)
from optrial.data.dataset import Array, Pair
from optrial.data.fitting import require_memory
from optrial.data.source import Request, Source

Digits = NDArray[np.uint8]
Values = NDArray[np.float64]

_VALUE_BYTES = 8 + 8 + 4  # as drawn, while it is scaled, and as float32
_DIGIT_BYTES = 1 + 4 + 4  # the same
_TEACHER = 0x7EAC4
_STREAM = 0x9A11D  # separates these draws from others under the same seed
_ENUMERATED = 7  # digits of the longest first halves that are all written down, 10^7 of them
_SPARE = 1.25  # draws per sample beyond that; at most an eighth of them are duplicates


def draw_moons(request: Request[MoonsArguments]) -> Source:
    """Draw two interleaving half circles, (n, 2)."""
    counts, generator = _halves(request), RandomState(request.arguments.random_state)
    upper, lower = (np.linspace(0, np.pi, count) for count in counts)
    x = np.append(np.cos(upper), 1 - np.cos(lower))
    y = np.append(np.sin(upper), 1 - np.sin(lower) - 0.5)
    return _noisy(np.vstack([x, y]).T, counts, request.arguments, generator)


def draw_circles(request: Request[CirclesArguments]) -> Source:
    """Draw a circle inside a circle, (n, 2)."""
    counts, generator = _halves(request), RandomState(request.arguments.random_state)
    outer, inner = (np.linspace(0, 2 * np.pi, count, endpoint=False) for count in counts)
    factor = request.arguments.factor
    x = np.append(np.cos(outer), np.cos(inner) * factor)
    y = np.append(np.sin(outer), np.sin(inner) * factor)
    return _noisy(np.vstack([x, y]).T, counts, request.arguments, generator)


def _halves(request: Request[MoonsArguments] | Request[CirclesArguments]) -> tuple[int, int]:
    """Return the number of samples of both classes.

    Raises:
        DataError: memory does not hold them.
    """
    counts = request.arguments.n_samples
    require_memory(f"dataset '{request.title}'", 2 * _VALUE_BYTES * float(np.sum(counts)))
    return counts if isinstance(counts, tuple) else (counts // 2, counts - counts // 2)


def _noisy(
    points: Values, counts: Sequence[int], arguments: MoonsArguments, generator: RandomState
) -> Source:
    """Return points of classes, one after the other, as a dataset: shuffled, with noise."""
    points, labels = _shuffled(points, counts, arguments.shuffle, generator)
    if arguments.noise is not None:
        points += generator.normal(scale=arguments.noise, size=points.shape)
    return Source({"all": (points, labels)})


def draw_blobs(request: Request[BlobsArguments]) -> Source:
    """Draw isotropic Gaussian clusters, (n, n_features)."""
    arguments, counts = request.arguments, request.arguments.n_samples
    centers, features = arguments.centers, arguments.n_features
    if isinstance(centers, tuple):
        features = len(centers[0])
    require_memory(f"dataset '{request.title}'", _VALUE_BYTES * features * float(np.sum(counts)))
    generator = RandomState(arguments.random_state)
    if not isinstance(centers, tuple):
        clusters = len(counts) if isinstance(counts, tuple) else centers or 3
        drawn = generator.uniform(*arguments.center_box, size=(clusters, features))
    else:
        drawn = np.array(centers)
    if not isinstance(counts, tuple):
        least, more = divmod(counts, len(drawn))
        counts = tuple(least + (cluster < more) for cluster in range(len(drawn)))
    spreads = np.broadcast_to(arguments.cluster_std, len(drawn))
    points = [
        generator.normal(loc=center, scale=spread, size=(count, features))
        for center, spread, count in zip(drawn, spreads, counts, strict=True)
    ]
    return Source({"all": _shuffled(np.vstack(points), counts, arguments.shuffle, generator)})


def _shuffled(
    points: Values, counts: Sequence[int], shuffle: bool, generator: RandomState
) -> tuple[Values, Array]:
    """Return points and the class of each; `counts` of each class follow each other."""
    labels = np.repeat(np.arange(len(counts)), counts)
    if not shuffle:
        return points, labels
    order = np.arange(len(points))
    generator.shuffle(order)
    return points[order], labels[order]


def draw_displacements(request: Request[DisplacementArguments]) -> Source:
    """Draw points around the origin of the plane, (n, 2); the test split is the origin itself."""
    arguments = request.arguments
    require_memory(f"dataset '{request.title}'", 2 * _VALUE_BYTES * arguments.n_samples)
    generator = np.random.default_rng(arguments.random_state)
    points = arguments.noise * generator.standard_normal((arguments.n_samples, 2))
    labels = np.zeros(arguments.n_samples, np.int64)
    return Source({"train": (points, labels), "test": (np.zeros((1, 2)), labels[:1])})


def draw_teacher(request: Request[TeacherArguments]) -> Source:
    """Draw samples of a standard normal distribution and the values of a random network.

    The network has one hidden layer of ReLUs and Gaussian weights. Its values have mean 0 and
    variance 1 over the test samples, so a student that equals it has a test loss of 0, and the best
    constant answer has a loss of 1.

    Returns:
        train and test; inputs, (n, features), and values, (n, 1).
    """
    arguments = request.arguments
    samples = arguments.n_samples + arguments.test_samples
    require_memory(f"dataset '{request.title}'", 3 * 8 * samples * arguments.features)
    generator = np.random.default_rng([arguments.random_state, _TEACHER])
    inputs = generator.standard_normal((samples, arguments.features))
    values = np.zeros(samples)
    # Without matrix products, whose last bits differ from machine to machine.
    for _ in range(arguments.width):
        weights = generator.standard_normal(arguments.features + 2)
        hidden = np.full(samples, weights[-2])
        for feature in range(arguments.features):
            hidden += weights[feature] * inputs[:, feature]
        values += weights[-1] * np.maximum(hidden, 0)
    of_test = values[arguments.n_samples :]
    values = (values - of_test.mean()) / (of_test.std() if len(of_test) > 1 else 1.0)
    values = values[:, None]
    values[: arguments.n_samples] += arguments.noise * generator.standard_normal(
        (arguments.n_samples, 1)
    )
    train, test = slice(0, arguments.n_samples), slice(arguments.n_samples, None)
    return Source({"train": (inputs[train], values[train]), "test": (inputs[test], values[test])})


def draw_palindromes(request: Request[PalindromeArguments]) -> Source:
    """Draw palindromes; the input is all digits but the last, the target is the last.

    The target equals the first digit, which a recurrent network must remember to the end. The ten
    targets are equally frequent. If there are 20 palindromes or more, none is in both splits. While
    there are enough, each is drawn once; otherwise they repeat, and a note says so. The task is
    that of the second assignment (2019: recurrent networks) of the Deep Learning course of the
    University of Amsterdam, which draws its samples independently and without end.

    Returns:
        train and test; inputs uint8, digits 0 to 9, shape (n, length - 1, 1), or one-hot vectors,
        (n, length - 1, 10); targets (n,).
    """
    arguments = request.arguments
    width = arguments.length * (10 if arguments.one_hot else 1)
    samples = arguments.n_samples + arguments.test_samples
    require_memory(f"dataset '{request.title}'", _DIGIT_BYTES * width * samples)
    halves = _first_halves(arguments)
    train, test = _parts(arguments)
    splits = {
        "train": _samples(halves[train], arguments.n_samples, arguments),
        "test": _samples(halves[test], arguments.test_samples, arguments),
    }
    return Source(splits, notes=_notes(arguments))


def _notes(arguments: PalindromeArguments) -> list[str]:
    """Report repeated samples and splits that overlap, if there are too few palindromes."""
    count = _count(arguments)
    if arguments.n_samples + arguments.test_samples <= count:
        return []
    train, test = _parts(arguments)
    only = f"there are only {count:,} palindromes of length {arguments.length}"
    if train == test:
        return [f"{only}: the training and the test split hold the same ones"]
    sizes = [part.stop - part.start for part in (train, test)]
    note = (
        f"{only}: {arguments.n_samples:,} training samples are drawn, with repetition, from "
        f"{sizes[0]:,} of them and {arguments.test_samples:,} test samples from {sizes[1]:,} others"
    )
    if arguments.n_samples > sizes[0]:
        note += "; a validation split would share palindromes with the training split"
    return [note]


def _count(arguments: PalindromeArguments) -> int:
    return int(10 ** math.ceil(arguments.length / 2))


def _parts(arguments: PalindromeArguments) -> tuple[slice, slice]:
    """Return the slices of the distinct palindromes for training and for testing."""
    count, wanted = _count(arguments), arguments.n_samples + arguments.test_samples
    if count < 20:
        return slice(0, count), slice(0, count)
    most = count if wanted <= count else count // 2
    of_test = min(arguments.test_samples, most)
    return slice(of_test, min(wanted, count)), slice(0, of_test)


def _first_halves(arguments: PalindromeArguments) -> Digits:
    """Return distinct first halves in random order, (n, digits); the first digits alternate."""
    digits = math.ceil(arguments.length / 2)
    wanted = arguments.n_samples + arguments.test_samples
    # NumPy guarantees raw output across versions, but not permutations.
    draws = np.random.Philox(np.random.SeedSequence([arguments.random_state, _STREAM]))
    if digits <= _ENUMERATED:
        orders = np.argsort(draws.random_raw(10**digits).reshape(10, -1), axis=1, kind="stable")
        numbers = (orders.T + 10 ** (digits - 1) * np.arange(10)).ravel()[:wanted]
        written: Digits = (numbers[:, None] // 10 ** np.arange(digits)[::-1] % 10).astype(np.uint8)
        return written
    rows = math.ceil(wanted * _SPARE)
    halves: Digits = (draws.random_raw(rows * digits) % 10).astype(np.uint8).reshape(rows, digits)
    halves[:, 0] = np.arange(rows) % 10
    texts = (halves + ord("0")).view(f"S{digits}").ravel()
    first = np.unique(texts, return_index=True)[1]
    return halves[np.sort(first)[:wanted]]


def _samples(halves: Digits, size: int, arguments: PalindromeArguments) -> Pair:
    """Write out `size` palindromes, repeating them if there are fewer."""
    halves = halves[np.arange(size) % len(halves)]
    mirrored = halves[:, ::-1][:, arguments.length % 2 :]
    inputs = np.concatenate([halves, mirrored[:, :-1]], axis=1)
    encoded = np.eye(10, dtype=np.uint8)[inputs] if arguments.one_hot else inputs[..., None]
    return encoded, mirrored[:, -1]
