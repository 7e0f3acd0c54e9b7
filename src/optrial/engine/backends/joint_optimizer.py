"""Several optimizers of one model, each for its own parameters, as one optimizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from optrial.engine.backends.rule_optimizer import RuleOptimizer

__all__ = ["JointOptimizer"]


class JointOptimizer(torch.optim.Optimizer):
    """Step several optimizers in turn.

    Args:
        optimizers: at least two, which share no parameter.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Groups of all optimizers, in their order."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step with each optimizer."""
        del closure
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients of all parameters, or set them to zero."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def train(self) -> None:
        """Switch the optimizers that train and evaluate at different points to training."""
        self._switch("train")

    def eval(self) -> None:
        """Switch the optimizers that train and evaluate at different points to evaluation."""
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        for optimizer in self.optimizers:
            switch = getattr(optimizer, mode, None)
            if callable(switch):
                switch()

    @property
    def rules(self) -> list[RuleOptimizer]:
        """The optimizers that apply rules."""
        return [o for o in self.optimizers if isinstance(o, RuleOptimizer)]

    @property
    def evaluates_elsewhere(self) -> bool:
        """True if the model is evaluated at another point than its gradient is taken."""
        return any(optimizer.evaluates_elsewhere for optimizer in self.rules)

    def evaluation_point(self) -> Mapping[str, torch.Tensor]:
        """Return the parameters of rules at which to evaluate the model."""
        points: dict[str, torch.Tensor] = {}
        for optimizer in self.rules:
            points |= optimizer.evaluation_point()
        return points
