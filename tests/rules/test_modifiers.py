"""Modifiers: against pytorch_optimizer or their papers; alone, in stacks and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer.agc import agc as authors_agc
from pytorch_optimizer.optimizer.gradient_centralization import centralize_gradient

from optrial.rules import (
    MODIFIERS,
    RULES,
    Rule,
    apply_all,
    initialise_all,
    modified,
    modifier_problems,
)
from tests.rules.network import STEPS, gradients, relative_error, start, train
from tests.tolerance import RULE_FLOAT64, UNMOVED

Prepared = Callable[[list[torch.nn.Parameter]], None]


def theirs(optimizer: Callable[..., Any], prepare: Prepared = lambda _: None) -> list[np.ndarray]:
    """Return the weights after training the network with an optimizer of another package."""
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in start().values()]
    built = optimizer(parameters)
    for _ in range(STEPS):
        at = dict(zip(start(), (p.detach().numpy() for p in parameters), strict=True))
        for parameter, grad in zip(parameters, gradients(at).values(), strict=True):
            parameter.grad = torch.tensor(grad)
        prepare(parameters)
        built.step()
    return [p.detach().numpy() for p in parameters]


def ours(name: str, *modify: str, decay: float = 0.0, **values: Any) -> list[np.ndarray]:
    rule = modified(RULES[name], modify)
    return train(rule, rule.defaults | values, decay, "decoupled")


def assert_same(actual: Iterable[np.ndarray], expected: list[np.ndarray]) -> None:
    assert relative_error(actual, expected) <= RULE_FLOAT64
    assert relative_error(start().values(), expected) > 1e3 * RULE_FLOAT64, "nothing was trained"


@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_cautious_is_that_of_the_package(decay: float) -> None:
    values: dict[str, Any] = RULES["lion"].defaults
    expected = theirs(
        lambda parameters: pytorch_optimizer.Lion(
            parameters,
            lr=values["lr"],
            betas=(values["beta1"], values["beta2"]),
            weight_decay=decay,
            weight_decouple=True,
            cautious=True,
        )
    )
    assert_same(ours("lion", "cautious", decay=decay), expected)


@pytest.mark.parametrize("is_cautious", [False, True])
def test_mars_is_that_of_the_package(is_cautious: bool) -> None:
    """With an eps so small that it does not matter that the package adds it before correction."""
    expected = theirs(
        lambda parameters: pytorch_optimizer.MARS(
            parameters,
            lr=3e-3,
            betas=(0.95, 0.99),
            eps=1e-15,
            gamma=0.025,
            weight_decay=0.01,
            weight_decouple=True,
            optimize_1d=True,
            cautious=is_cautious,
        )
    )
    names = ("mars", "cautious") if is_cautious else ("mars",)
    values = {"lr": 3e-3, "beta1": 0.95, "beta2": 0.99, "eps": 1e-15}
    assert_same(ours("adamw", *names, decay=0.01, **values), expected)


def test_agc_is_that_of_the_package() -> None:
    def clip(parameters: list[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = authors_agc(parameter.detach(), parameter.grad)

    expected = theirs(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), clip)
    assert_same(ours("momentum", "agc", lr=0.1, momentum=0.9), expected)


def test_gradient_centralization_is_that_of_the_package() -> None:
    def centralize(parameters: list[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            centralize_gradient(parameter.grad)

    expected = theirs(lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1), centralize)
    assert_same(ours("adamw", "gradient_centralization", decay=0.1, lr=1e-3), expected)


@pytest.mark.parametrize(("every", "pull"), [(5, 0.5), (6, 0.8), (1, 0.3)])
def test_lookahead_is_that_of_the_package(every: int, pull: float) -> None:
    expected = theirs(
        lambda p: pytorch_optimizer.Lookahead(
            torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1), k=every, alpha=pull
        )
    )
    values = {"lr": 1e-2, "lookahead.every": float(every), "lookahead.pull": pull}
    assert_same(ours("adamw", "lookahead", decay=0.1, **values), expected)


def test_orthogonalized_averages_are_muon() -> None:
    matrices = [index for index, value in enumerate(start().values()) if value.ndim > 1]
    for match_rms in (False, True):
        values = {"lr": 1e-2, "momentum": 0.9, "nu": 0.9, "orthogonalize.match_rms": match_rms}
        rule = modified(RULES["qhm"], ("orthogonalize",))
        # Vectors of muon move as those of AdamW, so that only one step has the same gradients.
        orthogonal = train(rule, rule.defaults | values, steps=1)
        muon = RULES["muon"].defaults | {"lr": 1e-2, "momentum": 0.9, "match_rms": match_rms}
        expected = train(RULES["muon"], muon, steps=1)
        pairs = [orthogonal[i] for i in matrices], [expected[i] for i in matrices]
        assert relative_error(*pairs) <= RULE_FLOAT64


def follow(step: Callable[..., tuple[np.ndarray, Any]], memory: dict[str, Any]) -> list[np.ndarray]:
    """Train with `step(theta, grad, memory of the parameter, t)`, which returns both anew."""
    parameters = start()
    for t in range(1, STEPS + 1):
        for name, grad in gradients(parameters).items():
            parameters[name], memory[name] = step(parameters[name], grad, memory.get(name), t)
    return list(parameters.values())


def adam_change(grad: np.ndarray, memory: Any, t: int, lr: float) -> tuple[np.ndarray, Any]:
    m, v = memory or (0.0, 0.0)
    m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    return -lr * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v)


def test_cautious_decay_is_algorithm_1() -> None:
    def step(theta: Any, grad: Any, memory: Any, t: int) -> tuple[np.ndarray, Any]:
        change, memory = adam_change(grad, memory, t, 1e-2)
        shrinks = (-change * theta >= 0).astype(float)
        return theta - 1e-2 * (-change / 1e-2 + 0.5 * shrinks * theta), memory

    assert_same(ours("adamw", "cautious_decay", decay=0.5, lr=1e-2), follow(step, {}))


def test_hyperball_is_equation_2() -> None:
    radii = {name: np.linalg.norm(value) for name, value in start().items()}
    shapes = {value.shape: name for name, value in start().items()}

    def step(theta: Any, grad: Any, memory: Any, t: int) -> tuple[np.ndarray, Any]:
        change, memory = adam_change(grad, memory, t, 1e-2)
        if theta.ndim < 2:
            return theta + change, memory
        radius = radii[shapes[theta.shape]]
        ahead = theta + 1e-2 * radius * change / np.linalg.norm(change)
        return radius * ahead / np.linalg.norm(ahead), memory

    assert_same(ours("adamw", "hyperball", lr=1e-2), follow(step, {}))


def test_normalized_changes_have_the_size_of_the_learning_rate() -> None:
    def step(theta: Any, grad: Any, memory: Any, t: int) -> tuple[np.ndarray, Any]:
        velocity = 0.9 * (0.0 if memory is None else memory) + grad
        size = np.sqrt(np.mean(velocity**2)) + 1e-8
        return theta - 1e-3 * velocity / size, velocity

    assert_same(ours("momentum", "normalize", lr=1e-3, momentum=0.9), follow(step, {}))


def test_grafting_has_the_norm_of_the_other_rule() -> None:
    """Adam with the norms of momentum, whose lr both have; what lr the direction has cancels."""

    def step(theta: Any, grad: Any, memory: Any, t: int) -> tuple[np.ndarray, Any]:
        inner, velocity = memory or (None, 0.0)
        change, inner = adam_change(grad, inner, t, 123.0)
        velocity = 0.5 * velocity + grad
        length = np.linalg.norm(0.02 * velocity) / np.linalg.norm(change)
        return theta + length * change - 0.02 * 0.1 * theta, (inner, velocity)

    values = {"lr": 0.02, "grafting.momentum": 0.5}
    assert_same(ours("adamw", "grafting(momentum)", decay=0.1, **values), follow(step, {}))


def test_grafted_rules_receive_the_same_gradient() -> None:
    """Adaptive clipping makes the steps of the other rule shorter, too."""

    def step(theta: Any, grad: Any, memory: Any, t: int) -> tuple[np.ndarray, Any]:
        outputs = tuple(range(1, grad.ndim)) or None

        def size(value: np.ndarray) -> Any:
            return np.sqrt(np.sum(value**2, axis=outputs, keepdims=True))

        grad = grad * np.minimum(1.0, 0.01 * np.maximum(size(theta), 1e-3) / size(grad))
        change, memory = adam_change(grad, memory, t, 123.0)
        return theta + np.linalg.norm(0.02 * grad) / np.linalg.norm(change) * change, memory

    assert_same(ours("adam", "agc", "grafting(sgd)", lr=0.02), follow(step, {}))


RUNS, SHAPES = 4, {"matrix": (4, 3), "bias": (3,), "kernel": (2, 3, 2, 2), "scalar": ()}
CHAINS = [
    *((name,) for name in MODIFIERS if name != "grafting"),
    ("grafting(sgd)",),
    ("grafting(adam)",),
    ("grafting(adafactor)",),
    ("gradient_centralization", "agc", "mars", "cautious", "orthogonalize", "normalize"),
    ("mars", "grafting(momentum)", "cautious", "cautious_decay", "hyperball", "lookahead"),
]
BASES = ["momentum", "adamw", "muon", "adafactor", "lamb", "prodigy"]


def varied(rule: Rule) -> list[dict[str, Any]]:
    """Return hyperparameters of runs that differ in each of them, inside their ranges."""
    shares = [0.1, 0.2, 0.4, 0.8]

    def value(h: Any, share: float) -> Any:
        if h.scale == "switch":
            return share > 0.3
        if h.whole:
            return float(1 + round(4 * share))
        if h.name == "lr":
            return 0.05 * share
        return h.default * (1 - 0.3 * share) if h.default else 0.1 * share

    return [{h.name: value(h, share) for h in rule.hyperparameters} for share in shares]


def problem() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    generator = np.random.default_rng(5)
    starts, minima = (
        {name: generator.standard_normal((RUNS, *shape)) for name, shape in SHAPES.items()}
        for _ in range(2)
    )
    return starts, minima


def trained(
    rule: Rule, params: Any, minima: Any, values: Any, decay: Any, lead: int, steps: int = 30
) -> tuple[dict[str, Any], dict[str, Any]]:
    state = initialise_all(rule, params, values, lead=lead)
    for step in range(1, steps + 1):
        distances = {name: param - minima[name] for name, param in params.items()}
        grads = {name: d / (1 + d * d) ** 0.5 for name, d in distances.items()}
        params, state = apply_all(
            rule, params, grads, state, step, values, decay, rule.default_decay, lead=lead
        )
    return params, state


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("base", "chain"),
    [
        pytest.param(base, chain, id=f"{base} {' '.join(chain)}")
        for base in BASES
        for chain in CHAINS
        if not [*modifier_problems(RULES[base], chain)]
    ],
)
def test_a_stack_is_its_runs_alone_in_numpy_float64(base: str, chain: tuple[str, ...]) -> None:
    rule = modified(RULES[base], chain)
    starts, minima = problem()
    runs, decays = varied(rule), np.array([0.0, 0.05, 0.1, 0.2])
    together, state = trained(
        rule,
        {name: torch.tensor(array) for name, array in starts.items()},
        {name: torch.tensor(array) for name, array in minima.items()},
        {n: torch.tensor([float(run[n]) for run in runs], dtype=torch.float64) for n in runs[0]},
        torch.tensor(decays),
        lead=1,
    )
    assert all(
        array.dtype == torch.float64
        for part in state.values()
        for array in part
        if array is not None
    )
    for run, values in enumerate(runs):
        alone, _ = trained(
            rule,
            {name: array[run] for name, array in starts.items()},
            {name: array[run] for name, array in minima.items()},
            values,
            float(decays[run]),
            lead=0,
        )
        for name, expected in alone.items():
            assert relative_error([together[name][run].numpy()], [expected]) <= RULE_FLOAT64


@pytest.mark.one_in(3)
@pytest.mark.parametrize("chain", [CHAINS[-1], CHAINS[-2][:3], CHAINS[-2][3:]], ids=" ".join)
def test_one_program_takes_all_steps_and_float32_stays(chain: tuple[str, ...]) -> None:
    rule = modified(RULES["adamw"], chain)
    starts, minima = ({n: torch.tensor(a).float() for n, a in part.items()} for part in problem())
    del starts["kernel"]
    runs = varied(rule)
    values = {n: torch.tensor([float(run[n]) for run in runs]) for n in runs[0]}
    decays = torch.tensor([0.0, 0.05, 0.1, 0.2])
    programs = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        programs.append(graph)
        return graph.forward

    def take_step(params: Any, state: Any, step: Any, rates: Any) -> Any:
        grads = {name: param - minima[name] for name, param in params.items()}
        return apply_all(rule, params, grads, state, step, rates, decays, "decoupled", lead=1)

    torch.compiler.reset()
    compiled = torch.compile(take_step, backend=backend, fullgraph=True, dynamic=False)
    start_of_all = starts, initialise_all(rule, starts, values, lead=1)
    results = [start_of_all, start_of_all]
    for step in range(1, 4):
        rates = values | {"lr": values["lr"] / step}
        number = torch.tensor(float(step))
        results = [
            take(*result, number, rates)
            for take, result in zip((compiled, take_step), results, strict=True)
        ]
    assert len(programs) == 1
    (fast, fast_state), (plain, state) = results
    assert fast_state.keys() == state.keys()
    for name, param in plain.items():
        assert param.dtype == torch.float32
        assert torch.equal(param, fast[name])


def test_order_is_that_of_the_list() -> None:
    one, other = (
        train(rule, rule.defaults | {"lr": 0.05})
        for names in (("normalize", "orthogonalize"), ("orthogonalize", "normalize"))
        for rule in [modified(RULES["momentum"], names)]
    )
    assert relative_error(one, other) > 1e-3


@pytest.mark.parametrize(
    ("rule", "names", "index", "text"),
    [
        ("adam", ("cautius",), 0, "'cautius' is not a modifier. Did you mean 'cautious'?"),
        ("adam", ("lookahead", "agc"), 1, "move it to the front of lookahead"),
        ("adam", ("agc", "agc"), 1, "is in the list twice"),
        ("adam", ("grafting",), 0, "needs the rule that gives its length"),
        ("adam", ("grafting(sdg)",), 0, "'sdg' is not a rule."),
        ("adam", ("grafting(prodigy)",), 0, "depends on more than a parameter"),
        ("lamb", ("cautious_decay",), 0, "has weight decay in its equations"),
        ("schedule_free_sgd", ("agc", "lookahead"), 1, "averages its own steps"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(
    rule: str, names: tuple[str, ...], index: int, text: str
) -> None:
    ((place, message),) = modifier_problems(RULES[rule], names)
    assert place == index
    assert text in message


def test_a_step_without_learning_rate_leaves_parameters_alone() -> None:
    for chain in CHAINS:
        rule = modified(RULES["momentum"], chain)
        starts, minima = problem()
        values = rule.defaults | {"lr": 0.0}
        moved, _ = trained(rule, starts, minima, values, 0.0, lead=1, steps=3)
        for name, param in starts.items():
            np.testing.assert_allclose(moved[name], param, rtol=UNMOVED)


def test_memory_is_what_modifiers_declare() -> None:
    for chain in CHAINS:
        rule = modified(RULES["sgd"], chain)
        params = {"matrix": np.ones((4, 3))}
        state = initialise_all(rule, params, rule.defaults)
        kept = [array for part in state.values() for array in part if array is not None]
        assert sum(array.shape == (4, 3) for array in kept) == rule.state_size
