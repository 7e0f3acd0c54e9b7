"""Tiger: the sign of the running average of the gradient."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, average_decay, learning_rate
from optrial.rules.rule import Rule, equations_of

__all__ = ["TIGER"]


class TigerState(NamedTuple):
    """State of Tiger for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient


def tiger_start(param: Array, **_: object) -> TigerState:
    """Return an average of zero."""
    return TigerState(mean=zeros_like(param))


def tiger(
    grad: Array, state: TigerState, _step: Scalar, *, lr: Scalar, beta: Scalar
) -> tuple[Array, TigerState]:
    """One step of Tiger: Su 2023.

        m ← beta·m + (1 − beta)·g
        θ ← θ − lr·sign(m)

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. The sign of 0 is 0.
    """
    mean = average(beta, state.mean, grad)
    return -lr * namespace(grad).sign(mean), TigerState(mean)


TIGER = Rule(
    name="tiger",
    title="Tiger",
    paper=("Su, J. (2023). Tiger: A Tight-fisted Optimizer. github.com/bojone/tiger."),
    init=tiger_start,
    update=tiger,
    hyperparameters=(
        learning_rate(1e-4),
        average_decay("beta", 0.9, "decay rate of the gradient's average", "β"),
    ),
    equations=equations_of(tiger),
    symbols=PARAMETER | GRADIENT | {"m": "running average of the gradient; starts at 0"},
    state={"mean": "m, running average of the gradient"},
    direction="the sign of the running average of the gradient",
    scaling="every coordinate moves by lr, regardless of the size of its gradient",
    conventions="As in the paper; weight decay is decoupled.",
    default_decay="decoupled",
)
