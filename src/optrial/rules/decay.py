"""Weight decay as members of the chain of a step: added to the gradient, or to the parameter."""

from __future__ import annotations

from optrial.rules.arrays import Array, Scalar, namespace
from optrial.rules.gradient_modifiers import OF_THE_BATCH, no_state
from optrial.rules.rule import Modifier, NoState, equations_of

__all__ = ["CAUTIOUS_DECAY", "DECOUPLED", "L2"]

SYMBOLS = {"θ": "the parameter", "weight_decay": "coefficient of weight decay"}
RATE = {"lr": "learning rate of the step"}


def l2(
    grad: Array, state: NoState, _step: Scalar, *, param: Array, weight_decay: Scalar
) -> tuple[Array, NoState]:
    """Weight decay added to the gradient.

        g ← g + weight_decay·θ

    grad and param are (runs, *shape). Returns the new gradient.
    """
    return grad + weight_decay * param, state


def decoupled(
    _change: Array, state: NoState, _step: Scalar, *, param: Array, lr: Scalar, weight_decay: Scalar
) -> tuple[Array, NoState]:
    """Decoupled weight decay: Loshchilov & Hutter 2019, Algorithm 2.

        θ ← θ·(1 − lr·weight_decay)

    param is (runs, *shape). Returns the parameter to which the change is added.
    """
    return param * (1 - lr * weight_decay), state


def cautious_decay(
    change: Array, state: NoState, _step: Scalar, *, param: Array, lr: Scalar, weight_decay: Scalar
) -> tuple[Array, NoState]:
    """Cautious weight decay: Chen et al. 2025, Algorithm 1.

        φ ← 1                        where d·θ ≤ 0; 0 elsewhere
        θ ← θ·(1 − lr·weight_decay·φ)

    change and param are (runs, *shape). Returns the parameter to which the change is added.
    """
    shrinks = namespace(change).astype(change * param <= 0, change.dtype)
    return param * (1 - lr * weight_decay * shrinks), state


L2 = Modifier(
    name="l2",
    title="L2 weight decay",
    paper="Krogh, A. and Hertz, J. (1991). A Simple Weight Decay Can Improve Generalization. NIPS.",
    stage="gradient",
    init=no_state,
    update=l2,
    equations=("g ← g + weight_decay·θ",),
    symbols=SYMBOLS | OF_THE_BATCH,
    conventions="After clipping and all other modifiers of the gradient.",
    needs=("param", "weight_decay"),
)

DECOUPLED = Modifier(
    name="decoupled",
    title="Decoupled weight decay",
    paper="Loshchilov, I. and Hutter, F. (2019). Decoupled Weight Decay Regularization. ICLR.",
    stage="decay",
    init=no_state,
    update=decoupled,
    equations=("θ ← θ·(1 − lr·weight_decay)",),
    symbols=SYMBOLS | RATE,
    conventions="As in torch.optim.AdamW: the coefficient is multiplied by lr.",
    needs=("param", "lr", "weight_decay"),
)

CAUTIOUS_DECAY = Modifier(
    name="cautious_decay",
    title="Cautious weight decay",
    paper=(
        "Chen, L., Li, J., Liang, K., Su, B., Xie, C., Pierse, N. W., Liang, C., Lao, N. and Liu, "
        "Q. (2025). Cautious Weight Decay. arXiv:2510.12402."
    ),
    stage="decay",
    init=no_state,
    update=cautious_decay,
    equations=equations_of(cautious_decay),
    symbols=SYMBOLS
    | RATE
    | {
        "d": "change of the parameter, added to it afterwards",
        "φ": "1 where the change does not move away from zero, else 0",
    },
    conventions=(
        "The decoupled weight decay of the entry acts only on coordinates that the change moves "
        "towards zero, or not at all. It needs a weight_decay above 0."
    ),
    needs=("param", "lr", "weight_decay"),
)
