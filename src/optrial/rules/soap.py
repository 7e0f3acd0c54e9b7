"""SOAP: Adam in the eigenbases of Shampoo's matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import ADAMW, bias_correction
from optrial.rules.arrays import (
    Array,
    Scalar,
    any_run,
    as_array,
    average,
    choose,
    namespace,
    zeros_like,
)
from optrial.rules.hyperparameters import average_decay, epsilon, learning_rate
from optrial.rules.matrices import along, gram, identities, of_matrices
from optrial.rules.rule import Hyperparameter, equations_of

__all__ = ["SOAP", "SoapState", "eigenbasis"]

LONGEST = 10_000
"""Length of an axis above which it has no basis."""

RESOLUTION = 1e-5
"""Eigenvalues that differ by a smaller share of their sum count as equal. Rounding errors turn
eigenvectors by at most their share of it: 1e-11 in float64, 1e-2 in float32."""


class SoapState(NamedTuple):
    """State of SOAP for one parameter; a vector has only the averages of Adam."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array  # (runs, *shape), running average of the squares of the rotated gradient
    axis_1: Array | None  # (runs, length, length), average of products of gradients along an axis
    axis_2: Array | None
    axis_3: Array | None
    axis_4: Array | None
    axis_5: Array | None
    basis_1: Array | None  # (runs, length, length), orthonormal columns
    basis_2: Array | None
    basis_3: Array | None
    basis_4: Array | None
    basis_5: Array | None


def soap_start(param: Array, *, axes: Sequence[int], **_: object) -> SoapState:
    """Return averages of zero, and the axes as bases; `axes` are those of one run."""
    bases = identities(param, axes, LONGEST) if len(axes) > 1 else []
    products = [None if basis is None else zeros_like(basis) for basis in bases]
    missing = [None] * (5 - len(bases))
    start = zeros_like(param), zeros_like(param)
    return SoapState(*start, *products, *missing, *bases, *missing)


def soap(
    grad: Array,
    state: SoapState,
    step: Scalar,
    *,
    axes: Sequence[int],
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
    precondition_frequency: Scalar,
) -> tuple[Array, SoapState]:
    """One step of SOAP: Vyas et al. 2024, Algorithm 3, as in the authors' code.

        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·(Uᵀ·g·V)²
        d ← U·((Uᵀ·m·V) / (√v + eps))·Vᵀ
        θ ← θ − lr·√(1 − beta2^(t − 1)) / (1 − beta1^(t − 1)) · d
        L ← beta2·L + (1 − beta2)·g·gᵀ
        R ← beta2·R + (1 − beta2)·gᵀ·g
        U ← qr(L·U)    if t − 1 is a multiple of precondition_frequency
        V ← qr(R·V)    if t − 1 is a multiple of precondition_frequency

    grad is (runs, *shape), where `axes` are the axes of one run; step is t = 1, 2, ...;
    hyperparameters broadcast over grad. The first step only takes U and V from the eigenvectors of
    L and R. A kernel has a basis per axis, a vector has none. Returns the change to add to the
    parameter.
    """
    xp, lead, bases = namespace(grad), grad.ndim - len(axes), list(state[7:])
    mean = average(beta1, state.mean, grad)
    rotated = _rotated(grad, bases, lead, axes)
    square = average(beta2, state.square, rotated * rotated)
    direction = _rotated(mean, bases, lead, axes) / (xp.sqrt(square) + eps)
    is_first = step < 2
    taken = step - 1 + is_first  # 1 in the first step, whose averages and change are dropped
    size = bias_correction(beta2, taken, grad) ** 0.5 / bias_correction(beta1, taken, grad)
    change = -lr * size * _rotated(direction, bases, lead, axes, back=True)
    if any_run(is_first):
        change, mean, square = (
            choose(is_first, zeros_like(grad), value) for value in (change, mean, square)
        )
    is_due = (step > 1) & ((step - 1) % precondition_frequency == 0)
    after = SoapState(mean, square, *_products(grad, state, beta2, axes), *bases)
    return change, _with_new_bases(after, is_first, is_due, axes)


def _rotated(
    array: Array,
    bases: Sequence[Array | None],
    lead: int,
    axes: Sequence[int],
    *,
    back: bool = False,
) -> Array:
    """Return an array in the coordinates of the bases; or an array in these coordinates, back."""
    for basis, axis in zip(bases, axes, strict=False):
        if basis is not None:
            array = along(basis if back else basis.mT, array, lead, axis)
    return array


