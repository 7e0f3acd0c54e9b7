from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy import optimize

from optrial.errors import StudyError
from optrial.functions import FUNCTIONS, Function, FunctionName, get_function
from tests.tolerance import GRADIENT_FLOAT64, MINIMUM_FLOAT64, MINIMUM_FOUND

every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


def grid(function: Function, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    left, right, below, above = function.bounds
    return np.linspace(left, right, count)[None, :], np.linspace(below, above, count)[:, None]


def full_grid(function: Function) -> list[np.ndarray]:
    return list(np.broadcast_arrays(*grid(function)))


def test_the_names_are_those_of_the_type() -> None:
    assert tuple(FUNCTIONS) == get_args(FunctionName)
    assert all(function.name == name for name, function in FUNCTIONS.items())


@every_function
def test_gradient_is_that_of_autograd(function: Function) -> None:
    x, y = (torch.from_numpy(a.copy()).requires_grad_() for a in full_grid(function))
    expected = torch.autograd.grad(function.value(x, y).sum(), (x, y))
    gradient = function.gradient(x.detach(), y.detach())
    for ours, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64)


@every_function
def test_gradient_is_that_of_a_complex_step(function: Function) -> None:
    # f(x + ih) = f(x) + ih f'(x): exact to rounding, as nothing cancels.
    tiny = 1e-30
    x, y = full_grid(function)
    by_x = function.value(x + 1j * tiny, y + 0j).imag / tiny
    by_y = function.value(x + 0j, y + 1j * tiny).imag / tiny
    gradient = function.gradient(x, y)
    for ours, theirs in zip(gradient, (by_x, by_y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=GRADIENT_FLOAT64, atol=GRADIENT_FLOAT64)


@every_function
def test_numpy_and_torch_agree(function: Function) -> None:
    x, y = full_grid(function)
    ours = function.value(torch.from_numpy(x.copy()), torch.from_numpy(y.copy())).numpy()
    np.testing.assert_allclose(function.value(x, y), ours, rtol=GRADIENT_FLOAT64)


@every_function
def test_minima_are_minima(function: Function) -> None:
    least = {float(function.value(*map(np.asarray, minimum))) for minimum in function.minima}
    assert max(least) - min(least) < MINIMUM_FLOAT64
    assert (function.value(*grid(function, 301)) >= min(least) - MINIMUM_FLOAT64).all()
    for minimum in function.minima:
        slope = np.asarray(function.gradient(*map(np.asarray, minimum)))
        assert np.abs(slope).max() < MINIMUM_FLOAT64
        optimum = optimize.minimize(
            lambda p: float(function.value(*p)), np.asarray(minimum) + 0.05, method="BFGS"
        )
        np.testing.assert_allclose(optimum.x, minimum, atol=MINIMUM_FOUND)


@every_function
def test_picture_holds_start_and_minima(function: Function) -> None:
    left, right, below, above = function.bounds
    for x, y in (function.start, *function.minima):
        assert left < x < right
        assert below < y < above
    assert function.start not in function.minima


@pytest.mark.parametrize(
    ("name", "point", "value"),
    [
        ("beale", (1.0, 1.0), 14.203125),  # Moré, Garbow and Hillstrom 1981, number 5: its start
        ("himmelblau", (0.0, 0.0), 170.0),  # 11² + 7²
        ("rastrigin", (1.0, -2.0), 5.0),  # at integers the ripple is gone
        ("rastrigin", (0.5, 0.5), 40.5),  # where it is highest
        ("saddle", (1.0, 0.0), 1.0),
        ("saddle", (0.0, 2.0), 0.0),
        ("ill_conditioned", (2.0, 1.0), 17.0),
    ],
)
def test_published_and_obvious_values(name: str, point: tuple[float, float], value: float) -> None:
    computed = float(FUNCTIONS[name].value(*map(np.asarray, point)))
    assert computed == pytest.approx(value, rel=GRADIENT_FLOAT64)


def test_rosenbrock_is_scipys() -> None:
    x, y = full_grid(FUNCTIONS["rosenbrock"])
    theirs = optimize.rosen(np.stack([x, y]))
    np.testing.assert_allclose(FUNCTIONS["rosenbrock"].value(x, y), theirs, rtol=GRADIENT_FLOAT64)


@pytest.mark.parametrize("condition", [1.0, 30.0, 1e4])
def test_condition_number_is_that_of_the_curvature(condition: float) -> None:
    function = get_function("ill_conditioned", condition)
    columns = [function.gradient(*map(np.asarray, unit)) for unit in ((1.0, 0.0), (0.0, 1.0))]
    assert np.linalg.cond(np.asarray(columns)) == pytest.approx(condition, rel=GRADIENT_FLOAT64)
    assert f"{condition:g}" in function.formula


def test_unknown_functions_and_conditions_are_refused() -> None:
    with pytest.raises(StudyError, match="Did you mean 'rosenbrock'"):
        get_function("rosenbrok")
    with pytest.raises(StudyError, match="takes no condition number; these do: ill_conditioned"):
        get_function("beale", 10.0)
    for condition in (0.5, float("inf"), float("nan")):
        with pytest.raises(StudyError, match="finite number of 1 or more"):
            get_function("noisy_quadratic", condition)
