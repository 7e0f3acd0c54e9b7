"""RMSProp and RMSProp with Nesterov momentum: steps scaled by recent squared gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

from optrial.rules.arrays import Array, average, namespace, zeros_like
from optrial.rules.hyperparameters import (
    GRADIENT,
    PARAMETER,
    average_decay,
    epsilon,
    learning_rate,
    momentum,
)
from optrial.rules.rule import Hyperparameter, Rule, TorchOptim

__all__ = ["RMSPROP", "RMSPROP_NESTEROV", "RmspropNesterovState", "RmspropState"]

SQUARED_GRADIENT_ROOT = "divided by the root of the running average of squared gradients"


class RmspropState(NamedTuple):
    """What RMSProp remembers of each parameter; None where no run needs it."""

    square: Array  # (runs, *shape), running average of the squared gradient
    velocity: Array | None  # (runs, *shape), decaying sum of scaled gradients
    mean: Array | None  # (runs, *shape), running average of the gradient


def rmsprop_start(param: Array, *, momentum: Any, centered: Any, **_: Any) -> RmspropState:
    """Return averages and a velocity of zero, without those that no run needs."""
    return RmspropState(
        square=zeros_like(param),
        velocity=zeros_like(param) if _any_set(momentum) else None,
        mean=zeros_like(param) if _any_set(centered) else None,
    )


def rmsprop(
    grad: Array,
    state: RmspropState,
    _step: Any,
    *,
    lr: Any,
    rho: Any,
    momentum: Any,
    centered: Any,
    eps: Any,
) -> tuple[Array, RmspropState]:
    """One step of RMSProp: Tieleman & Hinton 2012, slide 29; centred: Graves 2013, equations 38-41.

    r <- rho r + (1 - rho) g^2      u <- momentum u + g / (sqrt(r) + eps)      change = -lr u

    and, when centred, m <- rho m + (1 - rho) g and r - m^2 in place of r.

    grad is (runs, *shape); each hyperparameter broadcasts over it; `centered` is true or false, or
    1 or 0 in an array. Returns the change to add to the parameter. eps is outside the root and lr
    outside the velocity, as in torch.optim; TensorFlow has eps inside.
    """
    xp = namespace(grad)
    square = average(rho, state.square, grad * grad)
    mean, variance = state.mean, square
    if mean is not None:
        mean = average(rho, mean, grad)
        # Rounding can leave a variance just below 0, of which torch.optim takes the root: NaN.
        variance = xp.maximum(square - centered * mean * mean, zeros_like(square))
    velocity = grad / (xp.sqrt(variance) + eps)
    if state.velocity is None:
        return -lr * velocity, RmspropState(square, None, mean)
    velocity = momentum * state.velocity + velocity
    return -lr * velocity, RmspropState(square, velocity, mean)


class RmspropNesterovState(NamedTuple):
    """What RMSProp with Nesterov momentum remembers of each parameter."""

    square: Array  # (runs, *shape), running average of the squared gradient
    velocity: Array  # (runs, *shape), decaying sum of the steps, lr included


def rmsprop_nesterov_start(param: Array, **_: Any) -> RmspropNesterovState:
    """Return an average and a velocity of zero."""
    return RmspropNesterovState(square=zeros_like(param), velocity=zeros_like(param))


def rmsprop_nesterov(
    grad: Array,
    state: RmspropNesterovState,
    _step: Any,
    *,
    lr: Any,
    rho: Any,
    momentum: Any,
    eps: Any,
) -> tuple[Array, RmspropNesterovState]:
    """One step of RMSProp with Nesterov momentum: Goodfellow et al. 2016, Algorithm 8.6.

    r <- rho r + (1 - rho) g^2      u' = momentum u - lr g / (sqrt(r) + eps)
    change = (1 + momentum) u' - momentum u

    grad is (runs, *shape), taken at the stored parameter, which is the book's interim point
    theta + momentum u; each hyperparameter broadcasts over it. Returns the change to add to the
    parameter. The book prints no eps; ours is outside the root, and 0 gives the printed form.
    """
    square = average(rho, state.square, grad * grad)
    scaled = grad / (namespace(grad).sqrt(square) + eps)
    velocity = momentum * state.velocity - lr * scaled
    change = (1 + momentum) * velocity - momentum * state.velocity
    return change, RmspropNesterovState(square, velocity)


def _any_set(value: Any) -> bool:
    """Whether a hyperparameter differs from 0 in any run."""
    return bool((value != 0).any()) if hasattr(value, "dtype") else bool(value)


def _rmsprop_keywords(
    lr: float, rho: float, momentum: float, centered: bool, eps: float
) -> dict[str, Any]:
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
        average_decay("rho", 0.99, "averages", ("alpha", "decay", "decay_rate"), one_allowed=True),
        momentum(0.0),
        Hyperparameter(
            name="centered",
            default=False,
            meaning="whether to subtract the squared running average of the gradient",
            high=1.0,
            scale="switch",
            aliases=("centred",),
        ),
        epsilon(1e-8),
    ),
    equations=(
        "r ← rho·r + (1 − rho)·g²",
        "m ← rho·m + (1 − rho)·g            if centered, otherwise m = 0",
        "u ← momentum·u + g / (√(r − m²) + eps)",
        "θ ← θ − lr·u",
    ),
    equations_latex=(
        r"r &\leftarrow \rho r + (1 - \rho) g^2 \\"
        "\n"
        r"m &\leftarrow \rho m + (1 - \rho) g \quad \text{if centered, otherwise } m = 0 \\"
        "\n"
        r"u &\leftarrow \mu u + \frac{g}{\sqrt{r - m^2} + \varepsilon} \\"
        "\n"
        r"\theta &\leftarrow \theta - \eta u"
    ),
    symbols=PARAMETER
    | GRADIENT
    | {
        "r": "running average of the squared gradient; starts at 0",
        "m": "running average of the gradient, kept only if centered; starts at 0",
        "u": "velocity, a decaying sum of the scaled gradients; starts at 0",
    },
    state={"square": "r, running average of the squared gradient"},
    direction="the gradient; with momentum, a decaying sum of the scaled gradients",
    scaling=SQUARED_GRADIENT_ROOT,
    epsilon="outside the root",
    conventions=(
        "The form of torch.optim.RMSprop: eps outside the root, lr outside the velocity. "
        "TensorFlow adds eps inside the root. The centred form clips r − m² at 0 where rounding "
        "makes it negative; torch.optim gives NaN there. Momentum above 0 keeps one more array "
        "(u) per parameter, centered one more (m). The averages start at 0 and are not corrected "
        "for it, so that the first steps are up to 1 / √(1 − rho) times lr."
    ),
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
        average_decay("rho", 0.9, "average", ("decay", "decay_rate"), one_allowed=True),
        momentum(0.9),
        epsilon(1e-8),
    ),
    equations=(
        "r  ← rho·r + (1 − rho)·g²",
        "u′ = momentum·u − lr·g / (√r + eps)",
        "θ  ← θ + (1 + momentum)·u′ − momentum·u",
        "u  ← u′",
    ),
    equations_latex=(
        r"r &\leftarrow \rho r + (1 - \rho) g^2 \\"
        "\n"
        r"u' &= \mu u - \frac{\eta}{\sqrt{r} + \varepsilon}\, g \\"
        "\n"
        r"\theta &\leftarrow \theta + (1 + \mu) u' - \mu u \\"
        "\n"
        r"u &\leftarrow u'"
    ),
    symbols=PARAMETER
    | GRADIENT
    | {
        "θ": "the parameter: the book's interim point, where the gradient is taken",
        "r": "running average of the squared gradient; starts at 0",
        "u": "velocity, a decaying sum of the steps, lr included; starts at 0. u′ is the next one",
    },
    state={
        "square": "r, running average of the squared gradient",
        "velocity": "u, decaying sum of the steps, lr included",
    },
    direction="a decaying sum of the scaled gradients, seen one velocity step ahead",
    scaling=SQUARED_GRADIENT_ROOT,
    epsilon="outside the root",
    conventions=(
        "Algorithm 8.6 in the variables of its look-ahead point: the stored parameter is the "
        "interim point φ = θ + momentum·u at which the book takes the gradient, so that an "
        "ordinary training loop computes the right gradient; the book's own θ is φ − momentum·u. "
        "The book prints no epsilon and divides by √r. Ours adds eps outside the root, because r "
        "is 0 where a gradient was never other than 0, as at a dead ReLU, and 0 / 0 is NaN; eps = "
        "0 gives the printed form. lr is inside the velocity, as printed."
    ),
    generalises=(("nesterov", "eps → ∞ with lr = eps · (lr of nesterov)"),),
    coincides_with=(("rmsprop", "momentum is 0 in both, and centered is false"),),
)
