"""One source, the same numbers: on NumPy, on torch, alone and stacked."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from optrial.rules import (
    RULES,
    Hyperparameter,
    Rule,
    apply_all,
    evaluation_point,
    initialise_all,
)
from optrial.rules.arrays import as_array
from tests.rules.network import relative_error
from tests.tolerance import RULE_FLOAT32_STEP, RULE_FLOAT64

RUNS, SHAPE, STEPS = 5, (4, 3), 50
WEIGHT_DECAYS = [0.0, 1e-3, 0.01, 0.1, 0.0]
KINDS = ["l2", "decoupled"]
DECOMPOSE = {"shampoo", "soap"}
"""Rules with decompositions of LAPACK, which rounds by the place of a matrix in memory."""


class Operations(TorchDispatchMode):
    """Names of the operations that PyTorch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **kwargs or {})


def test_a_number_is_written_by_the_device() -> None:
    """A copy from the host is not allowed within a CUDA graph."""
    with Operations() as operations:
        value = as_array(0.5, torch.zeros((), device="meta", dtype=torch.float64))
    assert operations.names == ["aten.zeros.default", "aten.full.default"]
    assert (value.device.type, value.dtype, value.shape) == ("meta", torch.float64, ())
    assert as_array(0.5, np.zeros(2, np.float32)).dtype == np.float32


def five_settings(rule: Rule) -> list[dict[str, Any]]:
    """Return five settings that differ in every hyperparameter, all well inside its range."""
    factors = [0.01, 0.03, 0.1, 0.15, 0.2]  # of lr
    small = [0.0, 1e-4, 1e-3, 0.01, 0.1]  # of lr_decay, initial_accumulator, momentum_decay
    keeps = [0.0, 0.3, 0.9, 0.5, 0.95]  # of momentum, rho, beta1, beta2, decay_exponent
    others = {
        "eps": [1e-3, 1e-2, 0.1, 1e-4, 1e-5],
        "clip_threshold": [1.0, 2.0, 1.5, 1.0, 3.0],
        "trust_coefficient": [1e-3, 1e-2, 0.1, 1e-3, 1e-4],
        "vector_lr": [1.0, 0.5, 0.1, 2.0, 1.0],
        "d0": [1e-6, 1e-4, 1e-3, 1e-2, 1e-5],
        "d_coef": [1.0, 0.5, 2.0, 0.0, 0.1],
        "factor_lr": [0.1, 0.05, 0.2, 0.0, 0.3],
        "full_updates": [0.0, 10.0, 500.0, 50.0, 1.0],
        "precondition_frequency": [1.0, 10.0, 2.0, 3.0, 7.0],
        "every": [1.0, 2.0, 3.0, 7.0, 1.0],
    }
    if rule.name == "soap":  # is chaotic otherwise
        others |= {"beta2": [0.9, 0.95, 0.99, 0.9, 0.95], "eps": [1e-3, 1e-2, 0.1, 1e-3, 1e-3]}

    def values(h: Hyperparameter) -> list[Any]:
        if h.scale == "switch":
            return [False, True, False, True, True]
        if h.name == "lr":
            return [min(h.default, 0.3) * factor for factor in factors]
        if h.name in others:
            return others[h.name]
        return [max(h.low_open * 0.1, k) for k in keeps] if h.high == 1.0 else small

    columns = {h.name: values(h) for h in rule.hyperparameters}
    return [{name: column[run] for name, column in columns.items()} for run in range(RUNS)]


def starts() -> tuple[np.ndarray, np.ndarray]:
    """Return where five runs start, and the minimum of each one's loss; (runs, *shape)."""
    generator = np.random.default_rng(2)
    return generator.standard_normal((RUNS, *SHAPE)), generator.standard_normal((RUNS, *SHAPE))


