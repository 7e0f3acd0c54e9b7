"""QHM, AdEMAMix and Adan: steps along a mixture of the gradient and its averages."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import ADAM, BETAS, bias_correction
from optrial.rules.arrays import (
    Array,
    Scalar,
    average,
    in_float64,
    in_precision_of,
    is_array,
    namespace,
    zeros_like,
)
from optrial.rules.gradient_descent import ONE_STEP_SIZE
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    average_decay,
    epsilon,
    learning_rate,
    momentum,
)
from optrial.rules.rule import Hyperparameter, Rule, equations_of

__all__ = ["ADAN", "ADEMAMIX", "QHM", "AdanState", "AdemamixState", "QhmState"]

LEAST_BETA = 1e-8
"""A smaller decay rate counts as this one where its logarithm is taken."""


class QhmState(NamedTuple):
    """State of QHM for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient


def qhm_start(param: Array, **_: object) -> QhmState:
    """Return an average of zero."""
    return QhmState(mean=zeros_like(param))


def qhm(
    grad: Array, state: QhmState, _step: Scalar, *, lr: Scalar, momentum: Scalar, nu: Scalar
) -> tuple[Array, QhmState]:
    """One step of quasi-hyperbolic momentum: Ma & Yarats 2019, equations 3 and 4.

        m ← momentum·m + (1 − momentum)·g
        θ ← θ − lr·((1 − nu)·g + nu·m)

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter.
    """
    mean = average(momentum, state.mean, grad)
    return -lr * average(1 - nu, grad, mean), QhmState(mean)


class AdemamixState(NamedTuple):
    """State of AdEMAMix for one parameter."""

    mean: Array  # (runs, *shape), fast running average of the gradient
    slow: Array  # (runs, *shape), slow running average of the gradient
    square: Array  # (runs, *shape), running average of its square


def ademamix_start(param: Array, **_: object) -> AdemamixState:
    """Return averages of zero."""
    return AdemamixState(*(zeros_like(param) for _ in range(3)))


