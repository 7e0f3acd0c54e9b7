"""AdaMax, NAdam and RAdam: Adam with another norm, Nesterov momentum, or a rectified step."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import (
    ADAM,
    BETAS,
    BOTH_DECAYS,
    AdamState,
    adam_keywords,
    adam_start,
    bias_correction,
)
from optrial.rules.arrays import (
    Array,
    Scalar,
    average,
    in_float64,
    in_precision_of,
    namespace,
    zeros_like,
)
from optrial.rules.hyperparameters import epsilon, learning_rate
from optrial.rules.rule import Hyperparameter, Keywords, TorchOptim, equations_of

__all__ = ["ADAMAX", "NADAM", "RADAM", "AdamaxState", "NadamState"]


class AdamaxState(NamedTuple):
    """State of AdaMax for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    norm: Array  # (runs, *shape), decaying maximum of its magnitude


def adamax_start(param: Array, **_: object) -> AdamaxState:
    """Return an average and a maximum of zero."""
    return AdamaxState(mean=zeros_like(param), norm=zeros_like(param))


def adamax(
    grad: Array,
    state: AdamaxState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamaxState]:
    """One step of AdaMax: Kingma & Ba 2015, Algorithm 2.

        m ← beta1·m + (1 − beta1)·g
        n ← max(beta2·n, |g| + eps)
        θ ← θ − lr · (m / (1 − beta1^t)) / n

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. eps is inside the maximum, as in torch.optim.
    """
    xp = namespace(grad)
    mean = average(beta1, state.mean, grad)
    norm = xp.maximum(beta2 * state.norm, xp.abs(grad) + eps)
    return -lr * (mean / bias_correction(beta1, step, grad)) / norm, AdamaxState(mean, norm)


