"""L-BFGS: steps along an approximation of Newton's direction, from differences of gradients."""

from __future__ import annotations

from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, as_array, is_array, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, learning_rate
from optrial.rules.rule import Hyperparameter, Keywords, Rule, TorchOptim, equations_of

__all__ = ["LBFGS", "LbfgsState"]

_LEAST = 1e-10
"""Product ⟨s, y⟩ above which a pair is kept, as in `torch.optim`."""


class LbfgsState(NamedTuple):
    """State of L-BFGS for all parameters as one vector of length n; pairs are oldest first."""

    changes: Array  # (runs, pairs, n), changes s of the parameters
    differences: Array  # (runs, pairs, n), differences y of the gradients
    inverses: Array  # (runs, pairs), 1 / <s, y>; 0 where there is no pair
    gradient: Array  # (runs, n), of the step before
    change: Array  # (runs, n), of the step before
    scale: Array  # (runs, 1), the first approximation of the inverse Hessian
    begun: Array  # (runs, 1), 0 before the first step and 1 afterwards


def lbfgs_start(param: Array, *, history: Scalar, **_: object) -> LbfgsState:
    """Return no pairs, with room for the longest history of any run."""
    xp, zero = namespace(param), zeros_like(param)
    pairs = int(xp.max(history) if is_array(history) else history)
    *lead, length = param.shape
    like = {"dtype": param.dtype, "device": param.device}
    changes, differences = (xp.zeros((*lead, pairs, length), **like) for _ in range(2))
    return LbfgsState(
        changes,
        differences,
        inverses=xp.zeros((*lead, pairs), **like),
        gradient=zero,
        change=zero + 0.0,
        scale=xp.ones((*lead, 1), **like),
        begun=xp.zeros((*lead, 1), **like),
    )


def lbfgs(
    grad: Array, state: LbfgsState, _step: Scalar, *, lr: Scalar, history: Scalar
) -> tuple[Array, LbfgsState]:
    """One step of L-BFGS: Nocedal & Wright 2006, Algorithms 7.4 and 7.5, without a line search.

        y ← g − p
        H ← H(s, y, history)                  if ⟨s, y⟩ > least
        d ← −H·g
        s ← lr·min(1, 1 / ‖g‖₁)·d             in the first step
        s ← lr·d                              in later steps
        θ ← θ + s
        p ← g

    grad is (runs, n), all parameters of a run as one vector; hyperparameters broadcast over it.
    Nothing changes if g = 0, as in torch. Returns the change to add to the parameters.
    """
    xp = namespace(grad)
    length = xp.sum(xp.abs(grad), axis=-1, keepdims=True)
    rests = length == 0
    state = _with_pair(state, grad, rests)
    pairs = state.inverses.shape[-1]
    places = xp.arange(pairs, dtype=grad.dtype, device=grad.device)
    inverses = xp.where(places >= pairs - as_array(history, grad), state.inverses, 0.0)
    first = xp.minimum(1.0 / xp.maximum(length, _tiny(length)), as_array(1.0, length))
    rate = lr * xp.where(state.begun > 0, as_array(1.0, length), first)
    change = rate * _direction(grad, state, inverses)
    after = state._replace(
        gradient=xp.where(rests, state.gradient, grad),
        change=xp.where(rests, state.change, change),
        begun=xp.where(rests, state.begun, xp.ones_like(state.begun)),
    )
    return change, after


def _with_pair(state: LbfgsState, grad: Array, rests: Array) -> LbfgsState:
    """Return the state with the latest pair, where its product is large enough.

    Args:
        state: the state.
        grad: (runs, n).
        rests: runs without a gradient, which get no pair, (runs, 1).
    """
    xp = namespace(grad)
    difference = grad - state.gradient
    product = xp.sum(state.change * difference, axis=-1, keepdims=True)
    square = xp.sum(difference * difference, axis=-1, keepdims=True)
    is_kept = (product > _LEAST) & ~rests

    def added(kept: Array, new: Array, where: Array) -> Array:
        later = kept[..., 1:] if kept.ndim == new.ndim else kept[..., 1:, :]
        axis = -1 if kept.ndim == new.ndim else -2
        latest = new if axis == -1 else new[..., None, :]
        return xp.where(where, xp.concat([later, latest], axis=axis), kept)

    safe = xp.where(is_kept, product, as_array(1.0, product))
    return state._replace(
        changes=added(state.changes, state.change, is_kept[..., None]),
        differences=added(state.differences, difference, is_kept[..., None]),
        inverses=added(state.inverses, 1.0 / safe, is_kept),
        scale=xp.where(is_kept, product / xp.where(is_kept, square, safe), state.scale),
    )


