"""What the catalogue holds of one update rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal, NamedTuple

from optrial.rules.arrays import Array

__all__ = ["Array", "Hyperparameter", "NoState", "Rule", "TorchOptim", "WholeModel"]


@dataclass(frozen=True)
class Hyperparameter:
    """One number, or switch, that a rule takes.

    Attributes:
        name: as in study files: "lr".
        default: its value where none is given.
        meaning: one clause in plain words.
        low: least value; itself allowed unless `low_open`.
        high: greatest value; itself allowed unless `high_open`.
        low_open: whether `low` itself is excluded.
        high_open: whether `high` itself is excluded.
        scale: how a search should space its values; "switch" for true or false.
        aliases: what other libraries call it, for hints in errors.
    """

    name: str
    default: float | bool
    meaning: str
    low: float = 0.0
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    scale: Literal["log", "linear", "switch"] = "linear"
    aliases: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The allowed values in symbols: "0 ≤ momentum < 1"."""
        if self.scale == "switch":
            return f"{self.name} is true or false"
        if self.high == math.inf:
            return f"{self.name} {'>' if self.low_open else '≥'} {self.low:g}"
        below, above = ("<" if is_open else "≤" for is_open in (self.low_open, self.high_open))
        return f"{self.low:g} {below} {self.name} {above} {self.high:g}"

    def check(self, value: object) -> str | None:
        """Return what is wrong with `value`: itself, what is allowed and an example; or None."""
        if self._allows(value):
            return None
        kind = "" if self.scale == "switch" else "a finite number, "
        return f"{value!r}: must be {kind}{self.range}, such as {self.default!r} (the default)."

    def _allows(self, value: object) -> bool:
        if isinstance(value, bool) or self.scale == "switch":
            return isinstance(value, bool) and self.scale == "switch"
        if not isinstance(value, Real) or not math.isfinite(number := float(value)):
            return False
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below


@dataclass(frozen=True, eq=False)
class TorchOptim:
    """The class of `torch.optim` that computes the same as a rule.

    Attributes:
        class_name: "Adam" for `torch.optim.Adam`.
        keywords: from the rule's hyperparameters, by name, to the arguments of the class.
        decays: the kinds of weight decay the class has, each with the arguments that select it.
    """

    class_name: str
    keywords: Callable[..., dict[str, Any]]
    decays: Mapping[str, Mapping[str, Any]]

    def arguments(
        self, hyperparameters: Mapping[str, Any], weight_decay: float, decay: str
    ) -> dict[str, Any] | None:
        """Return the arguments after `params`, or None where torch lacks this kind of decay."""
        if not weight_decay:
            return self.keywords(**hyperparameters) | {"weight_decay": 0.0}
        if decay not in self.decays:
            return None
        selected = dict(self.decays[decay])
        return self.keywords(**hyperparameters) | {"weight_decay": weight_decay} | selected


class NoState(NamedTuple):
    """The state of a rule that remembers nothing."""


@dataclass(frozen=True, eq=False)
class WholeModel:
    """What a rule keeps once for a whole model, and renews from sums over all its parameters.

    The rule's own `update` is given the state before the step, as `model`, and returns a third
    value: a NamedTuple of this parameter's terms, each summed over one run's axes.

    Attributes:
        init: `init(zero, **hyperparameters)` returns the state before the first step, a NamedTuple
            of arrays of the shape of `zero`: one number a run.
        update: `update(model, sums, step, **hyperparameters)` returns the state after a step.
        state: the meaning of each number kept.
    """

    init: Callable[..., Any]
    update: Callable[..., Any]
    state: Mapping[str, str]


@dataclass(frozen=True, eq=False, kw_only=True)
class Rule:
    """An update rule: two pure functions, and all that `optrial explain` says about them.

    Attributes:
        name: as in study files: "adam".
        title: as in print: "Adam".
        paper: full citation, with the year.
        init: `init(param, **hyperparameters)` returns the state before the first step.
        update: `update(grad, state, step, *, **hyperparameters)` returns the change to add to the
            parameter, and the new state; step is 1, 2, ... A rule with a `model` returns a third.
        hyperparameters: first `lr`, then the rule's own.
        equations: one step, line by line, in the names of the hyperparameters.
        equations_latex: the same as one LaTeX `aligned` body.
        symbols: the meaning of every symbol of `equations` that is not a hyperparameter.
        state: the meaning of each array of the parameter's size that is kept.
        direction: what a step moves along.
        scaling: how the step of a coordinate is scaled.
        bias_correction: what is corrected for starting from zero.
        epsilon: where eps sits.
        conventions: which of several forms in use is ours.
        generalises: (rule, condition): at that condition this rule is that one, exactly, or in the
            limit where the condition has an arrow.
        coincides_with: (rule, condition): where that is so of both, their steps are the same.
        torch_optim: its counterpart in `torch.optim`, or None.
        default_weight_decay: coefficient where none is given.
        default_decay: kind of weight decay where none is given, "l2" or "decoupled".
        needs: what `update` takes beyond the gradient, by keyword: "param", the parameter; "axes",
            its axes in one run, as negative numbers, to sum over; "weight_decay", the coefficient
            of `own_decay`; "model", the state of the whole model. `init` takes "axes" as well.
        own_decay: the kind of weight decay that `update` applies itself, or None.
        reduced_state: the meaning of each smaller array kept: rows, columns, one number a run.
        model: what is kept for the whole model, or None.
        evaluate: `evaluate(param, state, **hyperparameters)` returns the parameter at which the
            model is evaluated, where that is not the one at which the gradient is taken; or None.
    """

    name: str
    title: str
    paper: str
    init: Callable[..., Any]
    update: Callable[..., Any]
    hyperparameters: tuple[Hyperparameter, ...]
    equations: tuple[str, ...]
    equations_latex: str
    symbols: Mapping[str, str]
    state: Mapping[str, str]
    direction: str
    scaling: str
    bias_correction: str = "none"
    epsilon: str = "none"
    conventions: str
    generalises: tuple[tuple[str, str], ...] = ()
    coincides_with: tuple[tuple[str, str], ...] = ()
    torch_optim: TorchOptim | None = None
    default_weight_decay: float = 0.0
    default_decay: Literal["l2", "decoupled"] = "l2"
    needs: tuple[Literal["param", "axes", "weight_decay", "model"], ...] = ()
    own_decay: Literal["l2", "decoupled"] | None = None
    reduced_state: Mapping[str, str] = field(default_factory=dict)
    model: WholeModel | None = None
    evaluate: Callable[..., Array] | None = None

    @property
    def evaluates_elsewhere(self) -> bool:
        """Whether the model is evaluated elsewhere than where its gradient is taken."""
        return self.evaluate is not None

    @property
    def terms(self) -> dict[str, str]:
        """The meaning of every symbol of the equations: first symbols, then hyperparameters."""
        return {**self.symbols, **{h.name: h.meaning for h in self.hyperparameters}}

    @property
    def defaults(self) -> dict[str, float | bool]:
        """The default of every hyperparameter, by name."""
        return {h.name: h.default for h in self.hyperparameters}

    @property
    def state_size(self) -> int:
        """Arrays of the size of the parameter that are kept at the default hyperparameters."""
        return len(self.state)
