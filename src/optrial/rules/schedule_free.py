"""Schedule-free rules: the gradient is taken at one point, the model evaluated at an average."""

from __future__ import annotations

from typing import Any, NamedTuple

from optrial.rules.adam import bias_correction
from optrial.rules.arrays import Array, average, namespace, zeros_like
from optrial.rules.hyperparameters import STEP, average_decay, epsilon, learning_rate
from optrial.rules.rule import Hyperparameter, Rule

__all__ = [
    "SCHEDULE_FREE_ADAMW",
    "SCHEDULE_FREE_SGD",
    "ScheduleFreeAdamwState",
    "ScheduleFreeState",
]


class ScheduleFreeState(NamedTuple):
    """What schedule-free gradient descent remembers of each parameter."""

    fast: Array  # (runs, *shape), the iterate that takes full steps
    total: Array  # () or (runs, 1, ..., 1), sum of the squared learning rates so far


def schedule_free_start(param: Array, *, lr: Any, **_: Any) -> ScheduleFreeState:
    """Return a fast iterate at the parameter."""
    xp = namespace(param)
    zero = xp.zeros((), dtype=param.dtype, device=param.device)
    return ScheduleFreeState(fast=param + zeros_like(param), total=zero + 0 * lr)


def schedule_free_sgd(
    grad: Array,
    state: ScheduleFreeState,
    _step: Any,
    *,
    param: Array,
    weight_decay: Any,
    lr: Any,
    momentum: Any,
) -> tuple[Array, ScheduleFreeState]:
    """One step of schedule-free gradient descent: Defazio et al. 2024, equations 3 to 5.

    d = g + weight_decay y      c = lr^2 / (sum of all lr^2 so far)
    z <- z - lr d               change = c (z - y) - lr (1 - momentum (1 - c)) d, with the old z

    grad is (runs, *shape), taken at the parameter y; each hyperparameter broadcasts over it.
    Returns the change to add to the parameter. This is the paper's x <- (1 - c) x + c z and
    y <- (1 - momentum) z + momentum x, with x, the point to evaluate, left to `averaged`.
    """
    direction = grad + weight_decay * param
    return _change(direction, state, param, lr, momentum)


class ScheduleFreeAdamwState(NamedTuple):
    """What schedule-free AdamW remembers of each parameter."""

    fast: Array  # (runs, *shape), the iterate that takes full steps
    square: Array  # (runs, *shape), running average of the squared gradient
    total: Array  # () or (runs, 1, ..., 1), sum of the squared learning rates so far


def schedule_free_adamw_start(param: Array, *, lr: Any, **_: Any) -> ScheduleFreeAdamwState:
    """Return a fast iterate at the parameter and an average of zero."""
    fast, total = schedule_free_start(param, lr=lr)
    return ScheduleFreeAdamwState(fast, zeros_like(param), total)


