"""Optimizers on functions of two variables: their paths, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from optrial.errors import Problem, StudyError, suggest
from optrial.explain.optimizers import PathOptimizer, parse_optimizers, parse_point
from optrial.functions import FUNCTIONS, Function, Point
from optrial.keyed import mask_key, signs
from optrial.rules import apply_all, evaluation_point, initialise_all
from optrial.style import LineStyle, line_styles

__all__ = [
    "LEARNING_RATES",
    "LEVELS",
    "Landscape",
    "OptimizerPath",
    "assemble",
    "landscape_rows",
    "make_landscape",
    "paths",
]

Array = NDArray[np.float64]
Parsed = TypeVar("Parsed")

DEFAULT_OPTIMIZERS = "sgd:lr=best,momentum:lr=best,rmsprop:lr=best,adam:lr=best"

LEARNING_RATES = np.logspace(-4, 1.5, 23)
"""The grid of `lr=best`: four per decade."""
RATES_NOTE = (
    f"Each lr is the best of {len(LEARNING_RATES)} from {LEARNING_RATES[0]:g} to "
    f"{LEARNING_RATES[-1]:.3g}: the one with the lowest average value along the path."
)
MOST_STEPS = 10_000
_TINY = 1e-20  # imaginary distance at which derivatives are taken
REACH = 10.0
"""A path has left once it is this many picture sizes away from the middle of the picture."""
COLUMNS = 201
"""Grid points in each direction for drawing a function."""
LEVELS = 14
"""Number of contours."""
DEEPEST = 0.02
"""Fraction of the picture below the lowest contour."""


@dataclass(frozen=True, eq=False)
class OptimizerPath:
    """The path of one optimizer.

    Attributes:
        name: of the optimizer, unique within a landscape; decides the colour.
        label: its name and hyperparameters.
        points: (steps + 1, 2), from the start.
        values: (steps + 1,), the function at the points.
        left_at: the step at which the path went far away or stopped being finite, the first step
            without a point; None if it stayed.
    """

    name: str
    label: str
    points: Array
    values: Array
    left_at: int | None = None


@dataclass(frozen=True, eq=False)
class Landscape:
    """A function of two variables with the paths of optimizers.

    Attributes:
        title: name of the function.
        formula_latex: its formula.
        note: one sentence on how the paths were computed.
        source: citation of the function.
        x: (columns,), increasing.
        y: (rows,), increasing.
        heights: (rows, columns), values above the minimum.
        minimum: the least value.
        minima: points of the least value.
        start: first point of every path.
        steps: number of steps.
        paths: one per optimizer.
    """

    title: str
    formula_latex: str
    note: str
    source: str
    x: Array
    y: Array
    heights: Array
    minimum: float
    minima: Sequence[Point]
    start: Point
    steps: int
    paths: Sequence[OptimizerPath]

    @property
    def levels(self) -> Array:
        """Heights of the contours, (LEVELS,), at equal ratios."""
        lowest = np.quantile(self.heights, DEEPEST)
        return np.geomspace(lowest, self.heights.max(), LEVELS + 1)[:-1]

    @property
    def styles(self) -> dict[str, LineStyle]:
        """Name of a path -> colour, marker and dashes."""
        return line_styles(path.name for path in self.paths)


def make_landscape(
    function: str = "rosenbrock",
    optimizers: str | None = None,
    steps: int = 200,
    start: str | None = None,
    seed: int = 0,
) -> Landscape:
    """Run optimizers on a function.

    Args:
        function: name of the function.
        optimizers: see `parse_optimizers`; by default sgd, momentum, rmsprop and adam, each with
            its best learning rate.
        steps: steps per optimizer, from 1 to `MOST_STEPS`.
        start: "x,y"; by default the start of the function.
        seed: seed of the noise, if the function has any; the same noise for every optimizer.

    Raises:
        StudyError: lists every problem with the arguments.
    """
    problems: list[Problem] = []
    if function not in FUNCTIONS:
        problems.append(
            Problem("function", f"'{function}' is not a function. {suggest(function, FUNCTIONS)}")
        )
    named = DEFAULT_OPTIMIZERS if optimizers is None else optimizers
    chosen = _collect(problems, "--optimizers", parse_optimizers, named)
    point = _collect(problems, "--start", parse_point, start) if start is not None else None
    if not 1 <= steps <= MOST_STEPS:
        problems.append(Problem("--steps", f"{steps}: must be from 1 to {MOST_STEPS:,}."))
    if seed < 0:
        problems.append(Problem("seed", f"{seed}: must be 0 or more."))
    if point and function in FUNCTIONS and not _near(FUNCTIONS[function], np.asarray(point)):
        left, right, below, above = FUNCTIONS[function].bounds
        picture = f"x from {left:g} to {right:g} and y from {below:g} to {above:g}"
        problems.append(Problem("--start", f"{start} is too far from the picture, {picture}."))
    if problems:
        raise StudyError(problems, "the landscape")
    return assemble(FUNCTIONS[function], chosen or [], steps, point, seed)


def assemble(
    function: Function,
    optimizers: Sequence[PathOptimizer],
    steps: int,
    start: Point | None = None,
    seed: int = 0,
) -> Landscape:
    """Return a function with the paths of optimizers; arguments as in `paths`."""
    left, right, below, above = function.bounds
    x, y = np.linspace(left, right, COLUMNS), np.linspace(below, above, COLUMNS)
    minimum = float(function.value(*map(np.asarray, function.minima[0])))
    displaced = f" Gradients are taken at points displaced by N(0, {function.noise:g}²)."
    noise = displaced if function.noise else ""
    tuned = f" {RATES_NOTE}" if all(optimizer.tuned for optimizer in optimizers) else ""
    return Landscape(
        title=function.title,
        formula_latex=function.formula_latex,
        note=f"{steps} steps, no weight decay.{noise}{tuned}",
        source=function.source,
        x=x,
        y=y,
        heights=function.value(x[None, :], y[:, None]) - minimum,
        minimum=minimum,
        minima=function.minima,
        start=start or function.start,
        steps=steps,
        paths=paths(function, optimizers, steps, start, seed),
    )


def paths(
    function: Function,
    optimizers: Sequence[PathOptimizer],
    steps: int,
    start: Point | None = None,
    seed: int = 0,
) -> list[OptimizerPath]:
    """Return the path of each optimizer on a function, in float64.

    Args:
        function: the function to minimise.
        optimizers: run one by one, without weight decay, which would move the minimum.
        steps: steps per optimizer.
        start: first point; by default the start of the function.
        seed: seed of the displacements of the points at which gradients are taken, (steps, 2), and
            of the signs with which curvature is estimated; the same for every optimizer.

    Returns:
        One path per optimizer, cut before the step at which it left. For a rule that is evaluated
        at another point than its gradient, the path of the evaluated point.
    """
    displacements = function.noise * np.random.default_rng(seed).standard_normal((steps, 2))
    named: list[OptimizerPath] = []
    for optimizer in optimizers:
        path = _path(function, optimizer, np.asarray(start or function.start), displacements, seed)
        is_taken = path.name in [other.name for other in named]
        named.append(replace(path, name=path.label) if is_taken else path)
    return named


def landscape_rows(landscape: Landscape) -> tuple[list[str], list[list[object]]]:
    """Return the columns and rows of a table of the final points, and of steps until they left."""
    columns = ["optimizer", "x", "y", "value", "to minimum", "steps"]
    minima = np.asarray(landscape.minima)
    rows: list[list[object]] = []
    for path in landscape.paths:
        end = path.points[-1]
        distance = np.linalg.norm(minima - end, axis=1).min()
        numbers = [float(f"{number:.5g}") for number in (*end, path.values[-1], distance)]
        steps = landscape.steps if path.left_at is None else f"left at {path.left_at}"
        rows.append([path.label, *numbers, steps])
    return columns, rows


def _collect(
    problems: list[Problem], path: str, parse: Callable[[str], Parsed], text: str
) -> Parsed | None:
    """Return the parsed `text`, or add its problems to `problems`."""
    try:
        return parse(text)
    except StudyError as error:
        problems += [problem.under(path) for problem in error.problems]
        return None


def _path(
    function: Function, optimizer: PathOptimizer, start: Array, displacements: Array, seed: int
) -> OptimizerPath:
    rates = LEARNING_RATES if optimizer.tuned else np.asarray([optimizer.hyperparameters["lr"]])
    points = _walk(function, optimizer, rates, start, displacements, seed)
    with np.errstate(all="ignore"):  # a path that has left may overflow
        values = function.value(points[..., 0], points[..., 1])
        left = _left(function, points, values)
        best = int(np.where(left < len(points), np.inf, values.mean(axis=0)).argmin())
    cut = int(left[best])
    return OptimizerPath(
        name=optimizer.rule.name,
        label=optimizer.label(float(rates[best])),
        points=points[:cut, best],
        values=values[:cut, best],
        left_at=cut if cut < len(points) else None,
    )


def _walk(
    function: Function,
    optimizer: PathOptimizer,
    rates: Array,
    start: Array,
    displacements: Array,
    seed: int,
) -> Array:
    """Return the points of one run per learning rate, (steps + 1, runs, 2).

    The point is a matrix with one row, (runs, 1, 2), so that rules for matrices treat it as one.
    """
    rule, hyperparameters = optimizer.rule, {**optimizer.hyperparameters, "lr": rates}
    params = {"point": np.tile(start, (len(rates), 1, 1))}
    state = initialise_all(rule, params, hyperparameters, lead=1)
    points = [evaluation_point(rule, params, state, hyperparameters)["point"]]
    with np.errstate(all="ignore"):  # a path that has left may overflow
        for step, displacement in enumerate(displacements, 1):
            displaced = params["point"] + displacement
            grad = np.stack(function.gradient(displaced[..., 0], displaced[..., 1]), axis=-1)
            curvature = {"point": _estimate(function, displaced, mask_key(seed, step))}
            params, state = apply_all(
                rule,
                params,
                {"point": grad},
                state,
                step,
                hyperparameters,
                lead=1,
                curvature=curvature if rule.needs_curvature else None,
            )
            points.append(evaluation_point(rule, params, state, hyperparameters)["point"])
    return np.stack(points)[:, :, 0, :]


def _estimate(function: Function, points: Array, key: int) -> Array:
    """Return z·Hz at points, (runs, 1, 2): the derivative of the gradient along the signs z.

    It is the imaginary part of the gradient at a point that is moved by an imaginary distance,
    exact to rounding (Squire & Trapp 1998).
    """
    z = signs(key, "point", np.arange(2)).astype(points.dtype)
    moved = points + 1j * _TINY * z
    gradient = np.stack(function.gradient(moved[..., 0], moved[..., 1]), axis=-1)
    estimate: Array = z * gradient.imag / _TINY
    return estimate


def _left(function: Function, points: Array, values: Array) -> NDArray[np.intp]:
    """Return the first step of each run, (runs,), that is not finite or far from the picture.

    A run that stays gets steps + 1. `points` is (steps + 1, runs, 2), `values` (steps + 1, runs).
    """
    stayed = np.isfinite(values) & _near(function, points)
    end = np.ones((1, stayed.shape[1]), dtype=bool)
    return np.asarray(np.argmax(np.concatenate([~stayed, end]), axis=0))


def _near(function: Function, points: Array) -> NDArray[np.bool_]:
    """Return whether points, (..., 2), are at most `REACH` picture sizes from the middle, (...)."""
    left, right, below, above = function.bounds
    middle = np.asarray([left + right, below + above]) / 2
    size = np.asarray([right - left, above - below])
    return np.asarray((np.abs(points - middle) <= REACH * size).all(axis=-1))
