"""NorMuon: Muon whose orthogonalised momentum is scaled row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import AdamState, adam
from optrial.rules.arrays import Array, Scalar, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import average_decay, epsilon
from optrial.rules.muon import MUON, orthogonalise
from optrial.rules.rule import equations_of

__all__ = ["NORMUON", "NormuonState"]

LEAST_NORM = 1e-7
"""Lower bound on the norm of a matrix that is orthogonalised, as in Muon."""


class NormuonState(NamedTuple):
    """State of NorMuon for a matrix, or of AdamW for a vector."""

    mean: Array  # (runs, *shape), running average of the gradient
    row: Array | None  # (runs, rows, 1, ..., 1), of a row's squared directions; None for a vector
    square: Array | None  # (runs, length), average of the squared gradient; None for a matrix


def normuon_start(param: Array, *, axes: Sequence[int], **_: object) -> NormuonState:
    """Return averages of zero; `axes` are those of one run."""
    if len(axes) < 2:
        return NormuonState(zeros_like(param), None, zeros_like(param))
    rows = namespace(param).mean(zeros_like(param), axis=tuple(axes[1:]), keepdims=True)
    return NormuonState(zeros_like(param), rows, None)


def normuon(
    grad: Array,
    state: NormuonState,
    step: Scalar,
    *,
    axes: Sequence[int],
    lr: Scalar,
    momentum: Scalar,
    row_beta: Scalar,
    match_rms: Scalar,
    vector_lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, NormuonState]:
    """One step of NorMuon: Li et al. 2025, Algorithm 1; of AdamW if grad is a vector.

        m ← momentum·m + (1 − momentum)·g
        X ← (1 − momentum)·g + momentum·m
        X ← X / max(‖X‖, 10^(−7))
        X ← 3.4445·X − 4.7750·X·Xᵀ·X + 2.0315·(X·Xᵀ)²·X     five times
        v ← row_beta·v + (1 − row_beta)·mean(X²)             over each row
        Y ← X / (√v + eps)
        θ ← θ − 0.2·lr·√(R·C) · Y / (‖Y‖ + eps)              if match_rms
        θ ← θ − lr·√max(1, R / C)·‖X‖ · Y / (‖Y‖ + eps)      otherwise
        θ ← AdamW(lr·vector_lr, beta1, beta2, eps)           if θ is a vector

    grad is (runs, *shape), where `axes` are the axes of one run; the kernels of a convolution are
    flattened to (outputs, the rest). Hyperparameters broadcast over grad; `match_rms` is true or
    false, or 1 or 0 in an array. Returns the change to add to the parameter.
    """
    if state.row is None:
        change, (mean, square) = adam(
            grad,
            AdamState(state.mean, state.square),
            step,
            lr=lr * vector_lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
        )
        return change, NormuonState(mean, None, square)
    xp = namespace(grad)
    mean = average(momentum, state.mean, grad)
    ahead = (1 - momentum) * grad + momentum * mean
    flat = xp.reshape(ahead, (*grad.shape[: grad.ndim + axes[0] + 1], -1))
    direction = xp.reshape(orthogonalise(flat, LEAST_NORM), grad.shape)
    squares = xp.mean(direction * direction, axis=tuple(axes[1:]), keepdims=True)
    row = average(row_beta, state.row, squares)
    scaled = direction / (xp.sqrt(row) + eps)
    *_, rows, columns = flat.shape
    matched = 0.2 * (rows * columns) ** 0.5
    kept = max(1.0, rows / columns) ** 0.5 * norm(direction, axes)
    size = (match_rms * matched + (1 - match_rms) * kept) / (norm(scaled, axes) + eps)
    return -lr * size * scaled, NormuonState(mean, row, None)


NORMUON = replace(
    MUON,
    name="normuon",
    title="NorMuon",
    paper=(
        "Li, Z., Liu, L., Liang, C., Chen, W. and Zhao, T. (2025). NorMuon: Making Muon more "
        "efficient and scalable. arXiv:2510.05491, Algorithm 1."
    ),
    init=normuon_start,
    update=normuon,
    hyperparameters=(
        *MUON.hyperparameters[:2],
        average_decay(
            "row_beta", 0.95, "decay rate of the average of squared directions of a row", "ρ"
        ),
        *MUON.hyperparameters[2:-1],
        epsilon(1e-10),
    ),
    equations=equations_of(normuon),
    symbols={
        **MUON.symbols,
        "v": "running average of the mean square of each row of X; starts at 0",
        "Y": "X, scaled so that rows move by about the same",
    },
    reduced_state={"row": "v, one number per row of a matrix"},
    scaling=(
        "all singular directions of a matrix, and then all its rows, move by about the same "
        "amount; vectors as in AdamW"
    ),
    epsilon="added to the root of the average of a row; for vectors as in AdamW",
    conventions=(
        "As Algorithm 1 of the paper with match_rms; without it, the change keeps the norm of the "
        "orthogonalised momentum, as in the authors' code. The iteration runs in the precision of "
        "the parameters; the authors use bfloat16. Embeddings, the last linear layer, kernels and "
        "vectors are treated as by muon."
    ),
    contrasts={
        "muon": (
            "Muon's orthogonalised steps may still move some rows, the neurons of a layer, much "
            "more than others; NorMuon divides each row by the root of a running average of its "
            "squares, one number per row, and then restores the norm of the whole matrix."
        )
    },
)
