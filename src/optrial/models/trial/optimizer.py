"""Trial of a user-defined optimizer: a few steps on one batch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optrial.code import load_code
from optrial.errors import USER_CODE_ERRORS, Problem, listed
from optrial.models.draws import seeded_draws
from optrial.models.optimizer import (
    backward,
    build_optimizer,
    clip_gradients,
    forget_gradients,
    known_values,
    needs_closure,
    set_values,
    step_optimizer,
)
from optrial.models.parameters import as_real, trained_parameters
from optrial.models.trial.problem import TrialProblem, error_text, on_any_device
from optrial.models.trial.settings import kept_settings

__all__ = ["TrialOptimizer", "TrialOutcome", "gradients_of", "try_optimizer"]

Change = Callable[[float], float]

_CALLED = "when called"  # a stage of a trial
_STEPS = 2  # the second one starts from the state that the first one left
_MOST_STEPS = 12  # if parameters are still unchanged, as while a running average warms up
_NEGLIGIBLE = 1e-5
"""Share of the largest gradient, below which one is rounding: that of a bias before batch norm."""


@dataclass(frozen=True)
class TrialOptimizer:
    """An entry of `optimizers` with one value per argument.

    Attributes:
        name: ``module:name`` of a class or function.
        arguments: its arguments.
        closure: whether `step` is called with a closure, even if it does not require one.
        create_graph: whether gradients can be differentiated.
        clip_norm: largest norm of the gradient, or None.
        clip_value: largest magnitude of its coordinates, or None.
        scheduled: whether a schedule will change its learning rate.
        warmed: other arguments that a schedule will change -> their first values.
        names: names of the parameters that it gets; None for all.
        groups: parameters that differ from the others, as names and arguments.
        alone: whether no other optimizer updates parameters of the model.
    """

    name: str
    arguments: Mapping[str, object]
    closure: bool = False
    create_graph: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    scheduled: bool = False
    warmed: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    groups: tuple[tuple[tuple[str, ...], Mapping[str, object]], ...] = ()
    alone: bool = True

    def held(self, trained: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Return the parameters that it updates."""
        if self.names is None:
            return dict(trained)
        names = {*self.names, *(name for of_group, _ in self.groups for name in of_group)}
        return {name: value for name, value in trained.items() if name in names}

    def build(self, trained: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer.

        Raises:
            TypeError: it returned something else, or does not keep its groups apart.
        """
        names = tuple(trained) if self.names is None else self.names
        if not self.groups:
            return build_optimizer(self.name, self.arguments, [trained[name] for name in names])
        divided = [(names, {}), *self.groups]
        groups = [
            {"params": [trained[name] for name in of_group], **arguments}
            for of_group, arguments in divided
            if of_group
        ]
        built = build_optimizer(self.name, self.arguments, groups)
        if len(built.param_groups) != len(groups):
            count = f"{len(built.param_groups)} param_groups of {len(groups)} groups"
            raise TypeError(f"it made {count} of parameters; keep them apart, or leave groups out")
        return built


class TrialOutcome(NamedTuple):
    """Outcome of a trial: problems, under the keys of the entry, and notes."""

    problems: list[Problem]
    notes: list[str]


def try_optimizer(optimizer: TrialOptimizer, problem: TrialProblem) -> TrialOutcome:
    """Take two steps on one batch; return the reasons why the optimizer cannot train the model.

    A loss that is not finite is no problem here, because divergence is a status of a run.
    """
    with kept_settings() as changes:
        outcome = on_any_device(
            lambda device: _outcome(optimizer, problem, device),
            failed=lambda outcome: bool(outcome.problems),
        )
    if changes:  # they may be the cause of the other problems
        return TrialOutcome([Problem("torch", f"'{optimizer.name}' {changes[0]}.")], [])
    return outcome


def gradients_of(problem: TrialProblem) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each trained parameter and its gradient on the batch, by name.

    Parameters that do not affect the loss are left out. The result is empty if the model fails.
    """
    try:
        with seeded_draws(0):
            model, differentiate = _differentiated(problem, "cpu")
            differentiate()
    except USER_CODE_ERRORS:  # the trial of the model reports it
        return {}
    return {
        name: (as_real(parameter.detach()), as_real(parameter.grad.to_dense()))
        for name, parameter in trained_parameters(model).items()
        if parameter.grad is not None
    }


@dataclass
class _Trial:
    """Record of a few steps.

    Attributes:
        error: the error that was raised, or None.
        stage: what the optimizer did at that time, as the end of a sentence.
        sparse: names of parameters whose gradients are sparse.
        dense: names of parameters whose gradients are dense.
        unchanged: names of parameters whose gradient is not negligible and that were not changed.
        parameters: values of all trained parameters afterwards.
    """

    error: BaseException | None = None
    stage: str = ""
    sparse: list[str] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)


