"""Optimizers that ask for a closure or for second derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import optrial
from optrial.certifying import Certificate, Verdict
from optrial.replay.draws import Draw, Setting
from optrial.replay.reference import replay
from optrial.replay.supplies import hessian_diagonal, requires_closure, supplied
from optrial.replay.target import parameters_of, snapshot, step_with
from optrial.rules import RULES
from tests.tolerance import RULE_FLOAT64, ZERO_WEIGHT

SLOW = pytest.mark.slow


class SophiaH(torch.optim.Optimizer):
    """Sophia-H of the paper, with signs and without groups for the estimates."""

    keeps_signs = True
    clips = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.96, 0.99),
        gamma: float = 0.01,
        eps: float = 1e-12,
        every: int = 10,
        weight_decay: float = 0.1,
    ) -> None:
        values = {"lr": lr, "betas": betas, "gamma": gamma, "eps": eps, "every": every}
        super().__init__(params, {**values, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        (beta1, beta2), state, grad = group["betas"], self.state[p], p.grad
        assert grad is not None
        if not state:
            state["step"] = torch.tensor(0.0)
            state["m"], state["h"] = torch.zeros_like(p), torch.zeros_like(p)
        if int(state["step"]) % group["every"] == 0:
            z = torch.randint_like(p, 2) * 2 - 1
            (product,) = torch.autograd.grad(grad, p, z)
            state["h"].lerp_(product * z if self.keeps_signs else product, 1 - beta2)
        state["step"] += 1
        state["m"].lerp_(grad.detach(), 1 - beta1)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        ratio = state["m"] / (group["gamma"] * state["h"]).clamp(min=group["eps"])
        p.sub_(group["lr"] * (ratio.clamp(-1, 1) if self.clips else ratio))


class WithoutSigns(SophiaH):
    """Forgets to multiply the product by z."""

    keeps_signs = False


class WithoutClipping(SophiaH):
    """Takes Newton steps, however long."""

    clips = False


def lines(certificate: Certificate) -> str:
    return "\n".join(f"{f.kind} {f.name}: {f.sentence}" for f in certificate.findings)


def test_products_with_signs_give_the_diagonal_and_gradients_come_back() -> None:
    seen: dict[str, Tensor] = {}

    class Looks(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            (w,) = self.param_groups[0]["params"]
            z = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
            (product,) = torch.autograd.grad(w.grad, w, z)
            seen["diagonal"], seen["grad"] = z * product, w.grad.detach().clone()
            return super().step(closure)

    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    given = torch.tensor([0.5, -3.0, 0.0], dtype=torch.float64)
    w.grad = given
    supplied(Looks([w], lr=0.1), curvature=True).step()
    assert torch.equal(seen["grad"], given)
    assert torch.equal(seen["diagonal"], hessian_diagonal(given))
    assert w.grad is given
    assert not given.requires_grad
    assert torch.equal(w.detach(), 1 - 0.1 * given)


def test_curvature_has_both_signs_and_many_sizes() -> None:
    gradient = torch.tensor(np.random.default_rng(0).standard_normal(1000))
    ratio = hessian_diagonal(gradient) / gradient.abs()
    assert 0.5 < float((ratio > 0).double().mean()) < 0.8
    assert float(ratio.abs().max() / ratio.abs().min()) > 100


@pytest.mark.parametrize("history", [1, 4])
def test_lbfgs_of_torch_is_the_rule_with_given_gradients(history: int) -> None:
    """Also through steps in which no parameter has a gradient."""
    rule = RULES["lbfgs"]
    counterpart = rule.torch_optim
    assert counterpart is not None
    assert requires_closure(torch.optim.LBFGS)
    generator = np.random.default_rng(5)
    start = {"a": torch.tensor(generator.standard_normal((2, 3)))}
    gradients = [{"a": torch.tensor(generator.standard_normal((2, 3)))} for _ in range(20)]
    gradients[7] = {"a": torch.zeros(2, 3, dtype=torch.float64)}
    values = {"lr": 0.1, "history": history}
    draw = Draw(start, gradients, Setting(values))
    parameters = parameters_of(start)
    arguments = counterpart.arguments(values, 0.0, "l2")
    assert arguments is not None
    optimizer = supplied(torch.optim.LBFGS(parameters.values(), **arguments))
    for step, weights in zip(gradients, replay(rule, draw), strict=True):
        step_with(optimizer, parameters, step)
        torch.testing.assert_close(
            snapshot(parameters), dict(weights), rtol=RULE_FLOAT64, atol=ZERO_WEIGHT
        )


@SLOW
@pytest.mark.parametrize(
    ("target", "fault"), [(SophiaH, ""), (WithoutSigns, "determinism"), (WithoutClipping, "equat")]
)
def test_estimates_of_curvature_are_compared(target: type, fault: str) -> None:
    certificate = optrial.certify(target, against="sophia_h", draws=2)
    assert certificate.against == ("sophia_h",)
    assert (certificate.verdict is Verdict.DIFFERS) == bool(fault), lines(certificate)
    assert fault in lines(certificate)


@SLOW
def test_a_package_clips_before_it_multiplies_by_lr() -> None:
    certificate = optrial.certify("pytorch_optimizer:SophiaH", draws=4)
    assert {"equations", "weight decay"}.isdisjoint(f.name for f in certificate.faults)


@SLOW
def test_deviations_of_adahessian_and_soap_are_known() -> None:
    certificate = optrial.certify("pytorch_optimizer:AdaHessian", draws=4)
    assert "does not average estimates over the places of a kernel" in lines(certificate)
    assert "equations" not in {f.name for f in certificate.faults}
    certificate = optrial.certify("pytorch_optimizer:SOAP", draws=4)
    assert "decays the weights after the step" in lines(certificate)
    assert "equations" not in {f.name for f in certificate.faults}


def test_rules_that_draw_are_not_comparable() -> None:
    certificate = optrial.certify("pytorch_optimizer:Kron", draws=1)
    assert certificate.verdict is Verdict.NOT_COMPARABLE, lines(certificate)
    assert "psgd_kron draws random numbers" in certificate.reason
    assert "its steps repeat where PyTorch, NumPy and `random` are seeded" in lines(certificate)


class Unrepeatable(torch.optim.Optimizer):
    """Adds noise from a generator of its own, which no seed reaches."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            p.data.add_(float(np.random.default_rng().normal()))


def test_steps_that_no_seed_repeats_are_a_fault() -> None:
    before = np.random.get_state()[2], torch.get_rng_state()
    certificate = optrial.certify(Unrepeatable, draws=1)
    assert [f.name for f in certificate.faults] == ["determinism"]
    assert np.random.get_state()[2] == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