def follow(
    rule: Rule, param: Any, minimum: Any, values: Any, weight_decay: Any, kind: str, steps: int
) -> list[Any]:
    """Minimise sum (p - minimum)^4 / 4 + (p - minimum)^2 / 2; return the way and the last state."""
    lead = param.ndim - len(SHAPE)
    params = {"w": param}
    state = initialise_all(rule, params, values, lead=lead)
    for step in range(1, steps + 1):
        distance = params["w"] - minimum
        grads = {"w": distance * distance * distance + distance}
        params, state = apply_all(
            rule,
            params,
            grads,
            state,
            step,
            values,
            weight_decay,
            kind,
            lead=lead,
            curvature={"w": 3 * distance * distance + 1},
        )
    arrays = [array for fields in state.values() for array in fields]
    return [params["w"], *(array for array in arrays if array is not None)]


def stacked(settings_of_runs: list[dict[str, Any]], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    names = settings_of_runs[0]
    return {
        name: torch.tensor([float(one[name]) for one in settings_of_runs], dtype=dtype)
        for name in names
    }


@pytest.mark.one_in(3)
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
    state = initialise_all(rule, {"w": param}, stack)
    for step in range(1, 20):
        grad = rng.standard_normal(SHAPE)
        exact, exact_state = rule.update(grad, exact_state, step, **rounded)
        grads = torch.tensor(grad, dtype=torch.float32).expand(RUNS, *SHAPE)
        moved, state = apply_all(rule, {"w": param}, {"w": grads}, state, step, stack)
        assert relative_error([moved["w"][2].numpy()], [exact]) <= RULE_FLOAT32_STEP


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_a_clock_may_begin_at_zero(rule: Rule) -> None:
    """Certificates replay a rule with the clocks of others, in numbers; bias corrections divide."""
    params, minima = (torch.tensor(array[1]) for array in starts())
    values = five_settings(rule)[1]
    model, grads = {"w": params}, {"w": params - minima}
    state = initialise_all(rule, model, values)
    with suppress(ZeroDivisionError):
        moved, _ = apply_all(rule, model, grads, state, 0, values, curvature=grads, seeds=1)
        assert not moved["w"].is_complex()


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_step_may_be_an_array(rule: Rule) -> None:
    for params, minima, values, steps in (
        (*map(torch.tensor, starts()), stacked(five_settings(rule), torch.float64), [RUNS]),
        (*(torch.tensor(array[1]) for array in starts()), five_settings(rule)[1], []),
    ):
        lead = len(steps)
        model, grads = {"w": params}, {"w": params - minima}
        state = initialise_all(rule, model, values, lead=lead)
        more: dict[str, Any] = {"lead": lead, "curvature": grads}
        expected = apply_all(rule, model, grads, state, 7, values, **more)[0]["w"]
        for step in (torch.tensor(7), torch.full(steps, 7), torch.full(steps, 7.0)):
            moved = apply_all(rule, model, grads, state, step, values, **more)[0]["w"]
            assert relative_error([moved], [expected]) <= RULE_FLOAT64


@pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))
def test_a_diverged_run_leaves_its_neighbours_alone(rule: Rule) -> None:
    params, minima = (torch.tensor(array) for array in starts())
    values = stacked(five_settings(rule), torch.float64)
    expected = follow(rule, params, minima, values, 0.0, "l2", 5)[0]
    params[3, 0, 0] = torch.nan
    result = follow(rule, params, minima, values, 0.0, "l2", 5)[0]
    others = [0, 1, 2, 4]
    assert torch.equal(result[others], expected[others])
    assert not result[3].isfinite().all()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "nadam"])
