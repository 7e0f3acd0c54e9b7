"""Recognises user code that is not a mean over samples and needs a whole split at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from optrial.code import is_code, load_code
from optrial.errors import USER_CODE_ERRORS
from optrial.models.draws import seeded_draws
from optrial.models.objective.combined import widened
from optrial.models.objective.losses import class_axes
from optrial.models.objective.metrics import mean_value
from optrial.models.trial.problem import TrialProblem

__all__ = ["needing_whole_split"]

_ROUNDING = 1e-5  # relative; a mean of float32 values has a smaller error
_SPREAD = (1e-2, 1e2)  # scale of the trial outputs, from the first sample to the last
_MOST_NUMBERS = 2**21  # of trial outputs at once

Function = Callable[[Tensor, Tensor], object]


def needing_whole_split(problem: TrialProblem, metrics: Sequence[str]) -> list[str]:
    """Return the parts of a problem that cannot be evaluated batch by batch.

    The parts are names of metrics, "loss", and "model" if the outputs of a sample depend on the
    other samples of its batch. Each user function is compared on a batch and on parts of it; it
    counts as a mean only if its values differ between parts and add up in every comparison.
    Built-in parts are known and are not tried.

    Args:
        problem: model, loss and samples. There may be more targets than inputs; every class should
            be among them.
        metrics: names.
    """
    user_metrics = [name for name in metrics if is_code(name)]
    model_name, loss_name = problem.model[0], problem.loss[0]
    if not (user_metrics or is_code(model_name) or is_code(loss_name)):
        return []
    inputs, targets = problem.tensors("cpu")
    with seeded_draws(0), torch.no_grad():
        model = problem.build_model("cpu")
        model(inputs.clone())  # in training mode: some models must have seen a batch first
        model.eval()
        outputs = widened(model(inputs.clone()))
        parts = [] if not is_code(model_name) or _acts_by_sample(model, inputs) else ["model"]
        if outputs.ndim == 0:  # the model computes the loss of a batch
            return parts or ["model"] * bool(user_metrics)
        model.train()
        batches = list(_trial_batches(outputs, targets, problem.ignored))
        if is_code(loss_name) and not _is_mean(problem.objective().loss, batches):
            parts.append("loss")
        return parts + [name for name in user_metrics if not _is_mean(load_code(name), batches)]


def _acts_by_sample(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether the outputs of a sample depend on that sample alone.

    A model that draws random numbers is called with the same draws and other samples beside the
    first ones; a model that does not is also called with parts of the batch.
    """
    first, rest = _parts(torch.arange(len(inputs)))
    before = torch.get_rng_state()
    whole = model(inputs.clone())
    draws = not torch.equal(before, torch.get_rng_state())
    if whole.ndim == 0:  # the model computes the loss of a batch
        parts = [model(inputs[rows]) * len(rows) for rows in (first, rest)]
        return draws or bool((sum(parts) / len(inputs) - whole).abs() <= _ROUNDING * whole.abs())
    others = inputs.clone()
    others[rest] = inputs[first].repeat(2 + len(rest) // len(first), *[1] * (inputs.ndim - 1))[
        : len(rest)
    ]
    pairs = [(_seeded(model, others)[first], _seeded(model, inputs)[first])]
    if not draws:
        pairs += [(model(inputs[rows]), whole[rows]) for rows in (first, rest)]
    scale = _ROUNDING * whole.abs().max()
    return all(bool((one - other).abs().max() <= scale) for one, other in pairs)


def _seeded(model: nn.Module, inputs: Tensor) -> Tensor:
    with seeded_draws(0):
        outputs: Tensor = model(inputs.clone())
    return outputs


