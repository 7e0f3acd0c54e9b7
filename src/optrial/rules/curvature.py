"""AdaHessian and Sophia: steps scaled by estimates of the diagonal of the Hessian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from optrial.rules.adam import BETAS, AdamState, adam_start, bias_correction
from optrial.rules.arrays import Array, Scalar, as_array, average, in_float64, namespace
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    STEP,
    average_decay,
    epsilon,
    learning_rate,
)
from optrial.rules.rule import Hyperparameter, Rule, equations_of

__all__ = ["ADAHESSIAN", "SOPHIA_H", "SophiaState", "extra_gradients", "is_estimated"]

_KERNEL = 4
"""Number of axes from which on a parameter is a kernel: outputs, inputs, and two or more of space.
A position embedding has three."""


def is_estimated(step: int, every: float) -> bool:
    """Return whether curvature is estimated at a step: 1, 1 + every, 1 + 2·every, ..."""
    return (step - 1) % every == 0


def extra_gradients(rule: Rule, values: Mapping[str, float | bool]) -> float:
    """Return how many gradients a step computes for estimates of curvature, on average.

    A product with the Hessian counts as one.

    Args:
        rule: the rule.
        values: its hyperparameters.
    """
    return 1 / float(values.get("every", 1)) if rule.needs_curvature else 0.0


def _estimates(step: Scalar, every: Scalar) -> Scalar:
    """Return how many estimates there are up to a step: 1, 2, ..."""
    return (in_float64(step) - 1) / in_float64(every) // 1 + 1


def _if_estimated(step: Scalar, every: Scalar, new: Array, old: Array) -> Array:
    """Return `new` at steps with an estimate, `old` at others."""
    rounds = (in_float64(step) - 1) / in_float64(every)
    is_due = as_array(1.0 * (rounds // 1 == rounds), new) > 0
    return namespace(new).where(is_due, new, old)


def adahessian(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    axes: Sequence[int],
    curvature: Array,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
    every: Scalar,
) -> tuple[Array, AdamState]:
    """One step of AdaHessian: Yao et al. 2021, Algorithm 1.

        m ← beta1·m + (1 − beta1)·g
        D ← |z·Hz|
        v ← beta2·v + (1 − beta2)·D²         if t − 1 is a multiple of every
        θ ← θ − lr · (m / (1 − beta1^t)) / (√(v / (1 − beta2^n)) + eps)

    grad and curvature, z·Hz, are (runs, *shape), where `axes` are the axes of one run; step is
    t = 1, 2, ...; hyperparameters broadcast over grad. D of the kernels of a convolution is
    averaged over their places. Returns the change to add to the parameter.
    """
    xp = namespace(grad)
    mean, diagonal = average(beta1, state.mean, grad), xp.abs(curvature)
    if len(axes) >= _KERNEL:
        diagonal = xp.mean(diagonal, axis=tuple(axes[2:]), keepdims=True)
    latest = average(beta2, state.square, diagonal * diagonal + xp.zeros_like(grad))
    square = _if_estimated(step, every, latest, state.square)
    rate = lr / bias_correction(beta1, step, grad)
    root = xp.sqrt(square / bias_correction(beta2, _estimates(step, every), grad))
    return -rate * mean / (root + eps), AdamState(mean, square)


class SophiaState(NamedTuple):
    """State of Sophia for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    diagonal: Array  # (runs, *shape), running average of estimates of the Hessian's diagonal


def sophia_start(param: Array, **_: object) -> SophiaState:
    """Return averages of zero."""
    return SophiaState(*adam_start(param))


def sophia_h(
    grad: Array,
    state: SophiaState,
    step: Scalar,
    *,
    curvature: Array,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    gamma: Scalar,
    eps: Scalar,
    every: Scalar,
) -> tuple[Array, SophiaState]:
    """One step of Sophia-H: Liu et al. 2024, Algorithm 3, with the estimator of Algorithm 1.

        m ← beta1·m + (1 − beta1)·g
        h ← beta2·h + (1 − beta2)·z·Hz       if t − 1 is a multiple of every
        r ← m / max(gamma·h, eps)
        θ ← θ − lr·sign(r)·min(|r|, 1)

    grad and curvature, z·Hz, are (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast
    over grad. Returns the change to add to the parameter.
    """
    xp = namespace(grad)
    mean = average(beta1, state.mean, grad)
    latest = average(beta2, state.diagonal, curvature)
    diagonal = _if_estimated(step, every, latest, state.diagonal)
    ratio = mean / xp.maximum(gamma * diagonal, as_array(eps, grad))
    return -lr * xp.clip(ratio, -1.0, 1.0), SophiaState(mean, diagonal)


def _every(default: float) -> Hyperparameter:
    return Hyperparameter(
        name="every",
        default=default,
        meaning="steps from one estimate of curvature to the next",
        symbol="k",
        low=1.0,
        whole=True,
        scale="log",
        aliases=("update_period", "hessian_interval"),
    )


