"""Gradient descent, plain and with momentum: one step size for every coordinate."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, learning_rate, momentum
from optrial.rules.rule import Keywords, NoState, Rule, TorchOptim, equations_of

__all__ = ["MOMENTUM", "NESTEROV", "ONE_STEP_SIZE", "SGD", "MomentumState"]

ONE_STEP_SIZE = "one step size for every coordinate"


class MomentumState(NamedTuple):
    """State of momentum for one parameter."""

    velocity: Array  # (runs, *shape), decaying sum of the gradients


def no_state(_param: Array, **_: object) -> NoState:
    """Return the empty state."""
    return NoState()


def at_rest(param: Array, **_: object) -> MomentumState:
    """Return a velocity of zero."""
    return MomentumState(velocity=zeros_like(param))


def sgd(grad: Array, state: NoState, _step: Scalar, *, lr: Scalar) -> tuple[Array, NoState]:
    """One step of stochastic gradient descent: Robbins & Monro 1951.

        θ ← θ − lr·g

    grad is (runs, *shape); lr broadcasts over it. Returns the change to add to the parameter.
    """
    return -lr * grad, state


def heavy_ball(
    grad: Array, state: MomentumState, _step: Scalar, *, lr: Scalar, momentum: Scalar
) -> tuple[Array, MomentumState]:
    """One step of heavy-ball momentum: Polyak 1964.

        u ← momentum·u + g
        θ ← θ − lr·u

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter. lr multiplies the whole velocity, as in torch.optim; Polyak and Keras put it inside.
    """
    velocity = momentum * state.velocity + grad
    return -lr * velocity, MomentumState(velocity)


def nesterov(
    grad: Array, state: MomentumState, _step: Scalar, *, lr: Scalar, momentum: Scalar
) -> tuple[Array, MomentumState]:
    """One step of Nesterov momentum: Nesterov 1983, as in Sutskever et al. 2013 and torch.optim.

        u ← momentum·u + g
        θ ← θ − lr·(g + momentum·u)

    grad is (runs, *shape); hyperparameters broadcast over it. Returns the change to add to the
    parameter, which is the look-ahead point: grad is taken where Nesterov takes it.
    """
    velocity = momentum * state.velocity + grad
    return -lr * (grad + momentum * velocity), MomentumState(velocity)


def _sgd_keywords(lr: float, momentum: float = 0.0) -> Keywords:
    return {"lr": lr, "momentum": momentum}


def _nesterov_keywords(lr: float, momentum: float) -> Keywords:
    # torch refuses nesterov=True without momentum; both are plain gradient descent then.
    return {"lr": lr, "momentum": momentum, "nesterov": momentum > 0}


SGD = Rule(
    name="sgd",
    title="Stochastic gradient descent",
    paper=(
        "Robbins, H. and Monro, S. (1951). A Stochastic Approximation Method. "
        "Annals of Mathematical Statistics 22(3), 400-407."
    ),
    init=no_state,
    update=sgd,
    hyperparameters=(learning_rate(0.01),),
    equations=equations_of(sgd),
    symbols=PARAMETER | GRADIENT,
    state={},
    direction="the gradient",
    step_scale="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions="There is only one variant: torch.optim.SGD with momentum = 0.",
    torch_optim=TorchOptim("SGD", _sgd_keywords, {"l2": {}}),
)

MOMENTUM = Rule(
    name="momentum",
    title="Momentum (heavy ball)",
    paper=(
        "Polyak, B. T. (1964). Some methods of speeding up the convergence of iteration methods. "
        "USSR Computational Mathematics and Mathematical Physics 4(5), 1-17."
    ),
    init=at_rest,
    update=heavy_ball,
    hyperparameters=(learning_rate(0.01), momentum(0.9)),
    equations=equations_of(heavy_ball),
    symbols=PARAMETER | GRADIENT | {"u": "velocity, a decaying sum of the gradients; starts at 0"},
    state={"velocity": "u, decaying sum of the gradients"},
    direction="a decaying sum of the gradients (the velocity)",
    step_scale="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "As torch.optim.SGD without dampening: the velocity sums gradients, and lr multiplies the "
        "whole velocity. A constant gradient thus moves the parameter by lr / (1 − momentum) per "
        "step. Polyak, Keras and many textbooks put lr inside the velocity, which gives the same "
        "steps while lr is constant and others when a schedule changes it. Where the velocity is "
        "an average, (1 − momentum)·g is added and lr must be 1 / (1 − momentum) times larger."
    ),
    contrasts={
        "sgd": (
            "The velocity adds up past gradients. Where they agree, steps become up to 1 / (1 − "
            "momentum) times as long; where they alternate, they cancel. Momentum is therefore "
            "faster along valleys and steadier across them."
        )
    },
    generalises=(("sgd", "momentum = 0"),),
    torch_optim=TorchOptim("SGD", _sgd_keywords, {"l2": {}}),
)

NESTEROV = Rule(
    name="nesterov",
    title="Nesterov momentum",
    paper=(
        "Nesterov, Y. (1983). A method for solving the convex programming problem with convergence "
        "rate O(1/k^2). Soviet Mathematics Doklady 27(2), 372-376; in the form of Sutskever, I., "
        "Martens, J., Dahl, G. and Hinton, G. (2013). On the importance of initialization and "
        "momentum in deep learning. ICML."
    ),
    init=at_rest,
    update=nesterov,
    hyperparameters=MOMENTUM.hyperparameters,
    equations=equations_of(nesterov),
    symbols={
        **MOMENTUM.symbols,
        "θ": "the parameter: the look-ahead point, where the gradient is taken",
    },
    state=MOMENTUM.state,
    direction="a decaying sum of the gradients, one velocity step ahead",
    step_scale="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "As torch.optim.SGD(nesterov=True). The stored parameter is the look-ahead point at which "
        "the gradient is taken; Nesterov's own iterate is θ + lr·momentum·u. While lr is constant, "
        "this is the form of Sutskever et al. with renamed variables."
    ),
    contrasts={
        "momentum": (
            "Nesterov takes the gradient where the velocity is about to carry the parameter, not "
            "where the parameter is. A rising slope ahead thus slows the velocity one step "
            "earlier, before it overshoots."
        )
    },
    generalises=MOMENTUM.generalises,
    torch_optim=TorchOptim("SGD", _nesterov_keywords, {"l2": {}}),
)
