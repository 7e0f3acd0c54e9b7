"""Gradient descent, plain and with momentum: one step size for every coordinate."""

from __future__ import annotations

from typing import Any, NamedTuple

from optrial.rules.arrays import Array, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, learning_rate, momentum
from optrial.rules.rule import NoState, Rule, TorchOptim

__all__ = ["MOMENTUM", "NESTEROV", "SGD", "MomentumState"]

ONE_STEP_SIZE = "one step size for every coordinate"
EQUALS_SGD = (("sgd", "momentum = 0"),)


class MomentumState(NamedTuple):
    """What momentum remembers of each parameter."""

    velocity: Array  # (runs, *shape), decaying sum of the gradients


def no_state(_param: Array, **_: Any) -> NoState:
    """Return the state of a rule that remembers nothing."""
    return NoState()


def at_rest(param: Array, **_: Any) -> MomentumState:
    """Return a velocity of zero."""
    return MomentumState(velocity=zeros_like(param))


def sgd(grad: Array, state: NoState, _step: Any, *, lr: Any) -> tuple[Array, NoState]:
    """One step of stochastic gradient descent: Robbins & Monro 1951.

    change = -lr g

    grad is (runs, *shape); lr broadcasts over it. Returns the change to add to the parameter.
    """
    return -lr * grad, state


def heavy_ball(
    grad: Array, state: MomentumState, _step: Any, *, lr: Any, momentum: Any
) -> tuple[Array, MomentumState]:
    """One step of heavy-ball momentum: Polyak 1964.

    u <- momentum u + g      change = -lr u

    grad is (runs, *shape); each hyperparameter broadcasts over it. Returns the change to add to the
    parameter. lr multiplies the whole velocity, as in torch.optim; Polyak and Keras put it inside.
    """
    velocity = momentum * state.velocity + grad
    return -lr * velocity, MomentumState(velocity)


def nesterov(
    grad: Array, state: MomentumState, _step: Any, *, lr: Any, momentum: Any
) -> tuple[Array, MomentumState]:
    """One step of Nesterov momentum: Nesterov 1983, as in Sutskever et al. 2013 and torch.optim.

    u <- momentum u + g      change = -lr (g + momentum u)

    grad is (runs, *shape); each hyperparameter broadcasts over it. Returns the change to add to the
    parameter, which is the look-ahead point, so that grad is taken where Nesterov takes it.
    """
    velocity = momentum * state.velocity + grad
    return -lr * (grad + momentum * velocity), MomentumState(velocity)


def _sgd_keywords(lr: float, momentum: float = 0.0) -> dict[str, Any]:
    return {"lr": lr, "momentum": momentum}


def _nesterov_keywords(lr: float, momentum: float) -> dict[str, Any]:
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
    equations=("θ ← θ − lr·g",),
    equations_latex=r"\theta &\leftarrow \theta - \eta\, g",
    symbols=PARAMETER | GRADIENT,
    state={},
    direction="the gradient",
    scaling=ONE_STEP_SIZE,
    conventions="There is only one form. In torch.optim it is SGD with momentum = 0.",
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
    equations=("u ← momentum·u + g", "θ ← θ − lr·u"),
    equations_latex=(
        r"u &\leftarrow \mu u + g \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta u"
    ),
    symbols=PARAMETER | GRADIENT | {"u": "velocity, a decaying sum of the gradients; starts at 0"},
    state={"velocity": "u, decaying sum of the gradients"},
    direction="a decaying sum of the gradients (the velocity)",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "The form of torch.optim.SGD without dampening: the velocity sums gradients and lr "
        "multiplies it all. A steady gradient thus moves the parameter by lr / (1 − momentum) a "
        "step. Polyak, Keras and many textbooks put lr inside the velocity, which is the same "
        "while lr is constant and differs when a schedule changes it. Where the velocity is an "
        "average, (1 − momentum)·g is added and lr must be 1 / (1 − momentum) times larger."
    ),
    generalises=EQUALS_SGD,
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
    hyperparameters=(learning_rate(0.01), momentum(0.9)),
    equations=("u ← momentum·u + g", "θ ← θ − lr·(g + momentum·u)"),
    equations_latex=(
        r"u &\leftarrow \mu u + g \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta\,(g + \mu u)"
    ),
    symbols=PARAMETER
    | GRADIENT
    | {
        "θ": "the parameter: the look-ahead point, where the gradient is taken",
        "u": "velocity, a decaying sum of the gradients; starts at 0",
    },
    state={"velocity": "u, decaying sum of the gradients"},
    direction="a decaying sum of the gradients, seen one velocity step ahead",
    scaling=ONE_STEP_SIZE,
    conventions=(
        "The form of torch.optim.SGD(nesterov=True). The stored parameter is the look-ahead point "
        "at which the gradient is taken; Nesterov's own iterate is θ + lr·momentum·u. While lr is "
        "constant this is the form of Sutskever et al. with the variables renamed."
    ),
    generalises=EQUALS_SGD,
    torch_optim=TorchOptim("SGD", _nesterov_keywords, {"l2": {}}),
)