CURVATURE = {
    "z": "signs, −1 or 1 with equal probability, drawn by seed, step and parameter",
    "Hz": "product of the Hessian of the mini-batch loss at θ, without weight decay, with z",
}
COST = (
    "A step with an estimate computes a product with the Hessian, which counts as a second "
    "gradient. Weight decay and clipping change the gradient only. z is drawn for all parameters "
    "of the rule together, once per step, also for the mean of several batches; parameters of "
    "other rules are held fixed."
)

ADAHESSIAN = Rule(
    name="adahessian",
    title="AdaHessian",
    paper=(
        "Yao, Z., Gholami, A., Shen, S., Mustafa, M., Keutzer, K. and Mahoney, M. W. (2021). "
        "ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning. AAAI. "
        "arXiv:2006.00719, Algorithm 1."
    ),
    init=lambda param, **_: adam_start(param),
    update=adahessian,
    hyperparameters=(learning_rate(0.15), *BETAS, epsilon(1e-4), _every(1.0)),
    equations=equations_of(adahessian),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | CURVATURE
    | {
        "m": "running average of the gradient; starts at 0",
        "D": "magnitude of the estimate of curvature, averaged over the positions of a kernel",
        "v": "running average of D²; starts at 0",
        "n": "number of estimates so far",
    },
    state={
        "mean": "m, running average of the gradient",
        "square": "v, running average of the squared estimates of curvature",
    },
    direction="the running average of the gradient",
    scaling="divided by the root of the running average of squared estimates of curvature",
    bias_correction="both averages",
    epsilon="outside the root",
    conventions=(
        "Hessian power 1. The magnitudes of the estimates are averaged over the places of each "
        "kernel of a convolution in two or three dimensions, as in the authors' code; the paper "
        "averages the estimates themselves. Matrices and vectors are not averaged; lr, eps and "
        "decoupled weight decay, which the authors call L2, are those of their code for images "
        "(amirgholami/adahessian, image_classification). Their instructions for other models also "
        "average the estimates over the columns of a matrix. With every above 1, v stays until the "
        f"next estimate, and its correction counts estimates. {COST}"
    ),
    contrasts={
        "adam": (
            "Adam divides by the root of averaged squared gradients, which shrink as the gradients "
            "do. AdaHessian divides by an estimate of the curvature, which does not, so that its "
            "steps shrink with the gradient, as those of Newton's method."
        ),
    },
    default_decay="decoupled",
    needs=("axes", "curvature"),
    capturable=False,
)

SOPHIA_H = Rule(
    name="sophia_h",
    title="Sophia-H",
    paper=(
        "Liu, H., Li, Z., Hall, D., Liang, P. and Ma, T. (2024). Sophia: A Scalable Stochastic "
        "Second-order Optimizer for Language Model Pre-training. ICLR. arXiv:2305.14342, "
        "Algorithms 1 and 3."
    ),
    init=sophia_start,
    update=sophia_h,
    hyperparameters=(
        learning_rate(1e-3),
        average_decay("beta1", 0.96, "decay rate of the average of gradients", "β₁"),
        average_decay("beta2", 0.99, "decay rate of the average of estimates", "β₂"),
        Hyperparameter(
            name="gamma",
            default=0.01,
            meaning="factor on the averaged estimates: more coordinates are clipped if it is small",
            symbol="γ",
            letters=("ρ",),
            low_open=True,
            scale="log",
            aliases=("rho", "p"),
        ),
        epsilon(1e-12),
        _every(10.0),
    ),
    equations=equations_of(sophia_h),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | CURVATURE
    | {
        "m": "running average of the gradient; starts at 0",
        "h": "running average of estimates of the diagonal of the Hessian; starts at 0",
        "r": "ratio of gradient and curvature, clipped to −1 and 1",
    },
    state={
        "mean": "m, running average of the gradient",
        "diagonal": "h, running average of the estimates of curvature",
    },
    direction="the running average of the gradient",
    step_scale="the learning rate alone",
    scaling=(
        "divided by an average of estimates of curvature, at most lr in each coordinate; a "
        "coordinate of negative curvature takes a step of lr along the sign"
    ),
    epsilon="least divisor",
    conventions=(
        "As in the paper, without bias correction, but z is drawn from −1 and 1, where the paper "
        "draws normal numbers: the expectation is the same, the variance smaller. Most coordinates "
        "are clipped at first, because h starts at 0. Defaults are those of the authors' code in "
        "JAX (stanford-crfm/levanter), except lr; this code corrects m for its bias, and an "
        "estimate counts from the next step on. pytorch_optimizer's `p` is gamma here, its lr is "
        f"lr / gamma, and its eps is eps / gamma. {COST}"
    ),
    contrasts={
        "adahessian": (
            "AdaHessian averages squared estimates and divides by their root, at every step. "
            "Sophia averages the estimates themselves, every ten steps, and clips the step, which "
            "limits the harm of a wrong or negative estimate."
        ),
    },
    default_weight_decay=0.1,
    default_decay="decoupled",
    needs=("curvature",),
    capturable=False,
)
