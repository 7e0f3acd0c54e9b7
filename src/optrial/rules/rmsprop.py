"""RMSProp and RMSProp with Nesterov momentum: steps scaled by recent squared gradients."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, is_array, namespace, zeros_like
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    average_decay,
    epsilon,
    learning_rate,
    momentum,
)
from optrial.rules.rule import Hyperparameter, Keywords, Rule, TorchOptim, equations_of

__all__ = ["RMSPROP", "RMSPROP_NESTEROV", "RmspropNesterovState", "RmspropState"]

SQUARED_GRADIENT_ROOT = "divided by the root of the running average of squared gradients"


class RmspropState(NamedTuple):
    """State of RMSProp for one parameter; a field that no run needs is None."""

    square: Array  # (runs, *shape), running average of the squared gradient
    velocity: Array | None  # (runs, *shape), decaying sum of scaled gradients
    mean: Array | None  # (runs, *shape), running average of the gradient


def rmsprop_start(param: Array, *, momentum: Scalar, centered: Scalar, **_: object) -> RmspropState:
    """Return averages and a velocity of zero; None for those that no run needs."""
    return RmspropState(
        square=zeros_like(param),
        velocity=zeros_like(param) if _any_set(momentum) else None,
        mean=zeros_like(param) if _any_set(centered) else None,
    )


def rmsprop(
    grad: Array,
    state: RmspropState,
    _step: Scalar,
    *,
    lr: Scalar,
    rho: Scalar,
    momentum: Scalar,
    centered: Scalar,
    eps: Scalar,
) -> tuple[Array, RmspropState]:
    """One step of RMSProp: Tieleman & Hinton 2012, slide 29; centred: Graves 2013, equations 38-41.

        r ← rho·r + (1 − rho)·g²
        m ← rho·m + (1 − rho)·g    if centered, otherwise m = 0
        u ← momentum·u + g / (√(r − m²) + eps)
        θ ← θ − lr·u

    grad is (runs, *shape); hyperparameters broadcast over it; `centered` is true or false, or 1 or
    0 in an array. Returns the change to add to the parameter. eps is outside the root and lr
    outside the velocity, as in torch.optim; TensorFlow has eps inside.
    """
    xp = namespace(grad)
    square = average(rho, state.square, grad * grad)
    mean, variance = state.mean, square
    if mean is not None:
        mean = average(rho, mean, grad)
        # Rounding can make the variance slightly negative; torch.optim takes its root: NaN.
        variance = xp.maximum(square - centered * mean * mean, zeros_like(square))
    velocity = grad / (xp.sqrt(variance) + eps)
    if state.velocity is None:
        return -lr * velocity, RmspropState(square, None, mean)
    velocity = momentum * state.velocity + velocity
    return -lr * velocity, RmspropState(square, velocity, mean)


class RmspropNesterovState(NamedTuple):
    """State of RMSProp with Nesterov momentum for one parameter."""

    square: Array  # (runs, *shape), running average of the squared gradient
    velocity: Array  # (runs, *shape), decaying sum of the steps, lr included


def rmsprop_nesterov_start(param: Array, **_: object) -> RmspropNesterovState:
    """Return an average and a velocity of zero."""
    return RmspropNesterovState(square=zeros_like(param), velocity=zeros_like(param))


def rmsprop_nesterov(
    grad: Array,
    state: RmspropNesterovState,
    _step: Scalar,
    *,
    lr: Scalar,
    rho: Scalar,
    momentum: Scalar,
    eps: Scalar,
) -> tuple[Array, RmspropNesterovState]:
    """One step of RMSProp with Nesterov momentum: Goodfellow et al. 2016, Algorithm 8.6.

        r ← rho·r + (1 − rho)·g²
        u′ = momentum·u − lr·g / (√r + eps)
        θ ← θ + (1 + momentum)·u′ − momentum·u
        u ← u′

    grad is (runs, *shape), taken at the stored parameter, which is the book's interim point;
    hyperparameters broadcast over grad. Returns the change to add to the parameter. The book has
    no eps; here it is outside the root, and 0 gives the book's form.
    """
    square = average(rho, state.square, grad * grad)
    scaled = grad / (namespace(grad).sqrt(square) + eps)
    velocity = momentum * state.velocity - lr * scaled
    change = (1 + momentum) * velocity - momentum * state.velocity
    return change, RmspropNesterovState(square, velocity)


def _rho(default: float, meaning: str, *aliases: str) -> Hyperparameter:
    names = (*aliases, "decay", "decay_rate")
    letters = ("γ", "β", "α")
    return average_decay("rho", default, meaning, "ρ", *names, letters=letters, one_allowed=True)


def _any_set(value: Array) -> bool:
    """Return whether a hyperparameter differs from 0 in any run."""
    return bool((value != 0).any()) if is_array(value) else bool(value)


def _rmsprop_keywords(
    lr: float, rho: float, momentum: float, centered: bool, eps: float
) -> Keywords:
    return {"lr": lr, "alpha": rho, "eps": eps, "momentum": momentum, "centered": bool(centered)}


RMSPROP = Rule(
    name="rmsprop",
    title="RMSProp",
    paper=(
        "Tieleman, T. and Hinton, G. (2012). Lecture 6.5 - RMSProp: Divide the gradient by a "
        "running average of its recent magnitude. COURSERA: Neural Networks for Machine Learning; "
        "centred: Graves, A. (2013). Generating Sequences With Recurrent Neural Networks. "
        "arXiv:1308.0850."
    ),
    init=rmsprop_start,
    update=rmsprop,
    hyperparameters=(
        learning_rate(0.01),
        _rho(0.99, "decay rate of the averages", "alpha"),
        momentum(0.0),
        Hyperparameter(
            name="centered",
            default=False,
            meaning="subtract the squared running average of the gradient",
            high=1.0,
            scale="switch",
            aliases=("centred",),
        ),
        epsilon(1e-8),
    ),
    equations=equations_of(rmsprop),
    plain_equations=("r ← rho·r + (1 − rho)·g²", "θ ← θ − lr · g / (√r + eps)"),
    symbols=PARAMETER
    | GRADIENT
    | {
        "r": "running average of the squared gradient, often v, s or E[g²]; starts at 0",
        "m": "running average of the gradient, kept only if centered; starts at 0",
        "u": "velocity, a decaying sum of the scaled gradients; starts at 0",
    },
    state={"square": "r, running average of the squared gradient"},
    direction="the gradient; with momentum, a decaying sum of the scaled gradients",
    step_scale="the learning rate alone",
    scaling=SQUARED_GRADIENT_ROOT,
    epsilon="outside the root",
    conventions=(
        "As torch.optim.RMSprop: eps outside the root, lr outside the velocity. TensorFlow adds "
        "eps inside the root. The centred form clips r − m² at 0 where rounding makes it negative; "
        "torch.optim returns NaN there. Momentum above 0 keeps one more array (u) per parameter, "
        "centered one more (m). The averages start at 0 without bias correction, so the first "
        "steps are up to 1 / √(1 − rho) times lr."
    ),
    contrasts={
        "adagrad": (
            "AdaGrad divides by the root of the sum of all squared gradients, which only grows, so "
            "its steps shrink even where the loss is still steep. RMSProp replaces the sum by a "
            "running average, which forgets: its steps stay about lr long."
        ),
        "momentum": (
            "Momentum sums past gradients and keeps their scale; rmsprop divides the latest "
            "gradient by the root of its average square, so that every coordinate moves by about "
            "lr, however steep it is."
        ),
    },
    generalises=(("momentum", "eps → ∞ with lr = eps · (lr of momentum)"),),
    torch_optim=TorchOptim("RMSprop", _rmsprop_keywords, {"l2": {}}),
)

RMSPROP_NESTEROV = Rule(
    name="rmsprop_nesterov",
    title="RMSProp with Nesterov momentum",
    paper=(
        "Goodfellow, I., Bengio, Y. and Courville, A. (2016). Deep Learning. MIT Press, "
        "Algorithm 8.6."
    ),
    init=rmsprop_nesterov_start,
    update=rmsprop_nesterov,
    hyperparameters=(
        learning_rate(0.001),
        _rho(0.9, "decay rate of the average of squared gradients"),
        momentum(0.9),
        epsilon(1e-8),
    ),
    equations=equations_of(rmsprop_nesterov),
    symbols=PARAMETER
    | GRADIENT
    | {
        "θ": "the parameter: the book's interim point, where the gradient is taken",
        "r": "running average of the squared gradient; starts at 0",
        "u": "velocity, a decaying sum of the steps, lr included; starts at 0; u′ is the next one",
    },
    state={
        "square": "r, running average of the squared gradient",
        "velocity": "u, decaying sum of the steps, lr included",
    },
    direction="a decaying sum of the scaled gradients, one velocity step ahead",
    step_scale="the learning rate alone",
    scaling=SQUARED_GRADIENT_ROOT,
    epsilon="outside the root",
    conventions=(
        "Algorithm 8.6 in the variables of its look-ahead point: the stored parameter is the "
        "interim point φ = θ + momentum·u at which the book takes the gradient, so that an "
        "ordinary training loop computes the right gradient; the book's own θ is φ − momentum·u. "
        "The book divides by √r without eps. Here eps is added outside the root, because r stays 0 "
        "where all gradients were 0, as at a dead ReLU, and 0 / 0 is NaN; eps = 0 gives the book's "
        "form. lr is inside the velocity, as in the book."
    ),
    contrasts={
        "rmsprop": (
            "With momentum, rmsprop adds up its scaled gradients (heavy ball). Here the gradient "
            "is also taken one velocity step ahead (Nesterov), which slows the velocity before it "
            "overshoots. torch.optim.RMSprop has no such option: its momentum is heavy-ball."
        )
    },
    generalises=(("nesterov", "eps → ∞ with lr = eps · (lr of nesterov)"),),
    coincides_with=(("rmsprop", "momentum is 0 in both, and centered is false"),),
)
