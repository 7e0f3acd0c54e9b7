"""Muon: momentum whose singular values are all brought near 1, for matrices; AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optrial.rules.adam import AdamState, adam
from optrial.rules.arrays import Array, as_array, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import PARAMETER, average_decay, learning_rate, momentum
from optrial.rules.rule import Hyperparameter, Rule

__all__ = ["MUON", "MuonState", "orthogonalise"]

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class MuonState(NamedTuple):
    """What Muon remembers of each matrix, and AdamW of each vector."""

    mean: Array  # (runs, *shape), running average of the gradient
    square: Array | None  # (runs, length), running average of its square; None of a matrix


def muon_start(param: Array, *, axes: Sequence[int], **_: Any) -> MuonState:
    """Return averages of zero; `axes` are those of one run."""
    is_matrix = len(axes) > 1
    return MuonState(mean=zeros_like(param), square=None if is_matrix else zeros_like(param))


def muon(
    grad: Array,
    state: MuonState,
    step: Any,
    *,
    axes: Sequence[int],
    lr: Any,
    momentum: Any,
    match_rms: Any,
    vector_lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
) -> tuple[Array, MuonState]:
    """One step of Muon: Jordan et al. 2024, as in torch.optim; of AdamW where grad is a vector.

    m <- momentum m + (1 - momentum) g      d = (1 - momentum) g + momentum m
    change = -lr size orthogonalise(d)
    size = 0.2 sqrt(max(rows, columns)) if match_rms, otherwise sqrt(max(1, rows / columns))

    grad is (runs, *shape), of which `axes` are one run's; convolution kernels are flattened to
    (outputs, the rest). Each hyperparameter broadcasts over it; `match_rms` is true or false, or 1
    or 0 in an array. Vectors take AdamW's step with lr vector_lr, beta1, beta2 and eps. Returns
    the change to add to the parameter.
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


def orthogonalise(matrix: Array, eps: Any) -> Array:
    """Bring all singular values near 1: five steps of a Newton-Schulz iteration of degree five.

    x <- a x + (b y + c y^2) x with y = x x^T, from x = matrix / max(|matrix|, eps). The
    coefficients are chosen for speed, not for convergence: singular values end within 0.7 and 1.2.

    matrix is (runs, rows, columns); eps is a number or, over the runs, (runs, 1, ..., 1).
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
        "kellerjordan.github.io/posts/muon; size of the step: Liu, J. et al. (2025). Muon is "
        "Scalable for LLM Training. arXiv:2502.16982."
    ),
    init=muon_start,
    update=muon,
    hyperparameters=(
        learning_rate(0.001),
        momentum(0.95),
        Hyperparameter(
            name="match_rms",
            default=True,
            meaning="whether steps are as large as AdamW's usually are, so that its lr fits",
            high=1.0,
            scale="switch",
            aliases=("adjust_lr_fn",),
        ),
        Hyperparameter(
            name="vector_lr",
            default=1.0,
            meaning="learning rate of vectors, as a multiple of lr",
            low_open=True,
            scale="log",
            aliases=("adamw_lr", "aux_lr"),
        ),
        average_decay("beta1", 0.9, "average of a vector's gradient", ("betas", "b1")),
        average_decay("beta2", 0.95, "average of its square", ("betas", "b2")),
        Hyperparameter(
            name="eps",
            default=1e-7,
            meaning="small number that keeps the divisions finite",
            scale="log",
            aliases=("epsilon",),
        ),
    ),
    equations=(
        "m ← momentum·m + (1 − momentum)·g",
        "X ← (1 − momentum)·g + momentum·m",
        "X ← X / max(‖X‖, eps)",
        "X ← 3.4445·X − 4.7750·Y·X + 2.0315·Y·Y·X    with Y = X·Xᵀ, five times",
        "θ ← θ − lr · 0.2·√max(R, C) · X             if match_rms",
        "θ ← θ − lr · √max(1, R / C) · X             otherwise",
        "θ ← AdamW(lr·vector_lr, beta1, beta2, eps)  if θ is a vector",
    ),
    equations_latex=(
        r"m &\leftarrow \mu m + (1 - \mu) g \\"
        "\n"
        r"X &\leftarrow (1 - \mu) g + \mu m, \quad "
        r"X \leftarrow X / \max(\lVert X\rVert, \varepsilon) \\"
        "\n"
        r"X &\leftarrow a X + (b Y + c Y^2) X, \quad Y = X X^{\mathsf T} \quad \text{five times} \\"
        "\n"
        r"\theta &\leftarrow \theta - 0.2\,\eta \sqrt{\max(R, C)}\, X"
    ),
    symbols=PARAMETER
    | {
        "g": "gradient of the mini-batch's loss at θ, without weight decay",
        "m": "running average of the gradient; starts at 0",
        "X": "the average seen one step ahead; then the same with all singular values near 1",
        "Y": "products of the rows of X",
        "R": "rows of the matrix: outputs of the layer",
        "C": "columns of the matrix: inputs of the layer, times the area of a convolution's kernel",
    },
    state={"mean": "m, running average of the gradient"},
    direction="the running average of the gradient, seen one step ahead",
    scaling="every singular direction of a matrix moves by about the same; vectors as in AdamW",
    bias_correction="none for matrices; both averages of vectors",
    epsilon="least norm of a matrix; of vectors outside the root, after bias correction",
    conventions=(
        "For matrices the form of torch.optim.Muon, with Nesterov momentum and five iterations, "
        "but in the precision of the parameters, where torch iterates in bfloat16. Every parameter "
        "with two or more axes is a matrix, also the first and the last layer's, which the authors "
        "leave to AdamW; a convolution's kernels are flattened to outputs × the rest. Biases and "
        "other vectors take AdamW's step and keep one more array. With match_rms (Liu et al.) one "
        "lr suits both; without it steps are those of Jordan et al., who use lr = 0.02, and 3e-4 "
        "for vectors: vector_lr = 0.015. torch.optim's default is without; it takes matrices only."
    ),
    default_weight_decay=0.1,
    default_decay="decoupled",
    needs=("axes",),
)
