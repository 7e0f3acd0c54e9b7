"""Rules that torch.optim lacks take the same steps as in the package pytorch_optimizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_optimizer
import torch
from pytorch_optimizer.optimizer import psgd, scion, soap
from pytorch_optimizer.optimizer.muon import normuon
from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5

from optrial.rules import RULES, Draws, apply_all, initialise_all
from optrial.rules.draws import draws_of
from tests.rules.network import STEPS, gradients, mostly_slow, relative_error, start, train, tried
from tests.tolerance import RULE_FLOAT64

Arguments = Callable[[Mapping[str, Any]], dict[str, Any]]


def betas(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the betas as the package takes them, and the rest under our names."""
    rest = {name: value for name, value in values.items() if not name.startswith("beta")}
    return {"betas": tuple(v for n, v in values.items() if n.startswith("beta"))} | rest


def adopt(values: Mapping[str, Any]) -> dict[str, Any]:
    """Count steps in the bound as the authors do; the package is one ahead of them."""
    arguments = betas(values)
    clips = arguments.pop("clip")
    return arguments | {"clip_lambda": (lambda t: (t - 1) ** 0.25) if clips else None}


def ademamix(values: Mapping[str, Any]) -> dict[str, Any]:
    arguments = betas(values)
    return arguments | {"t_alpha_beta3": arguments.pop("warmup") or None}


def qhm(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"lr": values["lr"], "momentum": values["momentum"], "nu": values["nu"]}


COUNTERPARTS: dict[str, tuple[str, Arguments]] = {
    "adabelief": ("AdaBelief", lambda values: betas(values) | {"rectify": False}),
    "yogi": ("Yogi", betas),
    "adopt": ("ADOPT", adopt),
    "ademamix": ("AdEMAMix", ademamix),
    "adan": ("Adan", betas),
    "qhm": ("QHM", qhm),
    "signsgd": ("SignSGD", lambda values: {**values, "momentum": 0.0}),
    "signum": ("SignSGD", dict),
}


@pytest.mark.parametrize("values", tried("normuon"))
def test_normuon_is_that_of_the_package(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64; the package iterates in bfloat16, and has another eps where it orthogonalises."""
    iterate = functools.partial(zero_power_via_newton_schulz_5, dtype=torch.float64)
    monkeypatch.setattr(normuon, "zero_power_via_newton_schulz_5", iterate)
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in start().values()]
    matrices = {
        "params": [p for p in parameters if p.ndim > 1],
        **{"use_muon": True, "lr": values["lr"], "momentum": values["momentum"]},
        **{"beta2": values["row_beta"], "eps": values["eps"], "weight_decay": 0.1},
        "update_scale": "match_rms" if values["match_rms"] else "preserve_norm",
    }
    vectors = {
        "params": [p for p in parameters if p.ndim < 2],
        **{"use_muon": False, "lr": values["lr"] * values["vector_lr"], "weight_decay": 0.0},
        **{"betas": (values["beta1"], values["beta2"]), "eps": values["eps"]},
    }
    theirs = followed(pytorch_optimizer.NorMuon([matrices, vectors], foreach=False), parameters)
    rule = RULES["normuon"]
    ours, state = start(), initialise_all(rule, start(), values)
    for step in range(1, STEPS + 1):
        grads = gradients(ours)
        for only, decay in ((True, 0.1), (False, 0.0)):
            some = {n: p for n, p in ours.items() if (p.ndim > 1) == only}
            moved, after = apply_all(rule, some, grads, state, step, values, decay, "decoupled")
            state |= after
            ours |= moved
    assert relative_error(ours.values(), theirs) <= RULE_FLOAT64


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("values", tried("scion"))
def test_scion_is_that_of_the_package(
    values: dict[str, Any], decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64; the package iterates in bfloat16, and fixes the eps of vectors."""
    iterate = functools.partial(zero_power_via_newton_schulz_5, dtype=torch.float64)
    monkeypatch.setattr(scion, "zero_power_via_newton_schulz_5", iterate)
    values = values | {"eps": 1e-8}
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in start().values()]
    optimizer = pytorch_optimizer.SCION(
        parameters,
        lr=values["lr"],
        momentum=1 - values["momentum"],
        weight_decay=decay,
        weight_decouple=True,
        foreach=False,
    )
    theirs = followed(optimizer, parameters)
    ours = train(RULES["scion"], values, decay, "decoupled")
    assert relative_error(ours, theirs) <= RULE_FLOAT64


