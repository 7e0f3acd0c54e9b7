"""Trial of a loss and metrics on the outputs of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from optrial.code import Unidentifiable, code_sha256, is_code, load_code
from optrial.errors import USER_CODE_ERRORS, Problem
from optrial.models.parameters import trained_parameters
from optrial.models.trial.broadcasting import BroadcastError, refuse_broadcasting
from optrial.models.trial.outputs import described, shapes_text, wrong_outputs
from optrial.models.trial.problem import TrialProblem, error_text

__all__ = ["function_problems", "loss_with_parameters", "model_path"]

_REMEMBERS = (
    "keeps state between calls, so its values would depend on earlier runs; compute them from "
    "outputs and targets alone"
)

_NO_GRADIENT = (
    "returned a value that does not depend on the outputs for PyTorch; compute it from them by "
    "differentiable functions, without detach, item, numpy or argmax"
)


def model_path(name: str) -> str:
    """Return the key of the study that names a model."""
    return "model.factory" if is_code(name) else "model"


def function_problems(
    problem: TrialProblem, metrics: Sequence[str], outputs: Tensor, targets: Tensor
) -> Iterator[Problem]:
    """Yield what is wrong with the loss and the metrics of a problem, given some outputs."""
    named = [("loss", problem.loss[0]), *((f"metrics[{i}]", n) for i, n in enumerate(metrics))]
    user_defined = [(path, name) for path, name in named if is_code(name)]
    before = {name: _fingerprint(name) for _, name in user_defined}
    yield from _loss_problems(problem, outputs, targets)
    for index, name in enumerate(metrics):
        if reason := _wrong_metric(name, problem, outputs.detach(), targets):
            yield Problem(f"metrics[{index}]", f"'{name}' {reason}.")
    for path, name in user_defined:
        if _fingerprint(name) != before[name]:
            yield Problem(path, f"'{name}' {_REMEMBERS}.")


def loss_with_parameters(name: str) -> Iterator[Problem]:
    """Yield a problem if a loss has parameters, which no optimizer would train."""
    function = load_code(name) if is_code(name) else None
    if isinstance(function, nn.Module) and trained_parameters(function):
        first = next(iter(trained_parameters(function)))
        reason = f"has parameters ('{first}'), which no optimizer trains; move them to the model"
        yield Problem("loss", f"'{name}' {reason}, and return the loss there: loss: mean_output.")


def _fingerprint(name: str) -> str:
    """Return the hash of a user function and of all that it holds, or "" if it has none."""
    try:
        return code_sha256(name)
    except Unidentifiable:
        return ""


class _ChangedError(Exception):
    """A loss or metric changed its arguments."""


def _called(function: Callable[[], object], outputs: Tensor, targets: Tensor) -> tuple[object, str]:
    """Return the value of a loss or metric and, if it cannot be used, the reason.

    Args:
        function: computes the value from the outputs and the targets.
        outputs: tensor that it must not change.
        targets: tensor that it must not change.
    """
    try:
        with refuse_broadcasting(outputs, targets), _refuse_changes(outputs, targets):
            return function(), ""
    except BroadcastError as error:
        return None, f"{error}{shapes_text(outputs, targets)}"
    except _ChangedError as error:
        return None, str(error)


@contextmanager
def _refuse_changes(outputs: Tensor, targets: Tensor) -> Iterator[None]:
    """Refuse to change outputs or targets in place, because other functions read them too.

    Raises:
        _ChangedError: the message names the changed one.
    """
    arguments = {"outputs": outputs.detach(), "targets": targets}
    before = {name: value.clone() for name, value in arguments.items()}
    yield
    for name, value in arguments.items():
        if not torch.equal(value.nan_to_num(), before[name].nan_to_num()):
            raise _ChangedError(f"changes {name} in place; write to a copy: {name}.clone()")


def _loss_problems(problem: TrialProblem, outputs: Tensor, targets: Tensor) -> Iterator[Problem]:
    """Yield what is wrong with the value of the loss, or with its gradient."""
    loss, model = problem.loss[0], problem.model[0]
    path, name = ("loss", loss) if is_code(loss) else (model_path(model), model)
    rule = "; a loss returns the mean over the batch, one number" if is_code(loss) else ""
    try:
        loss_of_batch = partial(problem.objective().loss, outputs, targets)
        value, reason = _called(loss_of_batch, outputs, targets)
        if reason:
            yield Problem(path, f"'{name}' {reason}.")
        elif not isinstance(value, Tensor):
            yield Problem(path, f"'{name}' returned {described(value)}{rule}, as a tensor.")
        elif value.ndim:
            yield Problem(path, f"'{name}' returned {described(value)}{rule}.")
        elif outputs.requires_grad and not value.requires_grad:
            yield Problem(path, f"'{name}' {_NO_GRADIENT}.")
        else:
            value.backward()  # type: ignore[no-untyped-call]
    except USER_CODE_ERRORS as error:
        raised = f"raised {error_text(error)}, given {_arguments(outputs, targets)}"
        yield Problem(path, f"'{name}' {raised}{rule}.")


def _arguments(outputs: Tensor, targets: Tensor) -> str:
    """Describe what a loss or metric is called with."""
    return f"outputs, {described(outputs)}, and targets, {described(targets)}"


def _wrong_metric(name: str, problem: TrialProblem, outputs: Tensor, targets: Tensor) -> str:
    """Return why a metric cannot be evaluated, or ""."""
    any_outputs = is_code(problem.loss[0]) or problem.loss[0] == "mean_output"
    unfit = _unfit(outputs, targets, problem.classes) if any_outputs and not is_code(name) else ""
    if unfit:
        return f"does not fit {unfit}; leave it out, or write a metric of these outputs"
    try:
        compute = partial(_metric_value, name, problem, outputs, targets)
        value, reason = _called(compute, outputs, targets)
    except USER_CODE_ERRORS as error:
        return f"raised {error_text(error)}, given {_arguments(outputs, targets)}"
    if reason or _is_metric(value, len(targets)):
        return reason
    return (
        f"returned {described(value)} for {len(targets)} samples; a metric returns one real number "
        "per sample, or their mean"
    )


def _unfit(outputs: Tensor, targets: Tensor, classes: int) -> str:
    """Return why metrics of the catalogue do not take the outputs for a user-defined loss."""
    if targets.is_floating_point():
        same = outputs.shape == targets.shape
        return "" if same else f"values{shapes_text(outputs, targets)}"
    if classes <= 2 and outputs.numel() == len(targets) == targets.numel():
        return ""
    return wrong_outputs(outputs, targets, ("cross_entropy", {}), classes)


def _metric_value(name: str, problem: TrialProblem, outputs: Tensor, targets: Tensor) -> object:
    """Return the value of a metric for a batch."""
    if is_code(name):
        return load_code(name)(outputs, targets)
    objective = problem.objective(name)
    for metric in objective.metrics:
        return metric(outputs, targets)
    (of_split,) = objective.split_metrics.values()
    return torch.tensor(of_split(outputs, targets).value)


def _is_metric(value: object, samples: int) -> bool:
    """Return whether a value is one real number, or one per sample."""
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return not tensor.is_complex() and tensor.numel() in (1, samples)
