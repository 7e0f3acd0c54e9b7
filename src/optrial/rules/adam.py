"""Adam, AdamW and AMSGrad: averages of the gradient and its square, corrected for bias."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from optrial.rules.arrays import (
    Array,
    Scalar,
    average,
    in_float64,
    in_precision_of,
    namespace,
    zeros_like,
)
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    RAW_GRADIENT,
    STEP,
    average_decay,
    epsilon,
    learning_rate,
)
from optrial.rules.rule import Keywords, Rule, TorchOptim, equations_of

__all__ = [
    "ADAM",
    "ADAMW",
    "AMSGRAD",
    "BETAS",
    "BOTH_DECAYS",
    "AdamState",
    "AmsgradState",
    "adam_keywords",
    "adam_start",
    "bias_correction",
]


class AdamState(NamedTuple):
    """State of Adam for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array  # (runs, *shape), running average of its square


def adam_start(param: Array, **_: object) -> AdamState:
    """Return averages of zero."""
    return AdamState(mean=zeros_like(param), square=zeros_like(param))


def adam(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamState]:
    """One step of Adam: Kingma & Ba 2015, Algorithm 1.

        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·g²
        θ ← θ − lr · (m / (1 − beta1^t)) / (√(v / (1 − beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. eps is added to the corrected root, as in torch.optim and
    optax; Keras adds it to the uncorrected one.
    """
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    rate = lr / bias_correction(beta1, step, grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    change = -rate * mean / (root + eps)
    return change, AdamState(mean, square)


def bias_correction(beta: Scalar, step: Scalar, grad: Array) -> Scalar:
    """Return 1 − beta^t, the divisor that corrects an average of t values for its start at 0."""
    return in_precision_of(grad, 1 - in_float64(beta) ** in_float64(step))


class AmsgradState(NamedTuple):
    """State of AMSGrad for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array  # (runs, *shape), running average of its square
    largest: Array  # (runs, *shape), largest `square` so far


def amsgrad_start(param: Array, **_: object) -> AmsgradState:
    """Return averages of zero."""
    return AmsgradState(*adam_start(param), largest=zeros_like(param))


def amsgrad(
    grad: Array,
    state: AmsgradState,
    step: Scalar,
    *,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AmsgradState]:
    """One step of AMSGrad: Reddi, Kale & Kumar 2018, Algorithm 2, with Adam's bias correction.

        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·g²
        w ← max(w, v)
        θ ← θ − lr · (m / (1 − beta1^t)) / (√(w / (1 − beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it. Returns the
    change to add to the parameter. The maximum is over uncorrected averages, as in torch.optim;
    optax takes it over corrected ones.
    """
    xp = namespace(grad)
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    largest = xp.maximum(state.largest, square)
    rate = lr / bias_correction(beta1, step, grad)
    root = xp.sqrt(largest / bias_correction(beta2, step, grad))
    change = -rate * mean / (root + eps)
    return change, AmsgradState(mean, square, largest)


def adam_keywords(lr: float, beta1: float, beta2: float, eps: float) -> Keywords:
    """Return the arguments of `torch.optim.Adam` and its relatives."""
    return {"lr": lr, "betas": (beta1, beta2), "eps": eps}


def _amsgrad_keywords(**hyperparameters: float) -> Keywords:
    return adam_keywords(**hyperparameters) | {"amsgrad": True}


BETAS = (
    average_decay(
        "beta1", 0.9, "decay rate of the first-moment average", "β₁", "betas", "beta_1", "b1"
    ),
    average_decay(
        "beta2", 0.999, "decay rate of the second-moment average", "β₂", "betas", "beta_2", "b2"
    ),
)
BOTH_DECAYS = {"l2": {}, "decoupled": {"decoupled_weight_decay": True}}
"""The kinds of weight decay of most Adam-like classes of `torch.optim`, with their arguments."""

ADAM = Rule(
    name="adam",
    title="Adam",
    paper=(
        "Kingma, D. P. and Ba, J. (2015). Adam: A Method for Stochastic Optimization. ICLR. "
        "arXiv:1412.6980, Algorithm 1."
    ),
    init=adam_start,
    update=adam,
    hyperparameters=(learning_rate(0.001), *BETAS, epsilon(1e-8)),
    equations=equations_of(adam),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | {
        "m": "running average of the gradient; starts at 0",
        "v": "running average of the squared gradient, often s or E[g²]; starts at 0",
    },
    state={
        "mean": "m, running average of the gradient",
        "square": "v, running average of the squared gradient",
    },
    direction="the running average of the gradient",
    step_scale="the learning rate alone",
    scaling="divided by the root of the running average of squared gradients",
    bias_correction="both averages, divided by 1 − beta^t",
    epsilon="outside the root, after bias correction",
    conventions=(
        "As torch.optim.Adam, optax and Algorithm 1 of the paper: eps is added to the root of the "
        "corrected average. Keras, and the faster variant in section 2 of the paper, add it to the "
        "uncorrected root, which amounts to a larger eps in the first steps."
    ),
    contrasts={
        "rmsprop": (
            "Both divide by the root of a running average of squared gradients. Adam differs in "
            "two ways: it steps along a running average of the gradient (momentum), not along the "
            "latest gradient; and it divides both averages by 1 − beta^t (bias correction), "
            "because an average that starts at 0 is too small at first. Without the correction, "
            "the first steps of rmsprop are up to 1 / √(1 − rho) times lr."
        ),
        "adadelta": (
            "Adam has a learning rate, averages the gradient and corrects both averages for their "
            "start at 0. Adadelta takes the latest gradient and replaces the learning rate by "
            "the root of the average of its squared steps."
        ),
        "adagrad": (
            "AdaGrad divides the latest gradient by the root of the sum of all squares, which only "
            "grows. Adam averages both the gradient and its square, so that old gradients are "
            "forgotten, and corrects both averages for their start at 0."
        ),
        "momentum": (
            "Both step along past gradients. Adam also divides by the root of their average "
            "square, so that every coordinate moves by about lr, however steep it is."
        ),
    },
    generalises=(
        ("momentum", "eps → ∞ with lr = eps · (lr of momentum) · (1 − beta1^t) / (1 − beta1)"),
        ("sgd", "beta1 = 0 and eps → ∞ with lr = eps · (lr of sgd)"),
    ),
    coincides_with=(
        (
            "rmsprop",
            "beta1 = 0, beta2 = rho, rmsprop has no momentum and is not centered, and beta2^t has "
            "vanished",
        ),
    ),
    torch_optim=TorchOptim("Adam", adam_keywords, BOTH_DECAYS),
)

ADAMW = replace(
    ADAM,
    name="adamw",
    title="AdamW",
    paper=(
        "Loshchilov, I. and Hutter, F. (2019). Decoupled Weight Decay Regularization. ICLR. "
        "arXiv:1711.05101, Algorithm 2."
    ),
    symbols={
        **ADAM.symbols,
        **RAW_GRADIENT,
        "θ": "the parameter; first multiplied by 1 − lr·weight_decay",
    },
    conventions=(
        "Adam with decoupled weight decay by default: the parameter is multiplied by "
        "1 − lr·weight_decay, then takes Adam's step, as in torch.optim.AdamW. The paper "
        "multiplies weight_decay by the schedule alone, not by lr: its λ is our lr·weight_decay. "
        "eps is added to the root of the corrected average."
    ),
    contrasts={
        "adam": (
            "Adam adds l2 decay to the gradient, where it is divided by the root as well: weights "
            "with large gradients decay less. AdamW shrinks every weight by the same factor."
        )
    },
    generalises=(("adam", "weight_decay = 0 in both"), *ADAM.generalises),
    torch_optim=TorchOptim("AdamW", adam_keywords, {"decoupled": {}}),
    default_weight_decay=0.01,
    default_decay="decoupled",
)

AMSGRAD = replace(
    ADAM,
    name="amsgrad",
    title="AMSGrad",
    paper=(
        "Reddi, S. J., Kale, S. and Kumar, S. (2018). On the Convergence of Adam and Beyond. ICLR. "
        "arXiv:1904.09237, Algorithm 2."
    ),
    init=amsgrad_start,
    update=amsgrad,
    equations=equations_of(amsgrad),
    symbols={**ADAM.symbols, "w": "largest v so far, coordinate by coordinate"},
    state={**ADAM.state, "largest": "w, largest v so far"},
    scaling="divided by the root of the largest running average of squared gradients so far",
    conventions=(
        "As torch.optim.Adam(amsgrad=True): with Adam's bias correction, which the paper omits, "
        "and a maximum over uncorrected averages. optax takes the maximum over corrected ones."
    ),
    contrasts={
        "adam": (
            "Adam's average of squares may fall again, and a step then grows, after which training "
            "can diverge. AMSGrad divides by the largest average so far."
        )
    },
    coincides_with=(),
    torch_optim=TorchOptim("Adam", _amsgrad_keywords, BOTH_DECAYS),
)
