"""Optimizers on functions of two variables: what `optrial landscape` computes, draws and writes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.errors import OptrialError, Problem, StudyError, suggest
from optrial.functions import FUNCTIONS, Function, Point
from optrial.report.landscape import Landscape, OptimizerPath, landscape_figure, landscape_page
from optrial.report.style import FIGURE_FORMATS, save_figure
from optrial.rules import RULES, Rule, apply_all, evaluation_point, initialise_all

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "PathOptimizer",
    "assemble",
    "check_format",
    "landscape_rows",
    "make_landscape",
    "parse_optimizers",
    "parse_point",
    "paths",
    "write_landscape",
]

Array = NDArray[np.float64]

DEFAULT_OPTIMIZERS = "sgd:lr=best,momentum:lr=best,rmsprop:lr=best,adam:lr=best"

BEST = "best"
LEARNING_RATES = np.logspace(-4, 1.5, 23)
"""Among which "best" chooses: four a decade."""
RATES_NOTE = (
    f"Each lr is, of {len(LEARNING_RATES)} from {LEARNING_RATES[0]:g} to {LEARNING_RATES[-1]:.3g}, "
    "the one with the lowest average value along the path."
)
MOST_STEPS = 10_000
REACH = 10.0
"""A path that is further from the middle of the picture than this many of its sizes has left."""
COLUMNS = 201
"""Points of the grid on which a function is drawn, in each direction."""


@dataclass(frozen=True, eq=False)
class PathOptimizer:
    """A rule with values for all its hyperparameters.

    Attributes:
        rule: the update rule.
        hyperparameters: all of the rule's; `lr` counts for nothing where `tuned`.
        given: the names of those that were given, and not left at their defaults.
        tuned: whether `lr` is to be the best of `LEARNING_RATES`.
    """

    rule: Rule
    hyperparameters: Mapping[str, float | bool]
    given: tuple[str, ...] = ()
    tuned: bool = False

    def label(self, lr: float) -> str:
        """Return the rule's name, its learning rate, and the values that were given."""
        shown = {**self.hyperparameters, "lr": lr}
        names = ["lr", *(name for name in self.given if name != "lr")]
        return " ".join([self.rule.name, *(f"{name}={shown[name]:.3g}" for name in names)])


def make_landscape(
    function: str = "rosenbrock",
    optimizers: str = DEFAULT_OPTIMIZERS,
    steps: int = 200,
    start: str | None = None,
    seed: int = 0,
) -> Landscape:
    """Run optimizers on a function and return all there is to draw or print of it.

    Args:
        function: its name.
        optimizers: see `parse_optimizers`.
        steps: how many each takes, from 1 to `MOST_STEPS`.
        start: "x,y"; by default the function's own.
        seed: draws the noise, the same for every optimizer, if the function has any.

    Raises:
        StudyError: for everything that is wrong with the arguments.
    """
    problems: list[Problem] = []
    if function not in FUNCTIONS:
        problems.append(
            Problem("function", f"'{function}' is not a function. {suggest(function, FUNCTIONS)}")
        )
    chosen = _collect(problems, "--optimizers", parse_optimizers, optimizers)
    point = _collect(problems, "--start", parse_point, start) if start is not None else None
    if not 1 <= steps <= MOST_STEPS:
        problems.append(Problem("--steps", f"{steps}: must be from 1 to {MOST_STEPS:,}."))
    if point and function in FUNCTIONS and not _near(FUNCTIONS[function], np.asarray(point)):
        message = f"{start} is too far from the picture, {_picture(FUNCTIONS[function])}."
        problems.append(Problem("--start", message))
    if problems:
        raise StudyError(problems, "the landscape")
    return assemble(FUNCTIONS[function], chosen, steps, point, seed)