def _outcome(optimizer: TrialOptimizer, problem: TrialProblem, device: str) -> TrialOutcome:
    trial = _trial(optimizer, problem, device)
    if trial.error is not None:
        path, message = _explained(optimizer, problem, device, trial)
        return TrialOutcome([Problem(path, message)], [])
    changes: dict[str, Change] = {name: _always(v) for name, v in optimizer.warmed.items()}
    if optimizer.scheduled:
        changes["lr"] = _halved
    for name, change in changes.items():
        if not _ignores(name, change, optimizer, problem, device, trial):
            continue
        reason = (
            f"'{optimizer.name}' does not read {name} from its param_groups, where a schedule "
            f"changes it, so that this has no effect; leave it out, or read {name} there in step."
        )
        path = "schedule" if name == "lr" else f"schedule.warmup_of.{name}"
        return TrialOutcome([Problem(path, reason)], [])
    if not trial.unchanged or optimizer.arguments.get("lr") == 0:
        return TrialOutcome([], [])
    names = listed(trial.unchanged)
    steps = f"{_MOST_STEPS} steps of a trial"
    note = f"{optimizer.name} left {names} unchanged in {steps}, despite a gradient"
    return TrialOutcome([], [note])


def _trial(
    optimizer: TrialOptimizer,
    problem: TrialProblem,
    device: str,
    changed: tuple[str, Change] | None = None,
) -> _Trial:
    """Take steps, with an argument of the optimizer changed in its groups before each."""
    trial = _Trial()
    with seeded_draws(0):
        try:
            model, differentiate = _differentiated(problem, device, optimizer)
            differentiate()
        except USER_CODE_ERRORS:  # the trial of the model reports it
            return trial
        named = optimizer.held(trained_parameters(model))
        for name, parameter in named.items():
            if parameter.grad is not None:
                (trial.sparse if parameter.grad.is_sparse else trial.dense).append(name)
        before = {name: named[name].detach().clone() for name in _differentiable(named)}
        try:
            trial.stage = _CALLED
            built = optimizer.build(named)
            closure = optimizer.closure or needs_closure(built)
            if closure and not optimizer.alone:
                reason = "its step needs a closure, which needs one class for all parameters"
                raise TypeError(reason)
            for step in range(1, _MOST_STEPS + 1):
                if step > _STEPS and not _unchanged(model, before):
                    break
                trial.stage = f"in step {step}"
                if changed:
                    _change(built, *changed)
                _take_step(built, model, differentiate, closure=closure)
                trial.stage = "in its method eval"
                _switch(built, "eval")
            _switch(built, "train")
        except USER_CODE_ERRORS as error:
            trial.error = error
        trial.unchanged = _unchanged(model, before)
        trial.parameters = [parameter.detach().clone() for parameter in named.values()]
    return trial


def _take_step(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    differentiate: Callable[[], Tensor],
    *,
    closure: bool,
) -> None:
    def clean_gradients() -> Tensor:
        forget_gradients(optimizer, model)
        return differentiate()

    _switch(optimizer, "train")
    parameters = trained_parameters(model).values()
    step_optimizer(optimizer, clean_gradients, parameters, closure=closure)
    forget_gradients(optimizer, model)


def _differentiable(named: Mapping[str, nn.Parameter]) -> list[str]:
    """Return the names of the parameters whose gradients are more than rounding."""
    gradients = {
        name: p.grad.detach().to_dense() for name, p in named.items() if p.grad is not None
    }
    largest = {n: float(grad.abs().max()) for n, grad in gradients.items() if grad.numel()}
    limit = _NEGLIGIBLE * max(largest.values(), default=0.0)
    return [name for name, value in largest.items() if value > limit]


