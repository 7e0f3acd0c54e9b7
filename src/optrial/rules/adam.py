"""Adam, AdamW and AMSGrad: running averages of the gradient and its square, corrected for bias."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from optrial.rules.arrays import Array, average, in_float64, in_precision_of, namespace, zeros_like
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    STEP,
    average_decay,
    epsilon,
    learning_rate,
)
from optrial.rules.rule import Rule, TorchOptim

__all__ = [
    "ADAM",
    "ADAMW",
    "AMSGRAD",
    "BETAS",
    "GRADIENT_AVERAGE",
    "AdamState",
    "AmsgradState",
    "adam_keywords",
    "adam_start",
    "bias_correction",
]


class AdamState(NamedTuple):
    """What Adam remembers of each parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array  # (runs, *shape), running average of its square


def adam_start(param: Array, **_: Any) -> AdamState:
    """Return averages of zero."""
    return AdamState(mean=zeros_like(param), square=zeros_like(param))


def adam(
    grad: Array, state: AdamState, step: Any, *, lr: Any, beta1: Any, beta2: Any, eps: Any
) -> tuple[Array, AdamState]:
    """One step of Adam: Kingma & Ba 2015, Algorithm 1.

    m <- beta1 m + (1 - beta1) g      v <- beta2 v + (1 - beta2) g^2
    change = -lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; each hyperparameter broadcasts over it.
    Returns the change to add to the parameter. eps is added to the corrected root, as in
    torch.optim and optax; Keras adds it to the uncorrected one.
    """
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    rate = lr / bias_correction(beta1, step, grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    change = -rate * mean / (root + eps)
    return change, AdamState(mean, square)


def bias_correction(beta: Any, step: Any, grad: Array) -> Any:
    """Return 1 - beta^t: what an average of t values lacks because it started at 0."""
    return in_precision_of(grad, 1 - in_float64(beta) ** in_float64(step))


class AmsgradState(NamedTuple):
    """What AMSGrad remembers of each parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array  # (runs, *shape), running average of its square
    largest: Array  # (runs, *shape), largest value `square` ever had


def amsgrad_start(param: Array, **_: Any) -> AmsgradState:
    """Return averages of zero."""
    return AmsgradState(*adam_start(param), largest=zeros_like(param))


def amsgrad(
    grad: Array, state: AmsgradState, step: Any, *, lr: Any, beta1: Any, beta2: Any, eps: Any
) -> tuple[Array, AmsgradState]:
    """One step of AMSGrad: Reddi, Kale & Kumar 2018, Algorithm 2, with Adam's bias correction.

    m <- beta1 m + (1 - beta1) g      v <- beta2 v + (1 - beta2) g^2      w <- max(w, v)
    change = -lr (m / (1 - beta1^t)) / (sqrt(w / (1 - beta2^t)) + eps)

    grad is (runs, *shape); step is t = 1, 2, ...; each hyperparameter broadcasts over it. Returns
    the change to add to the parameter. The maximum is of uncorrected averages, as in torch.optim;
    optax takes it of corrected ones.
    """
    xp = namespace(grad)
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    largest = xp.maximum(state.largest, square)
    rate = lr / bias_correction(beta1, step, grad)
    root = xp.sqrt(largest / bias_correction(beta2, step, grad))
    change = -rate * mean / (root + eps)
    return change, AmsgradState(mean, square, largest)


def adam_keywords(lr: float, beta1: float, beta2: float, eps: float) -> dict[str, Any]:
    """Return the arguments of `torch.optim.Adam` and its relatives."""
    return {"lr": lr, "betas": (beta1, beta2), "eps": eps}


def _amsgrad_keywords(**hyperparameters: float) -> dict[str, Any]:
    return adam_keywords(**hyperparameters) | {"amsgrad": True}


GRADIENT_AVERAGE = "the running average of the gradient"
BOTH_AVERAGES = "both averages, divided by 1 − beta^t"
ADAM_CONVENTIONS = (
    "The form of torch.optim.Adam and optax, and Algorithm 1 of the paper: eps is added to the "
    "root of the corrected average. Keras, and the faster variant in the paper's section 2, add "
    "it to the uncorrected root, which is the same as a larger eps in the first steps."
)
MOMENTUM_LIMIT = (
    "momentum",
    "eps → ∞ with lr = eps · (lr of momentum) · (1 − beta1^t) / (1 − beta1)",
)

BETAS = (
    average_decay("beta1", 0.9, "average of the gradient", ("betas", "beta_1", "b1")),
    average_decay("beta2", 0.999, "average of its square", ("betas", "beta_2", "b2")),
)

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
    equations=(
        "m ← beta1·m + (1 − beta1)·g",
        "v ← beta2·v + (1 − beta2)·g²",
        "θ ← θ − lr · (m / (1 − beta1^t)) / (√(v / (1 − beta2^t)) + eps)",
    ),
    equations_latex=(
        r"m &\leftarrow \beta_1 m + (1 - \beta_1) g \\"
        "\n"
        r"v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta\,"
        r"\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \varepsilon}"
    ),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | {
        "m": "running average of the gradient; starts at 0",
        "v": "running average of the squared gradient; starts at 0",
    },
    state={
        "mean": "m, running average of the gradient",
        "square": "v, running average of the squared gradient",
    },
    direction=GRADIENT_AVERAGE,
    scaling="divided by the root of the running average of squared gradients",
    bias_correction=BOTH_AVERAGES,
    epsilon="outside the root, after bias correction",
    conventions=ADAM_CONVENTIONS,
    generalises=(
        MOMENTUM_LIMIT,
        ("sgd", "beta1 = 0 and eps → ∞ with lr = eps · (lr of sgd)"),
    ),
    coincides_with=(
        (
            "rmsprop",
            "beta1 = 0, beta2 = rho, rmsprop has no momentum and is not centered, and beta2^t has "
            "died away",
        ),
    ),
    torch_optim=TorchOptim(
        "Adam",
        adam_keywords,
        {"l2": {}, "decoupled": {"decoupled_weight_decay": True}},
    ),
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
        "θ": "the parameter; first multiplied by 1 − lr·weight_decay",
        "g": "gradient of the mini-batch's loss at θ, without weight decay",
    },
    conventions=(
        "Adam with decoupled weight decay by default: the parameter is multiplied by "
        "1 − lr·weight_decay, then takes Adam's step, as in torch.optim.AdamW. The paper "
        "multiplies weight_decay by the schedule alone, not by lr: its λ is our lr·weight_decay. "
        "eps is added to the root of the corrected average."
    ),
    generalises=(("adam", "weight_decay = 0, where adam has none either"), *ADAM.generalises),
    torch_optim=TorchOptim("AdamW", adam_keywords, {"decoupled": {}}),
    default_weight_decay=0.01,
    default_decay="decoupled",
)

AMSGRAD = Rule(
    name="amsgrad",
    title="AMSGrad",
    paper=(
        "Reddi, S. J., Kale, S. and Kumar, S. (2018). On the Convergence of Adam and Beyond. ICLR. "
        "arXiv:1904.09237, Algorithm 2."
    ),
    init=amsgrad_start,
    update=amsgrad,
    hyperparameters=ADAM.hyperparameters,
    equations=(
        "m ← beta1·m + (1 − beta1)·g",
        "v ← beta2·v + (1 − beta2)·g²",
        "w ← max(w, v)",
        "θ ← θ − lr · (m / (1 − beta1^t)) / (√(w / (1 − beta2^t)) + eps)",
    ),
    equations_latex=(
        r"m &\leftarrow \beta_1 m + (1 - \beta_1) g \\"
        "\n"
        r"v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\"
        "\n"
        r"w &\leftarrow \max(w, v) \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta\,"
        r"\frac{m / (1 - \beta_1^t)}{\sqrt{w / (1 - \beta_2^t)} + \varepsilon}"
    ),
    symbols={**ADAM.symbols, "w": "largest value that v ever had, coordinate by coordinate"},
    state={**ADAM.state, "largest": "w, largest v so far"},
    direction=GRADIENT_AVERAGE,
    scaling="divided by the root of the largest running average of squared gradients so far",
    bias_correction=BOTH_AVERAGES,
    epsilon="outside the root, after bias correction",
    conventions=(
        "The form of torch.optim.Adam(amsgrad=True): Adam's bias correction, which the paper "
        "leaves out, and a maximum over the uncorrected averages. optax takes the maximum over "
        "the corrected ones."
    ),
    generalises=ADAM.generalises,
    torch_optim=TorchOptim(
        "Adam", _amsgrad_keywords, {"l2": {}, "decoupled": {"decoupled_weight_decay": True}}
    ),
)
