"""Prodigy: Adam that estimates its own step size, from the whole model's distance to its start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optrial.rules.adam import BETAS
from optrial.rules.arrays import Array, average, namespace, zeros_like
from optrial.rules.hyperparameters import epsilon
from optrial.rules.rule import Hyperparameter, Rule, WholeModel

__all__ = ["PRODIGY", "ProdigyModel", "ProdigyState", "ProdigyTerms"]


class ProdigyState(NamedTuple):
    """What Prodigy remembers of each parameter."""

    mean: Array  # (runs, *shape), running average of the gradient, times d
    square: Array  # (runs, *shape), running average of its square, times d^2
    weighted: Array  # (runs, *shape), decaying sum of the gradient, times lr d^2
    start: Array  # (runs, *shape), the parameter before the first step


class ProdigyModel(NamedTuple):
    """What Prodigy remembers of the whole model."""

    distance: Array  # (runs), estimate d of the distance from the start to the solution
    progress: Array  # (runs), decaying sum of <g, start - parameter>, times lr d^2


class ProdigyTerms(NamedTuple):
    """What one parameter contributes to sums over the whole model."""

    progress: Array  # (runs), <g, start - parameter>
    weighted: Array  # (runs), sum of the magnitudes of `ProdigyState.weighted`


def prodigy_start(param: Array, **_: Any) -> ProdigyState:
    """Return averages of zero and a copy of the parameter."""
    mean, square, weighted = (zeros_like(param) for _ in range(3))
    return ProdigyState(mean, square, weighted, start=param + mean)


def prodigy_model_start(zero: Array, *, d0: Any, **_: Any) -> ProdigyModel:
    """Return the first estimate of the distance, and no progress."""
    return ProdigyModel(distance=zero + d0, progress=zero)


def prodigy(
    grad: Array,
    state: ProdigyState,
    _step: Any,
    *,
    param: Array,
    axes: Sequence[int],
    weight_decay: Any,
    model: ProdigyModel,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    d0: Any,
    d_coef: Any,
) -> tuple[Array, ProdigyState, ProdigyTerms]:
    """One step of Prodigy: Mishchenko & Defazio 2024, Algorithm 4.

    m <- beta1 m + (1 - beta1) d g      v <- beta2 v + (1 - beta2) d^2 g^2
    s <- sqrt(beta2) s + lr d^2 g
    change = -lr d (m / (sqrt(v) + d eps) + weight_decay w)

    grad and param are (runs, *shape); sums are over `axes`, the axes of one run; each
    hyperparameter, and d of `model`, broadcasts over them. Returns the change to add to the
    parameter, and the terms <g, w_0 - w> and |s|_1 of the sums from which d is renewed.
    """
    del d0, d_coef  # are in the estimate of the distance
    xp = namespace(grad)
    d = model.distance
    mean = average(beta1, state.mean, d * grad)
    square = average(beta2, state.square, d * d * grad * grad)
    weighted = beta2**0.5 * state.weighted + lr * d * d * grad
    change = -lr * d * (mean / (xp.sqrt(square) + d * eps) + weight_decay * param)
    terms = ProdigyTerms(
        progress=xp.sum(grad * (state.start - param), axis=axes),
        weighted=xp.sum(xp.abs(weighted), axis=axes),
    )
    return change, ProdigyState(mean, square, weighted, state.start), terms


def prodigy_model(
    model: ProdigyModel,
    sums: ProdigyTerms,
    _step: Any,
    *,
    lr: Any,
    beta2: Any,
    d_coef: Any,
    **_: Any,
) -> ProdigyModel:
    """Renew the estimate of the distance, which never falls.

    r <- sqrt(beta2) r + lr d^2 <g, w_0 - w>      d <- max(d, d_coef r / |s|_1)

    where products and norms are over the whole model. Without any gradient yet d stays.
    """
    xp = namespace(sums.weighted)
    d, moved = model.distance, sums.weighted > 0
    progress = beta2**0.5 * model.progress + lr * d * d * sums.progress
    estimate = xp.where(moved, d_coef * progress / xp.where(moved, sums.weighted, 1.0), d)
    return ProdigyModel(distance=xp.maximum(d, estimate), progress=progress)


PRODIGY = Rule(
    name="prodigy",
    title="Prodigy",
    paper=(
        "Mishchenko, K. and Defazio, A. (2024). Prodigy: An Expeditiously Adaptive Parameter-Free "
        "Learner. ICML. arXiv:2306.06101, Algorithm 4."
    ),
    init=prodigy_start,
    update=prodigy,
    hyperparameters=(
        Hyperparameter(
            name="lr",
            default=1.0,
            meaning="multiple of the estimated learning rate; for a schedule, otherwise 1",
            low_open=True,
            scale="log",
            aliases=("learning_rate", "eta", "step_size"),
        ),
        *BETAS,
        epsilon(1e-8),
        Hyperparameter(
            name="d0",
            default=1e-6,
            meaning="first estimate of the distance from the start to the solution; too small is "
            "safe",
            low_open=True,
            scale="log",
        ),
        Hyperparameter(
            name="d_coef",
            default=1.0,
            meaning="multiple of the estimated distance: the way to ask for larger steps",
            scale="log",
            aliases=("growth",),
        ),
    ),
    equations=(
        "m ← beta1·m + (1 − beta1)·d·g",
        "v ← beta2·v + (1 − beta2)·d²·g²",
        "θ′ = θ − lr·d·(m / (√v + d·eps) + weight_decay·θ)",
        "r ← √beta2·r + lr·d²·⟨g, θ₀ − θ⟩",
        "s ← √beta2·s + lr·d²·g",
        "d ← max(d, d_coef·r / ‖s‖₁)            from d = d0",
        "θ ← θ′",
    ),
    equations_latex=(
        r"m &\leftarrow \beta_1 m + (1 - \beta_1)\, d g, \quad "
        r"v \leftarrow \beta_2 v + (1 - \beta_2)\, d^2 g^2 \\"
        "\n"
        r"\theta' &= \theta - \eta\, d \left(\frac{m}{\sqrt{v} + d\varepsilon}"
        r" + \lambda\theta\right) \\"
        "\n"
        r"r &\leftarrow \sqrt{\beta_2}\, r + \eta d^2 \langle g, \theta_0 - \theta\rangle, \quad "
        r"s \leftarrow \sqrt{\beta_2}\, s + \eta d^2 g \\"
        "\n"
        r"d &\leftarrow \max\!\left(d,\ \frac{c\, r}{\lVert s\rVert_1}\right), \quad "
        r"\theta \leftarrow \theta'"
    ),
    symbols={
        "θ": "the parameter; θ₀ before the first step, θ′ after this one",
        "g": "gradient of the mini-batch's loss at θ, without weight decay",
        "m": "running average of the gradient, times d; starts at 0",
        "v": "running average of the squared gradient, times d²; starts at 0",
        "r": "progress of the whole model, a decaying sum; starts at 0",
        "s": "decaying sum of the gradients; starts at 0",
        "d": "estimated distance of the whole model from its start to the solution",
        "weight_decay": "coefficient of decoupled weight decay",
    },
    state={
        "mean": "m, running average of the gradient, times d",
        "square": "v, running average of the squared gradient, times d²",
        "weighted": "s, decaying sum of the gradients",
        "start": "θ₀, the parameter before the first step",
    },
    direction="the running average of the gradient",
    scaling=(
        "divided by the root of the running average of squared gradients, times an estimate of "
        "the whole model's distance to the solution"
    ),
    epsilon="outside the root, times d",
    conventions=(
        "Algorithm 4 of the paper, without bias correction; the factor 1 − √beta2 of r and s, "
        "which cancels, is left out. ⟨·,·⟩ and ‖·‖₁ are over the whole model, all parameters "
        "together. The authors' library uses the new d beside eps and the old one elsewhere; here "
        "it is the old one throughout, as in the paper. Decoupled weight decay, the default, "
        "shrinks weights by lr·d·weight_decay as in the library; the paper has none."
    ),
    coincides_with=(
        (
            "adam",
            "d_coef is 0, lr of adam is lr · d0, and beta1^t and beta2^t have died away",
        ),
    ),
    default_decay="decoupled",
    needs=("param", "axes", "weight_decay", "model"),
    own_decay="decoupled",
    model=WholeModel(
        init=prodigy_model_start,
        update=prodigy_model,
        state={
            "distance": "d, estimated distance from the start to the solution",
            "progress": "r, decaying sum of ⟨g, θ₀ − θ⟩",
        },
    ),
)
