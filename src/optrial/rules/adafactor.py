"""Adafactor: scaling from row and column averages alone, and steps relative to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from optrial.rules.arrays import Array, as_array, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, STEP, learning_rate
from optrial.rules.rule import Hyperparameter, Rule, TorchOptim

__all__ = ["ADAFACTOR", "AdafactorState"]


class AdafactorState(NamedTuple):
    """What Adafactor remembers: rows and columns of a matrix, or every coordinate of a vector."""

    row: Array | None  # (runs, ..., rows, 1), running average of a row's squared gradients
    column: Array | None  # (runs, ..., 1, columns), the same of a column
    square: Array | None  # (runs, *shape), running average of the squared gradient


def adafactor_start(param: Array, *, axes: Sequence[int], **_: Any) -> AdafactorState:
    """Return averages of zero; `axes` are those of one run."""
    if len(axes) < 2:
        return AdafactorState(row=None, column=None, square=zeros_like(param))
    xp = namespace(param)
    *outer, rows, columns = param.shape
    row, column = (
        xp.zeros((*outer, *shape), dtype=param.dtype, device=param.device)
        for shape in ((rows, 1), (1, columns))
    )
    return AdafactorState(row, column, square=None)


def adafactor(
    grad: Array,
    state: AdafactorState,
    step: Any,
    *,
    param: Array,
    axes: Sequence[int],
    lr: Any,
    decay_exponent: Any,
    eps: Any,
    clip_threshold: Any,
) -> tuple[Array, AdafactorState]:
    """One step of Adafactor: Shazeer & Stern 2018, Algorithms 4 and 5, as in torch.optim.

    b = t^-decay_exponent
    r <- (1 - b) r + b mean of g^2 over a row      c <- the same over a column
    v = r c / mean(r)      or, for a vector, v <- (1 - b) v + b g^2
    u = g / sqrt(v)
    change = -min(lr, 1 / sqrt(t)) max(eps, rms(w)) u / max(1, rms(u) / clip_threshold)

    grad and param are (runs, *shape); a convolution's kernels are matrices in their last two axes.
    rms, the root of the mean square, is over `axes`, the axes of one run; step is t = 1, 2, ...;
    each hyperparameter broadcasts over them. Returns the change to add to the parameter.
    """
    xp = namespace(grad)
    kept = 1 - as_array(step, grad) ** -decay_exponent
    state, variance = _renewed(state, grad * grad, kept)
    tiny = as_array(xp.finfo(grad.dtype).eps, grad)
    direction = grad / xp.sqrt(xp.maximum(variance, tiny * tiny))
    rate = xp.minimum(as_array(lr, grad), as_array(step, grad) ** -0.5)
    scale = xp.maximum(_rms(param, axes), as_array(eps, grad))
    excess = xp.maximum(_rms(direction, axes) / clip_threshold, as_array(1.0, grad))
    return -rate * scale / excess * direction, state


def _renewed(state: AdafactorState, square: Array, kept: Any) -> tuple[AdafactorState, Array]:
    """Return the averages with a squared gradient taken in, and the size they give each one."""
    xp = namespace(square)
    if state.square is not None:
        variance = average(kept, state.square, square)
        return AdafactorState(None, None, variance), variance
    row = average(kept, state.row, xp.mean(square, axis=-1, keepdims=True))
    column = average(kept, state.column, xp.mean(square, axis=-2, keepdims=True))
    tiny = as_array(xp.finfo(square.dtype).eps, square)
    overall = xp.maximum(xp.mean(row, axis=-2, keepdims=True), tiny)
    return AdafactorState(row, column, None), row * column / overall


def _rms(array: Array, axes: Sequence[int]) -> Array:
    """Return the root of the mean square over the axes of one run, which stay, with length 1."""
    count = 1
    for axis in axes:
        count *= array.shape[axis]
    return norm(array, axes) / count**0.5


def _keywords(
    lr: float, decay_exponent: float, eps: float, clip_threshold: float
) -> dict[str, Any]:
    return {"lr": lr, "beta2_decay": -decay_exponent, "eps": (None, eps), "d": clip_threshold}


ADAFACTOR = Rule(
    name="adafactor",
    title="Adafactor",
    paper=(
        "Shazeer, N. and Stern, M. (2018). Adafactor: Adaptive Learning Rates with Sublinear "
        "Memory Cost. ICML. arXiv:1804.04235, Algorithms 4 and 5."
    ),
    init=adafactor_start,
    update=adafactor,
    hyperparameters=(
        learning_rate(0.01),
        Hyperparameter(
            name="decay_exponent",
            default=0.8,
            meaning="how fast the averages lengthen: the newest gradient's share is t^−this",
            high=1.0,
            aliases=("beta2_decay", "decay_rate", "c"),
        ),
        Hyperparameter(
            name="eps",
            default=1e-3,
            meaning="least size of a weight to which steps are relative, so that zeros can move",
            scale="log",
            aliases=("eps2", "epsilon", "epsilon2"),
        ),
        Hyperparameter(
            name="clip_threshold",
            default=1.0,
            meaning="root mean square beyond which a parameter's step is scaled down",
            low=1.0,
            scale="log",
            aliases=("d", "clipping_threshold"),
        ),
    ),
    equations=(
        "b ← t^(−decay_exponent)",
        "r ← (1 − b)·r + b·mean(g²)         over each row",
        "c ← (1 − b)·c + b·mean(g²)         over each column",
        "v ← r·c / mean(r)                  of a vector: v ← (1 − b)·v + b·g²",
        "u ← g / √v",
        "θ ← θ − min(lr, 1 / √t) · max(eps, rms(θ)) · u / max(1, rms(u) / clip_threshold)",
    ),
    equations_latex=(
        r"b &\leftarrow t^{-\hat c} \\"
        "\n"
        r"r &\leftarrow (1 - b)\, r + b \operatorname{mean}_{\text{row}}(g^2), \quad "
        r"c \leftarrow (1 - b)\, c + b \operatorname{mean}_{\text{column}}(g^2) \\"
        "\n"
        r"v &\leftarrow r c / \operatorname{mean}(r), \quad "
        r"\text{of a vector: } v \leftarrow (1 - b)\, v + b\, g^2 \\"
        "\n"
        r"u &\leftarrow g / \sqrt{v} \\"
        "\n"
        r"\theta &\leftarrow \theta - \min(\eta, 1/\sqrt t)\,"
        r"\max(\varepsilon, \operatorname{rms}(\theta))\, u / \max(1, \operatorname{rms}(u) / d)"
    ),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | {
        "b": "share of the newest squared gradient in the averages; falls with the step",
        "r": "running average of the squared gradient over each row of a matrix; starts at 0",
        "c": "the same over each column",
        "v": "size of the squared gradient, rebuilt from rows and columns",
        "u": "direction: the gradient, scaled coordinate by coordinate",
        "rms": "root of the mean square over all of one parameter",
    },
    state={},
    reduced_state={
        "row": "r, one number for each row of a matrix",
        "column": "c, one number for each column",
    },
    direction="the gradient",
    scaling=(
        "divided by the root of its row's times its column's running average of squared gradients, "
        "clipped, and multiplied by the size of the parameter"
    ),
    bias_correction="none is needed: the first average is the first squared gradient",
    epsilon="the least size of a parameter to which steps are relative",
    conventions=(
        "The form of torch.optim.Adafactor. lr is an upper limit: the step shrinks as 1 / √t from "
        "step 1 / lr² on. A convolution's kernels are factored in their last two axes; vectors "
        "keep v itself, one array of their size. Where v is below the square of the precision's "
        "rounding error (1.2e-7 in float32), that stands in for it; the paper adds 1e-30 to g². "
        "Decoupled weight decay shrinks by lr, not by the smaller rate."
    ),
    torch_optim=TorchOptim("Adafactor", _keywords, {"decoupled": {}}),
    default_decay="decoupled",
    needs=("param", "axes"),
)
