"""Lion: steps of one size in every coordinate, along a sign."""

from __future__ import annotations

from typing import Any, NamedTuple

from optrial.rules.arrays import Array, average, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, average_decay, learning_rate
from optrial.rules.rule import Rule

__all__ = ["LION", "LionState"]


class LionState(NamedTuple):
    """What Lion remembers of each parameter."""

    mean: Array  # (runs, *shape), running average of the gradient


def lion_start(param: Array, **_: Any) -> LionState:
    """Return an average of zero."""
    return LionState(mean=zeros_like(param))


def lion(
    grad: Array, state: LionState, _step: Any, *, lr: Any, beta1: Any, beta2: Any
) -> tuple[Array, LionState]:
    """One step of Lion: Chen et al. 2023, Algorithm 2.

    change = -lr sign(beta1 m + (1 - beta1) g)      m <- beta2 m + (1 - beta2) g

    grad is (runs, *shape); each hyperparameter broadcasts over it. Returns the change to add to the
    parameter. Both lines use the old m; the sign of 0 is 0.
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
        average_decay("beta1", 0.9, "average within the sign", ("betas", "beta_1", "b1")),
        average_decay("beta2", 0.99, "average that is stored", ("betas", "beta_2", "b2")),
    ),
    equations=(
        "d ← sign(beta1·m + (1 − beta1)·g)",
        "m ← beta2·m + (1 − beta2)·g",
        "θ ← θ − lr·d",
    ),
    equations_latex=(
        r"d &\leftarrow \operatorname{sign}(\beta_1 m + (1 - \beta_1) g) \\"
        "\n"
        r"m &\leftarrow \beta_2 m + (1 - \beta_2) g \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta\, d"
    ),
    symbols=PARAMETER
    | GRADIENT
    | {
        "m": "running average of the gradient; starts at 0",
        "d": "direction: −1, 0 or 1 in each coordinate",
    },
    state={"mean": "m, running average of the gradient"},
    direction="the sign of the running average of the gradient, mixed with the gradient",
    scaling="every coordinate moves by lr, whatever the size of its gradient",
    conventions=(
        "The form of the paper. Its authors advise an lr 3 to 10 times smaller than Adam's, and a "
        "decoupled weight decay as many times larger; optrial's default is decoupled, of size 0."
    ),
    coincides_with=(
        ("adam", "beta1 is 0 in both, and beta2 and eps are 0 in adam"),
        ("rmsprop", "beta1 = 0, and rho, momentum and eps are 0 in rmsprop, which is not centered"),
    ),
    default_decay="decoupled",
)