def _direction(grad: Array, state: LbfgsState, inverses: Array) -> Array:
    """Return −H·g by the two loops over all pairs, from the latest back and forth."""
    xp, shares = namespace(grad), {}
    pairs = range(inverses.shape[-1])
    direction = -grad
    for i in reversed(pairs):
        product = xp.sum(state.changes[..., i, :] * direction, axis=-1, keepdims=True)
        shares[i] = inverses[..., i, None] * product
        direction = direction - shares[i] * state.differences[..., i, :]
    direction = direction * state.scale
    for i in pairs:
        product = xp.sum(state.differences[..., i, :] * direction, axis=-1, keepdims=True)
        share = shares[i] - inverses[..., i, None] * product
        direction = direction + share * state.changes[..., i, :]
    return direction


def _tiny(like: Array) -> Array:
    return as_array(namespace(like).finfo(like.dtype).tiny, like)


def _keywords(*, lr: float, history: float) -> Keywords:
    """Return the arguments of `torch.optim.LBFGS` with one gradient per step."""
    once = {"max_iter": 1, "tolerance_grad": 0.0, "tolerance_change": 0.0}
    return {"lr": lr, "history_size": int(history), **once}


LBFGS = Rule(
    name="lbfgs",
    title="L-BFGS",
    paper=(
        "Liu, D. C. and Nocedal, J. (1989). On the Limited Memory BFGS Method for Large Scale "
        "Optimization. Mathematical Programming."
    ),
    init=lbfgs_start,
    update=lbfgs,
    hyperparameters=(
        learning_rate(1.0, "length of a step as a share of the approximate Newton step"),
        Hyperparameter(
            name="history",
            default=10,
            meaning="largest number of pairs (s, y)",
            symbol="m",
            low=1,
            high=1000,
            whole=True,
            scale="log",
            aliases=("history_size",),
        ),
    ),
    equations=equations_of(lbfgs),
    symbols={
        "θ": "all parameters as one vector",
        **GRADIENT,
        "p": "gradient of the step before; starts at 0",
        "y": "difference of the gradients",
        "s": "change of the parameters; starts at 0",
        "H": "inverse of the Hessian, as the last `history` pairs imply it; starts at 1",
        "d": "direction of the step",
        "least": "1e-10, below which a pair does not count",
    },
    reduced_state={
        "changes": "s of the last pairs, as many vectors as history",
        "differences": "y of the last pairs, as many vectors as history",
        "inverses": "1 / ⟨s, y⟩ of the last pairs",
        "gradient": "p, gradient of the step before",
        "change": "s, change of the parameters",
        "scale": "⟨s, y⟩ / ⟨y, y⟩ of the latest pair, the first approximation of H",
        "begun": "whether a step was taken",
    },
    direction="the gradient, multiplied by an approximation of the inverse Hessian",
    step_scale="the parameters",
    scaling="by differences of gradients, as Newton's method is by the Hessian",
    conventions=(
        "The two loops are those of Nocedal & Wright 2006, Algorithm 7.4. As torch.optim.LBFGS "
        "with max_iter=1, tolerance_grad=0 and tolerance_change=0: one gradient per step, no line "
        "search, a first step of length at most lr, pairs with ⟨s, y⟩ > 1e-10, and the latest pair "
        "as the first scale. The vector holds all parameters of the model, so the rule cannot be "
        "combined with groups, modifiers or clipping. Gradients of successive steps have to be of "
        "the same function: full batches, no dropout, no augmentation."
    ),
    contrasts={
        "sgd": (
            "SGD steps along the gradient. L-BFGS turns and scales it by the curvature along its "
            "last steps, which needs the exact gradient: noise of mini-batches would be taken for "
            "curvature."
        ),
    },
    torch_optim=TorchOptim("LBFGS", _keywords, {}, needs_closure=True),
    as_one_vector=True,
    capturable=False,
)
