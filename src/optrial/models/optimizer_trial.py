"""Two steps with a user-defined optimizer before any run, to report once what cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from optrial.errors import USER_CODE_ERRORS, Problem, listed, one_line
from optrial.models.catalogue import build_model
from optrial.models.objective import build_objective
from optrial.models.optimizer import (
    backward,
    build_optimizer,
    clip_gradients,
    forget_gradients,
    needs_closure,
    step_optimizer,
)
from optrial.models.precision import as_real, place_model
from optrial.models.settings import kept_settings
from optrial.models.trained import trained_parameters

__all__ = ["Tried", "TriedOptimizer", "TriedProblem", "gradients_of", "try_optimizer"]

_CALLED = "when called"  # a stage of a trial
_STEPS = 2  # the second finds state that the first left
_MOST_STEPS = 12  # where parameters are still unchanged, as while a running average warms up


class TriedProblem(NamedTuple):
    """Problem on which an optimizer is tried.

    Attributes:
        model: its name and arguments.
        loss: likewise.
        batch: inputs, in the type that models are trained in, and targets.
        classes: number of classes, or of values to predict.
    """

    model: tuple[str, Mapping[str, Any]]
    loss: tuple[str, Mapping[str, Any]]
    batch: tuple[np.ndarray, np.ndarray]
    classes: int


@dataclass(frozen=True)
class TriedOptimizer:
    """An entry of `optimizers` with one value per argument.

    Attributes:
        name: ``module:name`` of a class or function.
        arguments: of it.
        closure: whether `step` is passed a closure, even if it does not require it.
        create_graph: whether gradients can be differentiated.
        clip_norm: largest norm of the gradient, or None.
        clip_value: largest magnitude of its coordinates, or None.
        scheduled: whether a schedule will change its learning rate.
    """

    name: str
    arguments: Mapping[str, Any]
    closure: bool = False
    create_graph: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    scheduled: bool = False


class Tried(NamedTuple):
    """Outcome of a trial: problems, under the keys of the entry, and notes."""

    problems: list[Problem]
    notes: list[str]


def try_optimizer(optimizer: TriedOptimizer, problem: TriedProblem) -> Tried:
    """Take two steps on one batch; return what keeps the optimizer from training the model.

    A loss that is not finite is no problem here: divergence is a status of a run. Where there is a
    GPU, what fails on the CPU is tried there.
    """
    outcome = Tried([], [])
    with kept_settings() as wrong:
        for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
            outcome = _try_on(optimizer, problem, device)
            if not outcome.problems:
                break
    if wrong:  # which may be why it failed
        return Tried([Problem("torch", f"'{optimizer.name}' {wrong[0]}.")], [])
    return outcome


def gradients_of(problem: TriedProblem) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each trained parameter and its gradient on the batch, by name; perhaps none.

    Parameters on which the loss does not depend are left out.
    """
    try:
        with _isolated():
            model, differentiate = _differentiated(problem, "cpu")
            differentiate()
    except USER_CODE_ERRORS:  # the model's own trial says what is wrong
        return {}
    named = trained_parameters(model).items()
    return {
        name: (as_real(p.detach()), as_real(p.grad.to_dense()))
        for name, p in named
        if p.grad is not None
    }


@dataclass
class _Trial:
    """Outcome of two steps.

    Attributes:
        error: what was raised, or None.
        stage: what raised it.
        sparse: parameters whose gradients are sparse.
        dense: parameters whose gradients are dense.
        unchanged: parameters that have a gradient and were not changed.
        parameters: their values afterwards.
    """

    error: BaseException | None = None
    stage: str = ""
    sparse: list[str] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    parameters: list[Tensor] = field(default_factory=list)


def _try_on(optimizer: TriedOptimizer, problem: TriedProblem, device: str) -> Tried:
    trial = _trial(optimizer, problem, device)
    if trial.error is not None:
        path, message = _explained(optimizer, problem, device, trial)
        return Tried([Problem(path, message)], [])
    if optimizer.scheduled and _ignores_rate(optimizer, problem, device, trial):
        reason = (
            f"'{optimizer.name}' does not read lr from its param_groups, where a schedule changes "
            "it, so that the schedule has no effect; leave it out, or let step read it there."
        )
        return Tried([Problem("schedule", reason)], [])
    if not trial.unchanged or optimizer.arguments.get("lr") == 0:
        return Tried([], [])
    names = listed(trial.unchanged)
    steps = f"{_MOST_STEPS} steps of a trial"
    return Tried([], [f"{optimizer.name} left {names} unchanged in {steps}, despite a gradient"])


def _trial(
    optimizer: TriedOptimizer, problem: TriedProblem, device: str, rate_factor: float = 1.0
) -> _Trial:
    trial = _Trial(stage="")
    with _isolated():
        try:
            model, differentiate = _differentiated(problem, device, optimizer)
            differentiate()
        except USER_CODE_ERRORS:  # the model's own trial says what is wrong
            return trial
        for name, parameter in trained_parameters(model).items():
            if parameter.grad is not None:
                (trial.sparse if parameter.grad.is_sparse else trial.dense).append(name)
        named, gradients = trained_parameters(model), {*trial.sparse, *trial.dense}
        before = {n: p.detach().clone() for n, p in named.items() if n in gradients}
        try:
            trial.stage = _CALLED
            built = build_optimizer(
                optimizer.name, optimizer.arguments, trained_parameters(model).values()
            )
            _take_steps(optimizer, built, model, differentiate, trial, before, rate_factor)
        except USER_CODE_ERRORS as error:  #  whatever the user's code raises
            trial.error = error
        trial.unchanged = _unchanged(model, before)
        trial.parameters = [parameter.detach().clone() for parameter in named.values()]
    return trial


