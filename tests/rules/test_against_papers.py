"""Rules that torch.optim lacks, against their papers' own lines, written out in NumPy float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from optrial.rules import RULES, apply_all, evaluation_point, initialise_all
from optrial.rules.muon import orthogonalise
from optrial.rules.soap import eigenbasis
from tests.rules.network import STEPS, gradients, mostly_slow, relative_error, start, train, tried
from tests.tolerance import RULE_FLOAT64

DECAYS = [(0.0, "l2"), (0.05, "l2"), (0.05, "decoupled")]


def quadratic(theta: np.ndarray) -> np.ndarray:
    """Gradient of an ill-conditioned quadratic."""
    return np.array([1.0, 10.0, 100.0]) * theta


def double_wells(theta: np.ndarray) -> np.ndarray:
    """Gradient of coupled double wells, x^4 / 4 - x^2 / 2 + x y / 3, which is not convex."""
    return theta**3 - theta + np.roll(theta, 1) / 3 + np.roll(theta, -1) / 3


@pytest.mark.parametrize("gradient", [quadratic, double_wells])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-2])
def test_rmsprop_nesterov_is_algorithm_8_6(
    gradient: Callable[[np.ndarray], np.ndarray], momentum: float, eps: float
) -> None:
    """Both its look-ahead point, which is stored, and its own parameter."""
    lr, rho = 1e-4, 0.9  # stays away from the minimum, around which RMSProp is chaotic
    rule, values = (
        RULES["rmsprop_nesterov"],
        {"lr": lr, "rho": rho, "momentum": momentum, "eps": eps},
    )
    theta = np.array([-3.0, 0.2, 1.7])
    velocity, accumulated = np.zeros(3), np.zeros(3)
    phi = theta
    state = rule.init(phi, **values)
    for step in range(1, STEPS + 1):
        interim = theta + momentum * velocity
        g = gradient(interim)
        accumulated = rho * accumulated + (1 - rho) * g * g
        velocity = momentum * velocity - lr / (np.sqrt(accumulated) + eps) * g
        theta = theta + velocity

        change, state = rule.update(gradient(phi), state, step, **values)
        phi = phi + change
        assert relative_error([phi], [theta + momentum * velocity]) <= RULE_FLOAT64
        assert relative_error([phi - momentum * state.velocity], [theta]) <= RULE_FLOAT64


def follow_paper(step_of: Callable[..., np.ndarray], **fixed: Any) -> list[np.ndarray]:
    """Train with `step_of(w, g, memory, t, **fixed)`, one parameter's step, which returns w."""
    parameters = start()
    memories: dict[str, dict[str, Any]] = {name: {} for name in parameters}
    for t in range(1, STEPS + 1):
        computed = gradients(parameters)
        for name, g in computed.items():
            parameters[name] = step_of(parameters[name], g, memories[name], t, **fixed)
    return list(parameters.values())


def lion_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, beta1: Any, beta2: Any, decay: Any
) -> np.ndarray:
    average = memory.get("m", 0.0)
    update = np.sign(beta1 * average + (1 - beta1) * g)
    memory["m"] = beta2 * average + (1 - beta2) * g
    return w - lr * (update + decay * w)


@pytest.mark.parametrize("values", tried("lion"))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lion_is_algorithm_2(values: dict[str, float], weight_decay: float) -> None:
    expected = follow_paper(lion_step, **values, decay=weight_decay)
    ours = train(RULES["lion"], values, weight_decay, "decoupled")
    assert relative_error(ours, expected) <= RULE_FLOAT64


def laprop_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, beta1: Any, beta2: Any, eps: Any
) -> np.ndarray:
    memory["n"] = beta2 * memory.get("n", 0.0) + (1 - beta2) * g**2
    scaled = g / (np.sqrt(memory["n"] / (1 - beta2**t)) + eps)
    memory["m"] = beta1 * memory.get("m", 0.0) + (1 - beta1) * scaled
    return w - lr * memory["m"] / (1 - beta1**t)


