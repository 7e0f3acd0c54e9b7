"""The settings that an optimizer of a study may have: its axes and how they grow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optrial.code import is_code
from optrial.config import (
    Axis,
    Component,
    OptimizerEntry,
    StudyFile,
    Times,
    parse_axis,
    rounded,
)
from optrial.models import check_model
from optrial.plan.groups import axes_of, group_axes, whole_entry
from optrial.plan.optimizers import rule_of_entry
from optrial.rules.learning_rates import sensible_rates

__all__ = ["Growth", "Point", "Space", "model_axes", "space_of", "under"]

Point = Mapping[str, Any]
"""One value for each axis of a space, by its name."""


@dataclass(frozen=True)
class Growth:
    """Continuation of a numeric axis beyond its ends and between its values.

    Attributes:
        axis: as it was written.
        log: whether it goes on by equal ratios, else by equal distances.
        takes: whether the optimizer takes a value.
        sensible: smallest and largest value that is worth trying.
    """

    axis: Axis
    log: bool
    takes: Callable[[float], bool]
    sensible: tuple[float, float] = (-math.inf, math.inf)

    def allows(self, value: float, upwards: bool) -> bool:
        """Return whether a value may be tried next in a direction."""
        low, high = self.sensible
        return (value <= high if upwards else value >= low) and self.takes(value)

    def between(self, first: float, last: float, share: float) -> float:
        """Return what lies that share of the way from `first` to `last`; beyond it from 1 on."""
        if not (self.log and first > 0 and last > 0):
            return rounded(first + (last - first) * share)
        try:
            return rounded(first * (last / first) ** share)
        except OverflowError:
            return math.inf

    def beyond(self, count: int, upwards: bool) -> float:
        """Return the value that comes as number `count` behind an end.

        A range is continued with the ratio or distance of its points, a list with that of the last
        two. It is computed from what was written, so that roundings do not add up. Equal ratios end
        at the sensible values.
        """
        ordered = sorted(self.axis.values, reverse=not upwards)
        steps = len(ordered) - 1 if self.axis.spacing else 1
        end: float = ordered[-1]
        following = self.between(ordered[-1 - steps], end, 1 + count / steps)
        if not self.log:
            return following
        low, high = self.sensible
        return min(following, max(high, end)) if upwards else max(following, min(low, end))


@dataclass(frozen=True)
class Space:
    """Axes along which the runs of one optimizer vary, besides the seed.

    Attributes:
        optimizer: name of the study's entry.
        axes: by name: ``batch_size``, ``model.dropout``, ``rule.lr``, ``schedule``, and
            ``groups[0].lr`` or ``groups[0].lr.times`` of a group of parameters.
        growth: of the axes of the optimizer itself that have several numbers.
        groups: names of the groups of parameters.
    """

    optimizer: str
    axes: Mapping[str, Axis]
    growth: Mapping[str, Growth]
    groups: tuple[str, ...] = ()

    def label(self, name: str) -> str:
        """Return an axis as tables show it: ``lr`` for ``rule.lr``, ``norm.lr`` of a group."""
        unit, _, rest = name.partition(".")
        if unit.startswith("groups["):
            return f"{self.groups[int(unit[7:-1])]}.{rest}"
        return rest or name

    def size(self, sampled: bool = False) -> float:
        """Return the number of settings, with those that a sampler may draw from ranges."""
        axes = self.axes.values()
        return math.prod(a.drawable if sampled and a.spacing else len(a.values) for a in axes)

    def grid(self) -> Iterator[Point]:
        """Yield every combination of the values of the axes, the last axis fastest."""
        for values in itertools.product(*(axis.values for axis in self.axes.values())):
            yield dict(zip(self.axes, values, strict=True))

    def grown(self, best: Point) -> Space:
        """Return the space with one value more wherever `best` lies at the end of an axis.

        Nothing is added that the optimizer does not take, nor a learning rate beyond those that are
        sensible.
        """
        axes = dict(self.axes)
        for name, growth in self.growth.items():
            values, written = axes[name].values, growth.axis.values
            above = sum(value > max(written) for value in values)
            below = sum(value < min(written) for value in values)
            for end, count, upwards in (
                (min(values), below, False),
                (max(values), above, True),
            ):
                following = growth.beyond(count + 1, upwards)
                new = best[name] == end and following not in values
                if new and growth.allows(following, upwards):
                    axes[name] = replace(axes[name], values=(*values, following))
        return replace(self, axes=axes)

    def refinements(self, best: Point) -> Iterator[Point]:
        """Yield points ever finer between `best` and its neighbours, along one axis at a time."""
        for share in _shares() if self.growth else ():
            for name, growth in self.growth.items():
                value, values = best[name], self.axes[name].values
                below = [max(v for v in values if v < value)] if value > min(values) else []
                above = [min(v for v in values if v > value)] if value < max(values) else []
                for neighbour in below + above:
                    yield {**best, name: growth.between(value, neighbour, share)}


def _shares() -> Iterator[float]:
    """Yield 1/2, 1/4, 3/4, 1/8, 5/8, ...: the van der Corput sequence."""
    for number in itertools.count(1):
        bits = f"{number:b}"
        yield int(bits[::-1], 2) / 2 ** len(bits)


def space_of(study: StudyFile, entry: OptimizerEntry) -> Space:
    """Return everything that may vary in the runs of an entry of a checked study."""
    axes = _prefixed("rule.", axes_of(entry)) | _options(entry)
    entries = dict.fromkeys(axes, entry)
    for index, group in enumerate(entry.groups or ()):
        own = _prefixed(f"groups[{index}].", group_axes(entry, group))
        axes |= own
        entries |= dict.fromkeys(own, whole_entry(entry, group))
    shared = {"batch_size": study.batch_size}
    shared |= _prefixed("model.", model_axes(study.problem.model))
    growth = {
        name: _growth(entries[name], name, axis)
        for name, axis in axes.items()
        if len(axis.values) > 1 and all(_grows(entries[name], value) for value in axis.values)
    }
    labels = tuple(group.label for group in entry.groups or ())
    return Space(entry.label, shared | axes, growth, labels)


def under(prefix: str, point: Point) -> dict[str, Any]:
    """Return the values of the axes whose names start with a prefix, without it."""
    return {n.removeprefix(prefix): v for n, v in point.items() if n.startswith(prefix)}


def model_axes(model: Component) -> dict[str, Axis]:
    """Return the values each given argument of a model takes.

    A list that is itself a valid value (``hidden: [100, 50]``) is one value; any other list is a
    grid axis (``dropout: [0.0, 0.5]``, ``hidden: [[100], [50]]``).
    """
    if is_code(model.name):  # what a list means to the user's code is not known: always an axis
        return {name: parse_axis(raw) for name, raw in model.arguments.items()}
    axes = {}
    for name, raw in model.arguments.items():
        is_range = isinstance(raw, dict) and not {"log", "lin"}.isdisjoint(raw)
        if is_range:
            axes[name] = parse_axis(raw)
        elif isinstance(raw, list) and raw and check_model(model.name, {name: raw}):
            axes[name] = Axis(tuple(raw))
        else:
            axes[name] = Axis((raw,))
    return axes


def _options(entry: OptimizerEntry) -> dict[str, Axis]:
    """The axes of an optimizer besides its hyperparameters."""
    axes = {}
    if entry.schedule:
        axes["schedule"] = Axis(entry.schedule)
    if sam := entry.sam or entry.adaptive_sam:
        axes["sam_rho"] = sam.rho
    if entry.average:
        named = {"average_ema": entry.average.ema, "average_tail": entry.average.tail}
        axes |= {name: axis for name, axis in named.items() if axis is not None}
    if entry.clip and entry.clip.norm:
        axes["clip_norm"] = entry.clip.norm
    if entry.clip and entry.clip.value:
        axes["clip_value"] = entry.clip.value
    return axes


def _prefixed(prefix: str, axes: Mapping[str, Axis]) -> dict[str, Axis]:
    return {prefix + name: axis for name, axis in axes.items()}


def _grows(entry: OptimizerEntry, value: Any) -> bool:
    """Return whether an axis can grow from this value; integers of a torch class may be counts."""
    kinds = float if entry.kind == "torch" else int | float
    return isinstance(value, kinds) and not isinstance(value, bool)


def _growth(entry: OptimizerEntry, name: str, axis: Axis) -> Growth:
    """Return the continuation of an axis: as written, or the usual one of its hyperparameter."""
    unit, _, own_name = name.partition(".")
    is_rate = own_name == "lr" and unit != "model"
    sensible = sensible_rates(entry.code) if is_rate else (-math.inf, math.inf)
    least, is_log = min(axis.values), axis.spacing != "lin"
    takes: Callable[[float], bool]
    positive = isinstance(axis, Times) or name.startswith(("clip_", "sam_"))
    if name.startswith("average_"):
        takes = lambda value: 0 < value < 1  # noqa: E731
    elif positive or (entry.kind == "torch" and least > 0):
        takes = lambda value: 0 < value < math.inf  # noqa: E731
    elif own_name == "weight_decay" or entry.kind == "torch":  # nothing more is known of a class
        takes = lambda value: math.isfinite(value) and value >= min(least, 0)  # noqa: E731
    else:
        known = {h.name: h for h in rule_of_entry(entry).hyperparameters}
        hyperparameter = known[own_name]
        is_log = axis.spacing == "log" or (axis.spacing is None and hyperparameter.scale == "log")
        takes = lambda value: hyperparameter.check(value) is None  # noqa: E731
    return Growth(axis, is_log, takes, sensible)
