"""Schedule-free rules: the gradient is taken at one point, the model is evaluated at an average."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import bias_correction
from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.gradient_descent import ONE_STEP_SIZE
from optrial.rules.hyperparameters import (
    RAW_GRADIENT,
    STEP,
    average_decay,
    epsilon,
    learning_rate,
)
from optrial.rules.rule import Hyperparameter, Rule, State, equations_of

__all__ = [
    "SCHEDULE_FREE_ADAMW",
    "SCHEDULE_FREE_SGD",
    "ScheduleFreeAdamwState",
    "ScheduleFreeState",
]


class ScheduleFreeState(NamedTuple):
    """State of schedule-free gradient descent for one parameter."""

    fast: Array  # (runs, *shape), the iterate that takes full steps
    total: Array  # () or (runs, 1, ..., 1), sum of the squared learning rates so far


def schedule_free_start(param: Array, *, lr: Scalar, **_: object) -> ScheduleFreeState:
    """Return a fast iterate at the parameter."""
    xp = namespace(param)
    zero = xp.zeros((), dtype=param.dtype, device=param.device)
    return ScheduleFreeState(fast=param + zeros_like(param), total=zero + 0 * lr)


def schedule_free_sgd(
    grad: Array,
    state: ScheduleFreeState,
    _step: Scalar,
    *,
    param: Array,
    weight_decay: Scalar,
    lr: Scalar,
    momentum: Scalar,
) -> tuple[Array, ScheduleFreeState]:
    """One step of schedule-free gradient descent: Defazio et al. 2024, equations 3 to 5.

        d ← g + weight_decay·θ
        c ← lr² / Σ lr²
        θ ← θ + c·(z − θ) − lr·(1 − momentum·(1 − c))·d
        z ← z − lr·d
        x = (θ − (1 − momentum)·z) / momentum

    grad is (runs, *shape), taken at the parameter θ, the paper's y; hyperparameters broadcast over
    it. Returns the change to add to the parameter. x, at which the model is evaluated, is left to
    `averaged`; the steps equal the paper's x ← (1 − c)·x + c·z, y ← (1 − momentum)·z + momentum·x.
    """
    direction = grad + weight_decay * param
    return _change(direction, state, param, lr, momentum)


class ScheduleFreeAdamwState(NamedTuple):
    """State of schedule-free AdamW for one parameter."""

    fast: Array  # (runs, *shape), the iterate that takes full steps
    square: Array  # (runs, *shape), running average of the squared gradient
    total: Array  # () or (runs, 1, ..., 1), sum of the squared learning rates so far


def schedule_free_adamw_start(param: Array, *, lr: Scalar, **_: object) -> ScheduleFreeAdamwState:
    """Return a fast iterate at the parameter and an average of zero."""
    fast, total = schedule_free_start(param, lr=lr)
    return ScheduleFreeAdamwState(fast, zeros_like(param), total)


def schedule_free_adamw(
    grad: Array,
    state: ScheduleFreeAdamwState,
    step: Scalar,
    *,
    param: Array,
    weight_decay: Scalar,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, ScheduleFreeAdamwState]:
    """One step of schedule-free AdamW: Defazio et al. 2024, Algorithm 1.

        v ← beta2·v + (1 − beta2)·g²
        d ← g / (√(v / (1 − beta2^t)) + eps) + weight_decay·θ
        c ← lr² / Σ lr²
        θ ← θ + c·(z − θ) − lr·(1 − beta1·(1 − c))·d
        z ← z − lr·d
        x = (θ − (1 − beta1)·z) / beta1

    grad is (runs, *shape), taken at the parameter θ, the paper's y; step is t = 1, 2, ...;
    hyperparameters broadcast over it. Returns the change to add to the parameter.
    """
    square = average(beta2, state.square, grad * grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    direction = grad / (root + eps) + weight_decay * param
    change, (fast, total) = _change(
        direction, ScheduleFreeState(state.fast, state.total), param, lr, beta1
    )
    return change, ScheduleFreeAdamwState(fast, square, total)


def _change(
    direction: Array, state: ScheduleFreeState, param: Array, lr: Scalar, beta: Scalar
) -> tuple[Array, ScheduleFreeState]:
    """Move the fast iterate by a full step, and the parameter with it and with the average."""
    total = state.total + lr * lr
    share = lr * lr / total
    change = share * (state.fast - param) - lr * (1 - beta * (1 - share)) * direction
    return change, ScheduleFreeState(state.fast - lr * direction, total)


def averaged(param: Array, state: State, *, beta: Scalar) -> Array:
    """Return the average x at which the model is evaluated, from y = (1 − beta)·z + beta·x."""
    return (param - (1 - beta) * state.fast) / beta


def _sgd_average(param: Array, state: ScheduleFreeState, *, momentum: Scalar, **_: object) -> Array:
    return averaged(param, state, beta=momentum)


def _adamw_average(
    param: Array, state: ScheduleFreeAdamwState, *, beta1: Scalar, **_: object
) -> Array:
    return averaged(param, state, beta=beta1)


PAPER = (
    "Defazio, A., Yang, X. A., Mehta, H., Mishchenko, K., Khaled, A. and Cutkosky, A. (2024). The "
    "Road Less Scheduled. NeurIPS. arXiv:2405.15682, "
)
CONVENTIONS = (
    "The stored parameter is the paper's y, so that an ordinary training loop computes the right "
    "gradient; every evaluation is at x. The steps are those of the authors' library without "
    "warm-up. If a schedule changes lr, the average is weighted by lr² as in the paper; the "
    "library weights it by the largest lr² so far. Decoupled weight decay is taken at y and moves "
    "z and y, as in the paper."
)


def _interpolation(name: str, symbol: str, *aliases: str) -> Hyperparameter:
    return Hyperparameter(
        name=name,
        default=0.9,
        meaning="position of the gradient's point, from the fast iterate (0) to the average (1)",
        symbol=symbol,
        high=1.0,
        low_open=True,
        aliases=aliases,
    )


SCHEDULE_FREE_SGD = Rule(
    name="schedule_free_sgd",
    title="Schedule-free gradient descent",
    paper=PAPER + "equations 3 to 5.",
    init=schedule_free_start,
    update=schedule_free_sgd,
    hyperparameters=(learning_rate(1.0), _interpolation("momentum", "β", "beta", "beta1")),
    equations=equations_of(schedule_free_sgd),
    symbols={
        "θ": "the parameter: the paper's y, where the gradient is taken",
        **RAW_GRADIENT,
        "d": "direction of a full step",
        "c": "weight of the newest z in the average: 1 / t while lr is constant",
        "z": "the fast iterate, which takes full steps; starts at θ",
        "x": "average of all z so far, weighted by lr²: where the model is evaluated",
        "Σ": "sum over all steps so far",
        "weight_decay": "coefficient of decoupled weight decay",
    },
    state={"fast": "z, the fast iterate"},
    reduced_state={"total": "sum of the squared learning rates so far, one number per run"},
    direction="the gradient, with part of the way back to the fast iterate",
    step_scale="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "Schedule-free averaging of plain gradient descent; momentum is the paper's β. "
        + CONVENTIONS
    ),
    needs=("param", "weight_decay"),
    own_decay="decoupled",
    evaluate=_sgd_average,
)

SCHEDULE_FREE_ADAMW = replace(
    SCHEDULE_FREE_SGD,
    name="schedule_free_adamw",
    title="Schedule-free AdamW",
    paper=PAPER + "Algorithm 1.",
    init=schedule_free_adamw_start,
    update=schedule_free_adamw,
    hyperparameters=(
        learning_rate(0.0025),
        _interpolation("beta1", "β₁", "betas", "beta_1", "b1"),
        average_decay(
            "beta2", 0.999, "decay rate of the second-moment average", "β₂", "betas", "beta_2", "b2"
        ),
        epsilon(1e-8),
    ),
    equations=equations_of(schedule_free_adamw),
    symbols={
        **SCHEDULE_FREE_SGD.symbols,
        **STEP,
        "v": "running average of the squared gradient; starts at 0",
    },
    state={"fast": "z, the fast iterate", "square": "v, running average of the squared gradient"},
    step_scale="the learning rate alone",
    scaling="divided by the root of the running average of squared gradients",
    bias_correction="the average of squared gradients, divided by 1 − beta2^t",
    epsilon="outside the root, after bias correction",
    conventions="Algorithm 1 of the paper, in its final version. " + CONVENTIONS,
    default_decay="decoupled",
    evaluate=_adamw_average,
)
