"""signSGD, Signum and Lion: sign steps, of the same size in every coordinate."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.gradient_descent import no_state
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    average_decay,
    learning_rate,
    momentum,
)
from optrial.rules.rule import NoState, Rule, equations_of

__all__ = ["LION", "SIGNSGD", "SIGNUM", "LionState"]

EVERY_COORDINATE = "every coordinate moves by lr, regardless of the size of its gradient"


def signsgd(grad: Array, state: NoState, _step: Scalar, *, lr: Scalar) -> tuple[Array, NoState]:
    """One step of signSGD: Bernstein et al. 2018, Algorithm 1.

        θ ← θ − lr·sign(g)

    grad is (runs, *shape); lr broadcasts over it. Returns the change to add to the parameter. The
    sign of 0 is 0.
    """
    return -lr * namespace(grad).sign(grad), state


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


def signum(
    grad: Array, state: LionState, _step: Scalar, *, lr: Scalar, momentum: Scalar
) -> tuple[Array, LionState]:
    """One step of Signum: Bernstein et al. 2018, Algorithm 2.

        m ← momentum·m + (1 − momentum)·g
        θ ← θ − lr·sign(m)

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. The sign of 0 is 0.
    """
    mean = average(momentum, state.mean, grad)
    return -lr * namespace(grad).sign(mean), LionState(mean)


SIGNSGD = Rule(
    name="signsgd",
    title="signSGD",
    paper=(
        "Bernstein, J., Wang, Y.-X., Azizzadenesheli, K. and Anandkumar, A. (2018). signSGD: "
        "Compressed Optimisation for Non-Convex Problems. ICML. arXiv:1802.04434, Algorithm 1."
    ),
    init=no_state,
    update=signsgd,
    hyperparameters=(learning_rate(1e-4),),
    equations=equations_of(signsgd),
    symbols=PARAMETER | GRADIENT,
    state={},
    direction="the sign of the gradient",
    step_scale="the learning rate alone",
    scaling=EVERY_COORDINATE,
    conventions="As in the paper, on one worker. The sign of 0 is 0.",
    contrasts={
        "sgd": (
            "SGD moves a coordinate in proportion to its gradient; signSGD moves all by lr. Steep "
            "coordinates no longer decide the rate, and small noisy ones move as far as the rest."
        )
    },
    coincides_with=(
        ("adam", "beta1, beta2 and eps are 0 in adam"),
        ("lion", "beta1 is 0 in lion"),
    ),
)

SIGNUM = Rule(
    name="signum",
    title="Signum",
    paper=(
        "Bernstein, J., Wang, Y.-X., Azizzadenesheli, K. and Anandkumar, A. (2018). signSGD: "
        "Compressed Optimisation for Non-Convex Problems. ICML. arXiv:1802.04434, Algorithm 2."
    ),
    init=lion_start,
    update=signum,
    hyperparameters=(
        learning_rate(1e-4),
        momentum(0.9, "decay rate of the gradient's average"),
    ),
    equations=equations_of(signum),
    symbols=PARAMETER | GRADIENT | {"m": "running average of the gradient; starts at 0"},
    state={"mean": "m, running average of the gradient"},
    direction="the sign of the running average of the gradient",
    step_scale="the learning rate alone",
    scaling=EVERY_COORDINATE,
    conventions=(
        "As in the paper, on one worker. Whether the velocity sums or averages gradients does not "
        "matter to its sign."
    ),
    contrasts={
        "lion": (
            "Both step along the sign of an average. Lion mixes the latest gradient into the step "
            "with a separate weight; Signum steps along the average itself."
        )
    },
    generalises=(("signsgd", "momentum = 0"),),
    coincides_with=(("lion", "beta1 and beta2 are momentum in lion"),),
)

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
    scaling=EVERY_COORDINATE,
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
