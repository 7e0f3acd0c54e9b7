"""Our rules in the clothes of `torch.optim`, for loops that expect an optimizer object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from optrial.models import as_real
from optrial.rules import Rule, apply_all, evaluation_point, initialise_all

__all__ = ["RuleOptimizer"]


class RuleOptimizer(torch.optim.Optimizer):
    """Apply a rule of `optrial.rules` to the `.grad` of a model's parameters.

    A complex parameter is updated as its real and imaginary parts, (..., 2).

    Args:
        parameters: the parameters by name, any shapes.
        rule: the update rule.
        hyperparameters: all of them, by name; `param_groups[0]` holds them, and a scheduler may
            change them there.
        weight_decay: coefficient, 0 for none.
        decay: "l2" or "decoupled".
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        rule: Rule,
        hyperparameters: Mapping[str, Any],
        weight_decay: float = 0.0,
        decay: str = "l2",
    ) -> None:
        super().__init__(parameters.values(), dict(hyperparameters))
        self.rule = rule
        self.weight_decay = weight_decay
        self.decay = decay
        self.steps_taken = 0
        self.parameters = dict(parameters)
        start = initialise_all(rule, self._values(), hyperparameters)
        self._types = {name: type(part) for name, part in start.items()}
        # Under what `state` holds a part: its parameter, or "rule" for what the model shares.
        self._owners: dict[str, Any] = {n: self.parameters.get(n, "rule") for n in start}
        self._keep(start)

    # What PyTorch has for the next two imports its compiler, which takes longer than many a study.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take note of parameters and their hyperparameters, with defaults for what is left out."""
        group = self.defaults | param_group
        self.param_groups.append(group | {"params": list(group["params"])})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or set them to zero."""
        for parameter in self.parameters.values():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def _values(self) -> dict[str, torch.Tensor]:
        return {name: as_real(value.detach()) for name, value in self.parameters.items()}

    def _keep(self, state: Mapping[str, Any]) -> None:
        """Put the rule's state where `torch.optim` has it; what the model shares, under "rule"."""
        for name, part in state.items():
            self.state[self._owners[name]] = part._asdict()

    def _state(self) -> dict[str, Any]:
        return {name: kind(**self.state[self._owners[name]]) for name, kind in self._types.items()}

    def _hyperparameters(self) -> dict[str, Any]:
        return {name: value for name, value in self.param_groups[0].items() if name != "params"}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; a parameter without a gradient stays as it is, as in `torch.optim`."""
        del closure
        self.steps_taken += 1
        gradients = {n: as_real(p.grad) for n, p in self.parameters.items() if p.grad is not None}
        values = {name: as_real(self.parameters[name].detach()) for name in gradients}
        _, state = apply_all(
            self.rule,
            values,
            gradients,
            self._state(),
            self.steps_taken,
            self._hyperparameters(),
            self.weight_decay,
            self.decay,
            out=values,
        )
        self._keep(state)

    def evaluation_point(self) -> Mapping[str, torch.Tensor]:
        """Return the parameters, by name, at which to evaluate the model; complex ones as parts."""
        values = self._values()
        return evaluation_point(self.rule, values, self._state(), self._hyperparameters())