def _products(
    grad: Array, state: SoapState, beta2: Scalar, axes: Sequence[int]
) -> list[Array | None]:
    """Return the averages of products of gradients along each axis after a step."""
    lead, before = grad.ndim - len(axes), list(state[2:7])
    decay = of_matrices(beta2, lead)
    for place, axis in enumerate(axes[:5]):
        if before[place] is not None:
            before[place] = average(decay, before[place], gram(grad, lead, axis))
    return before


def _with_new_bases(
    state: SoapState, is_first: Scalar, is_due: Scalar, axes: Sequence[int]
) -> SoapState:
    """Return a state with eigenvectors in runs at their first step, and bases turned where due."""
    lead, square, bases = state.mean.ndim - len(axes), state.square, list(state[7:])
    for place, (product, axis) in enumerate(zip(state[2:7], axes, strict=False)):
        if product is None:
            continue
        if any_run(is_first):
            first = of_matrices(is_first, lead)
            bases[place] = choose(first, eigenbasis(product), bases[place])
        if any_run(is_due):
            basis, order = _turned(product, bases[place])
            bases[place] = choose(of_matrices(is_due, lead), basis, bases[place])
            square = choose(is_due, _ordered(square, order, lead, axis), square)
    return SoapState(state.mean, square, *state[2:7], *bases)


def eigenbasis(matrix: Array) -> Array:
    """Return orthonormal eigenvectors as columns, by descending eigenvalue, (runs, n, n).

    Eigenvalues that differ by less than `RESOLUTION` of the trace count as equal, and the basis of
    their eigenvectors is the one in which diag(√1, √2, ..., √n) is diagonal. So the result does not
    depend on how the eigenvectors were computed. It is NaN for a matrix that is not finite.

    Args:
        matrix: positive semidefinite, (runs, n, n).
    """
    xp, n = namespace(matrix), matrix.shape[-1]
    is_finite = xp.all(xp.isfinite(matrix), axis=(-2, -1), keepdims=True)
    wide = xp.astype(xp.where(is_finite, matrix, zeros_like(matrix)), xp.float64)
    values, vectors = xp.linalg.eigh(wide)
    least = RESOLUTION * xp.sum(values, axis=-1, keepdims=True)
    gaps = values[..., 1:] - values[..., :-1] > least
    below = xp.cumulative_sum(xp.astype(gaps, xp.float64), axis=-1, include_initial=True)
    is_equal = below[..., :, None] == below[..., None, :]
    marks = xp.sqrt(xp.arange(1, n + 1, dtype=wide.dtype, device=wide.device) / n)
    within = xp.where(is_equal, vectors.mT @ (marks[:, None] * vectors), xp.zeros_like(wide))
    apart = 2 * below[..., None, :] * xp.eye(n, dtype=wide.dtype, device=wide.device)
    _, turn = xp.linalg.eigh(within + apart)
    basis = xp.astype(_signed(xp.flip(vectors @ turn, axis=-1)), matrix.dtype)
    return xp.where(is_finite, basis, as_array(float("nan"), basis))


def _turned(matrix: Array, basis: Array) -> tuple[Array, Array]:
    """Take a step of power iteration; return the new basis and the old places of its columns.

    Columns are in the order of descending estimated eigenvalues; those that agree up to
    `RESOLUTION` of the trace keep their order. A multiple of the identity, which has the same
    eigenvectors, keeps the columns in which the matrix has no entries from being rounding errors.
    """
    xp = namespace(matrix)
    images = matrix @ basis
    values = xp.sum(basis * images, axis=-2)
    trace = xp.sum(values, axis=-1, keepdims=True)
    ridge = xp.where(trace > 0, RESOLUTION * trace, as_array(1.0, trace))
    order = xp.argsort(-xp.round(values / ridge), axis=-1, stable=True)
    turned, _ = xp.linalg.qr(_columns(images + ridge[..., None] * basis, order))
    return _signed(turned), order


def _columns(matrix: Array, order: Array) -> Array:
    """Return the columns of matrices, (runs, n, n), in an order, (runs, n)."""
    xp = namespace(matrix)
    places = xp.broadcast_to(order[..., None, :], matrix.shape)
    return xp.take_along_axis(matrix, places, axis=-1)


def _ordered(array: Array, order: Array, lead: int, axis: int) -> Array:
    """Return an array, (runs, *shape), with the slices along an axis in an order, (runs, n)."""
    xp = namespace(array)
    shape = [*array.shape[:lead], *(1 for _ in array.shape[lead:])]
    shape[axis] = array.shape[axis]
    places = xp.broadcast_to(xp.reshape(order, tuple(shape)), array.shape)
    return xp.take_along_axis(array, places, axis=axis)


