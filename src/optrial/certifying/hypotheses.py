"""Changes of a rule that may explain how an optimizer departs from it, tried one after another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from optrial.certifying.changes import Change, Edit
from optrial.certifying.conditions import (
    Condition,
    Item,
    condition_of,
    first_late_step,
    first_step,
)
from optrial.certifying.conventions import CONVENTIONS
from optrial.certifying.edits import single_edits
from optrial.certifying.findings import Kind
from optrial.certifying.fitting import NumberPlace, fitted, number_places
from optrial.certifying.modifications import CLIPS
from optrial.certifying.slips import capped, constant, slips
from optrial.replay.binding import Binding
from optrial.replay.comparison import SAME, departures, scale_of
from optrial.replay.draws import Draw, clipped_together
from optrial.replay.equations import DECAY_LINES, Moment, Program, program_of
from optrial.replay.reference import CLOCKS, Clock, moments_of, own_steps, replay
from optrial.replay.target import Path

__all__ = [
    "NOTHING",
    "Hypothesis",
    "Reason",
    "Search",
    "follows",
    "other_counts",
    "tells",
]

Reason = tuple[str, Kind, str]
"""Name, kind and sentence of a change to a rule."""

Distances = Callable[[Program], NDArray[np.float64]]
"""Program -> signed distances of the weights of a tensor from those that it should give."""

_MOST_EDITS = 60
"""Number of edits that are tried together with each convention, the likelier first."""
_PROBES = 3
_EXPLODED = 1e15
_VANISHING = 1e-9
"""Share of a hyperparameter below which a fitted number is 0 but for rounding."""
_LATEST = 150
"""Last step at which a change that is made later is looked for: each try replays all steps."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A changed rule to compare with the target.

    Attributes:
        reasons: the changes.
        change: returns the changed program; None where it does not apply.
        clock: the step numbers.
        supply: returns the training with the gradients that the rule gets; None for those given.
        still: whether the tensor does not move.
        since: first step at which the changed program counts.
    """

    reasons: tuple[Reason, ...] = ()
    change: Callable[[Program], Program | None] | None = None
    clock: Clock = own_steps
    supply: Callable[[Draw], Draw] | None = None
    still: bool = False
    since: int = 1

    def after(self, base: Hypothesis) -> Hypothesis:
        """Return this change on top of others."""

        def change(program: Program) -> Program | None:
            first = (base.change(program) if base.change else None) or program
            return self.change(first) if self.change else first

        clock = self.clock if self.clock is not own_steps else base.clock
        is_changed = self.change is not None or base.change is not None
        return Hypothesis(
            (*base.reasons, *self.reasons),
            change if is_changed else None,
            clock,
            self.supply or base.supply,
            still=self.still,
            since=max(self.since, base.since),
        )

    def late(self, step: int) -> Hypothesis:
        """Return the same change, made at a step of the tensor."""
        reasons = tuple((n, k, f"{text}, from step {step} on") for n, k, text in self.reasons)
        return replace(self, reasons=reasons, since=step)


NOTHING = Hypothesis()


class Search:
    """Hypotheses in the order of their likeliness, compared with the target tensor by tensor.

    Args:
        binding: the rule.
        items: the tensors to explain.
        base: changes that are known already.
    """

    def __init__(self, binding: Binding, items: Sequence[Item], base: Hypothesis = NOTHING) -> None:
        self.binding, self.rule, self.base = binding, binding.rule, base
        self._draws = {id(item.case.draw): item.case.draw for item in items}
        self._scales: dict[tuple[int, str], float] = {}
        self._moments: dict[tuple[int, str, Clock], list[Moment]] = {}  # of the draws of items
        self._replays: dict[Hashable, Path] = {}  # likewise
        kinds = ("l2", "decoupled")
        self.programs: dict[str, Program | None] = {k: program_of(self.rule, k) for k in kinds}
        apart = [item for item in items if not self._is_expected(item)]
        if not all(map(self._reads_right, (apart or items)[:_PROBES])):
            self.programs = dict.fromkeys(kinds)
        self.departing = sorted(
            (item for item in items if not self.predicts(base, item)),
            key=lambda item: item.case.draw.start[item.label].numel() * item.case.draw.steps,
        )
        known = {id(item) for item in self.departing}
        self.conforming = [item for item in items if id(item) not in known]
        self._kinds = sorted({item.case.draw.setting.decay for item in items})
        self.numbers = {h.name: float(h.default) for h in self.rule.hyperparameters}

    def _is_expected(self, item: Item) -> bool:
        case, label = item
        path = (weights[label].numpy() for weights in case.expected)
        scale = scale_of(case.draw.start[label], case.actual, label)
        return follows(path, case.actual, label, float(scale))

    def _reads_right(self, item: Item) -> bool:
        """Return whether the program of the equations does what the reference does."""
        case, label = item
        program, start = self.programs[case.draw.setting.decay], case.draw.start[label].numpy()
        if program is None or (program.needs_matrix and start.ndim < 2):
            return False
        moments = moments_of(case.draw, label, own_steps(case.draw, label))
        try:
            with np.errstate(all="ignore"):
                scale = scale_of(case.draw.start[label], case.expected, label)
                path = program.path(start, moments)
                return follows(path, case.expected, label, float(scale))
        except (KeyError, ValueError, TypeError):  # equations that are no program after all
            return False

    def result(self, *, thorough: bool) -> tuple[Hypothesis, Condition | None] | None:
        """Return what predicts all tensors, on top of the base; None if nothing does.

        Args:
            thorough: whether to try pairs of changes in place of single ones.
        """
        if not self.departing:
            return self.base, None
        if not any(map(tells, self.departing)):
            return None
        if first_late_step(self.departing, self._telling(self.conforming)) > _LATEST:
            return None
        partial: tuple[Hypothesis, Condition] | None = None
        tried = {self._computed(self.base)}
        for change in self._pairs() if thorough else self._single():
            hypothesis = change.after(self.base)
            if (computed := self._computed(hypothesis)) in tried:
                continue
            tried.add(computed)
            if not all(self.predicts(hypothesis, item) for item in self.departing):
                continue
            others = [item for item in self.conforming if not self.predicts(hypothesis, item)]
            if not others:
                return hypothesis, None
            if partial is None:
                likely = _hyperparameter(hypothesis)
                condition = condition_of(self.departing, self._telling(others), likely)
                partial = (hypothesis, condition) if condition else None
        return partial or self._late()

    def _computed(self, hypothesis: Hypothesis) -> Hashable:
        """Return what hypotheses that predict the same weights have in common."""
        programs = (
            program and ((hypothesis.change and hypothesis.change(program)) or program)
            for program in map(self.programs.get, self._kinds)
        )
        texts = (program and (program.lines, *program.starts.items()) for program in programs)
        return hypothesis.still, hypothesis.clock, hypothesis.supply, *texts

    def _telling(self, items: Sequence[Item]) -> list[Item]:
        return [item for item in items if item.case.draw.start[item.label].numel()]

    def _late(self) -> tuple[Hypothesis, None] | None:
        """Return a single change that is made from step 2 or later on and predicts all tensors."""
        step = first_late_step(self.departing, self._telling(self.conforming), earliest=2)
        if not 0 < step <= _LATEST:
            return None
        for change in itertools.chain(self._slips(), self._edits(), self._fitted(step)):
            hypothesis = change.after(self.base).late(step)
            if change.change and all(self.predicts(hypothesis, item) for item in self.departing):
                return hypothesis, None
        return None

    def _single(self) -> Iterator[Hypothesis]:
        yield from self._conventions()
        yield from self._own_constants()
        yield from self._slips()
        yield from self._caps()
        yield from self._edits()
        yield from self._fitted()

    def _pairs(self) -> Iterator[Hypothesis]:
        known = list(self._conventions())
        for one, other in itertools.permutations(known, 2):
            yield other.after(one)
        edits = list(itertools.islice(self._edits(), _MOST_EDITS))
        for convention in known:
            yield from (convention.after(edit) for edit in edits)

    def _conventions(self) -> Iterator[Hypothesis]:
        for convention in CONVENTIONS:
            is_claimed = convention.is_kind_of_decay and self.binding.claims_decay
            kind = Kind.FAULT if is_claimed else convention.kind
            reason = convention.name, kind, convention.sentence
            yield Hypothesis((reason,), convention.change)
        yield from other_counts()

    def _slips(self) -> Iterator[Hypothesis]:
        still = "movement", Kind.FAULT, "does not move the weights"
        yield Hypothesis((still,), still=True)
        shared = (
            "counts the updates of all parameters together, so each sees a step number that is "
            "too large"
        )
        yield Hypothesis((("step count", Kind.FAULT, shared),), clock=CLOCKS["shared"])
        skipped = "does not count steps in which the gradient is 0"
        yield Hypothesis((("step count", Kind.FAULT, skipped),), clock=CLOCKS["nonzero"])
        for bound in CLIPS:
            clipped = f"scales the gradients of all tensors together to a norm of at most {bound:g}"
            reason = "clipping", Kind.FAULT, clipped
            yield Hypothesis((reason,), supply=partial(clipped_together, most=bound))
        if (program := self.programs["l2"]) is not None:
            for slip in slips(program, self.numbers):
                yield Hypothesis(((slip.name, slip.kind, slip.sentence),), slip.change)

    def _own_constants(self) -> Iterator[Hypothesis]:
        """Yield other values of hyperparameters that the target does not take, fitted likewise."""
        miss = self._miss()
        if miss is None:
            return
        program, distances = miss
        for name in sorted(program.names() & self.binding.fixed.keys()):
            default = float(self.binding.fixed[name])
            value = fitted(_constant(name, program, _everywhere, distances), default)
            if value is not None:
                text = f"has no {name} and computes with {value:g}, where the rule has {default:g}"
                reason = name, Kind.CONVENTION, text
                yield Hypothesis((reason,), constant(name, value))

    def _caps(self) -> Iterator[Hypothesis]:
        """Yield bounds on step numbers, and numbers in place of hyperparameters or as bounds.

        The numbers are fitted to the first tensor.
        """
        miss = self._miss()
        if miss is None:
            return
        program, distances = miss
        last = min(map(first_step, self.departing)) - 1
        if "t" in program.names() and last > 1:
            bound = capped("t", last, is_upper=True)
            yield Hypothesis(((bound.name, bound.kind, bound.sentence),), bound.change)
        given = self.departing[0].case.draw.setting.numbers()
        names = program.names() & ({*self.numbers, "weight_decay"} - self.binding.fixed.keys())
        settings = [i.case.draw.setting.numbers() for i in (*self.departing, *self.conforming)]
        for name in sorted(names):
            if len({setting[name] for setting in settings}) == 1:
                continue
            for within, where in ((_everywhere, ""), (_beside_decay, ", but not in weight decay")):
                value = fitted(_constant(name, program, within, distances), given[name])
                if value is None or abs(value) < _VANISHING * abs(given[name]):
                    continue
                bound = capped(name, value, is_upper=value < given[name])
                text = f"computes with {name} = {value:g}, whatever {name} is"
                for sentence, change in (
                    (text, constant(name, value)),
                    (bound.sentence, bound.change),
                ):
                    reason = bound.name, bound.kind, f"{sentence}{where}"
                    yield Hypothesis((reason,), within(change))

    def _program(self) -> Program | None:
        """Return the program of the first departing tensor, with the known changes."""
        program = self.programs[self.departing[0].case.draw.setting.decay]
        if program is None or self.base.change is None:
            return program
        return self.base.change(program) or program

    def _edits(self) -> Iterator[Hypothesis]:
        if (program := self._program()) is not None:
            own = (*self.rule.defaults, *(["weight_decay"] if self.binding.decays else ()))
            known = program.names() - self.binding.fixed.keys()
            names = [h for h in own if h in known]
            is_decayed = any(item.case.draw.setting.weight_decay for item in self.departing)
            unknown = "" if is_decayed else str(program.lines[0])  # decay has no effect there
            for edit in single_edits(program, names):
                if edit.before not in DECAY_LINES.values() or edit.before != unknown:
                    yield _of_edit(program, edit)

    def _fitted(self, since: int = 1) -> Iterator[Hypothesis]:
        """Yield edits with another number, fitted to the first step of the first tensor.

        Args:
            since: step from which on the edit counts.
        """
        miss = self._miss(since)
        if miss is None:
            return
        program, distances = miss
        given = self.departing[0].case.draw.setting.numbers()
        own = {n: value for n, value in given.items() if n not in self.binding.fixed}
        for place in number_places(program, own):
            value = fitted(_composed(distances, place), place.value)
            if value is not None:
                yield _of_edit(program, place.edit(value))

    def _miss(self, since: int = 1) -> tuple[Program, Distances] | None:
        """Return the program, and how far another one is from the first departing tensor."""
        case, label = self.departing[0]
        program = self._program()
        result = departures(case.draw, case.actual, case.expected)
        if program is None or label not in result or result[label].step > _LATEST:
            return None
        step = result[label].step
        moments = moments_of(case.draw, label, self.base.clock(case.draw, label))[:step]
        start, goal = case.draw.start[label].numpy(), case.actual[step - 1][label].numpy()

        def distances(changed: Program) -> NDArray[np.float64]:
            with np.errstate(all="ignore"):
                path = program.path(start, moments, later=changed, since=since)
                weights = list(path)[-1]
            apart: NDArray[np.float64] = (weights - goal).reshape(-1)
            return apart

        return program, distances

    def predicts(self, hypothesis: Hypothesis, item: Item) -> bool:
        """Return whether a hypothesis gives the weights of the target."""
        case, label = item
        try:
            with np.errstate(all="ignore"):
                path = self.path(hypothesis, case.draw, label)
                key = id(case), label
                if key not in self._scales:
                    scale = scale_of(case.draw.start[label], case.actual, label)
                    self._scales[key] = float(scale)
                return follows(path, case.actual, label, self._scales[key])
        except (KeyError, ValueError, TypeError, ZeroDivisionError):  # it may lack a symbol
            return False

    def path(self, hypothesis: Hypothesis, draw: Draw, label: str) -> Iterator[NDArray[np.float64]]:
        """Yield the weights of a tensor after each step, by a hypothesis."""
        start, program = draw.start[label].numpy(), self.programs[draw.setting.decay]
        if hypothesis.still:
            return itertools.repeat(start)
        if hypothesis.change is None or program is None:
            return (weights[label].numpy() for weights in self._replayed(hypothesis, draw))
        if hypothesis.supply is not None:
            draw = hypothesis.supply(draw)
        changed = hypothesis.change(program) or program
        moments = self._moments_of(draw, label, hypothesis.clock)
        if hypothesis.since > 1:
            return program.path(start, moments, later=changed, since=hypothesis.since)
        return changed.path(start, moments)

    def _replayed(self, hypothesis: Hypothesis, draw: Draw) -> Path:
        """Return the weights that the rule itself gives, with the clock and the gradients."""
        key = id(draw), hypothesis.clock, hypothesis.supply
        if key not in self._replays:
            given = hypothesis.supply(draw) if hypothesis.supply else draw
            path = replay(self.rule, given, clock=hypothesis.clock)
            if id(draw) not in self._draws:
                return path
            self._replays[key] = path
        return self._replays[key]

    def _moments_of(self, draw: Draw, label: str, clock: Clock) -> list[Moment]:
        if id(draw) not in self._draws:
            return moments_of(draw, label, clock(draw, label))
        key = id(draw), label, clock
        if key not in self._moments:
            self._moments[key] = moments_of(draw, label, clock(draw, label))
        return self._moments[key]


def _hyperparameter(hypothesis: Hypothesis) -> str:
    """Return the hyperparameter that the last change concerns; its topic if it has none."""
    topic = hypothesis.reasons[-1][0] if hypothesis.reasons else ""
    return next((symbol for symbol, name in _TOPICS.items() if name == topic), topic)


def _everywhere(change: Change) -> Change:
    return change


def _beside_decay(change: Change) -> Change:
    """Return the change for all lines but the one of weight decay."""

    def changed(program: Program) -> Program | None:
        result = change(program)
        return result and replace(result, lines=(program.lines[0], *result.lines[1:]))

    return changed


def _constant(
    name: str,
    program: Program,
    within: Callable[[Change], Change],
    distances: Distances,
) -> Callable[[float], NDArray[np.float64]]:
    """Return how far the program is off if a hyperparameter is a number."""
    return lambda value: distances(within(constant(name, value))(program) or program)


def _composed(miss: Distances, place: NumberPlace) -> Callable[[float], NDArray[np.float64]]:
    return lambda value: miss(place.edit(value).program)


def other_counts() -> Iterator[Hypothesis]:
    """Yield the hypotheses of step counts that differ after a step without a gradient."""
    text = (
        "counts steps for all parameters together, also those in which a parameter has no gradient"
    )
    yield Hypothesis((("step count", Kind.CONVENTION, text),), clock=CLOCKS["all"])
    lost = "counts steps from 1 again after a step in which a parameter has no gradient"
    yield Hypothesis((("step count", Kind.FAULT, lost),), clock=CLOCKS["restarted"])


def _of_edit(base: Program, edit: Edit) -> Hypothesis:
    where = ""
    if edit.before and edit.after and edit.before != edit.after:
        where = f": `{edit.after}`, where the rule has `{edit.before}`"

    def change(program: Program) -> Program:
        """Apply the edit; the other kind of weight decay has another first line."""
        if program.lines[0] == base.lines[0]:
            return edit.program
        if edit.program.lines[:1] != base.lines[:1]:
            return program
        return replace(edit.program, lines=(program.lines[0], *edit.program.lines[1:]))

    sentence = f"differs in one place: {edit.description}{where}"
    is_decay = edit.before == str(base.lines[0]) and edit.before in DECAY_LINES.values()
    topic = "weight decay" if is_decay else _topic(edit.symbols)
    return Hypothesis(((topic, Kind.FAULT, sentence),), change)


_TOPICS: Mapping[str, str] = {
    "weight_decay": "weight decay",
    "eps": "epsilon",
    "t": "bias correction",
    "momentum": "momentum",
    "lr": "learning rate",
    "beta1": "beta1",
    "beta2": "beta2",
    "rho": "rho",
}


def _topic(symbols: frozenset[str]) -> str:
    if {"beta1", "beta2"} <= symbols:
        return "betas"
    return next((topic for symbol, topic in _TOPICS.items() if symbol in symbols), "equations")


def follows(path: Iterator[NDArray[np.float64]], actual: Path, label: str, scale: float) -> bool:
    """Return whether predicted weights are those of a path, step by step.

    Args:
        path: the predicted weights of a tensor after each step.
        actual: the weights of all tensors.
        label: name of the tensor.
        scale: how far the tensor moves.
    """
    for predicted, weights in zip(path, actual, strict=False):
        value = weights[label].numpy()
        with np.errstate(all="ignore"):
            same = predicted == value
            same |= _has_exploded(predicted) & _has_exploded(value)
            apart = np.where(same, 0.0, np.abs(predicted - value))
        if not np.all(apart <= SAME * scale):
            return False
    return True


def tells(item: Item) -> bool:
    """Return whether a weight is finite where it departs: NaN has too many causes."""
    case, label = item
    found = departures(case.draw, case.actual, case.expected).get(label)
    step = found.step if found else 1
    actual, expected = (path[step - 1][label].numpy() for path in (case.actual, case.expected))
    is_apart = actual != expected if found else np.ones_like(actual, bool)
    return bool(np.any(is_apart & ~_has_exploded(actual)))


def _has_exploded(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which numbers are NaN, infinite, or so large that rounding has been amplified."""
    return ~(np.abs(values) < _EXPLODED)