def schedule_free_adamw(
    grad: Array,
    state: ScheduleFreeAdamwState,
    step: Any,
    *,
    param: Array,
    weight_decay: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
) -> tuple[Array, ScheduleFreeAdamwState]:
    """One step of schedule-free AdamW: Defazio et al. 2024, Algorithm 1.

    v <- beta2 v + (1 - beta2) g^2      d = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay y

    and on as `schedule_free_sgd`, with beta1 for its momentum.

    grad is (runs, *shape), taken at the parameter y; step is t = 1, 2, ...; each hyperparameter
    broadcasts over it. Returns the change to add to the parameter.
    """
    square = average(beta2, state.square, grad * grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    direction = grad / (root + eps) + weight_decay * param
    change, (fast, total) = _change(
        direction, ScheduleFreeState(state.fast, state.total), param, lr, beta1
    )
    return change, ScheduleFreeAdamwState(fast, square, total)


def _change(
    direction: Array, state: ScheduleFreeState, param: Array, lr: Any, beta: Any
) -> tuple[Array, ScheduleFreeState]:
    """Move the fast iterate by a full step, the average towards it, and the parameter between."""
    total = state.total + lr * lr
    share = lr * lr / total
    change = share * (state.fast - param) - lr * (1 - beta * (1 - share)) * direction
    return change, ScheduleFreeState(state.fast - lr * direction, total)


def averaged(param: Array, state: Any, *, beta: Any) -> Array:
    """Return the average x at which to evaluate, from y = (1 - beta) z + beta x."""
    return (param - (1 - beta) * state.fast) / beta


def _sgd_average(param: Array, state: ScheduleFreeState, *, momentum: Any, **_: Any) -> Array:
    return averaged(param, state, beta=momentum)


def _adamw_average(param: Array, state: ScheduleFreeAdamwState, *, beta1: Any, **_: Any) -> Array:
    return averaged(param, state, beta=beta1)


PAPER = (
    "Defazio, A., Yang, X. A., Mehta, H., Mishchenko, K., Khaled, A. and Cutkosky, A. (2024). The "
    "Road Less Scheduled. NeurIPS. arXiv:2405.15682, "
)
SYMBOLS = {
    "θ": "the parameter: the paper's y, where the gradient is taken",
    "g": "gradient of the mini-batch's loss at θ, without weight decay",
    "d": "direction of a full step",
    "c": "share of the newest z in the average: 1 / t while lr is constant",
    "z": "the fast iterate, which takes full steps; starts at θ",
    "x": "average of all z so far, weighted by lr²: where the model is evaluated",
    "Σ": "sum over all steps so far",
    "weight_decay": "coefficient of decoupled weight decay",
}
STEPS = (
    "c ← lr² / Σ lr²",
    "θ ← θ + c·(z − θ) − lr·(1 − {beta}·(1 − c))·d",
    "z ← z − lr·d",
    "x = (θ − (1 − {beta})·z) / {beta}",
)
STEPS_LATEX = (
    r"c &\leftarrow \eta^2 / \textstyle\sum \eta^2 \\"
    "\n"
    r"\theta &\leftarrow \theta + c\,(z - \theta) - \eta\,(1 - \beta (1 - c))\, d \\"
    "\n"
    r"z &\leftarrow z - \eta\, d \\"
    "\n"
    r"x &= (\theta - (1 - \beta) z) / \beta"
)
CONVENTIONS = (
    "{form} The stored parameter is y, so that an ordinary training loop computes the right "
    "gradient; every evaluation is at x. The steps are those of the authors' library without "
    "warm-up; where a schedule changes lr, the average is weighted by lr² as in the paper, by the "
    "largest lr² so far in the library. Decoupled weight decay is taken at y and moves z and y, "
    "as in the paper."
)
TOTAL = {"total": "sum of the squared learning rates so far, one number a run"}


def _interpolation(name: str, *aliases: str) -> Hyperparameter:
    return Hyperparameter(
        name=name,
        default=0.9,
        meaning="where the gradient is taken: towards 0 at the fast iterate, at 1 at the average",
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
    hyperparameters=(learning_rate(1.0), _interpolation("momentum", "beta", "beta1")),
    equations=("d ← g + weight_decay·θ", *(line.format(beta="momentum") for line in STEPS)),
    equations_latex=r"d &\leftarrow g + \lambda\theta \\" + "\n" + STEPS_LATEX,
    symbols=SYMBOLS,
    state={"fast": "z, the fast iterate"},
    reduced_state=TOTAL,
    direction="the gradient, with part of the way back to the fast iterate",
    scaling="one step size for every coordinate",
    conventions=CONVENTIONS.format(
        form="Schedule-free averaging around plain gradient descent; momentum is the paper's β."
    ),
    needs=("param", "weight_decay"),
    own_decay="decoupled",
    evaluate=_sgd_average,
)

SCHEDULE_FREE_ADAMW = Rule(
    name="schedule_free_adamw",
    title="Schedule-free AdamW",
    paper=PAPER + "Algorithm 1.",
    init=schedule_free_adamw_start,
    update=schedule_free_adamw,
    hyperparameters=(
        learning_rate(0.0025),
        _interpolation("beta1", "betas", "beta_1", "b1"),
        average_decay("beta2", 0.999, "average of squared gradients", ("betas", "beta_2", "b2")),
        epsilon(1e-8),
    ),
    equations=(
        "v ← beta2·v + (1 − beta2)·g²",
        "d ← g / (√(v / (1 − beta2^t)) + eps) + weight_decay·θ",
        *(line.format(beta="beta1") for line in STEPS),
    ),
    equations_latex=(
        r"v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\"
        "\n"
        r"d &\leftarrow \frac{g}{\sqrt{v / (1 - \beta_2^t)} + \varepsilon} + \lambda\theta \\"
        "\n" + STEPS_LATEX.replace(r"\beta", r"\beta_1")
    ),
    symbols=SYMBOLS | STEP | {"v": "running average of the squared gradient; starts at 0"},
    state={"fast": "z, the fast iterate", "square": "v, running average of the squared gradient"},
    reduced_state=TOTAL,
    direction="the gradient, with part of the way back to the fast iterate",
    scaling="divided by the root of the running average of squared gradients",
    bias_correction="the average of squared gradients, divided by 1 − beta2^t",
    epsilon="outside the root, after bias correction",
    conventions=CONVENTIONS.format(form="Algorithm 1 of the paper, in its final version."),
    default_decay="decoupled",
    needs=("param", "weight_decay"),
    own_decay="decoupled",
    evaluate=_adamw_average,
)
