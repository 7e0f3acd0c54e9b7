"""Two-dimensional test functions for optimizers: value, gradient, minima, source.

Written once, in operators and the array API, for NumPy arrays and torch tensors of any shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from optrial.errors import Problem, StudyError, suggest
from optrial.rules.arrays import Array, namespace

__all__ = ["FUNCTIONS", "Function", "FunctionName", "Point", "condition_problem", "get_function"]

Point = tuple[float, float]

FunctionName = Literal[
    "rosenbrock",
    "beale",
    "himmelblau",
    "rastrigin",
    "saddle",
    "ill_conditioned",
    "noisy_quadratic",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Function:
    """A function of two variables.

    Attributes:
        name: as in study files: "rosenbrock".
        title: as in print: "Rosenbrock's valley".
        value: `value(x, y)`, elementwise; x and y broadcast.
        gradient: `gradient(x, y)` returns the derivatives by x and by y.
        formula: in plain text.
        formula_latex: the same in LaTeX.
        minima: every global minimum.
        start: default first point of a path.
        bounds: smallest and largest x, smallest and largest y of a picture.
        source: citation, with the year.
        noise: standard deviation, per variable and step, of the displacement of the point at which
            the gradient is taken; 0 for none.
        condition: condition number, the ratio of the largest to the smallest curvature, of a
            function that takes one as an argument.
    """

    name: str
    title: str
    value: Callable[[Array, Array], Array]
    gradient: Callable[[Array, Array], tuple[Array, Array]]
    formula: str
    formula_latex: str
    minima: tuple[Point, ...]
    start: Point
    bounds: tuple[float, float, float, float]
    source: str
    noise: float = 0.0
    condition: float | None = None


def rosenbrock(x: Array, y: Array) -> Array:
    """A curved valley with a flat floor: minimum 0 at (1, 1)."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def rosenbrock_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    """Derivatives of `rosenbrock`."""
    rise = y - x**2
    return -2 * (1 - x) - 400 * x * rise, 200 * rise


def beale(x: Array, y: Array) -> Array:
    """Flat with steep edges: minimum 0 at (3, 0.5)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def beale_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    """Derivatives of `beale`."""
    first, second, third = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    by_x = first * (y - 1) + second * (y**2 - 1) + third * (y**3 - 1)
    by_y = x * (first + 2 * second * y + 3 * third * y**2)
    return 2 * by_x, 2 * by_y


def himmelblau(x: Array, y: Array) -> Array:
    """Four minima of value 0."""
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def himmelblau_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    """Derivatives of `himmelblau`."""
    first, second = x**2 + y - 11, x + y**2 - 7
    return 4 * x * first + 2 * second, 2 * first + 4 * y * second


def rastrigin(x: Array, y: Array) -> Array:
    """A bowl with a local minimum near every pair of integers: minimum 0 at (0, 0)."""
    return 20 + _ripple(x) + _ripple(y)


def rastrigin_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    """Derivatives of `rastrigin`."""
    return _ripple_slope(x), _ripple_slope(y)


def saddle(x: Array, y: Array) -> Array:
    """x² − y², bounded by a quartic: saddle point at (0, 0), minima −1 at (0, ±√2)."""
    return x**2 - y**2 + y**4 / 4


def saddle_gradient(x: Array, y: Array) -> tuple[Array, Array]:
    """Derivatives of `saddle`."""
    return 2 * x, y**3 - 2 * y


def quadratic(x: Array, y: Array, *, condition: float) -> Array:
    """A bowl with curvature 1 in x and `condition` in y: minimum 0 at (0, 0)."""
    return (x**2 + condition * y**2) / 2


def quadratic_gradient(x: Array, y: Array, *, condition: float) -> tuple[Array, Array]:
    """Derivatives of `quadratic`."""
    return 1 * x, condition * y


def condition_problem(name: str, condition: float) -> str | None:
    """Return an error message if function `name` cannot take this condition number, else None."""
    if FUNCTIONS[name].condition is None:
        names = ", ".join(f.name for f in FUNCTIONS.values() if f.condition is not None)
        return f"{name} takes no condition number; these do: {names}."
    return None if 1 <= condition < math.inf else "must be a finite number of 1 or more."


def get_function(name: str, condition: float | None = None) -> Function:
    """Return a function of the catalogue.

    Args:
        name: a key of `FUNCTIONS`.
        condition: condition number, at least 1; None for the default.

    Raises:
        StudyError: the function does not exist, or does not take this condition number.
    """
    if name not in FUNCTIONS:
        problem = Problem("function", f"'{name}' is not a function. {suggest(name, FUNCTIONS)}")
        raise StudyError([problem], "the function")
    function = FUNCTIONS[name]
    if condition is None:
        return function
    if reason := condition_problem(name, condition):
        raise StudyError([Problem("condition", f"{condition!r}: {reason}")], name)
    return replace(function, **_quadratic_terms(condition))


def _ripple(x: Array) -> Array:
    return x**2 - 10 * namespace(x).cos(2 * math.pi * x)


def _ripple_slope(x: Array) -> Array:
    return 2 * x + 20 * math.pi * namespace(x).sin(2 * math.pi * x)