@pytest.mark.parametrize("decay", [(0.0, "l2"), (0.02, "l2"), (0.02, "decoupled")])
def test_shampoo_is_that_of_the_package(decay: tuple[float, str]) -> None:
    """For matrices and kernels; vectors are those of adagrad here, and the package has no diagonal.

    The package adds eps to the sums at the start, and has another kind of momentum.
    """
    values = RULES["shampoo"].defaults | {"momentum": 0.0, "lr": 0.02, "eps": 1e-3}
    names = [name for name, value in start().items() if value.ndim > 1]
    parameters = {name: torch.nn.Parameter(torch.tensor(start()[name])) for name in names}
    optimizer = pytorch_optimizer.Shampoo(
        parameters.values(),
        lr=values["lr"],
        matrix_eps=values["eps"],
        weight_decay=decay[0],
        weight_decouple=decay[1] == "decoupled",
    )
    ours = start()
    state = initialise_all(RULES["shampoo"], ours, values)
    for step in range(1, STEPS + 1):
        at = start() | {name: p.detach().numpy() for name, p in parameters.items()}
        for name, grad in gradients(at).items():
            if name in names:
                parameters[name].grad = torch.tensor(grad)
        optimizer.step()
        grads = gradients(start() | {name: ours[name] for name in names})
        ours, state = apply_all(RULES["shampoo"], ours, grads, state, step, values, *decay)
    theirs = [parameters[name].detach().numpy() for name in names]
    assert relative_error([ours[name] for name in names], theirs) <= RULE_FLOAT64


class Float64(ModuleType):
    """torch, whose float32 is float64."""

    float32 = torch.float64
    randn_like: Any

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


@pytest.mark.parametrize("values", mostly_slow("soap"))
def test_soap_is_that_of_the_package(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, and with the ridge of the QR step; the package computes that step in float32.

    Gradients along every axis have full rank, without which eigenvectors are not determined.
    """
    plain = soap.SOAP.get_orthogonal_matrix_qr

    def with_ridge(self: soap.SOAP, state: dict[str, Any], *arguments: Any) -> list[Any]:
        ridges = [1e-5 * m.trace() * torch.eye(len(m)) if len(m) else 0.0 for m in state["GG"]]
        damped = [m + r if len(m) else m for m, r in zip(state["GG"], ridges, strict=True)]
        shown = {**state, "GG": damped}
        result = plain(self, shown, *arguments)
        state["exp_avg_sq"] = shown["exp_avg_sq"]
        return result

    monkeypatch.setattr(soap.SOAP, "get_orthogonal_matrix_qr", with_ridge)
    monkeypatch.setattr(soap, "torch", Float64("torch"))
    generator = np.random.default_rng(8)
    shapes = {"matrix": (4, 4), "kernel": (3, 3, 3), "bias": (5,), "scale": ()}
    ours, targets = (
        {name: np.asarray(generator.standard_normal(shape)) for name, shape in shapes.items()}
        for _ in range(2)
    )
    parameters = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in ours.items()}
    arguments = betas(values) | {"weight_decay": 0.0}
    arguments["precondition_frequency"] = int(arguments["precondition_frequency"])
    optimizer = pytorch_optimizer.SOAP(parameters.values(), **arguments)
    rule = RULES["soap"]
    state = initialise_all(rule, ours, values)
    for step in range(1, STEPS + 1):
        noise = {n: np.asarray(generator.standard_normal(shape)) for n, shape in shapes.items()}
        for name, parameter in parameters.items():
            at = parameter.detach().numpy()
            parameter.grad = torch.tensor(at - targets[name] + noise[name])
        optimizer.step()
        grads = {name: p - targets[name] + noise[name] for name, p in ours.items()}
        ours, state = apply_all(rule, ours, grads, state, step, values)
    theirs = [parameter.detach().numpy() for parameter in parameters.values()]
    assert relative_error(ours.values(), theirs) <= RULE_FLOAT64


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        (tried("psgd_kron")[0], 60),
        *(pytest.param(v, STEPS, marks=pytest.mark.slow) for v in tried("psgd_kron")),
    ],
)
def test_psgd_kron_is_that_of_the_package(
    values: dict[str, Any], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, with our draws; the package solves in float32 and draws from generators."""
    rule, seed, balanced = RULES["psgd_kron"], 11, 0.2
    parameters = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in start().items()}
    drawn: list[Draws] = []  # of the parameters to come in this step
    torch64 = Float64("torch")
    torch64.randn_like = lambda like, dtype: torch.tensor(drawn.pop(0).normal())
    numpy = ModuleType("numpy")
    numpy.random = SimpleNamespace(random=lambda: float(np.ravel(drawn[0].uniform())[0]))
    numpy.argsort = np.argsort
    monkeypatch.setattr(psgd, "torch", torch64)
    monkeypatch.setattr(psgd, "np", numpy)
    monkeypatch.setattr("optrial.rules.psgd.BALANCED", balanced)
    schedule = psgd.precondition_update_prob_schedule(
        min_prob=values["update_prob"], flat_start=int(values["full_updates"])
    )
    optimizer = pytorch_optimizer.Kron(
        parameters.values(),
        lr=values["lr"],
        momentum=values["momentum"],
        pre_conditioner_update_probability=schedule,
        precondition_dtype=torch.float64,
        balance_prob=balanced,
    )
    optimizer.param_groups[0]["precondition_lr"] = values["factor_lr"]
    ours, state = start(), initialise_all(rule, start(), values)
    for step in range(1, steps + 1):
        at = {name: p.detach().numpy() for name, p in parameters.items()}
        for name, grad in gradients(at).items():
            parameters[name].grad = torch.tensor(grad)
        drawn[:] = [draws_of(seed, step, name, p, 0) for name, p in at.items()]
        optimizer.step()
        ours, state = apply_all(rule, ours, gradients(ours), state, step, values, seeds=seed)
    theirs = [p.detach().numpy() for p in parameters.values()]
    assert relative_error(ours.values(), theirs) <= RULE_FLOAT64
    assert relative_error(start().values(), theirs) > 1e3 * RULE_FLOAT64, "nothing was trained"