def assemble(
    function: Function,
    optimizers: Sequence[PathOptimizer],
    steps: int,
    start: Point | None = None,
    seed: int = 0,
) -> Landscape:
    """Return a landscape with the paths of `optimizers`; arguments as in `paths`."""
    left, right, below, above = function.bounds
    x, y = np.linspace(left, right, COLUMNS), np.linspace(below, above, COLUMNS)
    minimum = float(function.value(*map(np.asarray, function.minima[0])))
    noise = (
        f" Gradients at points displaced by N(0, {function.noise:g}²)." if function.noise else ""
    )
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
    """Return where each optimizer goes, in float64.

    Args:
        function: on which they run.
        optimizers: each starts anew. Weight decay, which would move the minimum, is left out.
        steps: how many each takes.
        start: where; by default the function's own start.
        seed: draws the displacements of the points at which gradients are taken, (steps, 2), the
            same for every optimizer.

    Returns:
        A path each, cut before the step at which it left. Of a rule whose model is evaluated
        elsewhere than where its gradient is taken, it is the path of the evaluated point.
    """
    displacements = function.noise * np.random.default_rng(seed).standard_normal((steps, 2))
    names: list[str] = []
    found = []
    for optimizer in optimizers:
        path = _path(function, optimizer, np.asarray(start or function.start), displacements)
        name = path.name if path.name not in names else path.label
        names.append(name)
        found.append(OptimizerPath(name, path.label, path.points, path.values, path.left_at))
    return found


def parse_optimizers(text: str) -> list[PathOptimizer]:
    """Read "sgd:lr=0.001,momentum:lr=0.01:momentum=0.95": rules with their hyperparameters.

    Those left out take the rule's defaults. ``lr=best`` takes the learning rate with the lowest
    value, on average over the path, of a grid that is the same for every rule.

    Raises:
        StudyError: for everything that is wrong with any of them.
    """
    problems: list[Problem] = []
    chosen: dict[str, PathOptimizer] = {}
    for entry in (part.strip() for part in text.split(",")):
        name, *settings = entry.split(":")
        if name not in RULES:
            problems.append(Problem(entry, f"'{name}' is not a rule. {suggest(name, RULES)}"))
            continue
        optimizer, found = _parse_settings(RULES[name], settings)
        problems += [problem.under(name) for problem in found]
        if entry in chosen:
            problems.append(Problem(entry, "is given twice; give each optimizer once."))
        chosen[entry] = optimizer
    if problems:
        raise StudyError(problems, "the choice of optimizers")
    return list(chosen.values())


def parse_point(text: str) -> Point:
    """Read "x,y", two finite numbers.

    Raises:
        StudyError: it is something else.
    """
    coordinates = tuple(map(_number, text.split(",")))
    match coordinates:
        case (float(x), float(y)) if math.isfinite(x) and math.isfinite(y):
            return x, y
    problem = Problem("", f"'{text}': must be two finite numbers, such as -1.2,1.")
    raise StudyError([problem], "the start")


