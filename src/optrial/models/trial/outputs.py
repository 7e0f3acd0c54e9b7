"""Checks that the outputs of a model fit a loss, and describes values in messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optrial.code import is_code
from optrial.models.objective.losses import class_axes, outputs_per_value
from optrial.models.trial.problem import Named

__all__ = ["described", "shapes_text", "type_name", "wrong_outputs"]


def wrong_outputs(
    outputs: object, targets: Tensor, loss: Named, classes: int, *, classes_last: bool = False
) -> str:
    """Describe outputs that do not fit a loss, with the way out; return "" if they fit.

    Args:
        outputs: what a model returned.
        targets: the targets of its samples.
        loss: name and arguments.
        classes: number of outputs that the data needs.
        classes_last: whether the last axis is known to hold the classes.
    """
    if not isinstance(outputs, Tensor):
        return (
            f"{described(outputs)}; a model returns one tensor: return one of them or join them, "
            "or compute the loss in the model and use loss: mean_output"
        )
    name, arguments = loss
    if classes_last and name in ("cross_entropy", "focal"):
        loss = name, {"class_axis": -1, **arguments}
    if is_code(name) and outputs.ndim and len(outputs) != len(targets):
        return (
            f"outputs of shape {tuple(outputs.shape)} for {len(targets)} samples; the first "
            "dimension must be the batch: transpose the outputs within the loss instead"
        )
    if is_code(name) or name == "mean_output":
        return ""
    if outputs.is_complex():
        way_out = "take .abs() or .real, or torch.view_as_real"
        return f"{type_name(outputs.dtype)} outputs; {name} takes real numbers: {way_out}"
    reason = _wrong_shape(tuple(outputs.shape), targets, loss, classes)
    if reason and outputs.numel() == 1 < len(targets):
        return f"{reason}; if the model computes its loss itself, use loss: mean_output"
    return reason


def _wrong_shape(shape: tuple[int, ...], targets: Tensor, loss: Named, classes: int) -> str:
    """Describe a shape of outputs that does not fit a loss of the catalogue."""
    name, arguments = loss
    labels = tuple(targets.shape)
    if name == "bce" and targets.numel() == len(targets):
        needed = [labels[:1], (*labels[:1], 1)]
    elif targets.is_floating_point():
        several = outputs_per_value(name, arguments)
        flat = labels[0], several * targets[0].numel()
        needed = [flat] if several > 1 else list(dict.fromkeys([labels, flat]))
    elif targets.ndim > 1:
        return _wrong_logits(shape, labels, classes, arguments.get("class_axis"))
    else:
        enough = len(shape) == 2 and shape[0] == labels[0] and shape[1] >= classes
        needed = [shape if enough else (*labels, classes)]
    if shape in needed:
        return ""
    rule = f"{classes} classes need" if labels == needed[0][:-1] else "they must be"
    reason = f"outputs of shape {shape}; {rule} {' or '.join(map(str, needed))}"
    if len(shape) == 3 and len(labels) == 1:
        return f"{reason}, as a transformer with pool: mean has"
    return reason


def _wrong_logits(
    shape: tuple[int, ...], labels: tuple[int, ...], classes: int, class_axis: object
) -> str:
    """Describe a shape of logits that does not fit labels per position."""
    axes = [axis for axis in class_axes(shape, labels) if class_axis in (None, axis)]
    batch, *positions = labels
    layouts = {-1: (batch, *positions, classes), 1: (batch, classes, *positions)}
    needed = " or ".join(str(layouts[a]) for a in (-1, 1) if class_axis in (None, a))
    if not axes or shape[axes[0]] < classes:
        reason = (
            f"outputs of shape {shape}; {classes} classes at each position of labels of shape "
            f"{labels} need {needed}"
        )
        if len(shape) == 2 and shape[0] == batch:
            return f"{reason}, as a transformer with pool: none has"
        return reason
    if len(axes) > 1:
        return (
            f"outputs of shape {shape} for labels of shape {labels}, whose classes may be on axis "
            "1 or on the last axis; say which: loss: {name: cross_entropy, class_axis: -1}"
        )
    return ""


def described(value: object) -> str:
    """Describe a value that came instead of a tensor of the right shape."""
    match value:
        case Tensor(is_nested=True):
            return f"a nested tensor, {type_name(value.dtype)}"
        case Tensor() | np.ndarray():
            kind = "values" if isinstance(value, Tensor) else "an array of NumPy"
            return f"{kind} of shape {tuple(value.shape)}, {type_name(value.dtype)}"
        case Mapping():
            return f"a {type(value).__name__} with the keys {', '.join(map(repr, value))}"
        case tuple() | list():
            parts = ", ".join(map(described, value))
            return f"a {type(value).__name__} of {len(value)} ({parts})"
        case None:
            return "None"
    return f"a {type(value).__name__}"


def shapes_text(outputs: Tensor, targets: Tensor) -> str:
    """Return both shapes in parentheses, with a leading space."""
    return f" (outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)})"


def type_name(dtype: torch.dtype | np.dtype[Any]) -> str:
    """Return the name of a type without ``torch.``."""
    return str(dtype).removeprefix("torch.")
