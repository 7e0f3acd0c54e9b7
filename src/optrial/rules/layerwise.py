"""LARS and LAMB: steps in proportion to the size of each layer's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optrial.rules.adam import ADAM, BETAS, AdamState, adam_start, bias_correction
from optrial.rules.arrays import Array, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import PARAMETER, epsilon, learning_rate, momentum
from optrial.rules.rule import Hyperparameter, Rule

__all__ = ["LAMB", "LARS", "LarsState", "trust_ratio"]


class LarsState(NamedTuple):
    """What LARS remembers of each parameter."""

    velocity: Array  # (runs, *shape), decaying sum of the steps, lr included


def lars_start(param: Array, **_: Any) -> LarsState:
    """Return a velocity of zero."""
    return LarsState(velocity=zeros_like(param))


def lars(
    grad: Array,
    state: LarsState,
    _step: Any,
    *,
    param: Array,
    axes: Sequence[int],
    weight_decay: Any,
    lr: Any,
    momentum: Any,
    trust_coefficient: Any,
) -> tuple[Array, LarsState]:
    """One step of LARS: You, Gitman & Ginsburg 2017, Algorithm 1.

    rate = trust_coefficient |w| / (|g| + weight_decay |w|)
    u <- momentum u + lr rate (g + weight_decay w)      change = -u

    grad and param are (runs, *shape), one layer's weights w or biases; norms are over `axes`, the
    axes of one run; each hyperparameter broadcasts over them. Returns the change to add to the
    parameter. As in the paper lr is inside the velocity; rate is 1 where w is 0.
    """
    size = norm(param, axes)
    rate = trust_ratio(trust_coefficient * size, norm(grad, axes) + weight_decay * size)
    velocity = momentum * state.velocity + lr * rate * (grad + weight_decay * param)
    return -velocity, LarsState(velocity)


def lamb(
    grad: Array,
    state: AdamState,
    step: Any,
    *,
    param: Array,
    axes: Sequence[int],
    weight_decay: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
) -> tuple[Array, AdamState]:
    """One step of LAMB: You et al. 2020, Algorithm 2, with the identity for phi.

    m <- beta1 m + (1 - beta1) g      v <- beta2 v + (1 - beta2) g^2
    d = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w
    change = -lr |w| / |d| d

    grad and param are (runs, *shape), one layer's weights w or biases; norms are over `axes`, the
    axes of one run; step is t = 1, 2, ...; each hyperparameter broadcasts over them. Returns the
    change to add to the parameter. The ratio |w| / |d| is 1 where w or d is 0.
    """
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    direction = mean / bias_correction(beta1, step, grad) / (root + eps) + weight_decay * param
    ratio = trust_ratio(norm(param, axes), norm(direction, axes))
    return -lr * ratio * direction, AdamState(mean, square)


def trust_ratio(weight_norm: Array, step_norm: Array) -> Array:
    """Return weight_norm / step_norm, or 1 where either is 0: biases that start at 0 must move."""
    where = namespace(step_norm).where
    both = (weight_norm > 0) & (step_norm > 0)
    return where(both, weight_norm / where(both, step_norm, 1.0), 1.0)


RAW_GRADIENT = {"g": "gradient of the mini-batch's loss at θ, without weight decay"}

LARS = Rule(
    name="lars",
    title="LARS (layer-wise adaptive rate scaling)",
    paper=(
        "You, Y., Gitman, I. and Ginsburg, B. (2017). Large Batch Training of Convolutional "
        "Networks. arXiv:1708.03888, Algorithm 1."
    ),
    init=lars_start,
    update=lars,
    hyperparameters=(
        learning_rate(1.0),
        momentum(0.9),
        Hyperparameter(
            name="trust_coefficient",
            default=0.001,
            meaning="by which share of its size a layer moves at lr = 1 and momentum = 0",
            low_open=True,
            scale="log",
            aliases=("trust_coeff", "eta"),
        ),
    ),
    equations=(
        "r ← trust_coefficient·‖θ‖ / (‖g‖ + weight_decay·‖θ‖)",
        "u ← momentum·u + lr·r·(g + weight_decay·θ)",
        "θ ← θ − u",
    ),
    equations_latex=(
        r"r &\leftarrow \frac{c\,\lVert\theta\rVert}{\lVert g\rVert + \lambda\lVert\theta\rVert} \\"
        "\n"
        r"u &\leftarrow \mu u + \eta\, r\, (g + \lambda\theta) \\"
        "\n"
        r"\theta &\leftarrow \theta - u"
    ),
    symbols=PARAMETER
    | RAW_GRADIENT
    | {
        "r": "local learning rate: one number for the whole of a layer's weights, or its biases",
        "u": "velocity, a decaying sum of the steps, lr included; starts at 0",
        "weight_decay": "coefficient of l2 weight decay",
    },
    state={"velocity": "u, decaying sum of the steps, lr included"},
    direction="a decaying sum of the scaled gradients",
    scaling="each layer's gradient is scaled to a share of the norm of its weights",
    conventions=(
        "Algorithm 1 of the paper for every weight and every bias: lr inside the velocity, l2 "
        "weight decay inside the norms. Where ‖θ‖ is 0, r is 1, as in most libraries; by the "
        "letter of the paper a bias that starts at 0 would stay there. Many libraries leave "
        "biases out of the scaling; many put lr outside the velocity, which is the same while lr "
        "is constant."
    ),
    needs=("param", "axes", "weight_decay"),
    own_decay="l2",
)

LAMB = Rule(
    name="lamb",
    title="LAMB (layer-wise adaptive moments)",
    paper=(
        "You, Y., Li, J., Reddi, S., Hseu, J., Kumar, S., Bhojanapalli, S., Song, X., Demmel, J., "
        "Keutzer, K. and Hsieh, C.-J. (2020). Large Batch Optimization for Deep Learning: "
        "Training BERT in 76 minutes. ICLR. arXiv:1904.00962, Algorithm 2."
    ),
    init=adam_start,
    update=lamb,
    hyperparameters=(learning_rate(0.001), *BETAS, epsilon(1e-6)),
    equations=(
        "m ← beta1·m + (1 − beta1)·g",
        "v ← beta2·v + (1 − beta2)·g²",
        "d ← (m / (1 − beta1^t)) / (√(v / (1 − beta2^t)) + eps) + weight_decay·θ",
        "θ ← θ − lr · ‖θ‖ / ‖d‖ · d",
    ),
    equations_latex=(
        r"m &\leftarrow \beta_1 m + (1 - \beta_1) g \\"
        "\n"
        r"v &\leftarrow \beta_2 v + (1 - \beta_2) g^2 \\"
        "\n"
        r"d &\leftarrow \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \varepsilon}"
        r" + \lambda\theta \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta\,\frac{\lVert\theta\rVert}{\lVert d\rVert}\, d"
    ),
    symbols={
        **ADAM.symbols,
        **RAW_GRADIENT,
        "d": "direction: the step of AdamW at lr = 1",
        "weight_decay": "coefficient of decoupled weight decay",
    },
    state=ADAM.state,
    direction=ADAM.direction,
    scaling=(
        "divided by the root of the running average of squared gradients; each layer's step is "
        "then scaled to lr times the norm of its weights"
    ),
    bias_correction=ADAM.bias_correction,
    epsilon=ADAM.epsilon,
    conventions=(
        "Algorithm 2 of the paper for every weight and every bias, with φ(z) = z and with its "
        "bias correction; decoupled weight decay is inside the norm ‖d‖, and is the default, of "
        "size 0. Where ‖θ‖ or ‖d‖ is 0 their ratio is 1, as in most libraries. Some clip the "
        "ratio, or the gradient before; neither is done here."
    ),
    default_decay="decoupled",
    needs=("param", "axes", "weight_decay"),
    own_decay="decoupled",
)
