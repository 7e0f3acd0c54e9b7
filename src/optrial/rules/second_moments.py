"""AdaBelief, Yogi, ADOPT and LaProp: Adam with another scale of the step."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import ADAM, BETAS, AdamState, adam_start, bias_correction
from optrial.rules.arrays import (
    Array,
    Scalar,
    as_array,
    average,
    in_float64,
    in_precision_of,
    namespace,
    zeros_like,
)
from optrial.rules.hyperparameters import average_decay, epsilon, learning_rate
from optrial.rules.rule import Hyperparameter, equations_of

__all__ = ["ADABELIEF", "ADOPT", "LAPROP", "YOGI", "BeliefState"]


class BeliefState(NamedTuple):
    """State of AdaBelief for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    variance: Array  # (runs, *shape), running average of its squared distance from `mean`


def adabelief_start(param: Array, **_: object) -> BeliefState:
    """Return averages of zero."""
    return BeliefState(*adam_start(param))


def adabelief(
    grad: Array,
    state: BeliefState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, BeliefState]:
    """One step of AdaBelief: Zhuang et al. 2020, Algorithm 2.

        m ← beta1·m + (1 − beta1)·g
        s ← beta2·s + (1 − beta2)·(g − m)² + eps
        θ ← θ − lr · (m / (1 − beta1^t)) / (√(s / (1 − beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. eps is added to s at every step, and so adds up in it.
    """
    mean = average(beta1, state.mean, grad)
    surprise = grad - mean
    variance = average(beta2, state.variance, surprise * surprise) + eps
    rate = lr / bias_correction(beta1, step, grad)
    root = namespace(grad).sqrt(variance / bias_correction(beta2, step, grad))
    return -rate * mean / (root + eps), BeliefState(mean, variance)


def yogi_start(param: Array, *, initial_accumulator: Scalar, **_: object) -> AdamState:
    """Return averages at `initial_accumulator`."""
    start = zeros_like(param) + initial_accumulator
    return AdamState(mean=start, square=start + zeros_like(param))


def yogi(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    initial_accumulator: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamState]:
    """One step of Yogi: Zaheer et al. 2018, Algorithm 2, with Adam's bias correction.

        m ← beta1·m + (1 − beta1)·g                  from m = initial_accumulator
        v ← v − (1 − beta2)·sign(v − g²)·g²          from v = initial_accumulator
        θ ← θ − lr · (m / (1 − beta1^t)) / (√(v / (1 − beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. The start and the corrections are those of its implementations.
    """
    del initial_accumulator  # part of the initial state
    xp = namespace(grad)
    mean, latest = average(beta1, state.mean, grad), grad * grad
    square = state.square - (1 - beta2) * xp.sign(state.square - latest) * latest
    rate = lr / bias_correction(beta1, step, grad)
    root = xp.sqrt(square / bias_correction(beta2, step, grad))
    return -rate * mean / (root + eps), AdamState(mean, square)


def adopt(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    clip: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamState]:
    """One step of ADOPT: Taniguchi et al. 2024, Algorithm 2; without `clip`, Algorithm 1.

        d ← g / max(√v, eps)
        d ← sign(d)·min(|d|, (t − 1)^0.25)           if clip
        m ← beta1·m + (1 − beta1)·d                  if t > 1
        θ ← θ − lr·m
        v ← beta2·v + (1 − beta2)·g²                 if t > 1, otherwise v ← g²

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it; `clip` is
    true or false, or 1 or 0 in an array. Returns the change to add to the parameter, which is 0 in
    the first step.
    """
    xp = namespace(grad)
    later = in_precision_of(grad, 1.0 * (in_float64(step) > 1))
    root = xp.maximum(xp.sqrt(state.square), as_array(eps, grad)) + (1 - later)
    direction = later * grad / root
    before = (in_float64(step) - 1) * (in_float64(step) > 1)  # a clock may begin at 0
    most = as_array(in_precision_of(grad, before**0.25), grad)
    clipped = xp.sign(direction) * xp.minimum(xp.abs(direction), most)
    mean = average(beta1, state.mean, clip * clipped + (1 - clip) * direction)
    square = average(later * beta2, state.square, grad * grad)
    return -lr * mean, AdamState(mean, square)


