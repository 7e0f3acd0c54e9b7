"""Outputs of a user's model that fit a loss, and yet are probably not meant."""

from __future__ import annotations

import torch
from torch import Tensor

from optrial.errors import USER_CODE_ERRORS
from optrial.models.objective.losses import class_axes
from optrial.models.trial.problem import TrialProblem, on_any_device

__all__ = ["output_note"]

_SUM = 1e-3
"""Largest distance of a sum of probabilities from 1; half precision stays below it."""

_FAR = 1000.0
"""Factor of inputs for which logits leave the range from 0 to 1, but no outputs of a sigmoid."""


def output_note(problem: TrialProblem) -> str:
    """Return what is suspicious about the outputs of a model that passed `try_code`, or "".

    That is a softmax or sigmoid before a loss that takes logits (double softmax trains, slowly and
    to another minimum), or more outputs than classes.
    """
    loss, _ = problem.loss
    if loss not in ("cross_entropy", "focal", "bce"):
        return ""
    return on_any_device(lambda device: _note(problem, device), lambda note: note is None) or ""


@torch.no_grad()
def _note(problem: TrialProblem, device: str) -> str | None:
    """Return the note, or None if the model does not run on a device."""
    (name, _), (loss, _) = problem.model, problem.loss
    inputs, targets = problem.tensors(device)
    try:
        model = problem.build_model(device).eval()
        outputs = model(inputs)
        far = model(_FAR * inputs) if loss == "bce" and inputs.is_floating_point() else outputs
    except USER_CODE_ERRORS:
        return None
    if loss == "bce":
        if inputs.is_floating_point() and _within_1(outputs) and _within_1(far):
            return (
                f"'{name}' returns numbers from 0 to 1, and bce takes logits, because it applies "
                "sigmoid itself: leave sigmoid out of the model"
            )
        return ""
    if any(_are_probabilities(outputs, axis) for axis in class_axes(outputs.shape, targets.shape)):
        return (
            f"'{name}' returns probabilities, and {loss} takes logits, because it applies softmax "
            "itself: leave softmax out of the model"
        )
    if targets.ndim == 1 and outputs.shape[1] > problem.classes:
        return (
            f"'{name}' returns {outputs.shape[1]} outputs for {problem.classes} classes: no target "
            "is one of the others"
        )
    return ""


def _are_probabilities(outputs: Tensor, axis: int) -> bool:
    sums = outputs.sum(axis)
    return bool((outputs >= 0).all() and ((sums - 1).abs() <= _SUM).all())


def _within_1(outputs: Tensor) -> bool:
    return bool(((outputs >= 0) & (outputs <= 1)).all())
