"""Muon: orthogonalised momentum for matrices, AdamW for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from optrial.rules.adam import AdamState, adam
from optrial.rules.arrays import Array, Scalar, as_array, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import (
    PARAMETER,
    RAW_GRADIENT,
    average_decay,
    epsilon,
    learning_rate,
    momentum,
)
from optrial.rules.rule import Hyperparameter, Rule, equations_of

__all__ = ["MUON", "MuonState", "orthogonalise"]

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class MuonState(NamedTuple):
    """State of Muon for a matrix, or of AdamW for a vector."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array | None  # (runs, length), running average of its square; None for a matrix


def muon_start(param: Array, *, axes: Sequence[int], **_: object) -> MuonState:
    """Return averages of zero; `axes` are those of one run."""
    is_matrix = len(axes) > 1
    return MuonState(mean=zeros_like(param), square=None if is_matrix else zeros_like(param))


def muon(
    grad: Array,
    state: MuonState,
    step: Scalar,
    *,
    axes: Sequence[int],
    lr: Scalar,
    momentum: Scalar,
    match_rms: Scalar,
    vector_lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, MuonState]:
    """One step of Muon: Jordan et al. 2024, as in torch.optim; of AdamW if grad is a vector.

        m ← momentum·m + (1 − momentum)·g
        X ← (1 − momentum)·g + momentum·m
        X ← X / max(‖X‖, eps)
        X ← 3.4445·X − 4.7750·X·Xᵀ·X + 2.0315·(X·Xᵀ)²·X    five times
        θ ← θ − 0.2·lr·√max(R, C) · X                      if match_rms
        θ ← θ − lr·√max(1, R / C) · X                      otherwise
        θ ← AdamW(lr·vector_lr, beta1, beta2, eps)         if θ is a vector

    grad is (runs, *shape), where `axes` are the axes of one run; the kernels of a convolution are
    flattened to (outputs, the rest). Hyperparameters broadcast over grad; `match_rms` is true or
    false, or 1 or 0 in an array. Returns the change to add to the parameter.
    """
    if state.square is not None:
        change, (mean, square) = adam(
            grad, AdamState(*state), step, lr=lr * vector_lr, beta1=beta1, beta2=beta2, eps=eps
        )
        return change, MuonState(mean, square)
    mean = average(momentum, state.mean, grad)
    ahead = (1 - momentum) * grad + momentum * mean
    flat = namespace(grad).reshape(ahead, (*grad.shape[: axes[0] + 1], -1))
    direction = namespace(grad).reshape(orthogonalise(flat, eps), grad.shape)
    *_, rows, columns = flat.shape
    matched, original = 0.2 * max(rows, columns) ** 0.5, max(1.0, rows / columns) ** 0.5
    size = match_rms * matched + (1 - match_rms) * original
    return -lr * size * direction, MuonState(mean, None)


def orthogonalise(matrix: Array, eps: Scalar) -> Array:
    """Bring all singular values near 1: five steps of a Newton-Schulz iteration of degree five.

    The coefficients are chosen for speed, not for convergence: singular values end between 0.7 and
    1.2. matrix is (runs, rows, columns); eps is a number, or (runs, 1, ..., 1).
    """
    wide = matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT
    a, b, c = COEFFICIENTS
    floor = as_array(eps, matrix)
    if floor.ndim:
        floor = namespace(matrix).reshape(floor, (*floor.shape[: matrix.ndim - 2], 1, 1))
    x = wide / namespace(matrix).maximum(norm(wide, (-2, -1)), floor)
    for _ in range(ITERATIONS):
        y = x @ x.mT
        x = a * x + (b * y + c * (y @ y)) @ x
    return x if wide is matrix else x.mT


MUON = Rule(
    name="muon",
    title="Muon",
    paper=(
        "Jordan, K., Jin, Y., Boza, V., You, J., Cesista, F., Newhouse, L. and Bernstein, J. "
        "(2024). Muon: An optimizer for hidden layers in neural networks. "
        "kellerjordan.github.io/posts/muon; scale of the step: Liu, J. et al. (2025). Muon is "
        "Scalable for LLM Training. arXiv:2502.16982."
    ),
    init=muon_start,
    update=muon,
    hyperparameters=(
        learning_rate(0.001),
        momentum(0.95, "decay rate of the average of the gradient"),
        Hyperparameter(
            name="match_rms",
            default=True,
            meaning="match the typical size of AdamW's steps, so that its lr carries over",
            high=1.0,
            scale="switch",
            aliases=("adjust_lr_fn",),
        ),
        Hyperparameter(
            name="vector_lr",
            default=1.0,
            meaning="learning rate of vectors, as a multiple of lr",
            symbol="κ",
            low_open=True,
            scale="log",
            aliases=("adamw_lr", "aux_lr", "adam_lr_ratio"),
        ),
        average_decay(
            "beta1",
            0.9,
            "decay rate of the first-moment average of vectors",
            "β₁",
            "betas",
            "b1",
            "adam_beta_1",
        ),
        average_decay(
            "beta2",
            0.95,
            "decay rate of the second-moment average of vectors",
            "β₂",
            "betas",
            "b2",
            "adam_beta_2",
        ),
        epsilon(1e-7),
    ),
    equations=equations_of(muon),
    symbols=PARAMETER
    | RAW_GRADIENT
    | {
        "m": "running average of the gradient; starts at 0",
        "X": "the average one step ahead; then the same with all singular values near 1",
        "R": "rows of the matrix: outputs of the layer",
        "C": "columns of the matrix: inputs of the layer, times the area of a kernel",
    },
    state={"mean": "m, running average of the gradient"},
    direction="the running average of the gradient, one step ahead",
    scaling=(
        "all singular directions of a matrix move by about the same amount; vectors as in AdamW"
    ),
    bias_correction="none for matrices; both averages for vectors",
    epsilon="lower bound on the norm of a matrix; for vectors as in AdamW",
    conventions=(
        "For matrices as torch.optim.Muon, with Nesterov momentum and five iterations, but in the "
        "precision of the parameters; torch iterates in bfloat16. In a study, embeddings and the "
        "last linear layer are left to AdamW, as the authors do; every other parameter with two or "
        "more axes is a matrix, and "
        "the kernels of a convolution are flattened to outputs × the rest. Biases and other "
        "vectors take AdamW's step and keep one more array. With match_rms (Liu et al.) one lr "
        "suits both; without it, steps are those of Jordan et al., who use lr = 0.02, and 3e-4 for "
        "vectors (vector_lr = 0.015). torch.optim defaults to no matching and takes matrices only."
    ),
    default_weight_decay=0.1,
    default_decay="decoupled",
    needs=("axes",),
    as_vectors=("embedding", "head"),  # Jordan et al. leave both to AdamW
)
