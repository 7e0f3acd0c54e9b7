"""The optimizer of a run of the reference engine: a rule, or a class of PyTorch or the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from optrial.engine.backends.rule_optimizer import RuleOptimizer
from optrial.engine.options import implementation_of
from optrial.models import build_optimizer, trained_parameters
from optrial.plan import rule_of
from optrial.spec import RunSpec

__all__ = ["decayed_share", "densify_gradients", "optimizer_of", "set_training_mode"]


def optimizer_of(spec: RunSpec, model: nn.Module) -> tuple[torch.optim.Optimizer, str]:
    """Return the optimizer of a run and the implementation to record."""
    parameters = list(trained_parameters(model).values())
    if spec.optimizer_kind == "torch":
        optimizer = build_optimizer(spec.rule, spec.hyperparameters, parameters)
        return optimizer, _call(spec.rule, spec.hyperparameters)
    rule = rule_of(spec.optimizer_kind, spec.rule)
    if spec.rng == "script" and rule.torch_optim:
        arguments = rule.torch_optim.arguments(spec.hyperparameters, spec.weight_decay, spec.decay)
        if arguments is not None:
            name = rule.torch_optim.class_name
            optimizer = getattr(torch.optim, name)(parameters, **arguments)
            return optimizer, _call(f"torch.optim.{name}", arguments)
    rule_optimizer = RuleOptimizer(
        trained_parameters(model),
        rule,
        spec.hyperparameters,
        spec.weight_decay,
        spec.decay,
    )
    return rule_optimizer, implementation_of(spec)


def decayed_share(optimizer: torch.optim.Optimizer) -> float:
    """Return the fraction of the parameters on which weight decay acts."""
    if isinstance(optimizer, RuleOptimizer):  # decays all parameters or none
        return float(optimizer.weight_decay > 0)
    sizes = [(sum(p.numel() for p in g["params"]), g) for g in optimizer.param_groups]
    decayed = sum(size for size, group in sizes if group.get("weight_decay"))
    return float(decayed / sum(size for size, _ in sizes))


def densify_gradients(model: nn.Module) -> None:
    """Replace sparse gradients, as of `nn.Embedding(sparse=True)`: rules need dense ones."""
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.to_dense()


def set_training_mode(optimizer: torch.optim.Optimizer, training: bool) -> None:
    """Switch optimizers that train and evaluate at different points, such as schedule-free ones."""
    switch = getattr(optimizer, "train" if training else "eval", None)
    if callable(switch):
        switch()


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({text})"
