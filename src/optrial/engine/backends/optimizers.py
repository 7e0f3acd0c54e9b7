"""The optimizer of a run of the reference engine: rules, or classes of PyTorch or the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from optrial.engine.backends.joint_optimizer import JointOptimizer
from optrial.engine.backends.rule_optimizer import RuleOptimizer
from optrial.engine.options import implementation_of
from optrial.models import build_optimizer, trained_parameters
from optrial.plan import rule_of
from optrial.spec import Part, RunSpec

__all__ = ["Updates", "densify_gradients", "set_training_mode", "updates_of"]

Parameters = Mapping[str, nn.Parameter]


class Updates(NamedTuple):
    """The optimizer of a run and what an engine needs to know about it.

    Attributes:
        optimizer: the optimizer; several in one where groups of parameters have other rules.
        implementation: text for the records.
        schedules: schedule of each of the optimizer's `param_groups`, or None.
        decayed_share: fraction of the parameters on which weight decay acts.
    """

    optimizer: torch.optim.Optimizer
    implementation: str
    schedules: list[Mapping[str, Any] | None]
    decayed_share: float


def updates_of(spec: RunSpec, model: nn.Module) -> Updates:
    """Build the optimizer of a run.

    Raises:
        TypeError: a user-defined class does not keep its groups of parameters apart.
    """
    trained = trained_parameters(model)
    alike: list[Part] = []  # updated by one class with several `param_groups`
    built = []
    for part in spec.parts(trained):
        if part.optimizer_kind == "torch" and part.rule == spec.rule:
            alike.append(part)
        else:
            built.append(_of_part(spec, part, trained))
    if alike:
        built.insert(0, _of_class(spec, alike, trained))
    optimizers = [updates.optimizer for updates in built]
    return Updates(
        optimizer=optimizers[0] if len(optimizers) == 1 else JointOptimizer(optimizers),
        implementation=" and ".join(dict.fromkeys(updates.implementation for updates in built)),
        schedules=[schedule for updates in built for schedule in updates.schedules],
        decayed_share=_decayed_share(optimizers),
    )


def _of_class(spec: RunSpec, parts: list[Part], trained: Parameters) -> Updates:
    """Build the class of a run, with a dictionary for each group of parameters."""
    arguments = spec.hyperparameters
    if not spec.groups or [part.name for part in parts] == [""]:
        return _of_part(spec, parts[0], trained)
    groups = [
        {
            "params": [trained[name] for name in part.parameters],
            **{n: v for n, v in part.hyperparameters.items() if arguments.get(n) != v},
        }
        for part in parts
    ]
    optimizer = build_optimizer(spec.rule, arguments, groups)
    if len(optimizer.param_groups) != len(groups):
        count = f"{len(optimizer.param_groups)} param_groups of {len(groups)} groups"
        raise TypeError(f"'{spec.rule}' made {count} of parameters")
    schedules = [part.schedule for part in parts]
    return Updates(optimizer, _call(spec.rule, arguments), schedules, 0.0)


def _of_part(spec: RunSpec, part: Part, trained: Parameters) -> Updates:
    named = {name: trained[name] for name in part.parameters}
    optimizer, text = _built(spec, part, named)
    return Updates(optimizer, text, [part.schedule] * len(optimizer.param_groups), 0.0)


def _built(spec: RunSpec, part: Part, named: Parameters) -> tuple[torch.optim.Optimizer, str]:
    parameters = list(named.values())
    if part.optimizer_kind == "torch":
        optimizer = build_optimizer(part.rule, part.hyperparameters, parameters)
        return optimizer, _call(part.rule, part.hyperparameters)
    rule = rule_of(part.optimizer_kind, part.rule, part.modify)
    if spec.rng == "script" and rule.torch_optim and not rule.torch_optim.needs_closure:
        arguments = rule.torch_optim.arguments(part.hyperparameters, part.weight_decay, part.decay)
        if arguments is not None:
            name = rule.torch_optim.class_name
            optimizer = getattr(torch.optim, name)(parameters, **arguments)
            return optimizer, _call(f"torch.optim.{name}", arguments)
    rule_optimizer = RuleOptimizer(
        named,
        rule,
        part.hyperparameters,
        part.weight_decay,
        part.decay,
        spec.as_vectors,
        spec.seed,
    )
    return rule_optimizer, implementation_of(part.rule)


def _decayed_share(optimizers: list[torch.optim.Optimizer]) -> float:
    decayed = total = 0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            size = sum(parameter.numel() for parameter in group["params"])
            decays = group.get("weight_decay")
            total, decayed = total + size, decayed + size * bool(decays)
    return decayed / total


def densify_gradients(spec: RunSpec, model: nn.Module) -> None:
    """Replace sparse gradients, as of `nn.Embedding(sparse=True)`, where a rule needs dense ones.

    A torch class gets them as they are.
    """
    trained = trained_parameters(model)
    for part in spec.parts(trained) if spec.uses_torch else ():
        if part.optimizer_kind == "torch":
            trained = {n: p for n, p in trained.items() if n not in part.parameters}
    for parameter in trained.values():
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