def _signed(basis: Array) -> Array:
    """Return columns whose first component of the largest size is positive."""
    xp = namespace(basis)
    sizes = xp.round(xp.abs(basis) / RESOLUTION)  # rounding does not decide between equal ones
    place = xp.argmax(sizes, axis=-2, keepdims=True)
    return xp.where(xp.take_along_axis(basis, place, axis=-2) < 0, -basis, basis)


SOAP = replace(
    ADAMW,
    name="soap",
    title="SOAP",
    paper=(
        "Vyas, N., Morwani, D., Zhao, R., Shapira, I., Brandfonbrener, D., Janson, L. and Kakade, "
        "S. (2024). SOAP: Improving and Stabilizing Shampoo using Adam. ICLR 2025. "
        "arXiv:2409.11321, Algorithm 3."
    ),
    init=soap_start,
    update=soap,
    hyperparameters=(
        learning_rate(0.003),
        average_decay(
            "beta1", 0.95, "decay rate of the average of the gradient", "β₁", "betas", "b1"
        ),
        average_decay(
            "beta2", 0.95, "decay rate of the averages of squares and products", "β₂", "betas", "b2"
        ),
        epsilon(1e-8),
        Hyperparameter(
            name="precondition_frequency",
            default=10.0,
            meaning="number of steps from one update of the bases to the next",
            symbol="f",
            low=1.0,
            whole=True,
            aliases=("frequency", "update_freq"),
        ),
    ),
    equations=equations_of(soap),
    plain_equations=(),
    symbols={
        **ADAMW.symbols,
        "m": "running average of the gradient; starts at 0",
        "v": "running average of the squared gradient in the coordinates of U and V; starts at 0",
        "L": "running average of g·gᵀ: rows with rows; starts at 0",
        "R": "running average of gᵀ·g: columns with columns; starts at 0",
        "U": "orthonormal basis near the eigenvectors of L",
        "V": "orthonormal basis near the eigenvectors of R",
        "d": "the direction of Adam in these coordinates, turned back",
        "qr": "the orthonormal factor of a QR decomposition",
    },
    state={
        "mean": "m, running average of the gradient",
        "square": "v, running average of the squared gradient in the coordinates of U and V",
    },
    reduced_state={
        "axis_1": "L, a square matrix of the rows",
        "axis_2": "R, a square matrix of the columns",
        "basis_1": "U, a square matrix of the rows",
        "basis_2": "V, a square matrix of the columns",
    },
    scaling=(
        "divided by the root of the running average of squared gradients, in the coordinates of "
        "the eigenvectors of Shampoo's matrices"
    ),
    epsilon="added to the root of an average that is not corrected",
    conventions=(
        "As the authors' code (nikhilvyas/SOAP), with its defaults: the first step only measures; "
        "the averages of Adam begin with the second; the gradient is rotated into the bases of the "
        "previous step; v is reordered with the columns when eigenvalues change places, but is not "
        "rotated with them. Biases and other vectors take the steps of AdamW, one step later. "
        "Kernels have one basis per axis; axes longer than 10,000, and those after the fifth, have "
        "none. Decoupled decay comes before the step, and in the first step too; the authors decay "
        "after it. The signs of the columns do not affect a step: the largest component is "
        "positive. Eigenvectors of equal eigenvalues, such as those of all directions that have "
        "had no gradient yet, are whatever a library returns in the authors' code; here they are "
        "those in which diag(√1, √2, ...) is diagonal, so that a run is the same everywhere. "
        "Eigenvalues are equal if they differ by less than 1e-5 of their sum. For the same reason "
        "the QR step adds 1e-5 of the sum to the diagonal, which leaves eigenvectors alone; in "
        "float32, whose errors turn eigenvectors by up to a hundredth, runs agree between engines "
        "as far as their losses. The authors compute QR in float32, optrial in the precision of "
        "the parameters."
    ),
    contrasts={
        "shampoo": (
            "Shampoo multiplies by inverse roots of both matrices. SOAP only takes their "
            "eigenvectors as coordinates, for several steps, and scales each of these by Adam's "
            "own average, which is up to date in every step."
        ),
        "adamw": "AdamW scales the coordinates of the parameter itself.",
    },
    generalises=(),
    coincides_with=(),
    torch_optim=None,
    default_weight_decay=0.01,
    needs=("axes",),
    capturable=False,
)
