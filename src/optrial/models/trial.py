"""One batch through code of the user's before any run, so that what is wrong is said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optrial.code import is_code
from optrial.errors import Problem, StudyError
from optrial.models.catalogue import build_model
from optrial.models.objective import build_objective

__all__ = ["try_code"]


def try_code(
    model: tuple[str, Mapping[str, Any]],
    loss: tuple[str, Mapping[str, Any]],
    metrics: Sequence[str],
    batch: tuple[np.ndarray, np.ndarray],
    classes: int,
) -> list[Problem]:
    """Return what keeps a model, a loss and metrics, any of them the user's, from being trained.

    Where there is a GPU, a model that will not run on the CPU is tried there.

    Args:
        model: its name and arguments.
        loss: likewise.
        metrics: names.
        batch: inputs, (batch, *input_shape), in the type that models are trained in, and targets.
        classes: number of classes, or of values to predict.
    """
    problems: list[Problem] = []
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
        inputs, targets = (torch.from_numpy(array).to(device) for array in batch)
        with torch.random.fork_rng(devices=[]):
            problems = _try_on(model, loss, metrics, inputs, targets, classes)
        if not problems:
            break
    return problems


def _try_on(
    model: tuple[str, Mapping[str, Any]],
    loss: tuple[str, Mapping[str, Any]],
    metrics: Sequence[str],
    inputs: Tensor,
    targets: Tensor,
    classes: int,
) -> list[Problem]:
    kind, arguments = model
    shape = tuple(inputs.shape)
    try:
        built = build_model(kind, arguments, input_shape=shape[1:], classes=classes, seed=0)
    except StudyError as error:
        return [problem.under("model") for problem in error.problems]
    try:
        outputs = built.to(inputs)(inputs)
    except Exception as error:  # noqa: BLE001  whatever the user's code raises
        given = f"on inputs of shape {shape}, {str(inputs.dtype).removeprefix('torch.')}"
        return [Problem("model.factory", f"'{kind}' raised {_said(error)} {given}.")]
    if reason := _wrong_outputs(outputs, targets, loss[0], classes):
        return [Problem("model.factory", f"'{kind}' returned {reason}.")]
    objective = build_objective(*loss, metrics)
    problems = []
    try:
        objective.loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001
        of_loss = is_code(loss[0])
        path, name = ("loss", loss[0]) if of_loss else ("model.factory", kind)
        wanted = "; a loss returns the mean over the batch, one number" if of_loss else ""
        problems.append(Problem(path, f"'{name}' raised {_said(error)}{wanted}."))
    for index, (name, metric) in enumerate(zip(metrics, objective.metrics, strict=True)):
        try:
            metric(outputs.detach(), targets)
        except Exception as error:  # noqa: BLE001
            problems.append(Problem(f"metrics[{index}]", f"'{name}' raised {_said(error)}."))
    return problems


def _wrong_outputs(outputs: Any, targets: Tensor, loss: str, classes: int) -> str:
    """Say what is wrong with a model's outputs for a loss of the catalogue; or ""."""
    if not isinstance(outputs, Tensor):
        return f"{type(outputs).__name__}; it must return one tensor"
    found, samples = tuple(outputs.shape), len(targets)
    if is_code(loss) or loss == "mean_output":
        return ""
    if targets.is_floating_point():
        wanted = tuple(targets.shape)
        return f"outputs of shape {found}; they must be {wanted}" if found != wanted else ""
    if len(found) != 2 or found[0] != samples or found[1] < classes:
        return f"outputs of shape {found}; {classes} classes need ({samples}, {classes})"
    return ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0].rstrip('.')}"
