"""Properties that tell the tensors at which an optimizer departs from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from optrial.replay.comparison import departures
from optrial.replay.draws import Draw
from optrial.replay.reference import own_steps
from optrial.replay.target import Path

__all__ = [
    "LEAST_CASES",
    "Case",
    "Condition",
    "Item",
    "condition_of",
    "divided",
    "first_late_step",
    "first_step",
]

_EARLY = 3
"""A departure that shows first at this step or later may wait for it."""
_LEAST = 2
"""Least number of departing tensors that a property is read from."""

LEAST_CASES = 3
"""Least number of trainings on each side of a bound that is hardly chance."""

T = TypeVar("T")


class Case(NamedTuple):
    """A drawn training with the weights of the target and of the reference."""

    draw: Draw
    actual: Path
    expected: Path

    def departing(self) -> list[str]:
        """Return the tensors whose weights depart."""
        return list(departures(self.draw, self.actual, self.expected))


class Item(NamedTuple):
    """A tensor of a case."""

    case: Case
    label: str


class Condition(NamedTuple):
    """Tensors at which an optimizer departs: "for vectors and scalars", "where lr > 1"."""

    text: str
    holds: Callable[[Draw, str], bool]


class _Property(NamedTuple, Generic[T]):
    """A property of a tensor in a draw, and the text for some of its values."""

    text: Callable[[list[T]], str]
    value: Callable[[Draw, str], T]


def divided(cases: Sequence[Case]) -> tuple[list[Item], list[Item]]:
    """Return the tensors that depart, and those that do not; empty ones are left out."""
    departing: list[Item] = []
    others: list[Item] = []
    for case in cases:
        labels = case.departing()
        for label, tensor in case.draw.start.items():
            if tensor.numel():
                (departing if label in labels else others).append(Item(case, label))
    return departing, others


def condition_of(
    departing: Sequence[Item], others: Sequence[Item], likely: str = "", least: int = 1
) -> Condition | None:
    """Return what all departing tensors, and none of the others, have; None if nothing does.

    Args:
        departing: the tensors that depart.
        others: those that do not.
        likely: hyperparameter whose value is compared before all others.
        least: number of trainings on each side of a bound; two where they share one value.
    """
    if len(departing) < _LEAST or not others:
        return None
    return _kind(departing, others) or _threshold(departing, others, likely, least)


def first_late_step(
    departing: Sequence[Item], others: Sequence[Item], earliest: int = _EARLY
) -> int:
    """Return the step from which on tensors depart; 0 if some depart before `earliest`.

    A tensor that is not trained that far tells nothing.
    """
    first = min(map(first_step, departing), default=0)
    if first < earliest or any(own_steps(*_place(item))[-1] >= first for item in others):
        return 0
    return first


def first_step(item: Item) -> int:
    """Return the number of the tensor's own first step at which it departs; 0 if it does not."""
    case, label = item
    found = departures(case.draw, case.actual, case.expected)
    return int(own_steps(case.draw, label)[found[label].step - 1]) if label in found else 0


def _place(item: Item) -> tuple[Draw, str]:
    return item.case.draw, item.label


def _kind(departing: Sequence[Item], others: Sequence[Item]) -> Condition | None:
    """Return a property whose values differ between departing tensors and the others."""
    for text, value in _properties(departing[0].case.draw):
        inside = {value(*_place(item)) for item in departing}
        if inside.isdisjoint(value(*_place(item)) for item in others):
            return Condition(
                text(sorted(inside)),
                lambda draw, label, value=value, inside=inside: value(draw, label) in inside,  # type: ignore[misc]
            )
    return None