@pytest.mark.parametrize("values", tried("laprop"))
def test_laprop_is_algorithm_1(values: dict[str, float]) -> None:
    expected = follow_paper(laprop_step, **values)
    assert relative_error(train(RULES["laprop"], values), expected) <= RULE_FLOAT64


def adam_mini_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, beta1: Any, beta2: Any, eps: Any
) -> np.ndarray:
    rows = g.reshape(len(g), -1) if g.ndim > 1 else g.reshape(1, -1)
    memory["v"] = beta2 * memory.get("v", 0.0) + (1 - beta2) * np.mean(rows**2, axis=1)
    memory["m"] = beta1 * memory.get("m", 0.0) + (1 - beta1) * rows
    root = np.sqrt(memory["v"] / (1 - beta2**t)) + eps
    return w - lr * (memory["m"] / (1 - beta1**t) / root[:, None]).reshape(w.shape)


@pytest.mark.parametrize("values", tried("adam_mini"))
def test_adam_mini_is_algorithm_1(values: dict[str, float]) -> None:
    expected = follow_paper(adam_mini_step, **values)
    assert relative_error(train(RULES["adam_mini"], values), expected) <= RULE_FLOAT64


def shampoo_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, momentum: Any, eps: Any
) -> np.ndarray:
    if g.ndim < 2:
        memory["v"] = memory.get("v", 0.0) + g**2
        direction = g / np.sqrt(memory["v"] + eps)
    else:
        direction = g
        for axis, length in enumerate(g.shape):
            rows = np.moveaxis(g, axis, 0).reshape(length, -1)
            memory[axis] = memory.get(axis, eps * np.eye(length)) + rows @ rows.T
            u, s, _ = np.linalg.svd(memory[axis])
            root = (u * s ** (-1 / (2 * g.ndim))) @ u.T
            direction = np.moveaxis(np.tensordot(root, direction, axes=(1, axis)), 0, axis)
    memory["u"] = momentum * memory.get("u", 0.0) + direction
    return w - lr * memory["u"]


@pytest.mark.parametrize("values", tried("shampoo"))
def test_shampoo_is_algorithm_2(values: dict[str, float]) -> None:
    expected = follow_paper(shampoo_step, **values)
    assert relative_error(train(RULES["shampoo"], values), expected) <= RULE_FLOAT64


def soap_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, beta1: Any, beta2: Any, eps: Any,
    precondition_frequency: Any,
) -> np.ndarray:  # fmt: skip
    axes = range(g.ndim if g.ndim > 1 else 0)
    bases = memory.setdefault("Q", [np.eye(g.shape[axis]) for axis in axes])
    if t > 1:
        projected = turned(g, bases)
        memory["m"] = beta1 * memory.get("m", 0.0) + (1 - beta1) * g
        memory["v"] = beta2 * memory.get("v", np.zeros_like(g)) + (1 - beta2) * projected**2
        direction = turned(memory["m"], bases) / (np.sqrt(memory["v"]) + eps)
        rate = lr * np.sqrt(1 - beta2 ** (t - 1)) / (1 - beta1 ** (t - 1))
        w = w - rate * turned(direction, [basis.T for basis in bases])
    for axis in axes:
        rows = np.moveaxis(g, axis, 0).reshape(g.shape[axis], -1)
        memory[axis] = beta2 * memory.get(axis, 0.0) + (1 - beta2) * rows @ rows.T
        if t == 1:
            bases[axis] = eigenvectors(memory[axis])
        elif (t - 1) % precondition_frequency == 0:
            bases[axis], order = iterated(memory[axis], bases[axis])
            memory["v"] = np.take(memory["v"], order, axis)
    return w


