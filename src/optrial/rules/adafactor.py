"""Adafactor: scaling from row and column averages alone, and steps relative to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, as_array, average, namespace, norm, zeros_like
from optrial.rules.hyperparameters import GRADIENT, PARAMETER, STEP, learning_rate
from optrial.rules.rule import Hyperparameter, Keywords, Rule, TorchOptim, equations_of

__all__ = ["ADAFACTOR", "AdafactorState"]


class AdafactorState(NamedTuple):
    """State of Adafactor: row and column averages of a matrix, or all coordinates of a vector."""

    row: Array | None  # (runs, ..., rows, 1), running average of a row's squared gradients
    column: Array | None  # (runs, ..., 1, columns), the same of a column
    square: Array | None  # (runs, *shape), running average of the squared gradient


def adafactor_start(param: Array, *, axes: Sequence[int], **_: object) -> AdafactorState:
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
    step: Scalar,
    *,
    param: Array,
    axes: Sequence[int],
    lr: Scalar,
    decay_exponent: Scalar,
    eps: Scalar,
    clip_threshold: Scalar,
) -> tuple[Array, AdafactorState]:
    """One step of Adafactor: Shazeer & Stern 2018, Algorithms 4 and 5, as in torch.optim.

        b ← t^(−decay_exponent)
        r ← (1 − b)·r + b·mean(g²)    over each row
        c ← (1 − b)·c + b·mean(g²)    over each column
        v ← r·c / mean(r)             for a matrix
        v ← (1 − b)·v + b·g²          for a vector
        u ← g / √v
        θ ← θ − min(lr, 1 / √t) · max(eps, rms(θ)) · u / max(1, rms(u) / clip_threshold)

    grad and param are (runs, *shape); the kernels of a convolution are matrices in their last two
    axes. rms, the root mean square, is over `axes`, the axes of one run; step is t = 1, 2, ...;
    hyperparameters broadcast over grad. Returns the change to add to the parameter.
    """
    xp = namespace(grad)
    kept = 1 - as_array(step, grad) ** -decay_exponent
    state, variance = _updated(state, grad * grad, kept)
    tiny = as_array(xp.finfo(grad.dtype).eps, grad)
    direction = grad / xp.sqrt(xp.maximum(variance, tiny * tiny))
    rate = xp.minimum(as_array(lr, grad), as_array(step, grad) ** -0.5)
    scale = xp.maximum(_rms(param, axes), as_array(eps, grad))
    excess = xp.maximum(_rms(direction, axes) / clip_threshold, as_array(1.0, grad))
    return -rate * scale / excess * direction, state


def _updated(state: AdafactorState, square: Array, kept: Scalar) -> tuple[AdafactorState, Array]:
    """Return the averages updated with a squared gradient, and the second moment v."""
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
    """Return the root mean square over the axes of one run, which are kept with length 1."""
    return norm(array, axes) / prod([array.shape[axis] for axis in axes]) ** 0.5


def _keywords(lr: float, decay_exponent: float, eps: float, clip_threshold: float) -> Keywords:
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
            meaning="exponent of the decay: the newest squared gradient has weight t^(−γ)",
            symbol="γ",
            high=1.0,
            aliases=("beta2_decay", "beta_2_decay", "decay_rate", "c"),
        ),
        Hyperparameter(
            name="eps",
            default=1e-3,
            meaning="lower bound on the scale of a parameter, so that zeros can move",
            symbol="ε",
            scale="log",
            aliases=("eps2", "epsilon", "epsilon2", "epsilon_2"),
        ),
        Hyperparameter(
            name="clip_threshold",
            default=1.0,
            meaning="root mean square above which an update is scaled down",
            symbol="d",
            low=1.0,
            scale="log",
            aliases=("d", "clipping_threshold"),
        ),
    ),
    equations=equations_of(adafactor),
    symbols=PARAMETER
    | GRADIENT
    | STEP
    | {
        "b": "weight of the newest squared gradient in the averages; falls with the step",
        "r": "running average of the squared gradient over each row of a matrix; starts at 0",
        "c": "the same over each column",
        "v": "estimate of the squared gradient, from its row and column averages",
        "u": "direction: the gradient, scaled coordinate by coordinate",
        "rms": "root mean square over a whole parameter",
    },
    state={},
    reduced_state={
        "row": "r, one number per row of a matrix",
        "column": "c, one number per column",
    },
    direction="the gradient",
    step_scale="the parameters",
    scaling=(
        "divided by the root of squared gradients averaged over rows and columns, clipped, and "
        "multiplied by the scale of the parameter"
    ),
    bias_correction="not needed: the first average is the first squared gradient",
    epsilon="lower bound on the scale of a parameter",
    conventions=(
        "As torch.optim.Adafactor. lr is an upper bound: from step 1 / lr² on the step shrinks as "
        "1 / √t. The kernels of a convolution are factored in their last two axes; vectors keep v "
        "itself, one array of their size. v is at least the squared machine epsilon (1.2e-7 in "
        "float32); the paper adds 1e-30 to g² instead. Decoupled weight decay is scaled by lr, not "
        "by the smaller rate. Keras takes the scale of the weights after weight decay, not before "
        "it."
    ),
    torch_optim=TorchOptim("Adafactor", _keywords, {"decoupled": {}}),
    default_decay="decoupled",
    needs=("param", "axes"),
)