def _threshold(
    departing: Sequence[Item], others: Sequence[Item], likely: str, least: int
) -> Condition | None:
    """Return a bound on a number that tells the departing tensors from the others."""
    measures = sorted(_measures(departing[0].case.draw), key=lambda named: named[0] != likely)
    for name, measure in measures:
        inside = [measure(*_place(item)) for item in departing]
        outside = [measure(*_place(item)) for item in others]
        if any(
            len({id(item.case.draw) for item in items}) < min(least, 1 + len(set(values)))
            for items, values in ((departing, inside), (others, outside))
        ):
            continue
        if min(inside) > max(outside):
            most = max(outside)
            text = f"where {name} is {min(inside):.3g} or more, not where it is {most:.3g} or less"
            return Condition(text, lambda d, n, m=measure, b=most: m(d, n) > b)  # type: ignore[misc]
        if max(inside) < min(outside):
            lowest = min(outside)
            text = (
                f"where {name} is {max(inside):.3g} or less, not where it is {lowest:.3g} or more"
            )
            return Condition(text, lambda d, n, m=measure, b=lowest: m(d, n) < b)  # type: ignore[misc]
    return None


def _properties(draw: Draw) -> Iterator[_Property[int]]:
    yield from _OF_TENSOR
    for name, value in draw.setting.values.items():
        if isinstance(value, bool):
            yield _Property(
                lambda values, name=name: f"{'if' if values[0] else 'unless'} {name}",  # type: ignore[misc]
                lambda draw, _, name=name: bool(draw.setting.values[name]),  # type: ignore[misc]
            )
    yield _Property(
        lambda values: "with weight decay" if values[0] else "without weight decay",
        lambda draw, _: draw.setting.weight_decay != 0,
    )
    yield _Property(
        lambda values: f"with {'decoupled' if values[0] else 'l2'} weight decay",
        lambda draw, _: draw.setting.decay == "decoupled",
    )


def _measures(draw: Draw) -> Iterator[tuple[str, Callable[[Draw, str], float]]]:
    for name in (*draw.setting.values, "weight_decay"):
        if not isinstance(draw.setting.values.get(name), bool):
            yield name, lambda draw, _, name=name: draw.setting.numbers()[name]  # type: ignore[misc]
    yield "the largest coordinate of the gradient", largest_gradient
    yield "the number of coordinates", lambda draw, label: draw.start[label].numel()


def largest_gradient(draw: Draw, label: str) -> float:
    """Return the largest magnitude of the gradients of a tensor."""
    given = [g for step in draw.gradients if (g := step[label]) is not None and g.numel()]
    return max((float(gradient.abs().max()) for gradient in given), default=0.0)


def _has_zeros(draw: Draw, label: str) -> bool:
    given = [g for step in draw.gradients if (g := step[label]) is not None and g.numel()]
    return any(bool((gradient == 0).any()) for gradient in given)


def _sides(draw: Draw, label: str) -> int:
    """Return how many more rows than columns a matrix has; -1 for all other tensors."""
    shape = draw.start[label].shape
    return shape[0] - shape[1] if len(shape) == 2 else -1


_OF_TENSOR: Sequence[_Property[int]] = (
    _Property(
        lambda values: (
            "for vectors and scalars" if values[0] else "for tensors of two or more dimensions"
        ),
        lambda draw, label: draw.start[label].ndim < 2,
    ),
    _Property(
        lambda values: f"for tensors of {' or '.join(map(str, values))} dimensions",
        lambda draw, label: draw.start[label].ndim,
    ),
    _Property(
        lambda values: f"for matrices that are {'' if values[0] else 'not '}square",
        lambda draw, label: _sides(draw, label) == 0,
    ),
    _Property(
        lambda values: f"for matrices with {'more' if values[0] else 'no more'} rows than columns",
        lambda draw, label: _sides(draw, label) > 0,
    ),
    _Property(
        lambda values: f"for tensors that are {'' if values[0] else 'not '}contiguous",
        lambda draw, label: draw.start[label].is_contiguous(),
    ),
    _Property(
        lambda values: f"where the gradient has {'' if values[0] else 'no '}zeros", _has_zeros
    ),
    _Property(
        lambda values: f"for {'the first tensor' if values[0] else 'all tensors but the first'}",
        lambda draw, label: next(iter(draw.start)) == label,
    ),
    _Property(
        lambda values: f"for {'the last tensor' if values[0] else 'all tensors but the last'}",
        lambda draw, label: list(draw.start)[-1] == label,
    ),
)
