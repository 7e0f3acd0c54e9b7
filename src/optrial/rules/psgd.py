"""PSGD with Kronecker factors: a preconditioner fitted to pairs of gradients and random probes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from optrial.rules.adam import bias_correction
from optrial.rules.arrays import (
    Array,
    Scalar,
    any_run,
    as_array,
    average,
    choose,
    is_array,
    namespace,
    norm,
    zeros_like,
)
from optrial.rules.draws import Draws
from optrial.rules.hyperparameters import (
    PARAMETER,
    RAW_GRADIENT,
    STEP,
    learning_rate,
    momentum,
)
from optrial.rules.matrices import along, identities, unfolded
from optrial.rules.rule import Hyperparameter, Rule, equations_of

__all__ = ["PSGD_KRON", "KronState"]

LONGEST = 8192
"""Length of an axis above which its factor is a diagonal."""

BALANCED = 0.01
"""Probability that an update of the factors first gives them equal norms."""

TINY = 2.0**-126
"""Added to divisors; the smallest normal number of float32."""


class KronState(NamedTuple):
    """State of PSGD for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    since: Array  # (runs, 1, ..., 1), steps since the last update of the factors
    scale: Array | None  # (runs, *shape), diagonal factor of a vector; None for a matrix
    factor_1: Array | None  # (runs, length, length), upper triangular; (runs, length), a diagonal
    factor_2: Array | None
    factor_3: Array | None
    factor_4: Array | None
    factor_5: Array | None


def kron_start(param: Array, *, axes: Sequence[int], **_: object) -> KronState:
    """Return an average of zero and factors of ones; `axes` are those of one run."""
    xp, lead = namespace(param), param.shape[: param.ndim - len(axes)]
    kind = {"dtype": param.dtype, "device": param.device}
    mean, since = zeros_like(param), xp.zeros((*lead, *(1 for _ in axes)), **kind)
    if len(axes) < 2:
        return KronState(mean, since, xp.ones_like(param), *[None] * 5)
    factors = [
        xp.ones((*lead, param.shape[axis]), **kind) if matrix is None else matrix
        for matrix, axis in zip(identities(param, axes, LONGEST), axes, strict=False)
    ]
    return KronState(mean, since, None, *factors, *[None] * (5 - len(factors)))


def psgd_kron(
    grad: Array,
    state: KronState,
    step: Scalar,
    *,
    axes: Sequence[int],
    draws: Draws,
    lr: Scalar,
    momentum: Scalar,
    factor_lr: Scalar,
    update_prob: Scalar,
    full_updates: Scalar,
) -> tuple[Array, KronState]:
    """One step of PSGD: Li 2018 and 2022, with Kronecker factors as in the package kron_torch.

        m ← momentum·m + (1 − momentum)·g
        h ← m / (1 − momentum^t)
        p = max(update_prob, min(1, exp((full_updates + 1 − t) / 1000)))
        n ← n + 1
        A ← U·h·Vᵀ                                                      if n·p ≥ 1
        B ← inv(U)ᵀ·z·inv(V)                                            if n·p ≥ 1
        U ← U − factor_lr·triu(A·Aᵀ − B·Bᵀ)·U / bound(A·Aᵀ + B·Bᵀ)      if n·p ≥ 1
        V ← V − factor_lr·triu(Aᵀ·A − Bᵀ·B)·V / bound(Aᵀ·A + Bᵀ·B)      if n·p ≥ 1
        n ← 0                                                           if n·p ≥ 1
        d ← Uᵀ·U·h·Vᵀ·V
        θ ← θ − lr·min(1, 1.1 / (rms(d) + 10^(−6)))·d

    grad is (runs, *shape), where `axes` are the axes of one run; step is t = 1, 2, ...; `draws`
    gives z; hyperparameters broadcast over grad. A kernel has a factor per axis, a vector one
    number per element. Returns the change to add to the parameter.
    """
    xp, lead = namespace(grad), grad.ndim - len(axes)
    mean = average(momentum, state.mean, grad)
    ahead = mean / bias_correction(momentum, step, grad)
    falling = as_array((full_updates + 1 - step) / 1000, grad)
    share = xp.exp(xp.minimum(falling, zeros_like(falling)))
    since = state.since + 1
    # 20 times 0.05 may be just below 1.
    is_due = since * xp.maximum(share, as_array(update_prob, grad)) >= 1 - 1e-6
    after = KronState(mean, since, *state[2:])
    if any_run(is_due):
        after = _fitted(after, ahead, is_due, draws, axes, factor_lr)
    direction = ahead if after.scale is None else after.scale * after.scale * ahead
    for factor, axis in zip(after[3:], axes, strict=False):
        if factor is not None:
            direction = _product(factor, direction, lead, axis)
            direction = _product(factor, direction, lead, axis, transposed=True)
    size = norm(direction, axes) / max(1, math.prod(grad.shape[lead:])) ** 0.5
    limit = xp.minimum(1.1 / (size + 1e-6), xp.ones_like(size))
    return -lr * limit * direction, after


