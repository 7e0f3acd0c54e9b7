"""Every rule with a counterpart in torch.optim takes the same steps as it, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from optrial.rules import RULES
from tests.rules.network import STEPS, gradients, relative_error, start, train, tried
from tests.tolerance import RULE_FLOAT64

DECAYS = [(0.0, "l2"), (0.02, "l2"), (0.02, "decoupled")]
CASES = [
    pytest.param(name, values, decay, id=f"{name}-{number}-{decay[0]}-{decay[1]}")
    for name, rule in RULES.items()
    if rule.torch_optim and not rule.torch_optim.needs_closure  # those: tests/engine/test_lbfgs.py
    for number, values in enumerate(tried(name))
    for decay in (DECAYS if number == 0 else [(0.02, rule.default_decay)])
    if rule.torch_optim.arguments(values, *decay) is not None
]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    """Let torch.optim keep its own scalars in float64 too: NAdam's product of momenta."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def torch_train(
    make: Callable[[dict[str, torch.nn.Parameter]], list[torch.optim.Optimizer]],
) -> list[np.ndarray]:
    parameters = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in start().items()}
    optimizers = make(parameters)
    for _ in range(STEPS):
        computed = gradients({name: p.detach().numpy() for name, p in parameters.items()})
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(computed[name])
        for optimizer in optimizers:
            optimizer.step()
    return [p.detach().numpy() for p in parameters.values()]


@pytest.mark.one_in(4)
@pytest.mark.parametrize(("name", "values", "decay"), CASES)
def test_same_steps(name: str, values: dict[str, Any], decay: tuple[float, str]) -> None:
    counterpart = RULES[name].torch_optim
    assert counterpart is not None
    arguments = counterpart.arguments(values, *decay)
    assert arguments is not None
    make = getattr(torch.optim, counterpart.class_name)
    theirs = torch_train(lambda parameters: [make(parameters.values(), **arguments)])
    assert relative_error(train(RULES[name], values, *decay), theirs) <= RULE_FLOAT64
    assert relative_error(start().values(), theirs) > 1e3 * RULE_FLOAT64, "nothing was trained"


@pytest.mark.parametrize("values", tried("muon"))
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_is_muon_on_matrices_and_adamw_on_vectors(
    values: dict[str, Any], weight_decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In full precision, where torch.optim.Muon rounds to bfloat16; kernels as flat matrices."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    arguments = {name: values[name] for name in ("lr", "momentum", "eps")} | {
        "weight_decay": weight_decay,
        "adjust_lr_fn": "match_rms_adamw" if values["match_rms"] else "original",
    }

    class Flat(torch.optim.Muon):
        """Muon on a kernel as the matrix that shares its memory."""

        def __init__(self, kernel: torch.nn.Parameter) -> None:
            self.kernel = kernel
            self.matrix = torch.nn.Parameter(kernel.detach().flatten(1))
            super().__init__([self.matrix], **arguments)

        def step(self, closure: None = None) -> None:
            assert self.kernel.grad is not None
            self.matrix.grad = self.kernel.grad.flatten(1)
            super().step()

    def make(parameters: dict[str, torch.nn.Parameter]) -> list[torch.optim.Optimizer]:
        return [
            Flat(parameters["kernel"]),
            torch.optim.Muon([p for p in parameters.values() if p.ndim == 2], **arguments),
            torch.optim.AdamW(
                [p for p in parameters.values() if p.ndim == 1],
                lr=values["lr"] * values["vector_lr"],
                betas=(values["beta1"], values["beta2"]),
                eps=values["eps"],
                # torch shrinks by this lr; Muon by its own, whatever that of the vectors
                weight_decay=weight_decay / values["vector_lr"],
            ),
        ]

    theirs = torch_train(make)
    assert relative_error(train(RULES["muon"], values, weight_decay, "decoupled"), theirs) <= (
        RULE_FLOAT64
    )
    assert relative_error(start().values(), theirs) > 1e3 * RULE_FLOAT64, "nothing was trained"


@pytest.mark.parametrize("name", [name for name in RULES if RULES[name].torch_optim])
def test_torch_has_the_same_defaults(name: str) -> None:
    """Except the learning rate of SGD, which is 0.001 in torch."""
    rule = RULES[name]
    assert rule.torch_optim is not None
    arguments = rule.torch_optim.arguments(
        rule.defaults, rule.default_weight_decay, rule.default_decay
    )
    assert arguments is not None
    theirs = getattr(torch.optim, rule.torch_optim.class_name)([torch.zeros(1)]).defaults
    different = {key for key, value in arguments.items() if value != theirs[key]}
    expected = {
        "sgd": {"lr"},
        "momentum": {"lr", "momentum"},
        "nesterov": {"lr", "momentum", "nesterov"},
        "amsgrad": {"amsgrad"},
        "lbfgs": {"history_size", "max_iter", "tolerance_grad", "tolerance_change"},
    }
    assert different == expected.get(name, set())


def test_combinations_that_torch_lacks_have_no_arguments() -> None:
    lacking = {
        name
        for name, rule in RULES.items()
        if rule.torch_optim and rule.torch_optim.arguments(rule.defaults, 0.1, "decoupled") is None
    }
    assert lacking == {
        *("sgd", "momentum", "nesterov", "asgd", "adagrad", "rmsprop", "adadelta", "adamax"),
        *("rprop", "lbfgs"),
    }
    adamw = RULES["adamw"].torch_optim
    assert adamw is not None
    assert adamw.arguments(RULES["adamw"].defaults, 0.1, "l2") is None


def test_centred_rmsprop_stays_finite_where_rounding_leaves_a_negative_variance() -> None:
    """A steady gradient: torch.optim.RMSprop takes the root of a negative number there."""
    rule = RULES["rmsprop"]
    values = rule.defaults | {"centered": True, "rho": 0.5}
    gradient = np.linspace(0.1, 1.0, 100)
    state = rule.init(gradient, **values)
    for step in range(1, 100):
        change, state = rule.update(gradient, state, step, **values)
        assert np.isfinite(change).all()
    assert (state.square - state.mean**2).min() < 0
