"""Signum: the sign of the running average of the gradient."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, average_decay, learning_rate
from optrial.rules.rule import Rule, equations_of

__all__ = ["SIGNUM"]


class SignumState(NamedTuple):
    """State of Signum for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient


def signum_start(param: Array, **_: object) -> SignumState:
    """Return an average of zero."""
    return SignumState(mean=zeros_like(param))


def signum(
    grad: Array, state: SignumState, _step: Scalar, *, lr: Scalar, beta: Scalar
) -> tuple[Array, SignumState]:
    """One step of Signum: Bernstein et al. 2018, Algorithm 2.

        m ← beta·m + (1 − beta)·g
        θ ← θ − lr·sign(m)

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. The sign of 0 is 0.
    """
    mean = average(beta, state.mean, grad)
    return -lr * namespace(grad).sign(mean), SignumState(mean)


SIGNUM = Rule(
    name="signum",
    title="Signum",
    paper=(
        "Bernstein, J., Wang, Y.-X., Azizzadenesheli, K. and Anandkumar, A. (2018). signSGD: "
        "Compressed Optimisation for Non-Convex Problems. ICML. arXiv:1802.04434, Algorithm 2."
    ),
    init=signum_start,
    update=signum,
    hyperparameters=(
        learning_rate(1e-4),
        average_decay("beta", 0.9, "decay rate of the gradient's average", "β"),
    ),
    equations=equations_of(signum),
    symbols=PARAMETER | GRADIENT | {"m": "running average of the gradient; starts at 0"},
    state={"mean": "m, running average of the gradient"},
    direction="the sign of the running average of the gradient",
    scaling="every coordinate moves by lr, regardless of the size of its gradient",
    conventions="As in the paper; weight decay is decoupled.",
    default_decay="decoupled",
)
