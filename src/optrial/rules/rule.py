"""Catalogue entries: what is known about one update rule."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, NamedTuple

import numpy as np

from optrial.rules.arrays import Array

__all__ = [
    "Array",
    "Hyperparameter",
    "Keywords",
    "Modifier",
    "NoState",
    "OneArray",
    "Rule",
    "Stage",
    "State",
    "StepScale",
    "TorchOptim",
    "WholeModel",
    "equations_of",
]

StepScale = Literal["the gradient", "the learning rate alone", "the parameters", ""]

Stage = Literal["gradient", "change", "decay", "parameter"]
"""Place of a modifier in a step, in this order. The rule follows the gradient and its l2 decay;
decoupled decay stands at "decay", where a modifier replaces it."""

State = Any
"""A NamedTuple of arrays; a field that no run needs is None."""

Keywords = dict[str, Any]
"""Keyword arguments of a class of `torch.optim`."""


@dataclass(frozen=True)
class Hyperparameter:
    """A number, or a switch, that configures a rule.

    Attributes:
        name: as in study files: "lr".
        default: used if a study sets no value.
        meaning: one clause in plain words; may be empty in rules of your own.
        low: smallest value; allowed unless `low_open`.
        high: largest value; allowed unless `high_open`.
        low_open: whether `low` itself is excluded.
        high_open: whether `high` itself is excluded.
        whole: whether it must be a whole number.
        at_start: whether it is used before the first step only.
        scale: how a search spaces values; "switch" for true or false.
        aliases: names used by other libraries, for hints in error messages.
        symbol: printed in typeset equations, "β₁"; empty to print the name.
        letters: other letters for it in papers and textbooks.
    """

    name: str
    default: float | bool
    meaning: str = ""
    low: float = 0.0
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    whole: bool = False
    at_start: bool = False
    scale: Literal["log", "linear", "switch"] = "linear"
    aliases: tuple[str, ...] = ()
    symbol: str = ""
    letters: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        """The symbol and the other letters: "η, also α"; empty without a symbol."""
        return f"{self.symbol}, also {', '.join(self.letters)}" if self.letters else self.symbol

    @property
    def range(self) -> str:
        """The allowed values in symbols: "0 ≤ momentum < 1"."""
        if self.scale == "switch":
            return f"{self.name} is true or false"
        if self.low == -math.inf:
            return f"{self.name} of any sign"
        if self.high == math.inf:
            return f"{self.name} {'>' if self.low_open else '≥'} {self.low:g}"
        below, above = ("<" if is_open else "≤" for is_open in (self.low_open, self.high_open))
        return f"{self.low:g} {below} {self.name} {above} {self.high:g}"

    def check(self, value: object) -> str | None:
        """Return an error message that shows `value`, the range and an example; None if valid."""
        if self._allows(value):
            return None
        number = "a whole number, " if self.whole else "a finite number, "
        kind = "" if self.scale == "switch" else number
        example = int(self.default) if self.whole else self.default
        return f"{value!r}: must be {kind}{self.range}, such as {example!r} (the default)."

    def _allows(self, value: object) -> bool:
        if isinstance(value, bool) or self.scale == "switch":
            return isinstance(value, bool) and self.scale == "switch"
        if not isinstance(value, Real) or not math.isfinite(number := float(value)):
            return False
        if self.whole and not number.is_integer():
            return False
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below


@dataclass(frozen=True, eq=False)
class TorchOptim:
    """The `torch.optim` class that computes the same steps as a rule.

    Attributes:
        class_name: "Adam" for `torch.optim.Adam`.
        keywords: maps the rule's hyperparameters, passed by name, to arguments of the class.
        decays: kinds of weight decay that the class supports -> arguments that select the kind;
            empty for a class without `weight_decay`.
        needs_closure: whether its `step` takes a closure that computes the gradients.
    """

    class_name: str
    keywords: Callable[..., Keywords]
    decays: Mapping[str, Keywords]
    needs_closure: bool = False

    def arguments(
        self, hyperparameters: Mapping[str, float], weight_decay: float, decay: str
    ) -> Keywords | None:
        """Return the arguments after `params`, or None if torch lacks this kind of decay."""
        if not weight_decay:
            none = {"weight_decay": 0.0} if self.decays else {}
            return self.keywords(**hyperparameters) | none
        if decay not in self.decays:
            return None
        chosen = {"weight_decay": weight_decay} | self.decays[decay]
        return self.keywords(**hyperparameters) | chosen


class NoState(NamedTuple):
    """State of a rule without memory."""


class OneArray(NamedTuple):
    """State of a rule that keeps one array and gives it no name."""

    array: Array


@dataclass(frozen=True, eq=False)
class WholeModel:
    """State kept once for a whole model and updated from sums over all its parameters.

    The `update` of the rule receives the state before the step as `model`, and returns a third
    value: a NamedTuple of this parameter's terms, each summed over the axes of one run.

    Attributes:
        init: `init(zero, **hyperparameters)` returns the state before the first step, a NamedTuple
            of arrays with the shape of `zero`: one number per run.
        update: `update(model, sums, step, **hyperparameters)` returns the state after a step.
        state: field of the state -> its meaning.
    """

    init: Callable[..., State]
    update: Callable[..., State]
    state: Mapping[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Modifier:
    """A pure function from the change of a parameter to another change, with its own state.

    Attributes:
        name: as in study files and in the records of runs: "lookahead", "grafting(sgd)".
        key: prefix of its hyperparameters in a run: "lookahead" for "lookahead.every".
        title: as in print: "Lookahead".
        paper: full citation, with the year.
        stage: the first argument and the result of `update`: the gradient of the mini-batch, before
            the rule; the change that the rule adds to the parameter; or the new parameter. A
            modifier of the "decay" receives the change and returns the decayed parameter, to which
            the change is added.
        init: `init(param, axes=..., lr=..., **hyperparameters)` returns the state before the first
            step: a NamedTuple of arrays.
        update: `update(value, state, step, *, **hyperparameters)` returns the new value and the new
            state; step is 1, 2, ...
        hyperparameters: without the prefix.
        equations: one step, line by line.
        symbols: symbol in `equations` that is not a hyperparameter -> its meaning.
        state: name of an array kept, of the parameter's shape -> its meaning.
        reduced_state: name of a smaller array kept -> its meaning.
        conventions: which of several variants in use this is.
        needs: what `update` takes, by keyword: "param", the parameter before the step; "grad", the
            gradient of the mini-batch after clipping, with l2 decay; "rule_grad", what the
            modifiers of the gradient make of it, which the rule receives; "change", the change that
            is added to the decayed parameter; "lr", the learning rate of the step; "axes", the axes
            of one run, as negative numbers; "weight_decay", the coefficient; "draws", as for a
            rule.
        as_vectors: roles of matrices that it treats as vectors.
    """

    name: str
    key: str = ""
    title: str
    paper: str
    stage: Stage
    init: Callable[..., State]
    update: Callable[..., tuple[Any, State]]
    hyperparameters: tuple[Hyperparameter, ...] = ()
    equations: tuple[str, ...]
    symbols: Mapping[str, str]
    state: Mapping[str, str] = field(default_factory=dict)
    reduced_state: Mapping[str, str] = field(default_factory=dict)
    conventions: str
    needs: tuple[
        Literal["param", "grad", "rule_grad", "change", "lr", "axes", "weight_decay", "draws"], ...
    ] = ()
    as_vectors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.name)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rule:
    """An update rule: two pure functions and everything `optrial explain` says about them.

    A rule needs a name, `init`, `update` and `hyperparameters`; `optrial.testing.check_rule` and
    the catalogue also ask for the texts:

        SIGN = Rule(
            name="sign_descent",
            init=lambda param, **_: None,
            update=lambda grad, state, step, *, lr: (-lr * namespace(grad).sign(grad), state),
            hyperparameters={"lr": 0.01},
        )

    Attributes:
        name: as in study files: "adam".
        title: as in print: "Adam".
        paper: full citation, with the year.
        init: `init(param, **hyperparameters)` returns the state before the first step: a
            NamedTuple or tuple of arrays, one array, or None.
        update: `update(grad, state, step, *, **hyperparameters)` returns the change to add to the
            parameter and the new state; step is 1, 2, ... A rule with a `model` returns a third
            value.
        hyperparameters: `lr` first; or a mapping from names to defaults, of any finite value, with
            an `lr` above 0.
        equations: one step, line by line, in the names of the hyperparameters:
            "m ← beta1·m + (1 − beta1)·g". A remark follows three or more spaces.
        plain_equations: one step at the defaults, if that is shorter because options are off.
        symbols: symbol in `equations` that is not a hyperparameter -> its meaning.
        state: name of an array kept, of the parameter's shape -> its meaning.
        direction: the direction of a step.
        step_scale: the quantity that sets the size of a step, beside the learning rate; empty for
            a mixture, such as layers scaled by the norm of their weights.
        scaling: how the step is scaled in each coordinate.
        bias_correction: which averages are corrected for their start at zero.
        epsilon: the position of eps.
        conventions: which of several variants in use this is.
        generalises: (rule, condition): under that condition this rule is the other one, exactly,
            or in the limit if the condition has an arrow.
        coincides_with: (rule, condition): if the condition holds, both take the same steps.
        contrasts: another rule -> how this one differs from it, and why, in sentences.
        torch_optim: the counterpart in `torch.optim`, if any.
        default_weight_decay: coefficient used if a study sets none.
        default_decay: kind of weight decay used if a study sets none, "l2" or "decoupled".
        needs: what `update` takes, by keyword, besides the gradient: "param", the parameter;
            "axes", the axes of one run, as negative numbers, for sums; "weight_decay", the
            coefficient of `own_decay`; "model", the state of the whole model; "curvature", z·Hz, an
            estimate of the diagonal of the Hessian of the mini-batch loss, with signs z. A rule
            with a hyperparameter `every` gets one at the steps 1, 1 + every, ..., and zeros at
            others; "draws", an `optrial.rules.Draws`: random numbers, keyed by seed, step and
            parameter. `init` takes "axes" too.
        own_decay: the kind of weight decay that `update` applies itself, if any.
        reduced_state: name of a smaller array kept (rows, columns, one number per run) -> its
            meaning.
        model: the state kept for the whole model, if any.
        evaluate: `evaluate(param, state, **hyperparameters)` returns the parameter at which the
            model is evaluated, if it is not the one at which the gradient is taken.
        as_vectors: roles of matrices that it updates as it does vectors.
        as_one_vector: whether it updates all parameters as one vector: `init` and `update` then
            get (runs, n), and are called once.
        modifiers: modifiers of its steps, in their order; see `optrial.rules.modified`.
        capturable: whether every step is the same program, which can be compiled and captured as a
            CUDA graph; eigenvalues, and work that only some steps do, are not.
    """

    name: str
    title: str = ""
    paper: str = ""
    init: Callable[..., State]
    update: Callable[..., Any]
    hyperparameters: tuple[Hyperparameter, ...]
    equations: tuple[str, ...] = ()
    plain_equations: tuple[str, ...] = ()
    symbols: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    direction: str = ""
    scaling: str = ""
    step_scale: StepScale = ""
    bias_correction: str = "none"
    epsilon: str = "none"
    conventions: str = ""
    generalises: tuple[tuple[str, str], ...] = ()
    coincides_with: tuple[tuple[str, str], ...] = ()
    contrasts: Mapping[str, str] = field(default_factory=dict)
    torch_optim: TorchOptim | None = None
    default_weight_decay: float = 0.0
    default_decay: Literal["l2", "decoupled"] = "l2"
    needs: tuple[Literal["param", "axes", "weight_decay", "model", "curvature", "draws"], ...] = ()
    own_decay: Literal["l2", "decoupled"] | None = None
    reduced_state: Mapping[str, str] = field(default_factory=dict)
    model: WholeModel | None = None
    evaluate: Callable[..., Array] | None = None
    as_vectors: tuple[str, ...] = ()
    as_one_vector: bool = False
    modifiers: tuple[Modifier, ...] = ()
    capturable: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.hyperparameters, Mapping):
            declared = tuple(_undescribed(*item) for item in self.hyperparameters.items())
            object.__setattr__(self, "hyperparameters", declared)

    def at(self, stage: Stage) -> tuple[Modifier, ...]:
        """Return the modifiers of a stage, in their order."""
        if not self.modifiers:
            return ()
        return tuple(modifier for modifier in self.modifiers if modifier.stage == stage)

    @property
    def evaluates_elsewhere(self) -> bool:
        """True if the model is evaluated at another point than its gradient is taken."""
        return self.evaluate is not None

    @property
    def is_joint(self) -> bool:
        """True if the step of a parameter depends on those of others."""
        return self.model is not None or self.as_one_vector

    @property
    def needs_curvature(self) -> bool:
        """True if engines have to estimate the diagonal of the Hessian."""
        return "curvature" in self.needs

    @property
    def terms(self) -> dict[str, str]:
        """Symbol in the equations -> its meaning, hyperparameters last."""
        return {**self.symbols, **{h.name: h.meaning for h in self.hyperparameters}}

    @property
    def defaults(self) -> dict[str, float | bool]:
        """Hyperparameter -> its default."""
        return {h.name: h.default for h in self.hyperparameters}

    @property
    def state_size(self) -> int:
        """Number of arrays of the parameter's size that are kept at the defaults."""
        added = sum(len(modifier.state) for modifier in self.modifiers)
        if self.state or self.conventions:
            return len(self.state) + added
        param = np.zeros((2, 3))
        axes = {"axes": (-2, -1)} if "axes" in self.needs else {}
        own = {name: value for name, value in self.defaults.items() if "." not in name}
        start = self.init(param, **own, **axes)
        arrays = start if isinstance(start, tuple | list) else [start]
        kept = [array for array in arrays if getattr(array, "shape", None) == param.shape]
        return added + len(kept)


def _undescribed(name: str, default: float | bool) -> Hyperparameter:
    """Return a hyperparameter known by its default alone."""
    if isinstance(default, bool):
        return Hyperparameter(name, default, "", scale="switch")
    if name == "lr":
        return Hyperparameter(name, default, "learning rate", low_open=True, scale="log")
    return Hyperparameter(name, default, "", low=-math.inf)


def equations_of(update: Callable[..., Any]) -> tuple[str, ...]:
    """Return the indented lines of a docstring, where a rule of the catalogue has its equations."""
    lines = (inspect.getdoc(update) or "").splitlines()
    return tuple(line.strip() for line in lines if line.startswith("    "))