def turned(array: np.ndarray, bases: Sequence[np.ndarray]) -> np.ndarray:
    """Return Qᵀ times an array along every axis."""
    for axis, basis in enumerate(bases):
        array = np.moveaxis(np.tensordot(basis, array, axes=(0, axis)), 0, axis)
    return array


def eigenvectors(matrix: np.ndarray) -> np.ndarray:
    """Return eigenvectors by falling eigenvalue; of equal ones, those of diag(√1, √2, ...)."""
    left, values, _ = np.linalg.svd(matrix)
    groups = np.cumsum(np.append(0.0, -np.diff(values)) > 1e-5 * np.trace(matrix))
    marks = np.sqrt(np.arange(1, len(matrix) + 1))
    columns = []
    for group in range(groups[-1] + 1):
        space = left[:, groups == group]
        projector = space @ space.T
        within, _, _ = np.linalg.svd(projector @ np.diag(marks) @ projector)
        columns.append(within[:, : space.shape[1]])
    return np.concatenate(columns, axis=1)


def iterated(matrix: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a basis after a step of power iteration by Gram and Schmidt, and the order."""
    ridge = 1e-5 * np.trace(matrix)
    ranks = [round(q @ matrix @ q / ridge) for q in basis.T]
    order = np.array(sorted(range(len(ranks)), key=lambda place: -ranks[place]))
    columns: list[np.ndarray] = []
    for place in order:
        column = matrix @ basis[:, place] + ridge * basis[:, place]
        for _ in range(2):
            for before in columns:
                column = column - before * (before @ column)
        columns.append(column / np.linalg.norm(column))
    return np.stack(columns, axis=1), order


@pytest.mark.parametrize("values", mostly_slow("soap"))
def test_soap_is_algorithm_3(values: dict[str, float]) -> None:
    expected = follow_paper(soap_step, **values)
    assert relative_error(train(RULES["soap"], values), expected) <= RULE_FLOAT64
    assert relative_error(start().values(), expected) > 1e3 * RULE_FLOAT64, "nothing was trained"


def test_an_axis_without_a_matrix_does_not_count_in_the_exponents_of_shampoo() -> None:
    """As in Anil et al. 2020: L^(−1/2)·g, without momentum in the first step."""
    rule = RULES["shampoo"]
    values = rule.defaults | {"momentum": 0.0, "lr": 1.0}
    param, grad = np.random.default_rng(5).standard_normal((2, 2, 2049))
    state = initialise_all(rule, {"w": param}, values)
    moved, _ = apply_all(rule, {"w": param}, {"w": grad}, state, 1, values)
    sizes, vectors = np.linalg.eigh(grad @ grad.T + values["eps"] * np.eye(2))
    expected = param - vectors / np.sqrt(sizes) @ vectors.T @ grad
    assert relative_error([moved["w"]], [expected]) <= RULE_FLOAT64


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_parameters_of_any_number_of_axes_have_five_matrices(name: str) -> None:
    rule = RULES[name]
    params = {"six": np.ones((2, 1, 3, 1, 2, 2)), "none": np.ones((0, 3)), "scalar": np.ones(())}
    state = initialise_all(rule, params, rule.defaults)
    assert state["six"].axis_5.shape == (2, 2)
    for step in (1, 2):
        moved, state = apply_all(rule, params, params, state, step, rule.defaults)
    assert all(np.all(moved[key] < value) for key, value in params.items())


def lars_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, momentum: Any, trust_coefficient: Any,
    inside: float, outside: float,
) -> np.ndarray:  # fmt: skip
    shrunk = w - lr * outside * w
    rate = 1.0
    if np.linalg.norm(w) > 0:
        rate = trust_coefficient * np.linalg.norm(w)
        rate /= np.linalg.norm(g) + inside * np.linalg.norm(w)
    memory["v"] = momentum * memory.get("v", 0.0) + lr * rate * (g + inside * w)
    return shrunk - memory["v"]


@pytest.mark.parametrize("values", tried("lars"))
@pytest.mark.parametrize("decay", DECAYS)
def test_lars_is_algorithm_1(values: dict[str, float], decay: tuple[float, str]) -> None:
    weight_decay, kind = decay
    inside, outside = (weight_decay, 0.0) if kind == "l2" else (0.0, weight_decay)
    expected = follow_paper(lars_step, **values, inside=inside, outside=outside)
    assert relative_error(train(RULES["lars"], values, *decay), expected) <= RULE_FLOAT64


def lamb_step(
    w: Any, g: Any, memory: Any, t: int, *, lr: Any, beta1: Any, beta2: Any, eps: Any,
    inside: float, added: float,
) -> np.ndarray:  # fmt: skip
    g = g + added * w
    memory["m"] = beta1 * memory.get("m", 0.0) + (1 - beta1) * g
    memory["v"] = beta2 * memory.get("v", 0.0) + (1 - beta2) * g**2
    r = (memory["m"] / (1 - beta1**t)) / (np.sqrt(memory["v"] / (1 - beta2**t)) + eps)
    u = r + inside * w
    phi = np.linalg.norm(w)
    return w - lr * (phi / np.linalg.norm(u) if phi else 1.0) * u


@pytest.mark.parametrize("values", tried("lamb"))
@pytest.mark.parametrize("decay", DECAYS)
def test_lamb_is_algorithm_2(values: dict[str, float], decay: tuple[float, str]) -> None:
    weight_decay, kind = decay
    inside, added = (0.0, weight_decay) if kind == "l2" else (weight_decay, 0.0)
    expected = follow_paper(lamb_step, **values, inside=inside, added=added)
    assert relative_error(train(RULES["lamb"], values, *decay), expected) <= RULE_FLOAT64


def schedule_free(
    base: str, values: dict[str, float], weight_decay: float, kind: str, rates: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return y and x after training with Algorithm 1 of the paper, all three sequences kept."""
    beta = values["momentum"] if base == "sgd" else values["beta1"]
    z, x, v = start(), start(), dict.fromkeys(start(), 0.0)
    sum_of_squares = 0.0
    for t, rate in enumerate(rates, start=1):
        y = {name: (1 - beta) * z[name] + beta * x[name] for name in x}
        sum_of_squares += rate**2
        c = rate**2 / sum_of_squares
        for name, gradient in gradients(y).items():
            g = gradient + (weight_decay * y[name] if kind == "l2" else 0.0)
            if base == "adamw":
                v[name] = values["beta2"] * v[name] + (1 - values["beta2"]) * g**2
                g = g / (np.sqrt(v[name] / (1 - values["beta2"] ** t)) + values["eps"])
            decayed = rate * weight_decay * y[name] if kind == "decoupled" else 0.0
            z[name] = z[name] - rate * g - decayed
            x[name] = (1 - c) * x[name] + c * z[name]
    y = {name: (1 - beta) * z[name] + beta * x[name] for name in x}
    return list(y.values()), list(x.values())


@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("decay", DECAYS)
def test_schedule_free_is_algorithm_1(base: str, number: int, decay: tuple[float, str]) -> None:
    name = f"schedule_free_{base}"
    values = tried(name)[number]
    y, x = schedule_free(base, values, *decay, np.full(STEPS, values["lr"]))
    assert relative_error(train(RULES[name], values, *decay), y) <= RULE_FLOAT64
    assert relative_error(train(RULES[name], values, *decay, evaluated=True), x) <= RULE_FLOAT64
    if number == 0:
        assert relative_error(x, y) > RULE_FLOAT64, "two points"


@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_schedule_free_averages_by_the_squared_learning_rate(base: str) -> None:
    rule = RULES[f"schedule_free_{base}"]
    values = tried(rule.name)[0]
    rates = values["lr"] * np.minimum(1.0, np.arange(1, STEPS + 1) / 50)
    parameters = start()
    state = initialise_all(rule, parameters, values)
    for t, rate in enumerate(rates, start=1):
        at = values | {"lr": rate}
        parameters, state = apply_all(rule, parameters, gradients(parameters), state, t, at)
    evaluated = evaluation_point(rule, parameters, state, values)
    y, x = schedule_free(base, values, 0.0, "l2", rates)
    assert relative_error(parameters.values(), y) <= RULE_FLOAT64
    assert relative_error(evaluated.values(), x) <= RULE_FLOAT64


def prodigy(values: dict[str, float], weight_decay: float, kind: str) -> list[np.ndarray]:
    """Return the weights after training with Algorithm 4 of the paper, on one long vector."""
    shapes = {name: p.shape for name, p in start().items()}
    cuts = np.cumsum([math.prod(shape) for shape in shapes.values()])[:-1]

    def named(vector: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.split(vector, cuts)
        return {n: part.reshape(shapes[n]) for n, part in zip(shapes, parts, strict=True)}

    def vector(arrays: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([array.ravel() for array in arrays.values()])

    lr, beta1, beta2, eps = (values[name] for name in ("lr", "beta1", "beta2", "eps"))
    x0 = x = vector(start())
    m, v, s, r, d = 0.0, 0.0, 0.0, 0.0, values["d0"]
    root = math.sqrt(beta2)
    for _ in range(STEPS):
        g = vector(gradients(named(x))) + (weight_decay * x if kind == "l2" else 0.0)
        m = beta1 * m + (1 - beta1) * d * g
        v = beta2 * v + (1 - beta2) * d**2 * g**2
        r = root * r + (1 - root) * lr * d**2 * np.dot(g, x0 - x)
        s = root * s + (1 - root) * lr * d**2 * g
        decayed = weight_decay * x if kind == "decoupled" else 0.0
        x = x - lr * d * (m / (np.sqrt(v) + d * eps) + decayed)
        d = max(d, values["d_coef"] * r / np.abs(s).sum())
    assert d > 10 * values["d0"], "the estimate grew"
    return list(named(x).values())


@pytest.mark.parametrize("values", tried("prodigy"))
@pytest.mark.parametrize("decay", DECAYS)
def test_prodigy_is_algorithm_4(values: dict[str, float], decay: tuple[float, str]) -> None:
    ours = train(RULES["prodigy"], values, *decay)
    assert relative_error(ours, prodigy(values, *decay)) <= RULE_FLOAT64


def test_prodigy_waits_for_its_first_gradient() -> None:
    rule = RULES["prodigy"]
    params = {"a": np.ones(2), "b": np.ones((2, 2))}
    zeros = {name: np.zeros_like(p) for name, p in params.items()}
    state = initialise_all(rule, params, rule.defaults)
    moved, state = apply_all(rule, params, zeros, state, 1, rule.defaults)
    assert state[""].distance == rule.defaults["d0"]
    assert all((moved[name] == params[name]).all() for name in params)


def test_adafactor_keeps_rows_and_columns_of_the_last_two_axes() -> None:
    rule = RULES["adafactor"]
    params = {"kernel": np.ones((6, 5, 3, 2)), "bias": np.ones(6), "scalar": np.ones(())}
    state = initialise_all(rule, params, rule.defaults)
    assert state["kernel"].row.shape == (6, 5, 3, 1)
    assert state["kernel"].column.shape == (6, 5, 1, 2)
    assert state["kernel"].square is None
    assert state["bias"].square.shape == (6,)
    assert state["scalar"].square.shape == ()


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (4, 1), (1, 1)])
def test_orthogonalised_matrices_have_singular_values_near_1(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(1).standard_normal((3, *shape))
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix, 1e-7)
    new_left, new_sizes, new_right = np.linalg.svd(result, full_matrices=False)
    assert (new_sizes > 0.65).all()
    assert (new_sizes < 1.25).all()
    assert relative_error([result], [orthogonalise(1000 * matrix, 1e-7)]) <= RULE_FLOAT64
    directions = np.linalg.norm(left @ right - new_left @ new_right)
    assert directions <= RULE_FLOAT64 * sizes.size


@pytest.mark.parametrize("decay", ["l2", "decoupled"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad"])
def test_both_kinds_of_decay_are_their_definitions(name: str, decay: str) -> None:
    """On rules whose torch class has no decoupled decay; weights shrink by lr * weight_decay."""
    rule, weight_decay = RULES[name], 0.05
    values = rule.defaults
    expected = start()
    states = {key: rule.init(p, **values) for key, p in expected.items()}
    for step in range(1, STEPS + 1):
        for key, g in gradients(expected).items():
            pulled = g + weight_decay * expected[key] if decay == "l2" else g
            change, states[key] = rule.update(pulled, states[key], step, **values)
            shrink = 0.0 if decay == "l2" else values["lr"] * weight_decay
            expected[key] = expected[key] - shrink * expected[key] + change
    ours = train(rule, values, weight_decay, decay)
    assert relative_error(ours, expected.values()) <= RULE_FLOAT64


def with_eigenvalues(seed: int, values: Sequence[float]) -> np.ndarray:
    """Return a symmetric matrix with these eigenvalues."""
    drawn = np.random.default_rng(seed).standard_normal((len(values), len(values)))
    vectors = np.linalg.qr(drawn)[0]
    return (vectors * values) @ vectors.T


@pytest.mark.parametrize(
    "values", [[3.0, 2.0, 1.0, 0.5], [3.0, 1.0, 1.0, 0.0], [2.0, 0, 0, 0], [1.0, 1, 1, 1], [0] * 4]
)
def test_bases_do_not_depend_on_who_computes_eigenvectors(values: list[float]) -> None:
    """In NumPy, in torch and in a stack; rounding errors turn eigenvectors of equal eigenvalues."""
    matrix, neighbour = with_eigenvalues(1, values), with_eigenvalues(2, [4.0, 3, 2, 1])
    noise = 1e-15 * np.trace(matrix) * np.random.default_rng(3).standard_normal((4, 4))
    stack = np.stack([matrix, neighbour, matrix + noise + noise.T])
    expected = eigenvectors(matrix)
    expected *= np.sign(expected[np.abs(expected).argmax(0), range(4)])
    for basis in (
        eigenbasis(matrix),
        eigenbasis(torch.tensor(matrix)).numpy(),
        *eigenbasis(stack)[::2],
        *eigenbasis(torch.tensor(stack)).numpy()[::2],
    ):
        assert relative_error([basis], [expected]) <= RULE_FLOAT64
        assert np.abs(basis.T @ basis - np.eye(4)).max() <= RULE_FLOAT64
    assert not np.isfinite(eigenbasis(matrix * np.nan)).any()


def test_steps_of_soap_do_not_depend_on_the_signs_and_places_of_eigenvectors() -> None:
    """A state with some columns negative, or in other places, takes the same step."""
    rule, values = RULES["soap"], tried("soap")[3]
    parameters, state = start(), initialise_all(RULES["soap"], start(), values)
    for step in range(1, 10):
        parameters, state = apply_all(rule, parameters, gradients(parameters), state, step, values)
    order = [3, 0, 4, 1, 2]
    before = state["hidden"]
    basis = before.basis_1[:, order] * [1.0, -1.0, -1.0, 1.0, -1.0]
    changed = before._replace(basis_1=basis, square=before.square[order])
    grads = gradients(parameters)
    expected, _ = apply_all(rule, parameters, grads, state, 10, values)
    moved, _ = apply_all(rule, parameters, grads, state | {"hidden": changed}, 10, values)
    assert relative_error(moved.values(), expected.values()) <= RULE_FLOAT64
    assert relative_error([basis], [before.basis_1]) > RULE_FLOAT64