def test_constrained_scion_is_scion_with_weight_decay() -> None:
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in start().values()]
    rate, radius = 1e-3, 5.0
    vectors = [p for p in parameters if p.ndim < 2]
    optimizer = pytorch_optimizer.SCION(vectors, lr=rate, scale=radius, constraint=True)
    for _ in range(5):
        for parameter in vectors:
            parameter.grad = parameter.detach() + 1
        optimizer.step()
    rule, names = RULES["scion"], [n for n, p in start().items() if p.ndim < 2]
    values = rule.defaults | {"lr": rate * radius}
    ours = {name: start()[name] for name in names}
    state = initialise_all(rule, ours, values)
    for step in range(1, 6):
        grads = {name: value + 1 for name, value in ours.items()}
        ours, state = apply_all(rule, ours, grads, state, step, values, 1 / radius, "decoupled")
    assert relative_error(ours.values(), [p.detach().numpy() for p in vectors]) <= RULE_FLOAT64


def followed(
    optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter]
) -> list[np.ndarray]:
    """Return the weights after training the network with an optimizer of the package."""
    for _ in range(STEPS):
        at = dict(zip(start(), (p.detach().numpy() for p in parameters), strict=True))
        for parameter, grad in zip(parameters, gradients(at).values(), strict=True):
            parameter.grad = torch.tensor(grad)
        optimizer.step()
    return [p.detach().numpy() for p in parameters]


DECAYS = [(0.0, "l2"), (0.02, "l2"), (0.02, "decoupled")]
CASES = [
    pytest.param(name, values, decay, id=f"{name}-{number}-{decay[0]}-{decay[1]}")
    for name in COUNTERPARTS
    for number, values in enumerate(tried(name))
    for decay in (DECAYS if number == 0 else DECAYS[:1])
    if (name, decay) not in {("adan", (0.02, "l2")), ("adopt", (0.02, "decoupled"))}
]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(("name", "values", "decay"), CASES)
def test_same_steps(name: str, values: dict[str, Any], decay: tuple[float, str]) -> None:
    """Except adan, whose l2 is a division here, and adopt, which the package does not decay first.

    The first steps of adopt decay the weights only, and the package leaves those out.
    """
    class_name, arguments = COUNTERPARTS[name]
    weight_decay, kind = decay
    parameters = [torch.nn.Parameter(torch.tensor(p)) for p in start().values()]
    optimizer = getattr(pytorch_optimizer, class_name)(
        parameters,
        weight_decay=weight_decay,
        weight_decouple=kind == "decoupled",
        **arguments(values),
    )
    theirs = followed(optimizer, parameters)
    ours = train(RULES[name], values, weight_decay, kind)
    assert relative_error(ours, theirs) <= RULE_FLOAT64
    assert relative_error(start().values(), theirs) > 1e3 * RULE_FLOAT64, "nothing was trained"
