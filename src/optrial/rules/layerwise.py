"""LARS and LAMB: steps in proportion to the size of each layer's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from optrial.rules.adam import ADAM, BETAS, AdamState, adam_start, bias_correction
from optrial.rules.arrays import Array, Scalar, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import PARAMETER, RAW_GRADIENT, epsilon, learning_rate, momentum
from optrial.rules.rule import Hyperparameter, Rule, equations_of

__all__ = ["LAMB", "LARS", "LarsState", "trust_ratio"]


class LarsState(NamedTuple):
    """State of LARS for one parameter."""

    velocity: Array  # (runs, *shape), decaying sum of the steps, lr included


def lars_start(param: Array, **_: object) -> LarsState:
    """Return a velocity of zero."""
    return LarsState(velocity=zeros_like(param))


def lars(
    grad: Array,
    state: LarsState,
    _step: Scalar,
    *,
    param: Array,
    axes: Sequence[int],
    weight_decay: Scalar,
    lr: Scalar,
    momentum: Scalar,
    trust_coefficient: Scalar,
) -> tuple[Array, LarsState]:
    """One step of LARS: You, Gitman & Ginsburg 2017, Algorithm 1.

        r ← trust_coefficient·‖θ‖ / (‖g‖ + weight_decay·‖θ‖)
        u ← momentum·u + lr·r·(g + weight_decay·θ)
        θ ← θ − u

    grad and param are (runs, *shape), the weights or the biases of one layer; norms are over
    `axes`, the axes of one run; hyperparameters broadcast over grad. Returns the change to add to
    the parameter. As in the paper, lr is inside the velocity; r is 1 where θ is 0.
    """
    size = norm(param, axes)
    rate = trust_ratio(trust_coefficient * size, norm(grad, axes) + weight_decay * size)
    velocity = momentum * state.velocity + lr * rate * (grad + weight_decay * param)
    return -velocity, LarsState(velocity)


def lamb(
    grad: Array,
    state: AdamState,
    step: Scalar,
    *,
    param: Array,
    axes: Sequence[int],
    weight_decay: Scalar,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamState]:
    """One step of LAMB: You et al. 2020, Algorithm 2, with φ(z) = z.

        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·g²
        d ← (m / (1 − beta1^t)) / (√(v / (1 − beta2^t)) + eps) + weight_decay·θ
        θ ← θ − lr · ‖θ‖ / ‖d‖ · d

    grad and param are (runs, *shape), the weights or the biases of one layer; norms are over
    `axes`, the axes of one run; step is t = 1, 2, ...; hyperparameters broadcast over grad.
    Returns the change to add to the parameter. The ratio ‖θ‖ / ‖d‖ is 1 where θ or d is 0.
    """
    mean = average(beta1, state.mean, grad)
    square = average(beta2, state.square, grad * grad)
    root = namespace(grad).sqrt(square / bias_correction(beta2, step, grad))
    direction = mean / bias_correction(beta1, step, grad) / (root + eps) + weight_decay * param
    ratio = trust_ratio(norm(param, axes), norm(direction, axes))
    return -lr * ratio * direction, AdamState(mean, square)


def trust_ratio(weight_norm: Array, step_norm: Array) -> Array:
    """Return weight_norm / step_norm, or 1 where either is 0, so that zero biases can move."""
    where = namespace(step_norm).where
    both = (weight_norm > 0) & (step_norm > 0)
    return where(both, weight_norm / where(both, step_norm, 1.0), 1.0)


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
            meaning="relative change of a layer's weights per step at lr = 1 and momentum = 0",
            symbol="τ",
            low_open=True,
            scale="log",
            aliases=("trust_coeff", "eta"),
        ),
    ),
    equations=equations_of(lars),
    symbols=PARAMETER
    | RAW_GRADIENT
    | {
        "r": "local learning rate: one number for all weights of a layer, one for its biases",
        "u": "velocity, a decaying sum of the steps, lr included; starts at 0",
        "weight_decay": "coefficient of l2 weight decay",
    },
    state={"velocity": "u, decaying sum of the steps, lr included"},
    direction="a decaying sum of the scaled gradients",
    scaling="the gradient of each layer is scaled relative to the norm of its weights",
    conventions=(
        "Algorithm 1 of the paper, for weights and biases: lr inside the velocity, l2 weight decay "
        "inside the norms. Where ‖θ‖ is 0, r is 1, as in most libraries; taken literally, the "
        "paper never moves a bias that starts at 0. Many libraries do not scale biases; many put "
        "lr outside the velocity, which gives the same steps while lr is constant."
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
    equations=equations_of(lamb),
    symbols={
        **ADAM.symbols,
        **RAW_GRADIENT,
        "d": "direction: the step of AdamW at lr = 1",
        "weight_decay": "coefficient of decoupled weight decay",
    },
    state=ADAM.state,
    direction=ADAM.direction,
    scaling=(
        "divided by the root of the running average of squared gradients; then the step of each "
        "layer is scaled to lr times the norm of its weights"
    ),
    bias_correction=ADAM.bias_correction,
    epsilon=ADAM.epsilon,
    conventions=(
        "Algorithm 2 of the paper, for weights and biases, with φ(z) = z and bias correction. "
        "Weight decay is decoupled and inside the norm ‖d‖; its default is 0. Where ‖θ‖ or ‖d‖ is "
        "0, their ratio is 1, as in most libraries. Some clip the ratio, or the gradient first; "
        "neither is done here."
    ),
    default_decay="decoupled",
    needs=("param", "axes", "weight_decay"),
    own_decay="decoupled",
)
