"""Modifiers of the change that a rule makes, and of the new parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from optrial.rules.arrays import Array, Scalar, as_array, in_float64, namespace, norm
from optrial.rules.draws import Draws
from optrial.rules.gradient_modifiers import no_state
from optrial.rules.hyperparameters import epsilon
from optrial.rules.muon import MUON, orthogonalise
from optrial.rules.rule import Hyperparameter, Modifier, NoState, Rule, State, equations_of

__all__ = [
    "CAUTIOUS",
    "GRAFTING",
    "HYPERBALL",
    "LOOKAHEAD",
    "NORMALIZE",
    "ORTHOGONALIZE",
    "HyperballState",
    "LookaheadState",
    "grafting_onto",
]

CHANGE = {"d": "change of the parameter; the new one is added to it"}
PARAMETER = {"θ": "the parameter"}


def cautious(
    change: Array, state: NoState, _step: Scalar, *, grad: Array, axes: Sequence[int]
) -> tuple[Array, NoState]:
    """Cautious changes: Liang et al. 2024, Algorithm 1.

        φ ← 1                      where d·g < 0; 0 elsewhere
        d ← d·φ·n / (1 + Σ φ)

    change and grad are (runs, *shape); the sum is over `axes`, the axes of one run. Returns the new
    change.
    """
    xp = namespace(change)
    agrees = xp.astype(change * grad < 0, change.dtype)
    size = prod([change.shape[axis] for axis in axes])
    return change * agrees * (size / (1 + xp.sum(agrees, axis=tuple(axes), keepdims=True))), state


def normalize(
    change: Array, state: NoState, _step: Scalar, *, lr: Scalar, axes: Sequence[int], eps: Scalar
) -> tuple[Array, NoState]:
    """Normalized changes: the root mean square of a change is lr, as in SOAP's own option.

        d ← lr·d / (rms(d) + lr·eps)

    change is (runs, *shape), where `axes` are the axes of one run; hyperparameters broadcast over
    it. Returns the new change.
    """
    size = prod([change.shape[axis] for axis in axes])
    rms = norm(change, axes) / size**0.5
    return lr * change / _above_zero(rms + lr * eps, change), state


def orthogonalize(
    change: Array,
    state: NoState,
    _step: Scalar,
    *,
    lr: Scalar,
    axes: Sequence[int],
    match_rms: Scalar,
    eps: Scalar,
) -> tuple[Array, NoState]:
    """Orthogonalized changes of matrices: Jordan et al. 2024.

        X ← d / max(‖d‖, lr·eps)
        X ← 3.4445·X − 4.7750·X·Xᵀ·X + 2.0315·(X·Xᵀ)²·X    five times
        d ← 0.2·lr·√max(R, C) · X                          if match_rms
        d ← lr·√max(1, R / C) · X                          otherwise

    change is (runs, *shape), where `axes` are the axes of one run; the kernels of a convolution are
    flattened to (outputs, the rest). Hyperparameters broadcast over it. Returns the new change.
    """
    if len(axes) < 2:
        return change, state
    xp = namespace(change)
    flat = xp.reshape(change, (*change.shape[: change.ndim + axes[0] + 1], -1))
    floor = _above_zero(as_array(lr * eps, change), change)
    direction = xp.reshape(orthogonalise(flat, floor), change.shape)
    *_, rows, columns = flat.shape
    matched, original = 0.2 * max(rows, columns) ** 0.5, max(1.0, rows / columns) ** 0.5
    return lr * (match_rms * matched + (1 - match_rms) * original) * direction, state


class HyperballState(NamedTuple):
    """State of the hyperball for one parameter."""

    radius: Array | None  # (runs, 1, ..., 1), norm of the initial parameter; None for a vector


def hyperball_start(param: Array, *, axes: Sequence[int], **_: object) -> HyperballState:
    """Return the norm of the initial parameter."""
    return HyperballState(norm(param, axes) if len(axes) > 1 else None)


def hyperball(
    moved: Array,
    state: HyperballState,
    _step: Scalar,
    *,
    param: Array,
    change: Array,
    lr: Scalar,
    axes: Sequence[int],
) -> tuple[Array, HyperballState]:
    """Hyperball optimization of matrices: Wen et al. 2026, equation 2.

        X ← θ + lr·R·d / ‖d‖
        θ ← R·X / ‖X‖

    moved, param and change are (runs, *shape), where `axes` are the axes of one run. Returns the
    new parameter.
    """
    if state.radius is None:
        return moved, state
    length = lr * state.radius / _above_zero(norm(change, axes), change)
    ahead = param + length * change
    return ahead * (state.radius / _above_zero(norm(ahead, axes), change)), state


class LookaheadState(NamedTuple):
    """State of lookahead for one parameter."""

    slow: Array  # (runs, *shape), the slow weights


def lookahead_start(param: Array, **_: object) -> LookaheadState:
    """Return slow weights at the parameter."""
    return LookaheadState(slow=param + 0 * param)


def lookahead(
    moved: Array, state: LookaheadState, step: Scalar, *, every: Scalar, pull: Scalar
) -> tuple[Array, LookaheadState]:
    """Lookahead: Zhang et al. 2019, Algorithm 1.

        s ← s + pull·(θ − s)    if t is a multiple of every
        θ ← s                   if t is a multiple of every

    moved, the new θ, is (runs, *shape); step is t = 1, 2, ...; hyperparameters broadcast over it.
    Returns the new parameter.
    """
    xp = namespace(moved)
    rounds = in_float64(step) / in_float64(every)
    is_due = as_array(1.0 * (rounds // 1 == rounds), moved) > 0
    slow = xp.where(is_due, state.slow + pull * (moved - state.slow), state.slow)
    return xp.where(is_due, slow, moved), LookaheadState(slow)


def grafting_onto(rule: Rule) -> Modifier:
    """Return the modifier that gives a change the norm of the change of another rule.

    Raises:
        ValueError: the other rule's change is not a function of single parameters.
    """
    alone = not rule.is_joint and not rule.needs_curvature
    if not alone or rule.evaluates_elsewhere or rule.modifiers:
        raise ValueError(
            f"the norm of {rule.name} depends on more than a parameter and its gradients; graft "
            "onto a rule such as sgd, momentum, adagrad or adam"
        )
    passed = tuple(need for need in rule.needs if need in ("param", "axes", "draws"))

    def init(param: Array, *, axes: Sequence[int], **values: Scalar) -> State:
        taken = {"axes": axes} if "axes" in rule.needs else {}
        return rule.init(param, **values, **taken)

    def update(
        change: Array,
        state: State,
        step: Scalar,
        *,
        param: Array,
        rule_grad: Array,
        axes: Sequence[int],
        lr: Scalar,
        draws: Draws | None = None,
        **values: Scalar,
    ) -> tuple[Array, State]:
        """Grafting: Agarwal et al. 2020, Algorithm 1.

        θ′ ← OTHER(lr)
        d ← ‖θ′ − θ‖·d / ‖d‖
        """
        known: dict[str, Any] = {"param": param, "axes": axes, "draws": draws}
        taken: dict[str, Any] = {need: known[need] for need in passed}
        taken |= {"weight_decay": 0.0} if "weight_decay" in rule.needs else {}
        other, after = rule.update(rule_grad, state, step, lr=lr, **values, **taken)[:2]
        return change * (norm(other, axes) / _above_zero(norm(change, axes), change)), after

    return replace(
        GRAFTING,
        name=f"grafting({rule.name})",
        key="grafting",
        init=init,
        update=update,
        hyperparameters=rule.hyperparameters[1:],
        needs=(*GRAFTING.needs, *(("draws",) if "draws" in passed else ())),
        equations=equations_of(update),
        state={name: f"{meaning}, of {rule.name}" for name, meaning in rule.state.items()},
        reduced_state={
            n: f"{meaning}, of {rule.name}" for n, meaning in rule.reduced_state.items()
        },
    )


def _above_zero(value: Array, like: Array) -> Array:
    """Return a value that may be divided by: one that is not 0."""
    xp = namespace(like)
    return xp.maximum(value, as_array(xp.finfo(like.dtype).tiny, like))


CAUTIOUS = Modifier(
    name="cautious",
    title="Cautious changes",
    paper=(
        "Liang, K., Chen, L., Liu, B. and Liu, Q. (2024). Cautious Optimizers: Improving Training "
        "with One Line of Code. arXiv:2411.16085."
    ),
    stage="change",
    init=no_state,
    update=cautious,
    equations=equations_of(cautious),
    symbols=CHANGE
    | {
        "g": "gradient of the mini-batch loss, plus l2 weight decay",
        "φ": "1 where the change goes down the gradient, else 0",
        "n": "number of coordinates of the parameter",
        "Σ": "sum over all coordinates of the parameter",
    },
    conventions=(
        "As Algorithm 1 of the paper, with 1 added to the sum; the authors' code divides by the "
        "mean of φ, or by 0.001 if that is larger. The gradient is the one before the modifiers "
        "of the gradient, such as mars. Weight decay is outside the mask."
    ),
    needs=("grad", "axes"),
)

NORMALIZE = Modifier(
    name="normalize",
    title="Normalized changes",
    paper=(
        "Cutkosky, A. and Mehta, H. (2020). Momentum Improves Normalized SGD. ICML. "
        "arXiv:2002.03305; root mean square per parameter: Vyas, N. et al. (2024). SOAP: Improving "
        "and Stabilizing Shampoo using Adam. arXiv:2409.11321."
    ),
    stage="change",
    init=no_state,
    update=normalize,
    hyperparameters=(epsilon(1e-8),),
    equations=equations_of(normalize),
    symbols=CHANGE
    | {
        "lr": "learning rate of the step",
        "rms": "root mean square over a whole parameter",
    },
    conventions=(
        "Each parameter is normalized alone, to a root mean square of lr, the typical size of "
        "Adam's steps, so that its lr carries over. Cutkosky and Mehta divide by the norm of the "
        "whole model. Decoupled weight decay is added afterwards."
    ),
    needs=("lr", "axes"),
)

ORTHOGONALIZE = Modifier(
    name="orthogonalize",
    title="Orthogonalized changes",
    paper=MUON.paper,
    stage="change",
    init=no_state,
    update=orthogonalize,
    hyperparameters=(
        next(h for h in MUON.hyperparameters if h.name == "match_rms"),
        epsilon(1e-7),
    ),
    equations=equations_of(orthogonalize),
    symbols=CHANGE
    | {
        "lr": "learning rate of the step",
        "X": "the change with all singular values near 1",
        "R": "rows of the matrix: outputs of the layer",
        "C": "columns of the matrix: inputs of the layer, times the area of a kernel",
    },
    conventions=(
        "The iteration of the rule muon, in the precision of the parameters; kernels are flattened "
        "to outputs × the rest. Vectors, embeddings and the last linear layer keep the change of "
        "the rule. With the rule qhm and momentum = nu it is muon for matrices. It is unlike "
        "OrthoGrad, which makes gradients orthogonal to their weights."
    ),
    needs=("lr", "axes"),
    as_vectors=MUON.as_vectors,
)

GRAFTING = Modifier(
    name="grafting",
    title="Grafting",
    paper=(
        "Agarwal, N., Anil, R., Hazan, E., Koren, T. and Zhang, C. (2020). Disentangling Adaptive "
        "Gradient Methods from Learning Rates. arXiv:2002.11803; for Shampoo: Anil, R. et al. "
        "(2020). Scalable Second Order Optimization for Deep Learning. arXiv:2002.09018."
    ),
    stage="change",
    init=no_state,
    update=lambda change, state, _step: (change, state),
    equations=("θ′ ← OTHER(lr)", "d ← ‖θ′ − θ‖·d / ‖d‖"),
    symbols=CHANGE
    | PARAMETER
    | {
        "lr": "learning rate of the step, which both rules get",
        "OTHER": "a step of the other rule, from the same gradient and without weight decay",
        "θ′": "the parameter after that step",
    },
    conventions=(
        "The direction is the rule's, the length of the step that of another rule, parameter by "
        "parameter: {name: grafting, rule: sgd}. lr is that of the other rule, because it cancels "
        "in the direction. The other hyperparameters of that rule follow its name. Both rules get "
        "the same gradient, after its modifiers and with l2 decay; decoupled decay is added "
        "afterwards."
    ),
    needs=("param", "rule_grad", "lr", "axes"),
)

HYPERBALL = Modifier(
    name="hyperball",
    title="Hyperball",
    paper=(
        "Wen, K., Dang, X., Lyu, K., Ma, T. and Liang, P. (2026). Fantastic Pretraining Optimizers "
        "and Where to Find Them II: Hyperball Optimization. arXiv:2606.16899."
    ),
    stage="parameter",
    init=hyperball_start,
    update=hyperball,
    equations=equations_of(hyperball),
    symbols=PARAMETER
    | {
        "d": "change of the parameter",
        "lr": "learning rate of the step: its length, as a share of the norm",
        "R": "norm of the initial parameter",
        "X": "the parameter after a step of length lr·R",
    },
    reduced_state={"radius": "R, one number per run"},
    conventions=(
        "For matrices and kernels other than embeddings and the last linear layer, with the norm "
        "of the whole matrix; other parameters keep the step of the rule. Norms are fixed, so "
        "weight decay is refused; the default is 0."
    ),
    needs=("param", "change", "lr", "axes"),
    as_vectors=("embedding", "head"),
)

LOOKAHEAD = Modifier(
    name="lookahead",
    title="Lookahead",
    paper=(
        "Zhang, M. R., Lucas, J., Hinton, G. and Ba, J. (2019). Lookahead Optimizer: k steps "
        "forward, 1 step back. NeurIPS. arXiv:1907.08610."
    ),
    stage="parameter",
    init=lookahead_start,
    update=lookahead,
    hyperparameters=(
        Hyperparameter(
            name="every",
            default=5.0,
            meaning="steps between two meetings of the slow and the fast weights",
            symbol="k",
            low=1.0,
            whole=True,
            aliases=("k", "la_steps", "sync_period"),
        ),
        Hyperparameter(
            name="pull",
            default=0.5,
            meaning="share of the distance to the fast weights that the slow weights move",
            symbol="α",
            high=1.0,
            aliases=("alpha", "la_alpha", "slow_step_size"),
        ),
    ),
    equations=equations_of(lookahead),
    symbols=PARAMETER
    | {
        "s": "the slow weights; start at θ",
        "t": "step number: 1, 2, ...",
    },
    state={"slow": "s, the slow weights"},
    conventions=(
        "θ are the fast weights. The state of the rule is kept when the fast weights return to the "
        "slow ones, as the authors recommend. The model is evaluated at θ; after a multiple of "
        "`every` steps these are the slow weights."
    ),
)
