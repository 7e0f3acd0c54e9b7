"""Modifiers of the gradient, before the rule: centralization, adaptive clipping, MARS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from optrial.rules.arrays import Array, Scalar, as_array, namespace, norm, zeros_like
from optrial.rules.hyperparameters import average_decay
from optrial.rules.rule import Hyperparameter, Modifier, NoState, equations_of

__all__ = ["AGC", "GRADIENT_CENTRALIZATION", "MARS", "MarsState", "no_state"]

OF_THE_BATCH = {"g": "gradient of the mini-batch loss; the rule receives the new one"}


def no_state(_param: Array, **_: object) -> NoState:
    """Return the state of a modifier without memory."""
    return NoState()


def gradient_centralization(
    grad: Array, state: NoState, _step: Scalar, *, axes: Sequence[int]
) -> tuple[Array, NoState]:
    """Gradient centralization: Yong et al. 2020, equation 1.

        g ← g − mean(g)    over each output of a layer, for matrices and kernels

    grad is (runs, *shape), where `axes` are the axes of one run. Returns the new gradient.
    """
    if len(axes) < 2:
        return grad, state
    return grad - namespace(grad).mean(grad, axis=tuple(axes[1:]), keepdims=True), state


def agc(
    grad: Array,
    state: NoState,
    _step: Scalar,
    *,
    param: Array,
    axes: Sequence[int],
    clip: Scalar,
    floor: Scalar,
) -> tuple[Array, NoState]:
    """Adaptive gradient clipping: Brock et al. 2021, equation 3.

        L ← clip·max(‖θ‖, floor)
        g ← g·min(1, L / ‖g‖)

    grad and param are (runs, *shape); the norms are over each output of a layer, and over the whole
    of a vector, where `axes` are the axes of one run; hyperparameters broadcast over grad. Returns
    the new gradient.
    """
    xp = namespace(grad)
    inside = tuple(axes[1:]) if len(axes) > 1 else tuple(axes)
    limit = clip * xp.maximum(norm(param, inside), as_array(floor, param))
    size = xp.maximum(norm(grad, inside), as_array(LEAST_NORM, grad))
    return xp.where(size > limit, grad * (limit / size), grad), state


LEAST_NORM = 1e-6
"""Lower bound on the norm by which adaptive clipping divides."""


class MarsState(NamedTuple):
    """State of MARS for one parameter."""

    previous: Array  # (runs, *shape), gradient of the previous step


def mars_start(param: Array, **_: object) -> MarsState:
    """Return a previous gradient of zero."""
    return MarsState(previous=zeros_like(param))


def mars(
    grad: Array,
    state: MarsState,
    _step: Scalar,
    *,
    axes: Sequence[int],
    gamma: Scalar,
    beta1: Scalar,
) -> tuple[Array, MarsState]:
    """MARS in its approximate form: Yuan et al. 2024, Algorithm 2, equation 10.

        c ← g + gamma·beta1 / (1 − beta1)·(g − p)
        p ← g
        g ← c / max(1, ‖c‖)

    grad is (runs, *shape), where `axes` are the axes of one run; hyperparameters broadcast over it.
    Returns the new gradient.
    """
    corrected = grad + gamma * beta1 / (1 - beta1) * (grad - state.previous)
    size = namespace(grad).maximum(norm(corrected, axes), as_array(1.0, grad))
    # A copy: the gradient may be a buffer that the next step overwrites.
    return corrected / size, MarsState(grad + zeros_like(grad))


GRADIENT_CENTRALIZATION = Modifier(
    name="gradient_centralization",
    title="Gradient centralization",
    paper=(
        "Yong, H., Huang, J., Hua, X. and Zhang, L. (2020). Gradient Centralization: A New "
        "Optimization Technique for Deep Neural Networks. ECCV. arXiv:2004.01461."
    ),
    stage="gradient",
    init=no_state,
    update=gradient_centralization,
    equations=equations_of(gradient_centralization),
    symbols=OF_THE_BATCH,
    conventions=(
        "Matrices and kernels are centralized for each output, the first axis; biases and other "
        "vectors are left alone, as in the authors' code. l2 decay is added afterwards."
    ),
    needs=("axes",),
)

AGC = Modifier(
    name="agc",
    title="Adaptive gradient clipping",
    paper=(
        "Brock, A., De, S., Smith, S. L. and Simonyan, K. (2021). High-Performance Large-Scale "
        "Image Recognition Without Normalization. ICML. arXiv:2102.06171."
    ),
    stage="gradient",
    init=no_state,
    update=agc,
    hyperparameters=(
        Hyperparameter(
            name="clip",
            default=0.01,
            meaning="largest norm of a gradient, as a share of the norm of its weights",
            symbol="λ",
            low_open=True,
            scale="log",
            aliases=("agc_clip_val", "clip_factor", "clipping"),
        ),
        Hyperparameter(
            name="floor",
            default=1e-3,
            meaning="lower bound on the norm of weights, so that zeros can move",
            symbol="ε",
            low_open=True,
            scale="log",
            aliases=("agc_eps", "eps"),
        ),
    ),
    equations=equations_of(agc),
    symbols=OF_THE_BATCH
    | {"θ": "the parameter", "L": "largest norm of the gradient of an output of a layer"},
    conventions=(
        "Norms are of single outputs (rows of a matrix, kernels of a convolution) and of whole "
        "vectors. Every parameter is clipped; the authors leave out the last linear layer, which a "
        "group with modify: [] does here. Norms of gradients below 1e-6 count as 1e-6."
    ),
    needs=("param", "axes"),
)

MARS = Modifier(
    name="mars",
    title="MARS",
    paper=(
        "Yuan, H., Liu, Y., Wu, S., Zhou, X. and Gu, Q. (2024). MARS: Unleashing the Power of "
        "Variance Reduction for Training Large Models. arXiv:2411.10438."
    ),
    stage="gradient",
    init=mars_start,
    update=mars,
    hyperparameters=(
        Hyperparameter(
            name="gamma",
            default=0.025,
            meaning="strength of the correction",
            symbol="γ",
            scale="log",
        ),
        average_decay("beta1", 0.95, "decay rate of the first-moment average of the rule", "β₁"),
    ),
    equations=equations_of(mars),
    symbols=OF_THE_BATCH
    | {
        "p": "gradient of the previous step; 0 before the first",
        "c": "gradient, corrected by its change since the previous step",
    },
    state={"previous": "p, gradient of the previous step"},
    conventions=(
        "The approximate form, which compares with the gradient of the previous batch and computes "
        "no further gradient. beta1 is that of the rule: give both the same value. Every parameter "
        "is corrected and clipped to a norm of 1; the authors use plain AdamW for vectors, which a "
        "group {match: vectors, modify: []} does here. MARS-AdamW is the rule adamw, with decay "
        "rates 0.95 and 0.99."
    ),
    needs=("axes",),
)
