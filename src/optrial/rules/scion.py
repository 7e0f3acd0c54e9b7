"""Scion: steps of fixed size in a norm that suits each layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import (
    PARAMETER,
    RAW_GRADIENT,
    epsilon,
    learning_rate,
    momentum,
)
from optrial.rules.muon import orthogonalise
from optrial.rules.rule import Rule, equations_of

__all__ = ["SCION", "ScionState"]

LEAST_NORM = 1e-7
"""Lower bound on the norm of a matrix that is orthogonalised."""


class ScionState(NamedTuple):
    """State of Scion for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient


def scion_start(param: Array, **_: object) -> ScionState:
    """Return an average of zero."""
    return ScionState(mean=zeros_like(param))


def scion(
    grad: Array,
    state: ScionState,
    _step: Scalar,
    *,
    axes: Sequence[int],
    lr: Scalar,
    momentum: Scalar,
    eps: Scalar,
) -> tuple[Array, ScionState]:
    """One step of unconstrained Scion: Pethick et al. 2025, Algorithm 1.

        m ← momentum·m + (1 − momentum)·g
        X ← m / max(‖m‖, 10^(−7))
        X ← 3.4445·X − 4.7750·X·Xᵀ·X + 2.0315·(X·Xᵀ)²·X    five times
        θ ← θ − lr·√(R / C) · X / K                        if θ is a matrix
        θ ← θ − lr · m / (rms(m) + eps)                    if θ is a vector

    grad is (runs, *shape), where `axes` are the axes of one run; the kernels of a convolution are
    flattened to (outputs, the rest). Hyperparameters broadcast over grad. Returns the change to add
    to the parameter.
    """
    mean = average(momentum, state.mean, grad)
    if len(axes) < 2:
        size = prod([grad.shape[axis] for axis in axes])
        return -lr * mean / (norm(mean, axes) / size**0.5 + eps), ScionState(mean)
    shape = (*grad.shape[: grad.ndim + axes[0] + 1], -1)
    flat = orthogonalise(namespace(grad).reshape(mean, shape), LEAST_NORM)
    outputs, inputs, *area = (grad.shape[axis] for axis in axes)
    scale = (outputs / inputs) ** 0.5 / prod(area)
    return -lr * scale * namespace(grad).reshape(flat, grad.shape), ScionState(mean)


SCION = Rule(
    name="scion",
    title="Scion",
    paper=(
        "Pethick, T., Xie, W., Antonakopoulos, K., Zhu, Z., Silveti-Falls, A. and Cevher, V. "
        "(2025). Training Deep Learning Models with Norm-Constrained LMOs. ICML. "
        "arXiv:2502.07529, Algorithm 1."
    ),
    init=scion_start,
    update=scion,
    hyperparameters=(
        learning_rate(0.001),
        momentum(0.9, "decay rate of the average of the gradient"),
        epsilon(1e-8),
    ),
    equations=equations_of(scion),
    symbols=PARAMETER
    | RAW_GRADIENT
    | {
        "m": "running average of the gradient; starts at 0",
        "X": "the average with all singular values near 1",
        "R": "rows of the matrix: outputs of the layer",
        "C": "columns of the matrix: inputs of the layer",
        "K": "area of a kernel; 1 for a matrix",
        "rms": "root mean square over a vector, or over a row of an embedding",
    },
    state={"mean": "m, running average of the gradient"},
    direction="the running average of the gradient",
    step_scale="the learning rate alone",
    scaling=(
        "all singular directions of a matrix move by about the same amount, which depends on its "
        "shape; vectors move by a root mean square of lr"
    ),
    epsilon="added to the root mean square of a vector",
    conventions=(
        "The momentum is a decay rate; the authors write its complement. Matrices and kernels take "
        "the spectral norm, biases and the rows of embeddings the root mean square; the last "
        "linear layer is a matrix, for which the paper also offers the sign. The radius of the "
        "paper is part of lr. Constrained Scion of radius ρ and rate γ is lr = γ·ρ with decoupled "
        "weight_decay = 1 / ρ. The iteration runs in the precision of the parameters; the authors "
        "use bfloat16."
    ),
    contrasts={
        "muon": (
            "Both orthogonalise an average of the gradient. Scion scales matrices by the root of "
            "outputs over inputs, and moves vectors by steps of fixed size too, so that one lr "
            "carries over between widths; Muon steps one gradient ahead and leaves vectors to "
            "AdamW."
        )
    },
    default_decay="decoupled",
    needs=("axes",),
    as_vectors=("embedding",),
)