def landscape_rows(landscape: Landscape) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows that say where each path ended, for a table."""
    columns = ["optimizer", "steps", "x", "y", "value", "distance to a minimum", "path"]
    minima = np.asarray(landscape.minima)
    rows: list[list[object]] = []
    for path in landscape.paths:
        end = path.points[-1]
        distance = np.linalg.norm(minima - end, axis=1).min()
        numbers = [float(f"{number:.5g}") for number in (*end, path.values[-1], distance)]
        fate = "stayed" if path.left_at is None else f"left at step {path.left_at}"
        rows.append([path.label, len(path.points) - 1, *numbers, fate])
    return columns, rows


def write_landscape(landscape: Landscape, file: Path) -> None:
    """Write a landscape as an animated page or a figure, by the suffix of the file.

    Raises:
        StudyError: the suffix is not .html, .png, .pdf or .svg.
        OptrialError: the file cannot be written.
    """
    suffix = check_format(file)
    try:
        if suffix == "html":
            file.write_text(landscape_page(landscape), encoding="utf-8")
        else:
            save_figure(landscape_figure(landscape), file)
    except OSError as error:
        raise OptrialError(f"{file} cannot be written: {error.strerror}.") from error


def check_format(file: Path) -> str:
    """Return the suffix of a file to be written, without its dot.

    Raises:
        StudyError: it is not one of those of `write_landscape`.
    """
    suffix = file.suffix.removeprefix(".").lower()
    if suffix not in (allowed := ("html", *FIGURE_FORMATS)):
        problem = Problem(
            "--out", f"'{file}' ends in none of the formats. {suggest(suffix, allowed)}"
        )
        raise StudyError([problem], "the landscape")
    return suffix


def _collect(problems: list[Problem], path: str, parse: Any, text: str) -> Any:
    """Return what `parse` makes of `text`, or add its problems to `problems`."""
    try:
        return parse(text)
    except StudyError as error:
        problems += [problem.under(path) for problem in error.problems]


def _parse_settings(rule: Rule, settings: Sequence[str]) -> tuple[PathOptimizer, list[Problem]]:
    known = {hyperparameter.name: hyperparameter for hyperparameter in rule.hyperparameters}
    values, problems, tuned = dict(rule.defaults), [], False
    given = []
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            meant = [h.name for h in rule.hyperparameters if name in h.aliases]
            hint = f"optrial calls it {' and '.join(meant)}. " if meant else ""
            message = f"is not a hyperparameter. {hint}{suggest(name, known)}"
            problems.append(Problem(name, message))
        elif name in given:
            problems.append(Problem(name, "is given twice."))
        elif name == "lr" and text == BEST:
            tuned = True
        elif reason := known[name].check(value := _value(text)):
            problems.append(Problem(name, reason))
        else:
            values[name] = value
        given.append(name)
    return PathOptimizer(rule, values, tuple(given), tuned), problems


def _value(text: str) -> Any:
    """Read a number or a switch; what is neither stays as it is."""
    switches = {"true": True, "false": False}
    return switches.get(text.lower(), _number(text))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _path(
    function: Function, optimizer: PathOptimizer, start: Array, displacements: Array
) -> OptimizerPath:
    rates = LEARNING_RATES if optimizer.tuned else np.asarray([optimizer.hyperparameters["lr"]])
    points = _walk(function, optimizer, rates, start, displacements)
    with np.errstate(all="ignore"):  # a path that has left may go anywhere
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
) -> Array:
    """Return the points, (steps + 1, runs, 2), of one run for each learning rate.

    The point is a matrix of one row, (runs, 1, 2), so that rules for matrices act as such.
    """
    rule, hyperparameters = optimizer.rule, {**optimizer.hyperparameters, "lr": rates}
    params = {"point": np.tile(start, (len(rates), 1, 1))}
    state = initialise_all(rule, params, hyperparameters, lead=1)
    points = [evaluation_point(rule, params, state, hyperparameters, lead=1)["point"]]
    with np.errstate(all="ignore"):  # a path that has left may go anywhere
        for step, displacement in enumerate(displacements, 1):
            displaced = params["point"] + displacement
            grad = np.stack(function.gradient(displaced[..., 0], displaced[..., 1]), axis=-1)
            params, state = apply_all(
                rule, params, {"point": grad}, state, step, hyperparameters, lead=1
            )
            points.append(evaluation_point(rule, params, state, hyperparameters, lead=1)["point"])
    return np.stack(points)[:, :, 0, :]


def _left(function: Function, points: Array, values: Array) -> Any:
    """Return the first step of each run, (runs,), that is not finite or far from the picture.

    Args:
        function: whose picture it is.
        points: (steps + 1, runs, 2).
        values: (steps + 1, runs).
    """
    stayed = np.isfinite(values) & _near(function, points)
    never = np.ones((1, stayed.shape[1]), dtype=bool)
    return np.concatenate([~stayed, never]).argmax(axis=0)


def _near(function: Function, points: Array) -> Any:
    """Return whether points, (..., 2), are less than `REACH` pictures from the middle of one."""
    left, right, below, above = function.bounds
    middle = np.asarray([left + right, below + above]) / 2
    size = np.asarray([right - left, above - below])
    return (np.abs(points - middle) <= REACH * size).all(axis=-1)


def _picture(function: Function) -> str:
    left, right, below, above = function.bounds
    return f"x from {left:g} to {right:g} and y from {below:g} to {above:g}"
