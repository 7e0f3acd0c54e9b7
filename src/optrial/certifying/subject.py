"""Subject of the checks: an optimizer class, the rule that it should compute, small trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from optrial.certifying.explanation import Explanation
from optrial.certifying.reproducer import Script
from optrial.replay.binding import Binding
from optrial.replay.draws import Draw, Setting, drawn, drawn_setting, settled
from optrial.replay.reference import replay
from optrial.replay.target import Arguments, Path, Target, parameters_of, step_with

__all__ = ["STEPS", "Check", "Subject", "Tiny"]

TINY: Mapping[str, tuple[int, ...]] = {"a": (2, 3), "b": (3,)}
TINY_MATRICES: Mapping[str, tuple[int, ...]] = {"a": (2, 3), "b": (3, 2)}
STEPS = 6
"""Steps of a small training."""


@dataclass(frozen=True, eq=False)
class Tiny:
    """Two tensors and their gradients of a few steps, with small round numbers."""

    start: Mapping[str, Tensor]
    gradients: Sequence[Mapping[str, Tensor]]


@dataclass(frozen=True, eq=False)
class Subject:
    """An optimizer class together with a rule.

    Attributes:
        target: the class.
        binding: the rule and how its hyperparameters are written as arguments.
        reference: draw -> the weights that the rule predicts; None if no rule is known.
        shapes: shapes that the class takes.
        seed: seed of the draws.
        explanation: what the class computes; None if that is not known.
    """

    target: Target
    binding: Binding
    reference: Callable[[Draw], Path] | None
    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    explanation: Explanation | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def matrices_only(self) -> bool:
        """True if the class takes matrices only."""
        return all(len(shape) == 2 for shape in self.shapes.values())

    @property
    def is_joint(self) -> bool:
        """True if the steps of a tensor depend on all tensors."""
        is_known = self.explanation is not None and self.explanation.is_joint
        return self.binding.rule.is_joint or is_known

    @property
    def knows_decay(self) -> bool:
        """True if the explanation, or the rule, says what the class does with weight decay."""
        return self.explanation is None or self.explanation.knows_decay

    def random(self, stream: int) -> Generator:
        """Return a generator for one purpose."""
        return np.random.default_rng((self.seed, stream))

    def setting(self, stream: int, *, decayed: bool = True, is_settled: bool = False) -> Setting:
        """Return drawn hyperparameters, with weight decay if the class has it; see `settled`."""
        binding, random = self.binding, self.random(stream)
        chosen = drawn_setting(
            binding.rule, binding.fixed, binding.decays, random, plain=not decayed
        )
        if is_settled:
            chosen = settled(chosen, binding.rule, binding.fixed, random)
        values = {
            name: 0.5 if name == "momentum" and not value and name not in binding.fixed else value
            for name, value in chosen.values.items()
        }
        coefficient = 0.1 if decayed and binding.decays else 0.0
        return replace(chosen, values=values, weight_decay=coefficient)

    def arguments(self, stream: int, *, decayed: bool = True) -> dict[str, Any]:
        """Return drawn arguments of the class."""
        return self.binding.arguments(self.setting(stream, decayed=decayed))

    def draw(
        self,
        stream: int,
        setting: Setting,
        *,
        with_missing: bool = False,
        steps: int | None = None,
    ) -> Draw:
        """Return a drawn training with a setting, of a drawn number of steps or the given one."""
        random = self.random(stream)
        return drawn(setting, self.shapes, random, with_missing=with_missing, steps=steps)

    def tiny(self, stream: int, steps: int = STEPS) -> Tiny:
        """Return a small training with round numbers, which read well in a script."""
        random = self.random(stream)
        shapes = TINY_MATRICES if self.matrices_only else TINY

        def tensor(shape: tuple[int, ...]) -> Tensor:
            values = np.round(random.uniform(0.3, 2.0, shape) * random.choice([-1, 1], shape), 1)
            return torch.tensor(values, dtype=torch.float64)

        start = {label: tensor(shape) for label, shape in shapes.items()}
        gradients = [
            {label: tensor(shape) for label, shape in shapes.items()} for _ in range(steps)
        ]
        return Tiny(start, gradients)

    def make(
        self, parameters: Mapping[str, nn.Parameter], arguments: Arguments
    ) -> torch.optim.Optimizer:
        """Make an optimizer over all parameters."""
        return self.target(list(parameters.values()), arguments)

    def trained(
        self,
        tiny: Tiny,
        arguments: Arguments,
        *,
        steps: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> dict[str, nn.Parameter]:
        """Return the parameters after some steps of a small training."""
        parameters = parameters_of(tiny.start, dtype)
        optimizer = self.make(parameters, arguments)
        for gradients in tiny.gradients[:steps]:
            step_with(optimizer, parameters, gradients)
        return parameters

    def script(self) -> Script:
        """Return an empty script that imports the class."""
        return Script(self.target)

    def replayed(self, draw: Draw, dtype: torch.dtype) -> Path:
        """Return the steps of the rule in another precision."""
        return replay(self.binding.rule, draw, dtype=dtype)


@dataclass(frozen=True)
class Check:
    """A requirement on an optimizer.

    Attributes:
        name: what it concerns.
        sentence: the requirement.
        run: yields findings.
        of_torch: whether it checks what PyTorch, not its rule, requires.
    """

    name: str
    sentence: str
    run: Callable[[Subject], Iterable[Any]]
    of_torch: bool = True