def _quadratic_terms(condition: float) -> dict[str, Any]:
    """Return the fields of a quadratic `Function` that depend on its condition number."""
    return {
        "value": partial(quadratic, condition=condition),
        "gradient": partial(quadratic_gradient, condition=condition),
        "formula": f"(x² + {condition:g}·y²) / 2",
        "formula_latex": rf"\tfrac{{1}}{{2}} (x^2 + {condition:g}\, y^2)",
        "condition": condition,
    }


_QUADRATIC = Function(
    name="ill_conditioned",
    title="Ill-conditioned quadratic",
    minima=((0.0, 0.0),),
    start=(-9.0, 1.5),
    bounds=(-10.0, 3.0, -2.5, 2.5),
    source=(
        "Any textbook; as a picture of momentum: Goh, G. (2017). Why Momentum Really Works. "
        "Distill 2(4)."
    ),
    **_quadratic_terms(30.0),
)

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        function.name: function
        for function in (
            Function(
                name="rosenbrock",
                title="Rosenbrock's valley",
                value=rosenbrock,
                gradient=rosenbrock_gradient,
                formula="(1 − x)² + 100·(y − x²)²",
                formula_latex="(1 - x)^2 + 100\\, (y - x^2)^2",
                minima=((1.0, 1.0),),
                start=(-1.2, 1.0),
                bounds=(-2.0, 2.0, -1.0, 3.0),
                source=(
                    "Rosenbrock, H. H. (1960). An automatic method for finding the greatest or "
                    "least value of a function. The Computer Journal 3(3), 175-184."
                ),
            ),
            Function(
                name="beale",
                title="Beale's function",
                value=beale,
                gradient=beale_gradient,
                formula="(1.5 − x + x·y)² + (2.25 − x + x·y²)² + (2.625 − x + x·y³)²",
                formula_latex="(1.5 - x + xy)^2 + (2.25 - x + xy^2)^2 + (2.625 - x + xy^3)^2",
                minima=((3.0, 0.5),),
                start=(1.0, 1.0),
                bounds=(-1.0, 4.5, -1.5, 1.75),
                source=(
                    "Beale, E. M. L. (1958), as number 5 of Moré, J. J., Garbow, B. S. and "
                    "Hillstrom, K. E. (1981). Testing Unconstrained Optimization Software. "
                    "ACM Transactions on Mathematical Software 7(1), 17-41."
                ),
            ),
            Function(
                name="himmelblau",
                title="Himmelblau's function",
                value=himmelblau,
                gradient=himmelblau_gradient,
                formula="(x² + y − 11)² + (x + y² − 7)²",
                formula_latex="(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
                minima=(
                    (3.0, 2.0),
                    (-2.805118086952745, 3.131312518250573),
                    (-3.779310253377747, -3.283185991286170),
                    (3.584428340330492, -1.848126526964404),
                ),
                start=(0.0, 0.0),
                bounds=(-5.0, 5.0, -5.0, 5.0),
                source="Himmelblau, D. M. (1972). Applied Nonlinear Programming. McGraw-Hill.",
            ),
            Function(
                name="rastrigin",
                title="Rastrigin's function",
                value=rastrigin,
                gradient=rastrigin_gradient,
                formula="20 + x² − 10·cos(2πx) + y² − 10·cos(2πy)",
                formula_latex=r"20 + x^2 - 10 \cos(2 \pi x) + y^2 - 10 \cos(2 \pi y)",
                minima=((0.0, 0.0),),
                start=(2.7, -3.3),
                bounds=(-5.12, 5.12, -5.12, 5.12),
                source=(
                    "Rastrigin, L. A. (1974). Systems of Extremal Control. Nauka; in the form of "
                    "Mühlenbein, H., Schomisch, D. and Born, J. (1991). The parallel genetic "
                    "algorithm as function optimizer. Parallel Computing 17, 619-632."
                ),
            ),
            Function(
                name="saddle",
                title="A saddle between two valleys",
                value=saddle,
                gradient=saddle_gradient,
                formula="x² − y² + y⁴ / 4",
                formula_latex=r"x^2 - y^2 + \tfrac{1}{4} y^4",
                minima=((0.0, math.sqrt(2)), (0.0, -math.sqrt(2))),
                start=(-1.6, 0.01),
                bounds=(-2.0, 2.0, -2.0, 2.0),
                source=(
                    "The saddle x² − y²; the quartic, which bounds it, is added here. On saddles "
                    "in training: Dauphin, Y. et al. (2014). Identifying and attacking the saddle "
                    "point problem in high-dimensional non-convex optimization. NeurIPS."
                ),
            ),
            _QUADRATIC,
            replace(
                _QUADRATIC,
                name="noisy_quadratic",
                title="Noisy quadratic",
                noise=0.3,
                source=(
                    "Schaul, T., Zhang, S. and LeCun, Y. (2013). No More Pesky Learning Rates. "
                    "ICML; Zhang, G. et al. (2019). Which Algorithmic Choices Matter at Which "
                    "Batch Sizes? Insights From a Noisy Quadratic Model. NeurIPS."
                ),
            ),
        )
    }
)
