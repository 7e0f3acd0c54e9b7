"""Rprop: a step size per coordinate that grows and shrinks with the signs of the gradient."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, as_array, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, learning_rate
from optrial.rules.rule import Hyperparameter, Keywords, Rule, TorchOptim, equations_of

__all__ = ["RPROP", "RpropState"]


class RpropState(NamedTuple):
    """State of Rprop for one parameter."""

    size: Array  # (runs, *shape), size of the step, as a multiple of lr
    previous: Array  # (runs, *shape), gradient of the step before; 0 where it changed sign


def rprop_start(param: Array, **_: object) -> RpropState:
    """Return sizes of one and gradients of zero."""
    zeros = zeros_like(param)
    return RpropState(size=zeros + 1, previous=zeros)


def rprop(
    grad: Array,
    state: RpropState,
    _step: Scalar,
    *,
    lr: Scalar,
    shrink: Scalar,
    grow: Scalar,
    least: Scalar,
    most: Scalar,
) -> tuple[Array, RpropState]:
    """One step of Rprop: Riedmiller & Braun 1993, as in Igel & Hüsken 2000 (iRprop−).

        k ← sign(g·h)
        s ← s · grow^max(k, 0) · shrink^max(−k, 0)     from s = 1
        s ← min(max(s, least / lr), most / lr)
        h ← g·(1 − max(−k, 0))
        θ ← θ − lr·s·sign(h)

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. Where the gradient changed its sign, the step shrinks and the coordinate rests.
    """
    xp = namespace(grad)
    sign = xp.sign(grad * state.previous)
    kept, turned = xp.clip(sign, 0.0, 1.0), xp.clip(-sign, 0.0, 1.0)
    size = state.size * (1 + (grow - 1) * kept + (shrink - 1) * turned)
    size = xp.maximum(size, as_array(least / lr, grad))
    size = xp.minimum(size, as_array(most / lr, grad))
    previous = xp.where(sign < 0, zeros_like(grad), grad)
    return -lr * size * xp.sign(previous), RpropState(size, previous)


def _keywords(lr: float, shrink: float, grow: float, least: float, most: float) -> Keywords:
    return {"lr": lr, "etas": (shrink, grow), "step_sizes": (least, most)}


RPROP = Rule(
    name="rprop",
    title="Rprop",
    paper=(
        "Riedmiller, M. and Braun, H. (1993). A direct adaptive method for faster backpropagation "
        "learning: the RPROP algorithm. ICNN; without weight backtracking: Igel, C. and Hüsken, M. "
        "(2000). Improving the Rprop Learning Algorithm. NC, iRprop−."
    ),
    init=rprop_start,
    update=rprop,
    hyperparameters=(
        learning_rate(0.01, "size of the first step in every coordinate"),
        Hyperparameter(
            name="shrink",
            default=0.5,
            meaning="factor on a step size where the gradient changed its sign",
            symbol="η₋",
            low_open=True,
            high=1.0,
            high_open=True,
            aliases=("etas", "etaminus"),
        ),
        Hyperparameter(
            name="grow",
            default=1.2,
            meaning="factor on a step size where the gradient kept its sign",
            symbol="η₊",
            low=1.0,
            low_open=True,
            aliases=("etas", "etaplus"),
        ),
        Hyperparameter(
            name="least",
            default=1e-6,
            meaning="smallest size of a step",
            symbol="Δₘᵢₙ",
            scale="log",
            aliases=("step_sizes", "step_size_min"),
        ),
        Hyperparameter(
            name="most",
            default=50.0,
            meaning="largest size of a step",
            symbol="Δₘₐₓ",
            low_open=True,
            scale="log",
            aliases=("step_sizes", "step_size_max"),
        ),
    ),
    equations=equations_of(rprop),
    symbols=PARAMETER
    | GRADIENT
    | {
        "h": "gradient of the step before; 0 where it changed its sign",
        "k": "1 where the gradient kept its sign, −1 where it changed it, 0 where either is 0",
        "s": "size of the step, as a multiple of lr",
    },
    state={
        "size": "s, size of the step, as a multiple of lr",
        "previous": "h, gradient of the step before",
    },
    direction="the sign of the gradient",
    scaling="each coordinate has its own step size, whatever the size of its gradient",
    conventions=(
        "As torch.optim.Rprop: where the gradient changed its sign, the step shrinks and the "
        "coordinate rests for one step (iRprop−); the original takes the step before back. Step "
        "sizes are multiples of lr, so a schedule scales them; in torch.optim it has no effect "
        "after the first step. Signs of mini-batch gradients are mostly noise: use full batches."
    ),
    contrasts={
        "signsgd": (
            "Both step along the sign of the gradient. signSGD moves every coordinate by lr; Rprop "
            "has a step size per coordinate that grows while the sign stays and shrinks when it "
            "changes."
        )
    },
    torch_optim=TorchOptim("Rprop", _keywords, {}),
)