def _fitted(
    state: KronState,
    ahead: Array,
    is_due: Array,
    draws: Draws,
    axes: Sequence[int],
    factor_lr: Scalar,
) -> KronState:
    """Return a state whose factors have taken a step in the runs that are due."""
    lead, probe = ahead.ndim - len(axes), draws.normal()
    since = choose(is_due, zeros_like(state.since), state.since)
    if state.scale is not None:
        plus, minus = (state.scale * ahead) ** 2, (probe / state.scale) ** 2
        step = factor_lr * (plus - minus) / (_largest(plus + minus, axes) + TINY)
        scale = choose(is_due, state.scale - step * state.scale, state.scale)
        return KronState(state.mean, since, scale, *state[3:])
    is_balanced = is_due & (draws.uniform() < BALANCED)
    kept = [factor for factor in state[3:] if factor is not None]
    before = [
        choose(_of_factor(is_balanced, old, lead), new, old)
        for old, new in zip(kept, _balanced(kept, lead), strict=True)
    ]
    forward, inverse = ahead, probe
    for factor, axis in zip(before, axes, strict=False):
        forward = _product(factor, forward, lead, axis)
        inverse = _quotient(factor, inverse, lead, axis)
    moved = [
        choose(
            _of_factor(is_due, factor, lead),
            _moved(factor, unfolded(forward, lead, axis), unfolded(inverse, lead, axis), factor_lr),
            factor,
        )
        for factor, axis in zip(before, axes, strict=False)
    ]
    return KronState(state.mean, since, None, *moved, *[None] * (5 - len(moved)))


def _moved(factor: Array, forward: Array, inverse: Array, factor_lr: Scalar) -> Array:
    """Return a factor after a step.

    Args:
        factor: (runs, n, n) or its diagonal, (runs, n).
        forward: gradients times all factors, unfolded, (runs, n, the rest).
        inverse: probes divided by all factors, likewise.
        factor_lr: learning rate of the factors.
    """
    xp, lead = namespace(factor), forward.ndim - 2
    rate = _of_factor(factor_lr, factor, lead)
    if factor.ndim == lead + 1:
        plus, minus = (xp.sum(part * part, axis=-1) for part in (forward, inverse))
        return factor - rate * (plus - minus) / (_largest(plus + minus, (-1,)) + TINY) * factor
    plus, minus = (part @ part.mT for part in (forward, inverse))
    bound = _norm_bound(plus + minus)
    return factor - rate * xp.triu(plus - minus) / (bound + TINY) @ factor


def _norm_bound(matrix: Array) -> Array:
    """Return a lower bound of the spectral norm of symmetric matrices, (runs, 1, 1).

    It is the size of the matrix on its image of its largest row.
    """
    xp = namespace(matrix)
    most = _largest(xp.abs(matrix), (-2, -1))
    scaled = matrix / xp.where(most > 0, most, xp.ones_like(most))
    place = xp.argmax(xp.sum(scaled * scaled, axis=-1), axis=-1, keepdims=True)
    rows = xp.broadcast_to(place[..., None], (*matrix.shape[:-2], 1, matrix.shape[-1]))
    image = xp.take_along_axis(scaled, rows, axis=-2) @ scaled
    image = image / (norm(image, (-1,)) + TINY)
    return most * norm(image @ scaled, (-1,))


def _balanced(factors: Sequence[Array], lead: int) -> list[Array]:
    """Return factors with the same largest element, whose product is that of before."""
    sizes = [_largest(abs(factor), tuple(range(lead, factor.ndim))) for factor in factors]
    sizes = [namespace(size).reshape(size, size.shape[:lead]) for size in sizes]
    mean = math.prod(sizes) ** (1 / len(sizes))
    return [
        factor * _of_factor(mean / size, factor, lead)
        for factor, size in zip(factors, sizes, strict=True)
    ]


def _product(
    factor: Array, array: Array, lead: int, axis: int, *, transposed: bool = False
) -> Array:
    """Return a factor times every vector along an axis."""
    if factor.ndim == lead + 1:
        return array * _along_axis(factor, array, lead, axis)
    return along(factor.mT if transposed else factor, array, lead, axis)


def _quotient(factor: Array, array: Array, lead: int, axis: int) -> Array:
    """Return the inverse transpose of a factor times every vector along an axis."""
    if factor.ndim == lead + 1:
        return array / _along_axis(factor, array, lead, axis)
    xp = namespace(array)
    moved = xp.moveaxis(array, axis, lead)
    columns = unfolded(array, lead, axis)
    solve = getattr(xp.linalg, "solve_triangular", None)
    solved = (
        solve(factor.mT, columns, upper=False) if solve else xp.linalg.solve(factor.mT, columns)
    )
    return xp.moveaxis(xp.reshape(solved, moved.shape), lead, axis)