class NadamState(NamedTuple):
    """State of NAdam for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array  # (runs, *shape), running average of its square
    product: Array  # () or (runs, 1, ..., 1), product of the momenta of all steps so far


def nadam_start(param: Array, *, beta1: Scalar, momentum_decay: Scalar, **_: object) -> NadamState:
    """Return averages of zero and a product of one, which has the shape of the momentum."""
    xp = namespace(param)
    one = xp.ones((), dtype=param.dtype, device=param.device)
    return NadamState(*adam_start(param), product=one + 0 * (beta1 + momentum_decay))


def nadam(
    grad: Array,
    state: NadamState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    momentum_decay: Scalar,
    eps: Scalar,
) -> tuple[Array, NadamState]:
    """One step of NAdam: Dozat 2016, Algorithm 2, with momentum warm-up.

        μ ← beta1·(1 − 0.96^(t·momentum_decay) / 2)
        ν ← beta1·(1 − 0.96^((t + 1)·momentum_decay) / 2)
        p ← μ·p
        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·g²
        d ← (1 − μ)·g / (1 − p) + ν·m / (1 − ν·p)
        θ ← θ − lr · d / (√(v / (1 − beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. As in torch.optim, m decays by beta1, not by μ.
    """
    momentum, next_momentum = (
        beta1 * (1 - 0.5 * 0.96 ** (time * momentum_decay)) for time in (step, step + 1)
    )
    product = state.product * momentum
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    ahead = (1 - momentum) / (1 - product) * grad
    ahead = ahead + next_momentum / (1 - product * next_momentum) * mean
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    return -lr * ahead / (root + eps), NadamState(mean, square, product)


def radam(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamState]:
    """One step of RAdam: Liu et al. 2020, Algorithm 2.

        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·g²
        k ← 2 / (1 − beta2) − 1
        l ← k − 2·t·beta2^t / (1 − beta2^t)
        c ← √((l − 4)·(l − 2)·k / ((k − 4)·(k − 2)·l))
        θ ← θ − lr · (m / (1 − beta1^t)) · c · √(1 − beta2^t) / (√v + eps)    if l > 5
        θ ← θ − lr · m / (1 − beta1^t)                                        otherwise

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. eps is added to the uncorrected root, as in torch.optim.
    """
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    reliable, factor = rectification(beta2, step, grad)
    scale = factor / (namespace(grad).sqrt(square) + eps) + (1 - reliable)
    return -lr * (mean / bias_correction(beta1, step, grad)) * scale, AdamState(mean, square)


def rectification(beta2: Scalar, step: Scalar, grad: Array) -> tuple[Scalar, Scalar]:
    """Return whether RAdam uses the root, as 1 or 0, and c·√(1 − beta2^t), or 0 if it does not.

    Computed in float64, because l is a small difference of large numbers, and without a branch,
    because in a stack it differs from run to run.
    """
    beta2, step = in_float64(beta2), in_float64(step)
    correction = 1 - beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / correction
    reliable = 1.0 * (length > 5)
    below = reliable * (longest - 4) * (longest - 2) * length + (1 - reliable)
    ratio = reliable * (length - 4) * (length - 2) * longest / below
    return in_precision_of(grad, reliable), in_precision_of(grad, (ratio * correction) ** 0.5)


def _nadam_keywords(*, momentum_decay: float, **hyperparameters: float) -> Keywords:
    return adam_keywords(**hyperparameters) | {"momentum_decay": momentum_decay}


ADAMAX = replace(
    ADAM,
    name="adamax",
    title="AdaMax",
    paper=(
        "Kingma, D. P. and Ba, J. (2015). Adam: A Method for Stochastic Optimization. ICLR. "
        "arXiv:1412.6980, Algorithm 2."
    ),
    init=adamax_start,
    update=adamax,
    hyperparameters=(learning_rate(0.002), *BETAS, epsilon(1e-8)),
    equations=equations_of(adamax),
    symbols={name: ADAM.symbols[name] for name in ("θ", "g", "t", "m")}
    | {"n": "decaying maximum of the gradient's magnitude; starts at 0"},
    state={
        "mean": "m, running average of the gradient",
        "norm": "n, decaying maximum of the gradient's magnitude",
    },
    scaling="divided by a decaying maximum of the gradient's magnitude",
    bias_correction="the average of the gradient only, divided by 1 − beta1^t",
    epsilon="added to |g|, inside the maximum",
    conventions=(
        "As torch.optim.Adamax: eps inside the maximum. The paper has no eps; Keras adds it to n "
        "in the division."
    ),
    contrasts={
        "adam": (
            "AdaMax divides by a decaying maximum of the gradient's magnitude, where Adam divides "
            "by the root of an average of squares. A maximum needs no bias correction, and steps "
            "stay within lr."
        )
    },
    coincides_with=(("adam", "beta2 is 0 in both"),),
    torch_optim=TorchOptim("Adamax", adam_keywords, {"l2": {}}),
)

NADAM = replace(
    ADAM,
    name="nadam",
    title="NAdam",
    paper=(
        "Dozat, T. (2016). Incorporating Nesterov Momentum into Adam. ICLR Workshop, Algorithm 2."
    ),
    init=nadam_start,
    update=nadam,
    hyperparameters=(
        learning_rate(0.002),
        *BETAS,
        Hyperparameter(
            name="momentum_decay",
            default=0.004,
            meaning="rate at which the momentum rises from about beta1 / 2 to beta1",
            symbol="ψ",
            scale="log",
            aliases=("schedule_decay", "psi"),
        ),
        epsilon(1e-8),
    ),
    equations=equations_of(nadam),
    symbols={
        **ADAM.symbols,
        "μ": "momentum of this step",
        "ν": "momentum of the next step",
        "p": "product of the momenta of all steps so far; starts at 1",
        "d": "direction: average and gradient, one step ahead",
    },
    reduced_state={"product": "p, product of the momenta, one number per run"},
    direction="the running average of the gradient, one momentum step ahead",
    bias_correction="both averages, the first by the product of its momenta",
    conventions=(
        "As torch.optim.NAdam: the momentum rises with the step, while m itself decays by the "
        "constant beta1. optax's nadam has a constant momentum."
    ),
    contrasts={
        "adam": (
            "NAdam takes its direction one momentum step ahead (Nesterov), so a change of slope "
            "takes effect one step earlier."
        )
    },
    generalises=(("sgd", "beta1 = 0 and eps → ∞ with lr = eps · (lr of sgd)"),),
    coincides_with=(("adam", "beta1 is 0 in both"),),
    torch_optim=TorchOptim("NAdam", _nadam_keywords, BOTH_DECAYS),
)

RADAM = replace(
    ADAM,
    name="radam",
    title="RAdam (rectified Adam)",
    paper=(
        "Liu, L., Jiang, H., He, P., Chen, W., Liu, X., Gao, J. and Han, J. (2020). On the "
        "Variance of the Adaptive Learning Rate and Beyond. ICLR. arXiv:1908.03265, Algorithm 2."
    ),
    update=radam,
    equations=equations_of(radam),
    symbols={
        **ADAM.symbols,
        "k": "length of the longest average, in steps",
        "l": "length of the average of squares so far, in steps",
        "c": "rectification: rises from near 0 to 1 as v becomes reliable",
    },
    scaling=(
        "one step size for every coordinate in the first steps, then divided by the root of the "
        "running average of squared gradients, and rectified"
    ),
    epsilon="outside the root, before bias correction",
    conventions=(
        "As torch.optim.RAdam: the root is used if l > 5 (in the paper l > 4), and eps is added to "
        "the uncorrected root. Until then the step is lr times the corrected average of the "
        "gradient itself, which is small at Adam's default lr."
    ),
    contrasts={
        "adam": (
            "In the first steps, an average of few squares is unreliable, and dividing by its root "
            "can make steps far too long. RAdam divides only once the average is long enough, and "
            "shortens these steps: a built-in warm-up."
        )
    },
    generalises=(("sgd", "beta1 = 0 and beta2 = 0"),),
    coincides_with=(),
    torch_optim=TorchOptim("RAdam", adam_keywords, BOTH_DECAYS),
)
