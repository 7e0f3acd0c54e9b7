"""AdaGrad and Adadelta: steps scaled by all squared gradients so far, or by a running average."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    STEP,
    average_decay,
    epsilon,
    learning_rate,
)
from optrial.rules.rule import Hyperparameter, Keywords, Rule, TorchOptim, equations_of

__all__ = ["ADADELTA", "ADAGRAD", "AdadeltaState", "AdagradState"]


class AdagradState(NamedTuple):
    """State of AdaGrad for one parameter."""

    total: Array  # (runs, *shape), sum of all squared gradients


def adagrad_start(param: Array, *, initial_accumulator: Scalar, **_: object) -> AdagradState:
    """Return sums of `initial_accumulator`."""
    return AdagradState(total=zeros_like(param) + initial_accumulator)


def adagrad(
    grad: Array,
    state: AdagradState,
    step: Scalar,
    *,
    lr: Scalar,
    lr_decay: Scalar,
    initial_accumulator: Scalar,
    eps: Scalar,
) -> tuple[Array, AdagradState]:
    """One step of AdaGrad: Duchi, Hazan & Singer 2011, equation 1 with a diagonal matrix.

        s ← s + g²    from s = initial_accumulator
        θ ← θ − lr / (1 + (t − 1)·lr_decay) · g / (√s + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. eps is outside the root, as in the paper (δ) and torch.optim.
    """
    del initial_accumulator  # part of the sum since `init`
    total = state.total + grad * grad
    rate = lr / (1 + (step - 1) * lr_decay)
    return -rate * grad / (namespace(grad).sqrt(total) + eps), AdagradState(total)


class AdadeltaState(NamedTuple):
    """State of Adadelta for one parameter."""

    square: Array  # (runs, *shape), running average of the squared gradient
    change: Array  # (runs, *shape), running average of the squared change, without lr


def adadelta_start(param: Array, **_: object) -> AdadeltaState:
    """Return averages of zero."""
    return AdadeltaState(square=zeros_like(param), change=zeros_like(param))


def adadelta(
    grad: Array, state: AdadeltaState, _step: Scalar, *, lr: Scalar, rho: Scalar, eps: Scalar
) -> tuple[Array, AdadeltaState]:
    """One step of Adadelta: Zeiler 2012, Algorithm 1.

        r ← rho·r + (1 − rho)·g²
        d ← √(q + eps) / √(r + eps) · g
        q ← rho·q + (1 − rho)·d²
        θ ← θ − lr·d

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. eps is inside both roots; lr, as in torch.optim, is 1 in the paper.
    """
    sqrt = namespace(grad).sqrt
    square = average(rho, state.square, grad * grad)
    change = sqrt(state.change + eps) / sqrt(square + eps) * grad
    return -lr * change, AdadeltaState(square, average(rho, state.change, change * change))


def _adagrad_keywords(
    lr: float, lr_decay: float, initial_accumulator: float, eps: float
) -> Keywords:
    return {
        "lr": lr,
        "lr_decay": lr_decay,
        "initial_accumulator_value": initial_accumulator,
        "eps": eps,
    }


def _adadelta_keywords(lr: float, rho: float, eps: float) -> Keywords:
    return {"lr": lr, "rho": rho, "eps": eps}


ADAGRAD = Rule(
    name="adagrad",
    title="AdaGrad",
    paper=(
        "Duchi, J., Hazan, E. and Singer, Y. (2011). Adaptive Subgradient Methods for Online "
        "Learning and Stochastic Optimization. Journal of Machine Learning Research 12, 2121-2159."
    ),
    init=adagrad_start,
    update=adagrad,
    hyperparameters=(
        learning_rate(0.01),
        Hyperparameter(
            name="lr_decay",
            default=0.0,
            meaning="decay of lr, which is halved after 1 / lr_decay steps",
            symbol="δ",
            scale="log",
        ),
        Hyperparameter(
            name="initial_accumulator",
            default=0.0,
            meaning="initial value of the sum of squared gradients",
            symbol="s₀",
            at_start=True,
            aliases=("initial_accumulator_value",),
        ),
        epsilon(1e-10),
    ),
    equations=equations_of(adagrad),
    plain_equations=("s ← s + g²", "θ ← θ − lr · g / (√s + eps)"),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | {"s": "sum of all squared gradients; G in the paper and often elsewhere"},
    state={"total": "s, sum of all squared gradients"},
    direction="the gradient",
    step_scale="the learning rate alone",
    scaling="divided by the root of the sum of all squared gradients",
    epsilon="outside the root",
    conventions=(
        "As torch.optim.Adagrad: sums that start at 0, and eps outside the root, where the paper "
        "has its small constant δ. Many textbooks put it inside the root; TensorFlow starts the "
        "sums at 0.1. The sum only grows, so steps only shrink."
    ),
    contrasts={
        "sgd": (
            "AdaGrad divides each coordinate of the gradient by the root of the sum of its "
            "squares, so that coordinates with rare or small gradients take longer steps."
        )
    },
    generalises=(("sgd", "lr_decay = 0 and eps → ∞ with lr = eps · (lr of sgd)"),),
    torch_optim=TorchOptim("Adagrad", _adagrad_keywords, {"l2": {}}),
)

ADADELTA = Rule(
    name="adadelta",
    title="Adadelta",
    paper=(
        "Zeiler, M. D. (2012). ADADELTA: An Adaptive Learning Rate Method. "
        "arXiv:1212.5701, Algorithm 1."
    ),
    init=adadelta_start,
    update=adadelta,
    hyperparameters=(
        learning_rate(1.0),
        average_decay(
            "rho",
            0.9,
            "decay rate of both averages",
            "ρ",
            "decay",
            "decay_rate",
            letters=("γ", "β"),
            one_allowed=True,
        ),
        epsilon(1e-6),
    ),
    equations=equations_of(adadelta),
    symbols=PARAMETER
    | GRADIENT
    | {
        "r": "running average of the squared gradient, often E[g²]; starts at 0",
        "d": "step before lr, in the units of the parameter, often −Δθ",
        "q": "running average of the squared steps d, often E[Δθ²]; starts at 0",
    },
    state={
        "square": "r, running average of the squared gradient",
        "change": "q, running average of the squared step",
    },
    direction="the gradient",
    step_scale="the parameters",
    scaling=(
        "multiplied by the root of the running average of squared steps, "
        "divided by the root of the running average of squared gradients"
    ),
    epsilon="inside both roots",
    conventions=(
        "As torch.optim.Adadelta: the step of the paper times lr. The paper uses rho = 0.95 and "
        "eps = 1e-6; torch.optim has rho = 0.9. q is the average of the final steps d, so it is "
        "updated after d and enters the next step. eps also sets the size of the first steps, "
        "because q starts at 0. (Keras defaults to lr = 0.001, at which Adadelta hardly moves.)"
    ),
    contrasts={
        "rmsprop": (
            "Both divide the gradient by the root of a running average of its squares. Adadelta "
            "also replaces the learning rate by the root of a running average of its squared "
            "steps. That gives the step the units of the parameter: a gradient over "
            "the root of its squares has none, so in rmsprop the learning rate must supply both "
            "the size and the unit. Adadelta's lr is an additional factor; the paper has none, "
            "which is lr = 1."
        ),
        "adagrad": (
            "AdaGrad sums all squared gradients, so its steps keep shrinking; adadelta averages "
            "them with weights that decay, so that old gradients are forgotten. Adadelta also "
            "replaces the learning rate by the root of the average of its squared steps, which "
            "gives the step the units of the parameter."
        ),
    },
    generalises=(("sgd", "eps → ∞"),),
    torch_optim=TorchOptim("Adadelta", _adadelta_keywords, {"l2": {}}),
)