def test_a_whole_model_is_its_parameters_one_by_one(name: str) -> None:
    rule = RULES[name]
    params, minima = starts()
    values = stacked(five_settings(rule), torch.float64)
    values = {key: value.numpy() for key, value in values.items()}
    model, grads = {"a": params, "b": minima}, {"a": minima, "b": params}
    states = initialise_all(rule, model, values, lead=1)
    moved, after = apply_all(rule, model, grads, states, 3, values, 0.1, "decoupled", lead=1)
    for key, param in model.items():
        state = initialise_all(rule, {key: param}, values)
        expected, expected_state = apply_all(
            rule, {key: param}, {key: grads[key]}, state, 3, values, 0.1, "decoupled"
        )
        np.testing.assert_array_equal(moved[key], expected[key])
        for ours, theirs in zip(after[key], expected_state[key], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_only_rules_that_average_iterates_are_evaluated_elsewhere() -> None:
    params = {"w": starts()[0]}
    elsewhere = set()
    for name, rule in RULES.items():
        state = initialise_all(rule, params, rule.defaults, lead=1)
        if evaluation_point(rule, params, state, rule.defaults) is not params:
            elsewhere.add(name)
            assert rule.evaluates_elsewhere
    assert elsewhere == {"schedule_free_sgd", "schedule_free_adamw", "asgd"}


def test_rmsprop_keeps_only_what_some_run_needs() -> None:
    rule, param = RULES["rmsprop"], torch.zeros(2, 3)
    off, on = torch.zeros(2), torch.tensor([0.0, 0.9])

    def kept(**changes: Any) -> set[str]:
        state = initialise_all(rule, {"w": param}, rule.defaults | changes)
        return {field for field, array in state["w"]._asdict().items() if array is not None}

    assert kept() == kept(momentum=off, centered=off) == {"square"}
    assert kept(momentum=on) == {"square", "velocity"}
    assert kept(centered=torch.tensor([False, True])) == {"square", "mean"}


def test_nadam_keeps_one_product_per_run() -> None:
    rule = RULES["nadam"]
    beta1 = torch.tensor([0.9, 0.8])
    state = initialise_all(rule, {"w": torch.zeros(2, 3, 4)}, rule.defaults | {"beta1": beta1})
    assert state["w"].product.shape == (2, 1, 1)
    alone = initialise_all(rule, {"w": torch.zeros(3, 4)}, rule.defaults)
    assert alone["w"].product.shape == ()


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
    if name in DECOMPOSE:
        assert relative_error(result, expected) < RULE_FLOAT64
    else:
        assert torch.equal(result, expected)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(
        sorted(
            {*RULES}
            - {"sgd", "momentum", "nesterov", "qhm", "asgd", "adadelta", "schedule_free_sgd"}
            - {"shampoo", "psgd_kron", "sophia_h"}  # whose eps is above 0, or fixed
            - {"lbfgs"}  # whose first step is shorter only where the gradient is large
        )
    ),
    exponent=st.integers(-8, 8),
)
def test_scaling_the_loss_leaves_adaptive_rules_alone(name: str, exponent: int) -> None:
    """With eps = 0 the size of the gradient cancels; powers of 4 cancel without rounding."""
    rule = RULES[name]
    nothing = {"eps": 0.0, "initial_accumulator": 0.0}
    values = rule.defaults | {key: nothing[key] for key in nothing if key in rule.defaults}
    if name == "radam":
        values["beta2"] = 0.999
        exponent //= 4  # its first steps scale with the loss, and changes of large weights round
    if name == "prodigy":
        values["d0"] = 0.01
    param, *grads = np.random.default_rng(4).standard_normal((13, *SHAPE))
    models = [{"w": param}] * 2
    states = [initialise_all(rule, models[0], values)] * 2
    for step, grad in enumerate(grads, start=1):
        changes = []
        for i, factor in enumerate((1.0, 4.0**exponent)):
            grads_of = {"w": factor * grad}
            moved, states[i] = apply_all(
                rule, models[i], grads_of, states[i], step, values, curvature=grads_of
            )
            changes.append(moved["w"] - models[i]["w"])
            models[i] = moved
        if name == "radam" and step <= 5:  # plain steps until the root is trusted
            continue
        if name in ("adopt", "soap") and step == 1:  # which only measure
            assert not np.any(changes)
            continue
        assert relative_error(changes[1:], changes[:1]) <= RULE_FLOAT64