def _is_mean(function: Function, batches: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Return whether a function proves to be a mean over samples on batches."""
    verdicts = [_adds_up(function, *batch) for batch in batches]
    return True in verdicts and False not in verdicts


def _adds_up(function: Function, outputs: Tensor, targets: Tensor) -> bool | None:
    """Return whether the values on parts of a batch add up to the value of the batch.

    None means undecided: the function does not take such outputs, or all values are equal.
    """
    try:
        outputs, targets, whole = _value(function, outputs, targets)
    except USER_CODE_ERRORS:  # such outputs are none that the model would return
        return None
    verdict = None
    for parts in (_parts(_in_order(targets)), _parts(torch.arange(len(targets)))):
        try:
            values = torch.stack([mean_value(function, outputs[p], targets[p]) for p in parts])
        except USER_CODE_ERRORS:  # it may require both classes
            return False
        if not torch.isfinite(values).all():
            if torch.isfinite(whole):
                return False
            continue
        mean = sum(v * len(p) for v, p in zip(values, parts, strict=True)) / len(targets)
        scale = torch.maximum(values.abs().max(), whole.abs())
        if not bool((mean - whole).abs() <= _ROUNDING * scale):
            return False
        if values[0] != values[1]:
            verdict = True
    return verdict


def _value(function: Function, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs and targets, in float64 if the function takes it, and its value."""
    wide = outputs.double(), targets.double() if targets.is_floating_point() else targets
    try:
        return *wide, mean_value(function, *wide)
    except USER_CODE_ERRORS:  # it may hold class weights in float32
        return outputs, targets, mean_value(function, outputs, targets)


def _trial_batches(
    outputs: Tensor, targets: Tensor, ignored: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs and targets: those of the model first, then others that vary more.

    The others are noise, alone and around the right answers, also transformed to the range of the
    model's outputs. The noise grows from sample to sample, so that it crosses thresholds and parts
    of a batch differ.
    """
    yield outputs, targets[: len(outputs)]
    most = max(len(outputs), _MOST_NUMBERS // max(1, outputs[0].numel()))
    targets = targets[:most]
    shape = (len(targets), *outputs.shape[1:])
    low, high = (torch.tensor(value, dtype=torch.float64).log() for value in _SPREAD)
    spread = torch.linspace(low, high, len(targets)).exp().reshape(-1, *[1] * (len(shape) - 1))
    labels = targets if ignored is None else torch.where(targets == ignored, 0, targets)
    right, within = _right(outputs, labels), _range_of(outputs)
    spread = spread * (right.std() if right.std() > 0 else 1.0)
    for around in (0 * right, right, right):
        drawn = (around + spread * torch.randn(shape)).to(outputs.dtype)
        yield drawn, targets
        if within is not None:
            yield within(drawn), targets
    moderate = (right + right.std() * torch.randn(shape)).to(outputs.dtype)
    yield (moderate if within is None else within(moderate)), targets
    confident = (spread * (3 * right + torch.randn(shape))).to(outputs.dtype)
    yield (confident if within is None else within(confident)), targets


def _right(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return outputs that predict the targets, (samples, ...), or noise if the form is unknown."""
    shape = (len(targets), *outputs.shape[1:])
    if targets.is_floating_point() and targets[0].numel() == outputs[0].numel():
        return targets.double().reshape(shape)
    if targets[0].numel() == outputs[0].numel():
        return 2.0 * targets.double().reshape(shape) - 1
    for axis in class_axes(shape, tuple(targets.shape)):
        if shape[axis] > int(targets.max()):
            right = functional.one_hot(targets.long(), shape[axis]).double()
            return right.movedim(-1, axis)
    return torch.randn(shape, dtype=torch.float64)


def _range_of(outputs: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Return a function that maps numbers to the range of a model's outputs, or None for all."""
    sums = outputs.sum(dim=-1) if outputs.ndim > 1 else outputs
    if outputs.min() < 0:
        exponentials = outputs.exp().sum(dim=-1) if outputs.ndim > 1 else outputs
        logarithms = bool(((exponentials - 1).abs() <= _ROUNDING).all())
        return (lambda values: values.log_softmax(dim=-1)) if logarithms else None
    if outputs.ndim > 1 and bool(((sums - 1).abs() <= _ROUNDING).all()):
        return lambda values: values.softmax(dim=-1)
    return torch.sigmoid if outputs.max() <= 1 else torch.abs


def _in_order(targets: Tensor) -> Tensor:
    """Return the indices that sort samples by their first target."""
    return targets.reshape(len(targets), -1)[:, 0].argsort(stable=True)


def _parts(indices: Tensor) -> tuple[Tensor, Tensor]:
    """Divide indices into two parts of different sizes."""
    third = max(1, len(indices) // 3)
    return indices[:third], indices[third:]
