"""Short trainings drawn from a seed: weights, gradients of every step, hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from optrial.rules import Hyperparameter, Rule

__all__ = [
    "SHAPES",
    "Draw",
    "Gradients",
    "Setting",
    "clipped_together",
    "drawn",
    "drawn_setting",
    "perturbed",
    "settled",
    "tensor_text",
]

Gradients = Mapping[str, Tensor | None]
"""Name of a tensor -> its gradient at one step; None if it has none."""

SHAPES: Mapping[str, tuple[int, ...]] = {
    "scalar": (),
    "vector": (3,),
    "matrix": (3, 2),
    "wide": (2, 4),
    "kernel": (2, 2, 1, 2),
    "empty": (0,),
}
"""Shapes of the drawn tensors; `wide` is not contiguous."""

_LEAST, _MOST = 4, 9  # steps
_SCALES = 1.0, 1.0, 1e-6, 1e4
_RARE = 0.2
"""Probability of a value outside the usual range of a hyperparameter."""


@dataclass(frozen=True)
class Setting:
    """Hyperparameters of a rule, and its weight decay.

    Attributes:
        values: every hyperparameter of the rule.
        weight_decay: coefficient, 0 for none.
        decay: "l2" or "decoupled".
    """

    values: Mapping[str, float | bool]
    weight_decay: float = 0.0
    decay: str = "l2"

    def numbers(self) -> dict[str, float]:
        """Return all values by name, with weight decay, as numbers."""
        return {n: float(v) for n, v in self.values.items()} | {"weight_decay": self.weight_decay}


@dataclass(frozen=True, eq=False)
class Draw:
    """A short training.

    Attributes:
        start: name -> weights before the first step, float64.
        gradients: the gradients of each step.
        setting: hyperparameters in the first step.
        changes: step, from 2 -> hyperparameters from this step on.
    """

    start: Mapping[str, Tensor]
    gradients: Sequence[Gradients]
    setting: Setting
    changes: Mapping[int, Setting] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.gradients)

    def settings(self) -> list[Setting]:
        """Return the setting of each step."""
        current, settings = self.setting, []
        for step in range(1, self.steps + 1):
            current = self.changes.get(step, current)
            settings.append(current)
        return settings


def perturbed(draw: Draw) -> Draw:
    """Return a training whose gradients differ in their last bit, at random up or down."""
    random = np.random.default_rng(0)
    gradients = [
        {name: None if given is None else _nudged(given, random) for name, given in by_name.items()}
        for by_name in draw.gradients
    ]
    return replace(draw, gradients=gradients)


def _nudged(gradient: Tensor, random: Generator) -> Tensor:
    signs = torch.tensor(random.choice([-1.0, 1.0], tuple(gradient.shape)))
    return gradient * (1 + signs * torch.finfo(gradient.dtype).eps)


def clipped_together(draw: Draw, most: float) -> Draw:
    """Return a training whose gradients of one step, as one vector, have a norm of at most `most`.

    Larger ones are scaled to that norm.
    """

    def clipped(by_name: Gradients) -> Gradients:
        squares = [float(g.square().sum()) for g in by_name.values() if g is not None]
        divisor = max(1.0, math.sqrt(sum(squares)) / most)
        return {name: None if g is None else g / divisor for name, g in by_name.items()}

    return replace(draw, gradients=[clipped(by_name) for by_name in draw.gradients])


def tensor_text(label: str, tensor: Tensor) -> str:
    """Return the name and the shape of a tensor: "matrix (3, 2)"."""
    shape = f"({', '.join(map(str, tensor.shape))})"
    kind = "" if tensor.is_contiguous() else ", not contiguous"
    return f"{label} {shape}{kind}"


def drawn(
    rule_setting: Setting,
    shapes: Mapping[str, tuple[int, ...]],
    random: Generator,
    *,
    with_missing: bool = True,
    steps: int | None = None,
    wide: bool = False,
) -> Draw:
    """Return a training with tensors of all shapes, each with gradients of a drawn pattern.

    Args:
        rule_setting: hyperparameters.
        shapes: name -> shape.
        random: source of the draws.
        with_missing: whether one tensor has no gradient in one or two steps.
        steps: number of steps; None for a drawn one.
        wide: whether gradients may differ by twelve powers of ten.
    """
    steps = steps or int(random.integers(_LEAST, _MOST + 1))
    start = {label: _tensor(label, shape, random) for label, shape in shapes.items()}
    labels = [label for label, tensor in start.items() if tensor.numel()]
    sequences = {}
    for label, tensor in start.items():
        patterns = _WIDE if wide else _PATTERNS
        pattern = patterns[int(random.integers(len(patterns)))]
        sequences[label] = pattern(tuple(tensor.shape), steps, random)
    missing = {label: set[int]() for label in start}
    if with_missing and len(labels) > 1:
        chosen = labels[int(random.integers(len(labels)))]
        missing[chosen] = {int(step) for step in random.integers(0, steps - 1, size=2)}
    gradients = [
        {
            label: None if step in missing[label] else _like(start[label], sequences[label][step])
            for label in start
        }
        for step in range(steps)
    ]
    return Draw(start, gradients, rule_setting)


def _tensor(label: str, shape: tuple[int, ...], random: Generator) -> Tensor:
    values = torch.tensor(random.standard_normal(shape), dtype=torch.float64)
    return values.mT.contiguous().mT if label == "wide" else values


def _like(tensor: Tensor, values: np.ndarray) -> Tensor:
    """Return values as a tensor with the memory layout of another one."""
    gradient = torch.empty_like(tensor)
    return gradient.copy_(torch.tensor(values, dtype=torch.float64))


Pattern = Callable[[tuple[int, ...], int, Generator], np.ndarray]


def _noise(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    scale = _SCALES[int(random.integers(len(_SCALES)))]
    return scale * random.standard_normal((steps, *shape))


def _alternating(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    signs = np.where(np.arange(steps) % 2, -1.0, 1.0).reshape(-1, *(1,) * len(shape))
    return signs * random.uniform(0.5, 2.0, (steps, *shape))


def _steady(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    level = np.asarray(random.uniform(-2.0, 2.0, shape))
    return level * (1 + 0.01 * random.standard_normal((steps, *shape)))


def _zeros_first(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    values = random.standard_normal((steps, *shape))
    values[1:3] = 0.0
    return values


def _zeros_at_start(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    values = random.standard_normal((steps, *shape))
    values[0] *= random.integers(0, 2, shape)
    return values


def _mixed_scales(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    return _of_sizes(np.power(10.0, random.uniform(-4, 3, (steps, *shape))), shape, random)


def _huge_scales(shape: tuple[int, ...], steps: int, random: Generator) -> np.ndarray:
    return _of_sizes(np.power(10.0, random.uniform(-4, 8, (steps, *shape))), shape, random)


def _of_sizes(sizes: np.ndarray, shape: tuple[int, ...], random: Generator) -> np.ndarray:
    signed: np.ndarray = np.multiply(sizes, random.choice([-1.0, 1.0], shape))
    return signed


_PATTERNS: Sequence[Pattern] = (
    _noise,
    _noise,
    _alternating,
    _steady,
    _zeros_first,
    _zeros_at_start,
    _mixed_scales,
)
_WIDE = (*_PATTERNS, _huge_scales)


def drawn_setting(
    rule: Rule,
    fixed: Mapping[str, float | bool],
    decays: Sequence[str],
    random: Generator,
    *,
    plain: bool = False,
    wide: bool = False,
) -> Setting:
    """Return hyperparameters of a rule from their ranges.

    Args:
        rule: the rule.
        fixed: hyperparameters that keep a value.
        decays: kinds of weight decay to choose from; empty for none.
        random: source of the draws.
        plain: whether weight decay is off.
        wide: whether to draw unusual values too: large rates, decay rates near 1.
    """
    drawn = {h.name: _drawn_value(h, random, wide=wide) for h in rule.hyperparameters}
    values = {**_ordered(rule, drawn), **fixed}
    if {"least", "most"} <= values.keys() - fixed.keys():
        values |= _bounds_in_reach(float(values["lr"]), random)
    decay = decays[int(random.integers(len(decays)))] if decays else rule.default_decay
    is_large = wide and random.random() < _RARE
    coefficient = float(_round(random.uniform(0.3, 1.5) if is_large else random.uniform(0.02, 0.3)))
    is_off = plain or not decays or random.random() < 0.25
    return Setting(values, 0.0 if is_off else coefficient, decay)


def settled(
    setting: Setting, rule: Rule, fixed: Mapping[str, float | bool], random: Generator
) -> Setting:
    """Return a setting whose decay rates let averages settle within a hundred steps.

    Some lines of a rule count only then, as the rectification of RAdam.
    """
    rates = {
        h.name: _round(1 - 10 ** random.uniform(-1.3, -0.7))
        for h in rule.hyperparameters
        if h.high == 1.0 and h.scale != "switch" and 0.5 <= float(h.default) < 1
    }
    values = _ordered(rule, {**setting.values, **rates})
    return replace(setting, values={**values, **fixed})


def _bounds_in_reach(lr: float, random: Generator) -> dict[str, float]:
    """Return bounds on the size of a step that starts at lr, which few steps reach."""
    least, most = random.uniform(0.1, 1.0), random.uniform(1.0, 3.0)
    return {"least": _round(least * lr), "most": _round(most * lr)}


def _ordered(rule: Rule, values: dict[str, float | bool]) -> dict[str, float | bool]:
    """Return values whose decay rates beta1, beta2, ... are in the order of their defaults."""
    names = [h.name for h in rule.hyperparameters if h.name.startswith("beta")]
    by_default = sorted(names, key=lambda name: rule.defaults[name])
    return {**values, **dict(zip(by_default, sorted(values[n] for n in names), strict=True))}


def _drawn_value(hyperparameter: Hyperparameter, random: Generator, *, wide: bool) -> float | bool:
    h = hyperparameter
    if h.scale == "switch":
        return bool(random.random() < 0.5)
    default = float(h.default)
    if wide and random.random() < _RARE:
        value = _unusual(h, random)
        if h.check(value) is None:
            return value
    if h.name == "lr":
        middle = min(max(default, 0.01), 0.3)
        return _round(middle * 10 ** random.uniform(-0.7, 0.5))
    if h.name == "eps":
        return _round(10 ** random.uniform(-6, -0.5))
    if h.whole:  # a number of steps: one that short trainings reach
        value = float(random.integers(1, 5))
    elif h.scale == "log":
        value = _of_log_scale(default, random)
    elif h.high == 1.0:
        value = _round(random.uniform(max(h.low, 0.0) + 0.05, 0.95))
    elif default == 0.0:
        value = _round(random.choice([0.0, float(random.integers(1, 5))]))
    else:
        value = _round(default * random.uniform(0.7, 1.5))
    return value if h.check(value) is None else default


def _unusual(hyperparameter: Hyperparameter, random: Generator) -> float:
    """Return a value that few trainings use: the default itself, or one near the bounds."""
    h, default = hyperparameter, float(hyperparameter.default)
    if h.name == "lr":
        return _round(10 ** random.uniform(0, 0.7))
    if h.high != 1.0 or h.scale == "log":
        return default
    return float(f"{1 - 10 ** random.uniform(-3.5, -1):.5g}")


def _of_log_scale(default: float, random: Generator) -> float:
    if default == 0.0:
        return _round(float(random.choice([0.0, 10 ** random.uniform(-3, 0)])))
    if default >= 1e5:  # a number of steps that no short training reaches
        return float(random.integers(1, 4))
    return _round(default * 10 ** random.uniform(-0.5, 0.7))


def _round(value: float) -> float:
    """Return a value with three digits, which reads well in a script."""
    return float(f"{value:.3g}") if math.isfinite(value) else value