def laprop(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamState]:
    """One step of LaProp: Ziyin, Wang & Ueda 2020, Algorithm 1.

        v ← beta2·v + (1 − beta2)·g²
        m ← beta1·m + (1 − beta1) · g / (√(v / (1 − beta2^t)) + eps)
        θ ← θ − lr · m / (1 − beta1^t)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter.
    """
    square = average(beta2, state.square, grad * grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    mean = average(beta1, state.mean, grad / (root + eps))
    return -lr / bias_correction(beta1, step, grad) * mean, AdamState(mean, square)


ADABELIEF = replace(
    ADAM,
    name="adabelief",
    title="AdaBelief",
    paper=(
        "Zhuang, J., Tang, T., Ding, Y., Tatikonda, S., Dvornek, N., Papademetris, X. and Duncan, "
        "J. S. (2020). AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed "
        "Gradients. NeurIPS. arXiv:2010.07468, Algorithm 2."
    ),
    init=adabelief_start,
    update=adabelief,
    hyperparameters=(learning_rate(0.001), *BETAS, epsilon(1e-16)),
    equations=equations_of(adabelief),
    symbols={name: ADAM.symbols[name] for name in ("θ", "g", "t", "m")}
    | {"s": "running average of the squared distance of g from m; starts at 0"},
    state={
        "mean": "m, running average of the gradient",
        "variance": "s, running average of the gradient's squared distance from m",
    },
    scaling="divided by the root of the running variance of the gradient",
    epsilon="added to the variance at every step, and outside the root, after bias correction",
    conventions=(
        "As Algorithm 2 and the authors' package without rectification, which the package turns on "
        "by default. The distance is from the new average. optax adds eps_root inside the root in "
        "place of the eps that adds up."
    ),
    contrasts={
        "adam": (
            "Adam divides by the root of the average square of the gradient, AdaBelief by that of "
            "its variance. Where gradients are large but steady, AdaBelief takes large steps and "
            "Adam does not."
        )
    },
    generalises=(),
    coincides_with=(),
    torch_optim=None,
)

YOGI = replace(
    ADAM,
    name="yogi",
    title="Yogi",
    paper=(
        "Zaheer, M., Reddi, S. J., Sachan, D., Kale, S. and Kumar, S. (2018). Adaptive Methods for "
        "Nonconvex Optimization. NeurIPS, Algorithm 2."
    ),
    init=yogi_start,
    update=yogi,
    hyperparameters=(
        learning_rate(0.01),
        *BETAS,
        Hyperparameter(
            name="initial_accumulator",
            default=1e-6,
            meaning="value at which both averages start",
            symbol="a₀",
            scale="log",
            at_start=True,
            aliases=("initial_accumulator_value",),
        ),
        epsilon(1e-3),
    ),
    equations=equations_of(yogi),
    symbols={name: ADAM.symbols[name] for name in ("θ", "g", "t")}
    | {
        "m": "running average of the gradient",
        "v": "estimate of the squared gradient, which changes by at most (1 − beta2)·g² per step",
    },
    state={
        "mean": "m, running average of the gradient",
        "square": "v, estimate of the squared gradient",
    },
    scaling="divided by the root of an estimate of squared gradients that changes slowly",
    conventions=(
        "As in optax, TensorFlow Addons and pytorch_optimizer: both averages start at "
        "initial_accumulator, and both are corrected for their start. The paper starts both at 0, "
        "without correction. The defaults are the paper's: a large lr and eps."
    ),
    contrasts={
        "adam": (
            "Adam's average of squares moves towards g² by a share of the distance, so it drops "
            "fast when gradients become small, and steps grow. Yogi's moves by (1 − beta2)·g², "
            "whatever the distance."
        )
    },
    generalises=(),
    coincides_with=(),
    torch_optim=None,
)

ADOPT = replace(
    ADAM,
    name="adopt",
    title="ADOPT",
    paper=(
        "Taniguchi, S., Harada, K., Minegishi, G., Oshima, Y., Jeong, S. C., Nagahara, G., "
        "Iiyama, T., Suzuki, M., Iwasawa, Y. and Matsuo, Y. (2024). ADOPT: Modified Adam Can "
        "Converge with Any beta2 with the Optimal Rate. NeurIPS. arXiv:2411.02853, Algorithm 2."
    ),
    init=adam_start,
    update=adopt,
    hyperparameters=(
        learning_rate(0.001),
        BETAS[0],
        replace(BETAS[1], default=0.9999),
        Hyperparameter(
            name="clip",
            default=True,
            meaning="limit the scaled gradient to (t − 1)^0.25 in each coordinate",
            high=1.0,
            scale="switch",
            aliases=("clip_lambda",),
        ),
        epsilon(1e-6),
    ),
    equations=equations_of(adopt),
    symbols={
        **{name: ADAM.symbols[name] for name in ("θ", "g", "t")},
        "d": "gradient divided by the root of the average before this step",
        "m": "running average of the scaled gradient; starts at 0",
        "v": "running average of the squared gradient; its first value is g²",
    },
    state={
        "mean": "m, running average of the scaled gradient",
        "square": "v, running average of the squared gradient",
    },
    direction="the running average of the scaled gradient",
    scaling="each gradient is divided by the root of the squares before it, then averaged",
    bias_correction="none; the first step only measures the squared gradient",
    epsilon="lower bound on the root",
    conventions=(
        "As the authors' package with its default clipping. In the first step, only decoupled "
        "weight decay moves the parameters. pytorch_optimizer bounds each step by t^0.25, one step "
        "ahead."
    ),
    contrasts={
        "adam": (
            "Adam divides by an average that contains the present gradient, so the two are "
            "correlated, and for some beta2 Adam does not converge. ADOPT divides by the average "
            "of earlier squares, and divides before it averages, not after."
        )
    },
    generalises=(),
    coincides_with=(),
    torch_optim=None,
)

LAPROP = replace(
    ADAM,
    name="laprop",
    title="LaProp",
    paper=(
        "Ziyin, L., Wang, Z. T. and Ueda, M. (2020). LaProp: Separating Momentum and Adaptivity in "
        "Adam. arXiv:2002.04839, Algorithm 1."
    ),
    init=adam_start,
    update=laprop,
    hyperparameters=(
        learning_rate(4e-4),
        average_decay(
            "beta1", 0.9, "decay rate of the scaled gradient's average", "β₁", "betas", "mu"
        ),
        average_decay(
            "beta2", 0.999, "decay rate of the second-moment average", "β₂", "betas", "nu"
        ),
        epsilon(1e-15),
    ),
    equations=equations_of(laprop),
    symbols={
        **{name: ADAM.symbols[name] for name in ("θ", "g", "t")},
        "m": "running average of the scaled gradient; starts at 0",
        "v": "running average of the squared gradient; starts at 0",
    },
    state={
        "mean": "m, running average of the scaled gradient",
        "square": "v, running average of the squared gradient",
    },
    direction="the running average of the scaled gradient",
    scaling="each gradient is divided by the root of the running average of squares, then averaged",
    conventions=(
        "As Algorithm 1. The authors' code averages lr times the scaled gradient, which gives the "
        "same steps while lr is constant."
    ),
    contrasts={
        "adam": (
            "Adam averages gradients and divides the average; LaProp divides each gradient and "
            "averages the quotients. Old gradients thus keep the scale of the step at which they "
            "were taken, and beta1 and beta2 can be chosen independently."
        )
    },
    generalises=(),
    coincides_with=(("adam", "beta1 is 0 and eps is the same in both"),),
    torch_optim=None,
)