def ademamix(
    grad: Array,
    state: AdemamixState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    beta3: Scalar,
    alpha: Scalar,
    warmup: Scalar,
    eps: Scalar,
) -> tuple[Array, AdemamixState]:
    """One step of AdEMAMix: Pagliardini, Ablin & Grangier 2024, Algorithm 1.

        c ← min(1, t / warmup)                       if warmup > 0, otherwise c ← 1
        b ← exp(1 / ((1 − c) / log(beta1) + c / log(beta3)))
        m ← beta1·m + (1 − beta1)·g
        s ← b·s + (1 − b)·g
        v ← beta2·v + (1 − beta2)·g²
        θ ← θ − lr · (m / (1 − beta1^t) + c·alpha·s) / (√(v / (1 − beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. The slow average is not corrected for its start.
    """
    share, slow_decay = _warmed_up(step, beta1, beta3, warmup)
    mean = average(beta1, state.mean, grad)
    slow = average(in_precision_of(grad, slow_decay), state.slow, grad)
    square = average(beta2, state.square, grad * grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    direction = mean / bias_correction(beta1, step, grad)
    direction = direction + alpha * in_precision_of(grad, share) * slow
    return -lr * direction / (root + eps), AdemamixState(mean, slow, square)


def _warmed_up(step: Scalar, beta1: Scalar, beta3: Scalar, warmup: Scalar) -> tuple[Scalar, Scalar]:
    """Return c, which rises to 1, and b, whose half-life rises in proportion, in float64."""
    step, warmup = in_float64(step), in_float64(warmup)
    warm = 1.0 * (warmup > step)
    share = warm * step / (warm * warmup + (1 - warm)) + (1 - warm)
    fast, slow = _log(in_float64(beta1)), _log(in_float64(beta3))
    return share, math.e ** (1 / ((1 - share) / fast + share / slow))


def _log(beta: Scalar) -> Scalar:
    if not is_array(beta):
        return math.log(max(beta, LEAST_BETA))
    return namespace(beta).log(namespace(beta).clip(beta, LEAST_BETA, None))


class AdanState(NamedTuple):
    """State of Adan for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    difference: Array  # (runs, *shape), running average of its change from step to step
    square: Array  # (runs, *shape), running average of the square of the gradient ahead
    previous: Array  # (runs, *shape), gradient of the step before


def adan_start(param: Array, **_: object) -> AdanState:
    """Return averages of zero."""
    return AdanState(*(zeros_like(param) for _ in range(4)))


def adan(
    grad: Array,
    state: AdanState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    beta3: Scalar,
    eps: Scalar,
) -> tuple[Array, AdanState]:
    """One step of Adan: Xie et al. 2022, Algorithm 1, with bias correction.

        d ← g − h                                    if t > 1, otherwise d ← 0·g
        m ← beta1·m + (1 − beta1)·g
        u ← beta2·u + (1 − beta2)·d
        v ← beta3·v + (1 − beta3)·(g + beta2·d)²
        k ← m / (1 − beta1^t) + beta2·u / (1 − beta2^t)
        θ ← θ − lr·k / (√(v / (1 − beta3^t)) + eps)
        h ← g

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. Each beta is 1 minus the paper's, as in the authors' code.
    """
    later = in_precision_of(grad, 1.0 * (in_float64(step) > 1))
    change = later * (grad - state.previous)
    ahead = grad + beta2 * change
    mean = average(beta1, state.mean, grad)
    difference = average(beta2, state.difference, change)
    square = average(beta3, state.square, ahead * ahead)
    direction = mean / bias_correction(beta1, step, grad)
    direction = direction + beta2 / bias_correction(beta2, step, grad) * difference
    root = namespace(grad).sqrt(square / bias_correction(beta3, step, grad))
    return -lr * direction / (root + eps), AdanState(mean, difference, square, grad)


QHM = Rule(
    name="qhm",
    title="Quasi-hyperbolic momentum",
    paper=(
        "Ma, J. and Yarats, D. (2019). Quasi-hyperbolic momentum and Adam for deep learning. ICLR. "
        "arXiv:1810.06801, equations 3 and 4."
    ),
    init=qhm_start,
    update=qhm,
    hyperparameters=(
        learning_rate(0.1),
        momentum(0.999, "decay rate of the gradient's average"),
        Hyperparameter(
            name="nu",
            default=0.7,
            meaning="weight of the average against the gradient in the step",
            symbol="ν",
            high=1.0,
            aliases=("nus",),
        ),
    ),
    equations=equations_of(qhm),
    symbols=PARAMETER | GRADIENT | {"m": "running average of the gradient; starts at 0"},
    state={"mean": "m, running average of the gradient"},
    direction="the gradient, mixed with its running average",
    step_scale="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "As in the paper. The velocity is an average, not a sum, so the same movement needs an lr "
        "1 / (1 − momentum) times that of momentum. nu = 0.7 and momentum = 0.999 are the "
        "authors' rule of thumb."
    ),
    contrasts={
        "momentum": (
            "Momentum steps along the velocity alone. QHM adds in the latest gradient, so an "
            "average over a thousand steps can be used without waiting a thousand steps for it."
        )
    },
    generalises=(
        ("sgd", "nu = 0"),
        ("momentum", "nu = 1 with lr = (lr of momentum) / (1 − momentum)"),
        ("nesterov", "nu = momentum with lr = (lr of nesterov) / (1 − momentum)"),
    ),
)

BETA3 = average_decay(
    "beta3", 0.9999, "decay rate of the slow average of the gradient", "β₃", "betas", "b3"
)

ADEMAMIX = replace(
    ADAM,
    name="ademamix",
    title="AdEMAMix",
    paper=(
        "Pagliardini, M., Ablin, P. and Grangier, D. (2024). The AdEMAMix Optimizer: Better, "
        "Faster, Older. ICLR 2025. arXiv:2409.03137, Algorithm 1."
    ),
    init=ademamix_start,
    update=ademamix,
    hyperparameters=(
        learning_rate(0.001),
        *BETAS,
        BETA3,
        Hyperparameter(
            name="alpha",
            default=5.0,
            meaning="weight of the slow average",
            symbol="α",
        ),
        Hyperparameter(
            name="warmup",
            default=0.0,
            meaning="steps over which alpha and the slow average's half-life rise; 0 for none",
            symbol="T",
            aliases=("T_alpha_beta3", "t_alpha_beta3", "alpha_warmup", "beta3_warmup"),
        ),
        epsilon(1e-8),
    ),
    equations=equations_of(ademamix),
    symbols={
        **ADAM.symbols,
        "c": "share of the warm-up that has passed",
        "b": "decay rate of the slow average at this step",
        "s": "slow running average of the gradient; starts at 0",
    },
    state={
        "mean": "m, fast running average of the gradient",
        "slow": "s, slow running average of the gradient",
        "square": "v, running average of the squared gradient",
    },
    direction="a fast and a slow running average of the gradient",
    bias_correction="the fast average and the squares, divided by 1 − beta^t; not the slow average",
    conventions=(
        "As Algorithm 1 of the paper. One warmup serves alpha and beta3, as the authors recommend: "
        "as many steps as the training has. Without it, training is often unstable at first. A "
        "beta below 1e-8 counts as 1e-8 in the logarithm. The authors' code (apple/ml-ademamix) "
        "adds 1e-8 to both betas there, which lengthens the half-life of 0.9999 during the warm-up "
        "by a factor of 1 + 1e-4. Its alpha is 2 by default and 8 in its example."
    ),
    contrasts={
        "adam": (
            "Adam forgets a gradient within about ten steps. AdEMAMix keeps a second average that "
            "remembers about ten thousand, and adds it to the first one."
        )
    },
    generalises=(("adam", "alpha = 0"),),
    coincides_with=(),
    torch_optim=None,
    default_decay="decoupled",
)

ADAN = replace(
    ADAM,
    name="adan",
    title="Adan",
    paper=(
        "Xie, X., Zhou, P., Li, H., Lin, Z. and Yan, S. (2022). Adan: Adaptive Nesterov Momentum "
        "Algorithm for Faster Optimizing Deep Models. arXiv:2208.06677, Algorithm 1."
    ),
    init=adan_start,
    update=adan,
    hyperparameters=(
        learning_rate(0.001),
        replace(BETAS[0], default=0.98),
        average_decay(
            *("beta2", 0.92, "decay rate of the average change of the gradient", "β₂"),
            *("betas", "beta_2", "b2"),
        ),
        average_decay(
            "beta3", 0.99, "decay rate of the second-moment average", "β₃", "betas", "beta_3", "b3"
        ),
        epsilon(1e-8),
    ),
    equations=equations_of(adan),
    symbols={
        **{name: ADAM.symbols[name] for name in ("θ", "g", "t", "m")},
        "h": "gradient of the step before",
        "d": "change of the gradient since the step before",
        "u": "running average of that change; starts at 0",
        "v": "running average of the square of the gradient ahead; starts at 0",
        "k": "direction of the step",
    },
    state={
        "mean": "m, running average of the gradient",
        "difference": "u, running average of its change",
        "square": "v, running average of the square of the gradient ahead",
        "previous": "h, gradient of the step before",
    },
    direction="the running average of the gradient, plus that of its change",
    scaling="divided by the root of the running average of squares of the gradient ahead",
    bias_correction="all three averages, divided by 1 − beta^t",
    conventions=(
        "As the authors' code (sail-sg/Adan) with no_prox, and with its defaults: bias correction, "
        "which Algorithm 1 omits, a change of "
        "0 in the first step, and decoupled weight decay before the step. By default their code "
        "divides by 1 + lr·weight_decay after the step."
    ),
    contrasts={
        "nadam": (
            "Both look ahead as Nesterov does. NAdam takes the average one step further; Adan "
            "adds the average change of the gradient, which estimates the gradient ahead."
        )
    },
    generalises=(),
    coincides_with=(),
    torch_optim=None,
    default_decay="decoupled",
)
