"""Prodigy: Adam with a step size estimated from the distance the whole model has moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from optrial.rules.adam import BETAS
from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.hyperparameters import RAW_GRADIENT, epsilon, learning_rate
from optrial.rules.rule import Hyperparameter, Rule, WholeModel, equations_of

__all__ = ["PRODIGY", "ProdigyModel", "ProdigyState", "ProdigyTerms"]


class ProdigyState(NamedTuple):
    """State of Prodigy for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient, times d
    square: Array  # (runs, *shape), running average of its square, times d^2
    weighted: Array  # (runs, *shape), decaying sum of the gradient, times lr d^2
    start: Array  # (runs, *shape), the parameter before the first step


class ProdigyModel(NamedTuple):
    """State of Prodigy for the whole model."""

    distance: Array  # (runs), estimate d of the distance from the start to the solution
    progress: Array  # (runs), decaying sum of <g, start - parameter>, times lr d^2


class ProdigyTerms(NamedTuple):
    """Terms of one parameter in sums over the whole model."""

    progress: Array  # (runs), <g, start - parameter>
    weighted: Array  # (runs), sum of the magnitudes of `ProdigyState.weighted`


def prodigy_start(param: Array, **_: object) -> ProdigyState:
    """Return averages of zero and a copy of the parameter."""
    mean, square, weighted = (zeros_like(param) for _ in range(3))
    return ProdigyState(mean, square, weighted, start=param + mean)


def prodigy_model_start(zero: Array, *, d0: Scalar, **_: object) -> ProdigyModel:
    """Return the initial estimate of the distance, and zero progress."""
    return ProdigyModel(distance=zero + d0, progress=zero)


def prodigy(
    grad: Array,
    state: ProdigyState,
    _step: Scalar,
    *,
    param: Array,
    axes: Sequence[int],
    weight_decay: Scalar,
    model: ProdigyModel,
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
    d0: Scalar,
    d_coef: Scalar,
) -> tuple[Array, ProdigyState, ProdigyTerms]:
    """One step of Prodigy: Mishchenko & Defazio 2024, Algorithm 4.

        m ← beta1·m + (1 − beta1)·d·g
        v ← beta2·v + (1 − beta2)·d²·g²
        s ← √beta2·s + lr·d²·g
        θ′ = θ − lr·d·(m / (√v + d·eps) + weight_decay·θ)

    grad and param are (runs, *shape); sums are over `axes`, the axes of one run; hyperparameters,
    and d of `model`, broadcast over grad. Returns the change to add to the parameter, the state,
    and the terms ⟨g, θ₀ − θ⟩ and ‖s‖₁ of the sums that update d.
    """
    del d0, d_coef  # part of the estimate of the distance
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
    _step: Scalar,
    *,
    lr: Scalar,
    beta2: Scalar,
    d_coef: Scalar,
    **_: object,
) -> ProdigyModel:
    """Update the estimate of the distance, which never decreases.

        r ← √beta2·r + lr·d²·⟨g, θ₀ − θ⟩
        d ← max(d, d_coef·r / ‖s‖₁)    from d = d0

    Products and norms are over the whole model. Before the first nonzero gradient, d is kept.
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
        learning_rate(1.0, "factor on the estimated learning rate; keep 1 and set a schedule"),
        *BETAS,
        epsilon(1e-8),
        Hyperparameter(
            name="d0",
            default=1e-6,
            meaning="initial estimate of the distance to the solution; too small is safe",
            symbol="d₀",
            low_open=True,
            at_start=True,
            scale="log",
        ),
        Hyperparameter(
            name="d_coef",
            default=1.0,
            meaning="factor on the estimated distance: raise it for larger steps",
            symbol="c",
            scale="log",
            aliases=("growth",),
        ),
    ),
    equations=(*equations_of(prodigy), *equations_of(prodigy_model), "θ ← θ′"),
    symbols={
        "θ": "the parameter; θ₀ before the first step, θ′ after this one",
        **RAW_GRADIENT,
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
    step_scale="the parameters",
    scaling=(
        "divided by the root of the running average of squared gradients, times an estimate of "
        "the whole model's distance to the solution"
    ),
    epsilon="outside the root, times d",
    conventions=(
        "Algorithm 4 of the paper, without bias correction; the factor 1 − √beta2 of r and s "
        "cancels and is omitted. ⟨·,·⟩ and ‖·‖₁ are over all parameters of the model. The authors' "
        "library uses the new d next to eps and the old one elsewhere; here it is the old one "
        "throughout, as in the paper. Weight decay is decoupled by default and shrinks weights by "
        "lr·d·weight_decay, as in the library; the paper has none."
    ),
    coincides_with=(
        (
            "adam",
            "d_coef is 0, lr of adam is lr · d0, and beta1^t and beta2^t have vanished",
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