def _unchanged(model: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    return [name for name, old in before.items() if torch.equal(old, model.get_parameter(name))]


def _switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Call the method `train` or `eval` of an optimizer that has it."""
    switch = getattr(optimizer, mode, None)
    if callable(switch):
        switch()


def _differentiated(
    problem: TrialProblem, device: str, optimizer: TrialOptimizer | None = None
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a model, and a function that computes its loss and gradients on the batch."""
    inputs, targets = problem.tensors(device)
    model = problem.build_model(device)
    model.train()
    objective = problem.objective()

    def differentiate() -> Tensor:
        loss = objective.loss(problem.outputs(model, inputs), targets)
        backward(loss, create_graph=optimizer is not None and optimizer.create_graph)
        if optimizer is not None:
            clip_gradients(model, optimizer.clip_norm, optimizer.clip_value)
        return loss

    return model, differentiate


def _explained(
    optimizer: TrialOptimizer, problem: TrialProblem, device: str, trial: _Trial
) -> tuple[str, str]:
    """Return the key that causes an error, and a sentence with the error and the way out."""
    assert trial.error is not None
    text = ", ".join(f"{name}={value!r}" for name, value in optimizer.arguments.items())
    called = f" with {text}" if text and trial.stage == _CALLED else ""
    raised = f"'{optimizer.name}' failed {trial.stage}{called}: {error_text(trial.error)}"
    if trial.stage != _CALLED:
        if key := _key_that_helps(optimizer, problem, device):
            return key[0], f"{raised}; {key[1]}."
        if optimizer.clip_norm is not None or optimizer.clip_value is not None:
            without = replace(optimizer, clip_norm=None, clip_value=None)
            if _trial(without, problem, device).error is None:
                return "clip", f"{raised}; it works without clip."
    return "torch", f"{raised}.{_hint(optimizer.name, trial)}"


def _key_that_helps(
    optimizer: TrialOptimizer, problem: TrialProblem, device: str
) -> tuple[str, str] | None:
    """Return the key, `closure` or `create_graph`, whose other value works, and what to set."""
    for keys in (("closure",), ("create_graph",), ("closure", "create_graph")):
        changes: dict[str, Any] = {key: not getattr(optimizer, key) for key in keys}
        if _trial(replace(optimizer, **changes), problem, device).error is None:
            wanted = " and ".join(f"{key}: {str(value).lower()}" for key, value in changes.items())
            return ("torch" if all(changes.values()) else keys[0]), f"set {wanted}"
    return None


_MODEL_WANTED = (
    " It takes a model, but an optimizer gets parameters: write a function of the parameters that "
    "passes torch.nn.ParameterList(parameters) to it, and name that function here."
)
_HINTS = (
    (
        "dense gradient",
        "",
        " All gradients are dense; it is for nn.Embedding with sparse=True.",
    ),
    (
        "subscriptable|not iterable|unpack",
        _CALLED,
        " Write an argument that is a list as a list within a list: betas: [[0.9, 0.99]].",
    ),
    (
        "missing|'list' object|__contains__",
        _CALLED,
        " Write a function of the parameters that calls it with all its arguments, and name it.",
    ),
    (
        "2-?d",
        "",
        " Write a function or class that gives it the matrices only and another optimizer the "
        "other parameters, or use the rule muon.",
    ),
    (
        "notimplementederror",
        "",
        " A class that takes its steps elsewhere than in step, such as within backward, cannot be "
        "used.",
    ),
)
"""Patterns of error messages, the stage in which each applies ("" for any), and advice."""


def _hint(name: str, trial: _Trial) -> str:
    """Return advice after an error, with a leading space, or ""."""
    if trial.sparse and trial.dense:
        return (
            f" The gradients of {listed(trial.sparse)} are sparse, all others dense: write a "
            "class that holds an optimizer for each kind, or build nn.Embedding with sparse=False."
        )
    if trial.sparse:
        return (
            f" The gradients of {listed(trial.sparse)} are sparse: use SparseAdam, SGD or Adagrad "
            "of torch.optim, or build nn.Embedding with sparse=False."
        )
    called = trial.stage == _CALLED
    if called and _takes_model(name):
        return _MODEL_WANTED
    assert trial.error is not None
    message = error_text(trial.error).lower()
    return next(
        (
            advice
            for pattern, stage, advice in _HINTS
            if re.search(pattern, message) and (called or not stage)
        ),
        "",
    )


def _takes_model(name: str) -> bool:
    """Return whether the first parameter of a class or function is called `model`."""
    try:
        names = list(inspect.signature(load_code(name)).parameters)
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    return names[:1] == ["model"]


def _halved(value: float) -> float:
    return value / 2


def _always(value: float) -> Change:
    return lambda _: value


def _change(optimizer: torch.optim.Optimizer, name: str, change: Change) -> None:
    """Change an argument in every group of an optimizer."""
    for group in optimizer.param_groups:
        before = float(group["lr"]) if "lr" in group else 1.0
        value = before if name == "lr" else known_values(group).get(name, 0.0)
        set_values(group, {name: change(value)})


def _ignores(
    name: str,
    change: Change,
    optimizer: TrialOptimizer,
    problem: TrialProblem,
    device: str,
    trial: _Trial,
) -> bool:
    """Return whether changing an argument has no effect, although parameters do change."""
    if len(trial.unchanged) == len(trial.sparse) + len(trial.dense):
        return False
    other = _trial(optimizer, problem, device, (name, change))
    pairs = zip(trial.parameters, other.parameters, strict=True)
    return other.error is None and all(
        torch.equal(one.nan_to_num(), half.nan_to_num()) for one, half in pairs
    )