def _take_steps(
    optimizer: TriedOptimizer,
    built: torch.optim.Optimizer,
    model: nn.Module,
    differentiate: Any,
    trial: _Trial,
    before: Mapping[str, Tensor],
    rate_factor: float,
) -> None:
    for step in range(1, _MOST_STEPS + 1):
        if step > _STEPS and not _unchanged(model, before):
            break
        trial.stage = f"in step {step}"
        _switch(built, "train")
        for group in built.param_groups if rate_factor != 1 else ():
            group["lr"] = rate_factor * float(group.get("lr", 1))

        def clean_gradients() -> Tensor:
            forget_gradients(built, model)
            return differentiate()  # type: ignore[no-any-return]

        closure = optimizer.closure or needs_closure(built)
        step_optimizer(built, clean_gradients, trained_parameters(model).values(), closure=closure)
        forget_gradients(built, model)
        trial.stage = "in its method eval"
        _switch(built, "eval")
    _switch(built, "train")


def _unchanged(model: nn.Module, before: Mapping[str, Tensor]) -> list[str]:
    return [name for name, old in before.items() if torch.equal(old, model.get_parameter(name))]


def _switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    switch = getattr(optimizer, mode, None)
    if callable(switch):
        switch()


def _differentiated(
    problem: TriedProblem, device: str, optimizer: TriedOptimizer | None = None
) -> tuple[nn.Module, Any]:
    """Return a model, and a function that computes its loss and gradients on the batch."""
    inputs, targets = (torch.from_numpy(array).to(device) for array in problem.batch)
    kind, arguments = problem.model
    shape = tuple(inputs.shape[1:])
    model = build_model(kind, arguments, input_shape=shape, classes=problem.classes, seed=0)
    model = place_model(model, inputs.device, inputs.dtype)
    model.train()
    objective = build_objective(*problem.loss, ())

    def differentiate() -> Tensor:
        loss = objective.loss(model(inputs), targets)
        backward(loss, create_graph=optimizer is not None and optimizer.create_graph)
        if optimizer is not None:
            clip_gradients(model, optimizer.clip_norm, optimizer.clip_value)
        return loss

    return model, differentiate


def _explained(
    optimizer: TriedOptimizer, problem: TriedProblem, device: str, trial: _Trial
) -> tuple[str, str]:
    """Return the key to blame for an error, and a sentence that says what happened and helps."""
    assert trial.error is not None
    text = ", ".join(f"{name}={value!r}" for name, value in optimizer.arguments.items())
    called = f" with {text}" if text and trial.stage == _CALLED else ""
    raised = f"'{optimizer.name}' failed {trial.stage}{called}: {one_line(trial.error).rstrip('.')}"
    if trial.stage != _CALLED:
        if key := _key_that_helps(optimizer, problem, device):
            return key[0], f"{raised}; {key[1]}."
        if optimizer.clip_norm is not None or optimizer.clip_value is not None:
            without = replace(optimizer, clip_norm=None, clip_value=None)
            if _trial(without, problem, device).error is None:
                return "clip", f"{raised}; it works without clip."
    return "torch", f"{raised}.{_hint(trial)}"


def _key_that_helps(
    optimizer: TriedOptimizer, problem: TriedProblem, device: str
) -> tuple[str, str] | None:
    """Find the entry's key, `closure` or `create_graph`, with whose other value it works."""
    names = ("closure", "create_graph")
    for changed in (("closure",), ("create_graph",), names):
        other: dict[str, Any] = {name: not getattr(optimizer, name) for name in changed}
        if _trial(replace(optimizer, **other), problem, device).error is None:
            wanted = " and ".join(f"{name}: {str(value).lower()}" for name, value in other.items())
            return ("torch" if all(other.values()) else changed[0]), f"set {wanted}"
    return None


_HINTS = (
    ("dense gradient", "", " All gradients are dense: it is for nn.Embedding with sparse=True."),
    (
        "subscriptable|not iterable|unpack",
        _CALLED,
        " An argument that is a list is written as a list in a list: betas: [[0.9, 0.99]].",
    ),
    (
        "missing|'list' object|__contains__",
        _CALLED,
        " Write a function that takes the parameters and calls it with all it needs.",
    ),
    (
        "2-?d",
        "",
        " Write a function or class that gives it the matrices and gives the other parameters to "
        "another optimizer, or use the rule muon.",
    ),
)
"""Patterns of messages, the stage in which each counts ("" for any), and what may help."""


def _hint(trial: _Trial) -> str:
    """Say what may help, beginning with a space; or nothing."""
    message = str(trial.error).lower()
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
    return next(
        (h for p, stage, h in _HINTS if re.search(p, message) and (called or not stage)), ""
    )


def _ignores_rate(
    optimizer: TriedOptimizer, problem: TriedProblem, device: str, trial: _Trial
) -> bool:
    """Return whether halving the learning rate changes nothing, although parameters do change."""
    if len(trial.unchanged) == len(trial.sparse) + len(trial.dense):
        return False
    other = _trial(optimizer, problem, device, rate_factor=0.5)
    pairs = zip(trial.parameters, other.parameters, strict=True)
    return other.error is None and all(
        torch.equal(one.nan_to_num(), half.nan_to_num()) for one, half in pairs
    )


@contextmanager
def _isolated() -> Iterator[None]:
    """Draw the same numbers in each trial, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
