"""Adam-mini: Adam with one learning rate per block of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from optrial.rules.adam import ADAMW, bias_correction
from optrial.rules.arrays import Array, Scalar, average, namespace, zeros_like
from optrial.rules.rule import equations_of

__all__ = ["ADAM_MINI", "AdamMiniState"]


class AdamMiniState(NamedTuple):
    """State of Adam-mini for one parameter."""

    mean: Array  # (runs, *shape), running average of the gradient
    block: Array  # (runs, outputs, 1, ..., 1), average of a block's squared gradients


def adam_mini_start(param: Array, *, axes: Sequence[int], **_: object) -> AdamMiniState:
    """Return averages of zero; `axes` are those of one run."""
    inside = _inside(axes)
    block = namespace(param).mean(zeros_like(param), axis=inside, keepdims=True)
    return AdamMiniState(zeros_like(param), block)


def adam_mini(
    grad: Array,
    state: AdamMiniState,
    step: Scalar,
    *,
    axes: Sequence[int],
    lr: Scalar,
    beta1: Scalar,
    beta2: Scalar,
    eps: Scalar,
) -> tuple[Array, AdamMiniState]:
    """One step of Adam-mini: Zhang et al. 2024, Algorithm 1.

        m ← beta1·m + (1 − beta1)·g
        v ← beta2·v + (1 − beta2)·mean(g²)    over each row
        θ ← θ − lr · (m / (1 − beta1^t)) / (√(v / (1 − beta2^t)) + eps)

    grad is (runs, *shape), where `axes` are the axes of one run; a block is an output of a layer,
    the first of its axes, or a whole vector; step is t = 1, 2, ...; hyperparameters broadcast over
    grad. Returns the change to add to the parameter.
    """
    xp = namespace(grad)
    mean = average(beta1, state.mean, grad)
    squares = xp.mean(grad * grad, axis=_inside(axes), keepdims=True)
    block = average(beta2, state.block, squares)
    rate = lr / bias_correction(beta1, step, grad)
    root = xp.sqrt(block / bias_correction(beta2, step, grad))
    return -rate * mean / (root + eps), AdamMiniState(mean, block)


def _inside(axes: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of a block."""
    return tuple(axes[1:] if len(axes) > 1 else axes)


ADAM_MINI = replace(
    ADAMW,
    name="adam_mini",
    title="Adam-mini",
    paper=(
        "Zhang, Y., Chen, C., Li, Z., Ding, T., Wu, C., Kingma, D. P., Ye, Y., Luo, Z.-Q. and Sun, "
        "R. (2024). Adam-mini: Use Fewer Learning Rates To Gain More. ICLR 2025. "
        "arXiv:2406.16793, Algorithm 1."
    ),
    init=adam_mini_start,
    update=adam_mini,
    equations=equations_of(adam_mini),
    plain_equations=(),
    symbols={
        **ADAMW.symbols,
        "v": "running average of the mean square of a block's gradients; starts at 0",
    },
    state={"mean": "m, running average of the gradient"},
    reduced_state={"block": "v, one number per output of a layer; one for a whole vector"},
    scaling="divided by the root of the running average of squared gradients of its block",
    conventions=(
        "A block is an output of a layer: a row of a matrix, a kernel, the row of a token in an "
        "embedding; biases and other vectors are one block each. The authors join the rows of a "
        "head in the query and key matrices of attention, which are rows here. The package "
        "pytorch_optimizer takes whole parameters as blocks, and embeddings by coordinates."
    ),
    contrasts={
        "adamw": (
            "AdamW keeps an average of the squared gradient of every coordinate. Adam-mini keeps "
            "one for each output of a layer, half of the memory, because one good rate per block "
            "of the Hessian is enough."
        )
    },
    generalises=(),
    coincides_with=(),
    torch_optim=None,
    needs=("axes",),
)
