"""Lion: sign steps, of the same size in every coordinate."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, average_decay, learning_rate
from optrial.rules.rule import Rule, equations_of

__all__ = ["LION", "LionState"]


class LionState(NamedTuple):
    """State of Lion for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient


def lion_start(param: Array, **_: object) -> LionState:
    """Return an average of zero."""
    return LionState(mean=zeros_like(param))


def lion(
    grad: Array, state: LionState, _step: Scalar, *, lr: Scalar, beta1: Scalar, beta2: Scalar
) -> tuple[Array, LionState]:
    """One step of Lion: Chen et al. 2023, Algorithm 2.

        d ← sign(beta1·m + (1 − beta1)·g)
        m ← beta2·m + (1 − beta2)·g
        θ ← θ − lr·d

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. The sign of 0 is 0.
    """
    direction = namespace(grad).sign(average(beta1, state.mean, grad))
    return -lr * direction, LionState(average(beta2, state.mean, grad))


LION = Rule(
    name="lion",
    title="Lion",
    paper=(
        "Chen, X., Liang, C., Huang, D., Real, E., Wang, K., Liu, Y., Pham, H., Dong, X., Luong, "
        "T., Hsieh, C.-J., Lu, Y. and Le, Q. V. (2023). Symbolic Discovery of Optimization "
        "Algorithms. NeurIPS. arXiv:2302.06675, Algorithm 2."
    ),
    init=lion_start,
    update=lion,
    hyperparameters=(
        learning_rate(1e-4),
        average_decay(
            *("beta1", 0.9, "weight of the average against the gradient in the step", "β₁"),
            *("betas", "beta_1", "b1"),
        ),
        average_decay(
            "beta2", 0.99, "decay rate of the gradient's average", "β₂", "betas", "beta_2", "b2"
        ),
    ),
    equations=equations_of(lion),
    symbols=PARAMETER
    | GRADIENT
    | {
        "m": "running average of the gradient; starts at 0",
        "d": "direction: −1, 0 or 1 in each coordinate",
    },
    state={"mean": "m, running average of the gradient"},
    direction="the sign of the running average of the gradient, mixed with the gradient",
    step_scale="the learning rate alone",
    scaling="every coordinate moves by lr, regardless of the size of its gradient",
    conventions=(
        "As in the paper. The authors recommend an lr 3 to 10 times smaller than Adam's, and a "
        "decoupled weight decay larger by the same factor. Weight decay is decoupled here too, but "
        "0 by default."
    ),
    coincides_with=(
        ("adam", "beta1 is 0 in both, and beta2 and eps are 0 in adam"),
        ("rmsprop", "beta1 = 0, and rho, momentum and eps are 0 in rmsprop, which is not centered"),
    ),
    default_decay="decoupled",
)
