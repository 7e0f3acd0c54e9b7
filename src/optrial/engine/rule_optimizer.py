"""Our rules in the clothes of `torch.optim`, for loops that expect an optimizer object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from optrial.rules import Rule, apply_rule, initialise

__all__ = ["RuleOptimizer"]


class RuleOptimizer(torch.optim.Optimizer):
    """Apply a rule of `optrial.rules` to the `.grad` of parameters.

    Args:
        parameters: the parameters, any shapes.
        rule: the update rule.
        hyperparameters: all of them, by name.
        weight_decay: coefficient, 0 for none.
        decay: "l2" or "decoupled".
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        rule: Rule,
        hyperparameters: Mapping[str, Any],
        weight_decay: float = 0.0,
        decay: str = "l2",
    ) -> None:
        super().__init__(parameters, dict(hyperparameters))
        self.rule = rule
        self.weight_decay = weight_decay
        self.decay = decay
        self.steps_taken = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                start = initialise(rule, parameter.detach(), hyperparameters)
                self.state[parameter] = start._asdict()
        self._state_type = type(start)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; a closure is not supported."""
        del closure
        self.steps_taken += 1
        for group in self.param_groups:
            hyperparameters = {name: value for name, value in group.items() if name != "params"}
            for parameter in group["params"]:
                moved, state = apply_rule(
                    self.rule,
                    parameter,
                    parameter.grad,
                    self._state_type(**self.state[parameter]),
                    self.steps_taken,
                    hyperparameters,
                    self.weight_decay,
                    self.decay,
                )
                parameter.copy_(moved)
                self.state[parameter] = state._asdict()