def _along_axis(diagonal: Array, array: Array, lead: int, axis: int) -> Array:
    """Return a diagonal, (runs, n), that broadcasts along an axis of an array."""
    shape = [*array.shape[:lead], *(1 for _ in array.shape[lead:])]
    shape[axis] = array.shape[axis]
    return namespace(array).reshape(diagonal, tuple(shape))


def _of_factor(value: Scalar, factor: Array, lead: int) -> Scalar:
    """Return a number of each run that broadcasts over a factor."""
    if not is_array(value):
        return value
    array: Array = value
    shape = *array.shape[:lead], *(1 for _ in factor.shape[lead:])
    return namespace(factor).reshape(array, shape)


def _largest(array: Array, axes: Sequence[int]) -> Array:
    """Return the largest element over axes, which are kept with length 1."""
    return namespace(array).max(array, axis=tuple(axes), keepdims=True) if axes else array


PSGD_KRON = Rule(
    name="psgd_kron",
    title="PSGD Kron",
    paper=(
        "Li, X.-L. (2018). Preconditioned Stochastic Gradient Descent. IEEE Transactions on Neural "
        "Networks and Learning Systems 29(5). arXiv:1512.04202; Li, X.-L. "
        "(2022). Black Box Lie Group Preconditioners for SGD. arXiv:2211.04422."
    ),
    init=kron_start,
    update=psgd_kron,
    hyperparameters=(
        learning_rate(0.001),
        momentum(0.9, "decay rate of the average of the gradient"),
        Hyperparameter(
            name="factor_lr",
            default=0.1,
            meaning="learning rate of the factors, as a share of the longest stable step",
            symbol="ρ",
            high=1.0,
            scale="log",
            aliases=("precondition_lr", "preconditioner_lr"),
        ),
        Hyperparameter(
            name="update_prob",
            default=0.03,
            meaning="least share of steps that update the factors",
            symbol="π",
            low_open=True,
            high=1.0,
            scale="log",
            aliases=("preconditioner_update_probability", "min_prob"),
        ),
        Hyperparameter(
            name="full_updates",
            default=500.0,
            meaning="number of steps at the start that all update the factors",
            symbol="T",
            whole=True,
            aliases=("flat_start",),
        ),
    ),
    equations=equations_of(psgd_kron),
    symbols=PARAMETER
    | RAW_GRADIENT
    | STEP
    | {
        "m": "running average of the gradient; starts at 0",
        "h": "the average, corrected for its start",
        "p": "share of steps that update the factors",
        "n": "steps since the last update of the factors; starts at 0",
        "z": "standard normal probe of the parameter's shape, keyed by seed, step and parameter",
        "A": "the gradient times the factors",
        "B": "the probe divided by the factors",
        "U": "upper triangular factor of the rows; starts at the identity",
        "V": "upper triangular factor of the columns; starts at the identity",
        "d": "the preconditioned gradient",
        "inv": "the inverse",
        "triu": "the upper triangle, with the diagonal",
        "bound": "lower bound of the spectral norm, from two products with the largest row",
        "rms": "root of the mean square",
    },
    state={"mean": "m, running average of the gradient"},
    reduced_state={
        "since": "n, steps since the last update of the factors",
        "factor_1": "U, a triangular matrix of the rows",
        "factor_2": "V, a triangular matrix of the columns",
    },
    direction="the preconditioned running average of the gradient",
    step_scale="the learning rate alone",
    scaling=(
        "multiplied by factors that are fitted until preconditioned gradients look like white "
        "noise; a step has at most a root mean square of 1.1·lr"
    ),
    bias_correction="of the average of the gradient",
    epsilon="10⁻⁶ beside the root mean square; 2⁻¹²⁶ beside the bounds",
    conventions=(
        "As Kron of the package pytorch_optimizer, a port of evanatyourservice/kron_torch, whose "
        "own lr is 0.0003 by default. The author's lixilinx/psgd_torch has since switched to other "
        "updates of the factors, without triangular systems. The factors are fitted to the "
        "corrected average; updates are due when the steps since the last one reach 1 / p; with a "
        "probability of 0.01, an update first gives the factors of a parameter the same largest "
        "element. All parameters of a run share this draw. It and the probes are functions of "
        "seed, step and name, so a run is the same in every engine and stack. Kernels have one "
        "factor for each of their first five axes; the factors of axes longer than 8192 are "
        "diagonal, and vectors have one number per element. The package decays matrices only, and "
        "fits in float32; here weight decay acts on all parameters that a study decays, and fits "
        "are in the precision of the parameters."
    ),
    contrasts={
        "shampoo": (
            "Shampoo computes roots of sums of products of gradients. PSGD learns triangular "
            "factors by small multiplicative steps, without eigenvalues, from pairs of a gradient "
            "and a random probe."
        ),
        "soap": (
            "SOAP scales coordinates by an average of squares. PSGD's factors take the place of "
            "both rotation and scale, and its steps need no second moments."
        ),
    },
    default_decay="decoupled",
    needs=("axes", "draws"),
    capturable=False,
)
