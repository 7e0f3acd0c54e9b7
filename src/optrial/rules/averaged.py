"""ASGD: gradient descent whose model is evaluated at the average of its iterates."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, in_float64, in_precision_of, zeros_like
from optrial.rules.gradient_descent import ONE_STEP_SIZE
from optrial.rules.hyperparameters import PARAMETER, RAW_GRADIENT, STEP, learning_rate
from optrial.rules.rule import Hyperparameter, Keywords, Rule, TorchOptim, equations_of

__all__ = ["ASGD", "AsgdState"]


class AsgdState(NamedTuple):
    """State of averaged gradient descent for one parameter."""

    average: Array  # (runs, *shape), average of the iterates


def asgd_start(param: Array, **_: object) -> AsgdState:
    """Return an average at the parameter."""
    return AsgdState(average=param + zeros_like(param))


def asgd(
    grad: Array,
    state: AsgdState,
    step: Scalar,
    *,
    param: Array,
    weight_decay: Scalar,
    lr: Scalar,
    lambd: Scalar,
    alpha: Scalar,
    t0: Scalar,
) -> tuple[Array, AsgdState]:
    """One step of averaged gradient descent: Polyak & Juditsky 1992, as in torch.optim.

        e ← lr / (1 + lambd·lr·(t − 1))^alpha
        θ ← θ − e·(g + lambd·θ) − lr·weight_decay·θ
        x ← x + (θ − x) / max(1, t − 1 − t0)

    grad and param are (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over grad.
    Returns the change to add to the parameter. The model is evaluated at x.
    """
    time = in_float64(step) - 1
    rate = in_float64(lr) / (1 + in_float64(lambd) * in_float64(lr) * time) ** in_float64(alpha)
    past = time - in_float64(t0)
    counted = 1.0 * (past > 1)
    share = 1 / (counted * past + (1 - counted))
    change = -in_precision_of(grad, rate) * (grad + lambd * param) - lr * weight_decay * param
    moved = state.average + in_precision_of(grad, share) * (param + change - state.average)
    return change, AsgdState(moved)


def averaged(_param: Array, state: AsgdState, **_: object) -> Array:
    """Return the average of the iterates."""
    return state.average


def _keywords(lr: float, lambd: float, alpha: float, t0: float) -> Keywords:
    return {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0}


ASGD = Rule(
    name="asgd",
    title="Averaged stochastic gradient descent",
    paper=(
        "Polyak, B. T. and Juditsky, A. B. (1992). Acceleration of stochastic approximation by "
        "averaging. SIAM Journal on Control and Optimization 30(4), 838-855; rates: Bottou, L. "
        "(2012). Stochastic Gradient Descent Tricks."
    ),
    init=asgd_start,
    update=asgd,
    hyperparameters=(
        learning_rate(0.01),
        Hyperparameter(
            name="lambd",
            default=1e-4,
            meaning="shrinkage of the parameter, and decay of the rate",
            symbol="λ",
            scale="log",
        ),
        Hyperparameter(
            name="alpha",
            default=0.75,
            meaning="exponent of the decay of the rate",
            symbol="α",
            high=1.0,
            aliases=("power",),
        ),
        Hyperparameter(
            name="t0",
            default=1e6,
            meaning="steps before averaging starts",
            symbol="t₀",
            scale="log",
        ),
    ),
    equations=equations_of(asgd),
    symbols=PARAMETER
    | RAW_GRADIENT
    | STEP
    | {
        "e": "learning rate of this step",
        "x": "average of θ since step t0; θ itself before",
        "weight_decay": "coefficient of decoupled weight decay",
    },
    state={"average": "x, average of the iterates"},
    direction="the gradient",
    step_scale="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "As torch.optim.ASGD, with its defaults; torch.optim leaves the average in its state, and "
        "optrial evaluates the model there. Averaging starts at step t0: set t0 well below the "
        "number of steps, or nothing is averaged."
    ),
    contrasts={
        "sgd": (
            "SGD ends at its last iterate, which the noise of mini-batches keeps moving. ASGD "
            "trains with larger rates and is evaluated at the average of its iterates, in which "
            "that noise cancels."
        )
    },
    generalises=(("sgd", "lambd = 0 and t0 → ∞"),),
    torch_optim=TorchOptim("ASGD", _keywords, {"l2": {}}),
    needs=("param", "weight_decay"),
    own_decay="decoupled",
    evaluate=averaged,
)
