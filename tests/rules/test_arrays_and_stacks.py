"""One source, the same numbers: on NumPy, on torch, alone, stacked and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optrial.rules import RULES, Rule, apply_rule, initialise
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT32_STEP, RULE_FLOAT64

RUNS, SHAPE, STEPS = 5, (4, 3), 100
WEIGHT_DECAYS = [0.0, 1e-3, 0.01, 0.1, 0.0]
KINDS = ["l2", "decoupled"]


def five_settings(rule: Rule) -> list[dict[str, Any]]:
    """Return five settings that differ in every hyperparameter, all well inside its range."""
    factors = {"lr": [0.01, 0.03, 0.1, 0.15, 0.2], "centered": [False, True, False, True, True]}
    small = [0.0, 1e-4, 1e-3, 0.01, 0.1]  # of lr_decay, initial_accumulator, momentum_decay
    keeps = [0.0, 0.3, 0.9, 0.5, 0.95]  # of momentum, rho, beta1, beta2

    def values(name: str, default: Any, high: float) -> list[Any]:
        if name == "lr":
            return [default * factor for factor in factors["lr"]]
        if name == "centered":
            return factors["centered"]
        if name == "eps":
            return [1e-3, 1e-2, 0.1, 1e-4, 1e-5]
        return keeps if high == 1.0 else small

    columns = {h.name: values(h.name, h.default, h.high) for h in rule.hyperparameters}
    return [{name: column[run] for name, column in columns.items()} for run in range(RUNS)]


def starts() -> tuple[np.ndarray, np.ndarray]:
    """Return where five runs start, and the minimum of each one's loss; (runs, *shape)."""
    generator = np.random.default_rng(2)
    return generator.standard_normal((RUNS, *SHAPE)), generator.standard_normal((RUNS, *SHAPE))


def follow(
    rule: Rule, param: Any, minimum: Any, values: Any, weight_decay: Any, kind: str, steps: int
) -> list[Any]:
    """Minimise sum (p - minimum)^4 / 4 + (p - minimum)^2 / 2; return the way and the last state."""
    state = initialise(rule, param, values)
    for step in range(1, steps + 1):
        distance = param - minimum
        grad = distance * distance * distance + distance
        param, state = apply_rule(rule, param, grad, state, step, values, weight_decay, kind)
    return [param, *(array for array in state if array is not None)]


