"""Shampoo: a matrix for each axis of a parameter preconditions its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, as_array, namespace, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, learning_rate, momentum
from optrial.rules.matrices import along, gram, identities, of_matrices
from optrial.rules.rule import Hyperparameter, Rule, equations_of

__all__ = ["SHAMPOO", "ShampooState"]

LONGEST = 2048
"""Length of an axis above which it is not preconditioned."""


class ShampooState(NamedTuple):
    """State of Shampoo for one parameter."""

    velocity: Array  # (runs, *shape), decaying sum of the preconditioned gradients
    square: Array | None  # (runs, *shape), sum of squared gradients; None for a matrix
    axis_1: Array | None  # (runs, length, length), sum of products of gradients along an axis
    axis_2: Array | None = None
    axis_3: Array | None = None
    axis_4: Array | None = None
    axis_5: Array | None = None


def shampoo_start(param: Array, *, axes: Sequence[int], **_: object) -> ShampooState:
    """Return a velocity of zero and sums of zero; `axes` are those of one run."""
    if not _has_matrices(param, axes):
        return ShampooState(zeros_like(param), zeros_like(param), None)
    start = identities(param, axes, LONGEST)
    sums = [None if one is None else zeros_like(one) for one in start]
    return ShampooState(zeros_like(param), None, *sums)


def shampoo(
    grad: Array,
    state: ShampooState,
    _step: Scalar,
    *,
    axes: Sequence[int],
    lr: Scalar,
    momentum: Scalar,
    eps: Scalar,
) -> tuple[Array, ShampooState]:
    """One step of Shampoo: Gupta et al. 2018, Algorithm 1, and 2 for kernels.

        L ← L + g·gᵀ
        R ← R + gᵀ·g
        d ← (L + eps·I)^(−1/4)·g·(R + eps·I)^(−1/4)
        v ← v + g²                                     if θ is a vector
        d ← g / √(v + eps)                             if θ is a vector
        u ← momentum·u + d
        θ ← θ − lr·u

    grad is (runs, *shape), where `axes` are the axes of one run; hyperparameters broadcast over it.
    A kernel with k matrices, one per axis, has the exponents −1 / (2·k). Returns the change to
    add to the parameter.
    """
    xp = namespace(grad)
    if state.square is not None:
        square = state.square + grad * grad
        velocity = momentum * state.velocity + grad / xp.sqrt(square + eps)
        return -lr * velocity, state._replace(velocity=velocity, square=square)
    lead, direction, sums = grad.ndim - len(axes), grad, list(state[2:])
    count = sum(products is not None for products in sums)
    for place, axis in enumerate(axes[:5]):
        if sums[place] is None:
            continue
        sums[place] = sums[place] + gram(grad, lead, axis)
        root = _inverse_root(sums[place], eps, 2 * count)
        direction = along(root, direction, lead, axis)
    velocity = momentum * state.velocity + direction
    return -lr * velocity, ShampooState(velocity, None, *sums)


def _has_matrices(param: Array, axes: Sequence[int]) -> bool:
    return len(axes) > 1 and any(param.shape[axis] <= LONGEST for axis in axes[:5])


def _inverse_root(matrix: Array, eps: Scalar, power: int) -> Array:
    """Return (matrix + eps·I)^(−1 / power) of positive semidefinite matrices, (runs, n, n).

    A matrix that is not finite gives NaN, and leaves those of other runs alone.
    """
    xp = namespace(matrix)
    floor = as_array(of_matrices(eps, matrix.ndim - 2), matrix)
    damped = matrix + floor * xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    is_finite = xp.all(xp.isfinite(damped), axis=(-2, -1), keepdims=True)
    values, vectors = xp.linalg.eigh(xp.where(is_finite, damped, as_array(1.0, damped)))
    least = xp.reshape(floor, floor.shape[:-1]) if floor.ndim else floor
    roots = xp.maximum(values, least) ** (-1 / power)
    root = (vectors * roots[..., None, :]) @ vectors.mT
    return xp.where(is_finite, root, as_array(float("nan"), root))


SHAMPOO = Rule(
    name="shampoo",
    title="Shampoo",
    paper=(
        "Gupta, V., Koren, T. and Singer, Y. (2018). Shampoo: Preconditioned Stochastic Tensor "
        "Optimization. ICML. arXiv:1802.09568, Algorithms 1 and 2; grafting: Anil, R., Gupta, V., "
        "Koren, T., Regan, K. and Singer, Y. (2020). Scalable Second Order Optimization for Deep "
        "Learning. arXiv:2002.09018."
    ),
    init=shampoo_start,
    update=shampoo,
    hyperparameters=(
        learning_rate(0.1),
        momentum(0.9),
        Hyperparameter(
            name="eps",
            default=1e-4,
            meaning="multiple of the identity that is added to the sums",
            symbol="ε",
            low_open=True,
            scale="log",
            aliases=("epsilon", "matrix_eps"),
        ),
    ),
    equations=equations_of(shampoo),
    symbols=PARAMETER
    | GRADIENT
    | {
        "L": "sum of g·gᵀ over all steps: rows with rows",
        "R": "sum of gᵀ·g over all steps: columns with columns",
        "I": "the identity",
        "v": "sum of squared gradients of a vector",
        "d": "the preconditioned gradient",
        "u": "velocity, a decaying sum of preconditioned gradients; starts at 0",
    },
    state={"velocity": "u, decaying sum of the preconditioned gradients"},
    reduced_state={
        "axis_1": "L, a square matrix of the rows",
        "axis_2": "R, a square matrix of the columns",
    },
    direction="a decaying sum of the preconditioned gradients",
    step_scale="the learning rate alone",
    scaling=(
        "multiplied by the inverse fourth roots of sums of products of gradients, of rows and of "
        "columns; vectors divided by the root of the sum of squares"
    ),
    epsilon="added to the sums, inside the roots",
    conventions=(
        "The roots are computed in every step, from eigenvalues. Kernels have one matrix per axis, "
        "as in Algorithm 2; axes longer than 2048, and those after the fifth, have none, and the "
        "exponents are those of a parameter without these axes, as in the second "
        "paper. Biases and other vectors, embeddings and the last linear layer take the steps of "
        "AdaGrad, which is the diagonal form of the paper. Sums do not decay, as in the first "
        "paper. The size of a step is commonly taken from another rule: "
        "modify: [{name: grafting, rule: sgd}]."
    ),
    contrasts={
        "adagrad": (
            "AdaGrad divides each coordinate by the root of its summed squares. Shampoo sums "
            "products of whole rows and of whole columns, and so also corrects for directions "
            "along which gradients are correlated, at the cost of computing eigenvalues of "
            "matrices."
        ),
        "muon": (
            "Without momentum, and with the sums of one step alone, Shampoo's direction is the "
            "gradient with all singular values 1, which Muon computes from an average instead."
        ),
    },
    needs=("axes",),
    as_vectors=("embedding", "head"),
    capturable=False,
)
