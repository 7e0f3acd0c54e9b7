"""Paths of optimizers on functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optrial.errors import StudyError
from optrial.explain.landscape import LEARNING_RATES, landscape_rows, make_landscape, paths
from optrial.explain.optimizers import parse_optimizers, parse_point
from optrial.functions import FUNCTIONS
from optrial.rules import RULES
from tests.tolerance import RULE_FLOAT64

ROSENBROCK = FUNCTIONS["rosenbrock"]


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("sgd:lr=0.001", lambda p: torch.optim.SGD(p, lr=0.001)),
        ("momentum:lr=0.001:momentum=0.95", lambda p: torch.optim.SGD(p, 0.001, momentum=0.95)),
        ("rmsprop:lr=0.01", lambda p: torch.optim.RMSprop(p, lr=0.01)),
        ("adam:lr=0.05:beta1=0.8", lambda p: torch.optim.Adam(p, 0.05, betas=(0.8, 0.999))),
    ],
)
def test_paths_are_those_of_torch(text: str, make: object) -> None:
    (path,) = paths(ROSENBROCK, parse_optimizers(text), 100)
    point = torch.tensor(ROSENBROCK.start, dtype=torch.float64, requires_grad=True)
    optimizer = make([point])  # type: ignore[operator]
    expected = [point.detach().clone()]
    for _ in range(100):
        optimizer.zero_grad()
        ROSENBROCK.value(point[0], point[1]).backward()
        optimizer.step()
        expected.append(point.detach().clone())
    np.testing.assert_allclose(path.points, torch.stack(expected).numpy(), rtol=RULE_FLOAT64)
    np.testing.assert_allclose(path.values, ROSENBROCK.value(*path.points.T), rtol=RULE_FLOAT64)
    assert path.points.dtype == np.float64
    assert path.left_at is None


@pytest.mark.parametrize("name", RULES)
def test_every_rule_walks_down(name: str) -> None:
    (path,) = paths(FUNCTIONS["ill_conditioned"], parse_optimizers(f"{name}:lr=best"), 60)
    assert path.points.shape == (61, 2)
    assert path.values[-1] < path.values[0] / 2


def test_a_path_ends_before_the_step_at_which_it_left() -> None:
    (path,) = paths(ROSENBROCK, parse_optimizers("sgd:lr=0.1"), 50)
    assert path.left_at == len(path.points) == len(path.values) < 50
    assert np.isfinite(path.values).all()
    # The step that is missing would have gone beyond ten pictures.
    last = path.points[-1]
    beyond = last - 0.1 * np.asarray(ROSENBROCK.gradient(*last))
    assert np.abs(beyond).max() > 10 * 4


def test_noise_is_the_same_for_every_optimizer_and_seed() -> None:
    noisy = FUNCTIONS["noisy_quadratic"]
    # Momentum without memory is gradient descent: only the same noise gives the same path.
    chosen = parse_optimizers("sgd:lr=0.01,momentum:lr=0.01:momentum=0")
    first, second = paths(noisy, chosen, 30)
    np.testing.assert_array_equal(first.points, second.points)
    other, _ = paths(noisy, chosen, 30, seed=1)
    assert not np.array_equal(first.points, other.points)
    plain, _ = paths(FUNCTIONS["ill_conditioned"], chosen, 30)
    assert not np.array_equal(first.points, plain.points)


def test_the_best_rate_is_the_best_of_the_grid() -> None:
    (best,) = paths(ROSENBROCK, parse_optimizers("momentum:lr=best"), 80)
    means = {}
    for rate in LEARNING_RATES:
        (path,) = paths(ROSENBROCK, parse_optimizers(f"momentum:lr={float(rate)!r}"), 80)
        means[path.label] = np.inf if path.left_at is not None else path.values.mean()
    assert best.label == min(means, key=lambda label: means[label])
    assert len(means) == len(LEARNING_RATES)


def test_optimizers_are_parsed() -> None:
    momentum, rmsprop = parse_optimizers(" momentum:lr=0.01:momentum=0.95, rmsprop:centered=True")
    assert momentum.rule is RULES["momentum"]
    assert dict(momentum.hyperparameters) == {"lr": 0.01, "momentum": 0.95}
    assert momentum.label(0.01) == "momentum lr=0.01 momentum=0.95"
    assert rmsprop.hyperparameters["centered"] is True
    assert rmsprop.hyperparameters["rho"] == RULES["rmsprop"].defaults["rho"]


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(StudyError) as caught:
        make_landscape(
            "rosenbrok",
            "adm:lr=1,adam:lr=-1:momentum=0.9:eps,sgd:learning_rate=1,sgd,sgd,lion:lr=1:lr=2",
            steps=0,
            start="1;2",
        )
    messages = {problem.path: problem.message for problem in caught.value.problems}
    assert "Did you mean 'rosenbrock'" in messages["function"]
    assert "Did you mean 'adam'" in messages["--optimizers.adm:lr=1"]
    assert "lr > 0" in messages["--optimizers.adam.lr"]
    assert "is not a hyperparameter. Allowed: lr" in messages["--optimizers.adam.momentum"]
    assert "''" in messages["--optimizers.adam.eps"]
    assert "optrial calls it lr" in messages["--optimizers.sgd.learning_rate"]
    assert "appears twice" in messages["--optimizers.sgd"]
    assert "appears twice" in messages["--optimizers.lion.lr"]
    assert "1 to 10,000" in messages["--steps"]
    assert "two finite numbers" in messages["--start"]
    assert len(messages) == 10


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "nan,0", "1,inf"])
def test_a_start_is_two_finite_numbers(text: str) -> None:
    with pytest.raises(StudyError, match="two finite numbers"):
        parse_point(text)


def test_a_start_must_be_near_the_picture() -> None:
    assert make_landscape(start="1.5,-0.5", steps=3).start == (1.5, -0.5)
    with pytest.raises(StudyError, match="too far from the picture, x from -2 to 2"):
        make_landscape(start="100,0")


def test_a_seed_is_not_negative() -> None:
    with pytest.raises(StudyError, match="seed: -1: must be 0 or more"):
        make_landscape(seed=-1)


def test_rows_show_final_points() -> None:
    landscape = make_landscape("himmelblau", "sgd:lr=0.01,sgd:lr=1", 100)
    columns, (near, far) = landscape_rows(landscape)
    row = dict(zip(columns, near, strict=True))
    assert (row["x"], row["y"], row["steps"]) == (3.0, 2.0, 100)
    assert row["to minimum"] < RULE_FLOAT64
    assert far[-1] == f"left at {landscape.paths[1].left_at}"


def test_paths_of_one_rule_have_different_names() -> None:
    landscape = make_landscape(optimizers="adam:lr=0.01,adam:lr=0.1,sgd:lr=0.001", steps=5)
    assert [path.name for path in landscape.paths] == ["adam", "adam lr=0.1", "sgd"]
    assert len(set(landscape.styles.values())) == 3