def stacked(settings_of_runs: list[dict[str, Any]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    names = settings_of_runs[0]
    return {
        name: torch.tensor([float(one[name]) for one in settings_of_runs], dtype=dtype)
        for name in names
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_numpy_torch_and_a_stack_of_five_agree(rule: Rule, kind: str) -> None:
    params, minima = starts()
    settings_of_runs = five_settings(rule)
    decays = torch.tensor(WEIGHT_DECAYS, dtype=torch.float64)
    together = follow(
        rule,
        torch.tensor(params),
        torch.tensor(minima),
        stacked(settings_of_runs, torch.float64),
        decays,
        kind,
        STEPS,
    )[0]
    in_numpy = follow(
        rule,
        params,
        minima,
        {k: v.numpy() for k, v in stacked(settings_of_runs, torch.float64).items()},
        np.array(WEIGHT_DECAYS),
        kind,
        STEPS,
    )[0]
    assert relative_error([in_numpy], [together.numpy()]) <= RULE_FLOAT64
    for run, values in enumerate(settings_of_runs):
        alone = follow(rule, params[run], minima[run], values, WEIGHT_DECAYS[run], kind, STEPS)[0]
        on_torch = follow(
            rule,
            torch.tensor(params[run]),
            torch.tensor(minima[run]),
            values,
            WEIGHT_DECAYS[run],
            kind,
            STEPS,
        )[0]
        assert relative_error([on_torch.numpy()], [alone]) <= RULE_FLOAT64
        assert relative_error([together[run].numpy()], [alone]) <= RULE_FLOAT64


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_float32_stays_float32(rule: Rule) -> None:
    params, minima = (array.astype(np.float32) for array in starts())
    settings_of_runs = five_settings(rule)
    alone = settings_of_runs[1]
    wide = stacked(settings_of_runs, torch.float64)
    for values, decay, part in (
        (alone, 0.01, 1),
        ({name: np.float64(value) for name, value in alone.items()}, np.float64(0.01), 1),
        ({name: array.numpy() for name, array in wide.items()}, np.array(WEIGHT_DECAYS), slice(5)),
    ):
        for kind in KINDS:
            arrays = follow(rule, params[part], minima[part], values, decay, kind, 3)
            assert {array.dtype for array in arrays} == {np.dtype("float32")}
    for values, decay, part in ((alone, 0.01, 1), (wide, torch.tensor(WEIGHT_DECAYS), slice(5))):
        tensors = torch.tensor(params[part]), torch.tensor(minima[part])
        for kind in KINDS:
            arrays = follow(rule, *tensors, values, decay, kind, 3)
            assert {array.dtype for array in arrays} == {torch.float32}


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamax", "nadam", "radam"])
def test_bias_correction_is_as_exact_in_a_float32_stack_as_alone(name: str) -> None:
    """`1 - beta2**t` in float32 would be wrong in its fourth digit, radam's factor in its first."""
    rule = RULES[name]
    rng = np.random.default_rng(3)
    values = rule.defaults
    stack = {key: torch.full((RUNS,), value) for key, value in values.items()}
    rounded = {key: float(np.float32(value)) for key, value in values.items()}
    exact_state = rule.init(np.zeros(SHAPE), **rounded)
    param = torch.zeros(RUNS, *SHAPE)
    state = initialise(rule, param, stack)
    for step in range(1, 20):
        grad = rng.standard_normal(SHAPE)
        exact, exact_state = rule.update(grad, exact_state, step, **rounded)
        grads = torch.tensor(grad, dtype=torch.float32).expand(RUNS, *SHAPE)
        change, state = apply_rule(rule, param, grads, state, step, stack)
        assert relative_error([change[2].numpy()], [exact]) <= RULE_FLOAT32_STEP


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_step_may_be_an_array(rule: Rule) -> None:
    params, minima = (torch.tensor(array) for array in starts())
    values = stacked(five_settings(rule), torch.float64)
    state = initialise(rule, params, values)
    grad = params - minima
    expected, _ = apply_rule(rule, params, grad, state, 7, values)
    for step in (torch.tensor(7), torch.tensor([7] * RUNS), torch.tensor([7.0] * RUNS)):
        moved, _ = apply_rule(rule, params, grad, state, step, values)
        assert relative_error([moved], [expected]) <= RULE_FLOAT64
    alone = five_settings(rule)[1]
    state = initialise(rule, params[1], alone)
    expected, _ = apply_rule(rule, params[1], grad[1], state, 7, alone)
    moved, _ = apply_rule(rule, params[1], grad[1], state, torch.tensor(7), alone)
    assert relative_error([moved], [expected]) <= RULE_FLOAT64


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_compiles_as_one_graph(rule: Rule) -> None:
    torch.compiler.reset()
    params, minima = (torch.tensor(array) for array in starts())
    values = stacked(five_settings(rule), torch.float64)
    decays = torch.tensor(WEIGHT_DECAYS, dtype=torch.float64)
    state = initialise(rule, params, values)

    def take_step(param: Any, state: Any, step: Any) -> Any:
        return apply_rule(rule, param, param - minima, state, step, values, decays, "decoupled")

    compiled = torch.compile(take_step, backend="eager", fullgraph=True)
    step = torch.tensor(6.0, dtype=torch.float64)
    assert (
        relative_error([compiled(params, state, step)[0]], [take_step(params, state, step)[0]])
        <= RULE_FLOAT64
    )


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_nothing_is_changed_in_place(rule: Rule) -> None:
    params, minima = starts()
    values = five_settings(rule)[1]
    state = initialise(rule, params, values)
    before = [np.copy(array) for array in state if array is not None]
    param, grad = params.copy(), minima.copy()
    apply_rule(rule, params, minima, state, 1, values, 0.1, "decoupled")
    np.testing.assert_array_equal(params, param)
    np.testing.assert_array_equal(minima, grad)
    for array, old in zip((array for array in state if array is not None), before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_rmsprop_keeps_only_what_some_run_needs() -> None:
    rule, param = RULES["rmsprop"], torch.zeros(2, 3)
    off, on = torch.zeros(2), torch.tensor([0.0, 0.9])

    def kept(**changes: Any) -> set[str]:
        state = initialise(rule, param, rule.defaults | changes)
        return {field for field, array in state._asdict().items() if array is not None}

    assert kept() == kept(momentum=off, centered=off) == {"square"}
    assert kept(momentum=on) == {"square", "velocity"}
    assert kept(centered=torch.tensor([False, True])) == {"square", "mean"}


def test_nadam_keeps_one_product_a_run() -> None:
    rule = RULES["nadam"]
    beta1 = torch.tensor([0.9, 0.8])
    state = initialise(rule, torch.zeros(2, 3, 4), rule.defaults | {"beta1": beta1})
    assert state.product.shape == (2, 1, 1)
    assert initialise(rule, torch.zeros(3, 4), rule.defaults).product.shape == ()


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(list(RULES)),
    order=st.permutations(range(RUNS)),
    kind=st.sampled_from(KINDS),
)
def test_the_order_of_runs_in_a_stack_does_not_matter(
    name: str, order: list[int], kind: str
) -> None:
    rule = RULES[name]
    params, minima = (torch.tensor(array) for array in starts())
    values = stacked(five_settings(rule), torch.float64)
    decays = torch.tensor(WEIGHT_DECAYS, dtype=torch.float64)
    permuted = {key: array[order] for key, array in values.items()}
    expected = follow(rule, params, minima, values, decays, kind, 5)[0][order]
    result = follow(rule, params[order], minima[order], permuted, decays[order], kind, 5)[0]
    assert torch.equal(result, expected)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(
        [n for n in RULES if n not in ("sgd", "momentum", "nesterov", "adadelta")]
    ),
    exponent=st.integers(-8, 8),
)
def test_scaling_the_loss_leaves_adaptive_rules_alone(name: str, exponent: int) -> None:
    """With eps = 0 the size of the gradient cancels; powers of 4 cancel without rounding."""
    rule = RULES[name]
    values = rule.defaults | ({"eps": 0.0} if "eps" in rule.defaults else {})
    if name == "radam":
        values["beta2"] = 0.999
    rng = np.random.default_rng(4)
    grads = rng.standard_normal((12, *SHAPE))
    states = [rule.init(grads[0], **values)] * 2
    for step, grad in enumerate(grads, start=1):
        plain, states[0] = rule.update(grad, states[0], step, **values)
        scaled, states[1] = rule.update(grad * 4.0**exponent, states[1], step, **values)
        if name == "radam" and step <= 5:  # plain steps until the root is trusted
            continue
        assert relative_error([scaled], [plain]) <= RULE_FLOAT64
