"""Settings drawn from a space: at random, evenly (Sobol), or where good ones are likely (TPE)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optrial.config import Axis, rounded
from optrial.plan.space import Point, Space

__all__ = ["drawn", "new_points", "suggested", "tpe_is_here"]

_ASKED = 10
"""Attempts per new setting before one is drawn at random: in a small space, TPE may keep suggesting
settings that were tried."""


def new_points(points: Iterable[Point], tried: Iterable[Point], count: int | None) -> list[Point]:
    """Return the first `count` points, or all, that are neither tried nor repeated."""
    seen = list(tried)

    def unseen() -> Iterator[Point]:
        for point in points:
            if point not in seen:
                seen.append(point)
                yield point

    return list(itertools.islice(unseen(), count))


def drawn(space: Space, sampler: Literal["random", "sobol"], seed: int) -> Iterator[Point]:
    """Yield settings without end, the same for the same seed and axes.

    Between the ends of a `log` or `lin` range any value is drawn, of a list each value with equal
    chance. "sobol" is the scrambled sequence of Owen 1998: its points fill the space evenly, best
    so at powers of two.
    """
    varying = {name: axis for name, axis in space.axes.items() if len(axis.values) > 1}
    fixed = {name: axis.values[0] for name, axis in space.axes.items()}
    for row in _unit_cube(sampler, len(varying), seed):
        shares = zip(varying.items(), row.tolist(), strict=True)
        yield fixed | {name: _value(axis, share) for (name, axis), share in shares}


def _unit_cube(sampler: str, dimensions: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield points of the unit cube, (dimensions,), coordinates from 0 up to but without 1."""
    if sampler == "random":
        generator = np.random.default_rng(seed)
        while True:
            yield generator.random(dimensions)
    from scipy.stats import qmc  # heavy  # noqa: PLC0415

    sequence = qmc.Sobol(dimensions, seed=seed)
    while True:
        yield sequence.random(1)[0]


def _value(axis: Axis, share: float) -> Any:
    """Return the value that lies at a share, from 0 to 1, of an axis."""
    if axis.spacing is None:
        return axis.values[int(share * len(axis.values))]
    first, last = axis.values[0], axis.values[-1]
    if axis.spacing == "log":
        if math.isfinite(ratio := last / first):
            return rounded(first * ratio**share)
        return rounded(math.exp((1 - share) * math.log(first) + share * math.log(last)))
    if math.isfinite(width := last - first):
        return rounded(first + width * share)
    return rounded((1 - share) * first + share * last)


def tpe_is_here() -> bool:
    """Return whether Optuna, which provides the sampler "tpe", is installed."""
    return find_spec("optuna") is not None


def suggested(
    space: Space, tried: Sequence[Point], ranks: Sequence[int], count: int, seed: int
) -> Iterator[Point]:
    """Yield what the tree-structured Parzen estimator would try next, then random settings.

    Bergstra et al. 2011, as in Optuna: it knows the order of what was tried, not how far apart. As
    the settings of one call are asked for without an answer between, it takes each for bad, so that
    they spread.

    Args:
        space: what to choose from.
        tried: settings so far.
        ranks: of each of them; the largest is the best.
        count: how many new settings are wanted.
        seed: the same for the same answers.
    """
    import optuna  # an extra  # noqa: PLC0415

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(verbosity)
    axes = {name: axis for name, axis in space.axes.items() if len(axis.values) > 1}
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution(range(len(axis.values)))
        if axis.spacing is None
        else optuna.distributions.FloatDistribution(
            min(axis.values), max(axis.values), log=axis.spacing == "log"
        )
        for name, axis in axes.items()
    }
    for point, rank in zip(tried, ranks, strict=True):
        params = {name: _encoded(axis, point[name]) for name, axis in axes.items()}
        known = optuna.trial.create_trial(
            params=params, distributions=distributions, value=float(rank)
        )
        study.add_trial(known)
    fixed = {name: axis.values[0] for name, axis in space.axes.items()}
    for _ in range(_ASKED * count):
        params = study.ask(distributions).params
        yield fixed | {name: _decoded(axis, params[name]) for name, axis in axes.items()}
    yield from drawn(space, "random", seed)


def _encoded(axis: Axis, value: Any) -> Any:
    """Return the value that Optuna stores: a number of a range, or the index in a list."""
    return value if axis.spacing else axis.values.index(value)


def _decoded(axis: Axis, parameter: Any) -> Any:
    return rounded(parameter) if axis.spacing else axis.values[parameter]
