"""Adapter that exposes a rule as a `torch.optim.Optimizer`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from optrial.models import as_real
from optrial.rules import Rule, apply_all, evaluation_point, initialise_all, is_estimated

__all__ = ["RuleOptimizer"]


class RuleOptimizer(torch.optim.Optimizer):
    """Apply a rule of `optrial.rules` to the `.grad` of a model's parameters.

    A complex parameter is updated as its real and imaginary parts, (..., 2).

    Args:
        parameters: parameters by name, of any shapes.
        rule: update rule.
        hyperparameters: every hyperparameter by name; a scheduler may change them, and the weight
            decay, in `param_groups[0]`.
        weight_decay: coefficient, 0 for none.
        decay: "l2" or "decoupled".
        as_vectors: names of matrices that the rule updates as it does vectors.
        seed: seed of the run, for rules that draw.

    Attributes:
        curvature: estimates of the diagonal of the Hessian for the next step, by parameter, of a
            rule that needs them; empty in a step without.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        rule: Rule,
        hyperparameters: Mapping[str, Any],
        weight_decay: float = 0.0,
        decay: str = "l2",
        as_vectors: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        known = {**hyperparameters, "weight_decay": weight_decay}
        super().__init__(parameters.values(), known)
        self.rule = rule
        self.decay = decay
        self.steps_taken = 0
        self.curvature: Mapping[str, torch.Tensor] = {}
        self.parameters = dict(parameters)
        self._as_vectors = frozenset(as_vectors)
        self._seed = seed
        start = initialise_all(rule, self._values(), hyperparameters, as_vectors=as_vectors)
        self._types = {name: type(part) for name, part in start.items()}
        # Key of each part in `state`: its parameter, "rule" for a part of the whole model, or
        # "lookahead:weight" for a part of a modifier.
        self._owners: dict[str, Any] = {n: self.parameters.get(n, n or "rule") for n in start}
        self._keep(start, {})

    # PyTorch's own versions of the next two methods import its compiler, which takes seconds.

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; missing hyperparameters get their defaults."""
        group = self.defaults | param_group
        self.param_groups.append(group | {"params": list(group["params"])})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Remove the gradients, or set them to zero."""
        for parameter in self.parameters.values():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.zero_()

    def _values(self) -> dict[str, torch.Tensor]:
        return {name: as_real(value.detach()) for name, value in self.parameters.items()}

    def _keep(self, state: Mapping[str, Any], gradients: Mapping[str, torch.Tensor]) -> None:
        """Store the rule's state in `state`, as `torch.optim` does.

        A gradient that a rule keeps for its next step is copied: PyTorch adds to it in place.
        """
        written = {gradient.data_ptr() for gradient in gradients.values()}
        for name, part in state.items():
            self.state[self._owners[name]] = {
                field: value.clone() if _starts_at(value, written) else value
                for field, value in part._asdict().items()
            }

    def _state(self) -> dict[str, Any]:
        return {name: kind(**self.state[self._owners[name]]) for name, kind in self._types.items()}

    def _hyperparameters(self) -> dict[str, Any]:
        besides = ("params", "weight_decay")
        return {name: value for name, value in self.param_groups[0].items() if name not in besides}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; as in `torch.optim`, parameters without a gradient do not change."""
        del closure
        self.steps_taken += 1
        gradients = {n: as_real(p.grad) for n, p in self.parameters.items() if p.grad is not None}
        if self.rule.as_one_vector and len(gradients) < len(self.parameters):
            unused = next(name for name in self.parameters if name not in gradients)
            raise RuntimeError(
                f"{self.rule.name} updates all parameters together, and '{unused}' has no "
                "gradient; freeze it with requires_grad_(False)"
            )
        values = {name: as_real(self.parameters[name].detach()) for name in gradients}
        _, state = apply_all(
            self.rule,
            values,
            gradients,
            self._state(),
            self.steps_taken,
            self._hyperparameters(),
            self.param_groups[0]["weight_decay"],
            self.decay,
            out=values,
            as_vectors=self._as_vectors,
            curvature=self._curvature(values),
            seeds=self._seed,
        )
        self._keep(state, gradients)

    def _curvature(self, values: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor] | None:
        if not self.rule.needs_curvature:
            return None
        known = self.curvature
        return {n: known[n] if n in known else torch.zeros_like(v) for n, v in values.items()}

    def estimates_curvature(self, step: int) -> bool:
        """Return whether the rule needs an estimate of curvature at a step."""
        every = self.param_groups[0].get("every", 1)
        return self.rule.needs_curvature and is_estimated(step, every)

    @property
    def evaluates_elsewhere(self) -> bool:
        """True if the model is evaluated at another point than its gradient is taken."""
        return self.rule.evaluates_elsewhere

    def evaluation_point(self) -> Mapping[str, torch.Tensor]:
        """Return the parameters at which to evaluate the model; complex ones as real pairs."""
        values = self._values()
        return evaluation_point(self.rule, values, self._state(), self._hyperparameters())


def _starts_at(value: object, addresses: Collection[int]) -> bool:
    return isinstance(value, torch.Tensor) and value.data_ptr() in addresses
