"""Whether user code is a mean over samples, so that the batches of a split add up to its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from optrial.code import is_code, load_code
from optrial.errors import USER_CODE_ERRORS
from optrial.models.catalogue import build_model
from optrial.models.draws import seeded_draws
from optrial.models.metrics import own_value
from optrial.models.objective import build_objective, class_axes, widened
from optrial.models.precision import place_model

__all__ = ["needing_whole_split"]

_ROUNDING = 1e-5  # relative; a mean of float32 values rounds to less
_SPREAD = (1e-2, 1e2)  # of the outputs that are tried, from the first sample to the last
_MOST_NUMBERS = 2**21  # of the outputs that are tried at once

Function = Callable[[Tensor, Tensor], Any]


def needing_whole_split(
    model: tuple[str, Mapping[str, Any]],
    loss: tuple[str, Mapping[str, Any]],
    metrics: Sequence[str],
    inputs: NDArray[Any],
    targets: NDArray[Any],
    classes: int,
) -> list[str]:
    """Return the parts of a problem that cannot be evaluated batch by batch.

    These are names of metrics, "loss", and "model" where the outputs of a sample depend on the
    other samples of its batch. Each function is compared on a batch and on parts of it, and counts
    as a mean only if its values differ between parts and add up in every comparison. Parts of the
    catalogue are known and not tried.

    Args:
        model: its name and arguments.
        loss: likewise.
        metrics: names.
        inputs: of some samples, in the type that models are trained in.
        targets: of these samples, and of further ones; every class should be among them.
        classes: number of classes, or of values to predict.
    """
    own = [name for name in metrics if is_code(name)]
    if not (own or is_code(model[0]) or is_code(loss[0])):
        return []
    x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
    with seeded_draws(0), torch.no_grad():
        built = build_model(*model, input_shape=tuple(x.shape[1:]), classes=classes, seed=0)
        built = place_model(built, x.device, x.dtype)
        built(x.clone())  # in training mode, for some models must have seen a batch to be evaluated
        built.eval()
        outputs = widened(built(x.clone()))
        needing = [] if not is_code(model[0]) or _acts_by_sample(built, x) else ["model"]
        if outputs.ndim == 0:  # the model computes the loss of a batch
            return needing or ["model"] * bool(own)
        built.train()
        tried = list(_tried(outputs, y))
        if is_code(loss[0]) and not _is_mean(build_objective(*loss, ()).loss, tried):
            needing.append("loss")
        return needing + [name for name in own if not _is_mean(load_code(name), tried)]


def _acts_by_sample(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether the outputs of a sample depend on that sample alone.

    A model that draws is given the same draws again with other samples beside the first ones; one
    that does not is given parts of the batch too.
    """
    first, rest = _parts(torch.arange(len(inputs)))
    before = torch.get_rng_state()
    whole = model(inputs.clone())
    draws = not torch.equal(before, torch.get_rng_state())
    if whole.ndim == 0:  # the loss that it computes by itself
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


def _is_mean(function: Function, tried: Sequence[tuple[Tensor, Tensor]]) -> bool:
    """Return whether a function of a batch is seen to be the mean of its values on parts of it."""
    verdicts = [_adds_up(function, *batch) for batch in tried]
    return True in verdicts and False not in verdicts


def _adds_up(function: Function, outputs: Tensor, targets: Tensor) -> bool | None:
    """Return whether the values on parts of a batch add up to that of the batch.

    None where that cannot be told: the function does not take such outputs, or its values are all
    equal.
    """
    try:
        outputs, targets, whole = _value(function, outputs, targets)
    except USER_CODE_ERRORS:  #  outputs that the model would not return
        return None
    verdict = None
    for parts in (_parts(_in_order(targets)), _parts(torch.arange(len(targets)))):
        try:
            values = torch.stack([own_value(function, outputs[p], targets[p]) for p in parts])
        except USER_CODE_ERRORS:  #  it requires both classes, for example
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
    """Return outputs and targets in a type that a function takes, float64 or theirs; its value."""
    wide = outputs.double(), targets.double() if targets.is_floating_point() else targets
    try:
        return *wide, own_value(function, *wide)
    except USER_CODE_ERRORS:  #  weights of classes in float32, for example
        return outputs, targets, own_value(function, outputs, targets)


def _tried(outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs in the form of a model's, with targets: its own, and others that vary more.

    These are noise, alone and around the right answer, and the same in the range of the model's
    outputs. Its size grows from sample to sample, so that thresholds lie within it and parts of a
    batch differ.
    """
    yield outputs, targets[: len(outputs)]
    most = max(len(outputs), _MOST_NUMBERS // max(1, outputs[0].numel()))
    targets = targets[:most]
    shape = (len(targets), *outputs.shape[1:])
    low, high = (torch.tensor(value, dtype=torch.float64).log() for value in _SPREAD)
    spread = torch.linspace(low, high, len(targets)).exp().reshape(-1, *[1] * (len(shape) - 1))
    right, within = _right(outputs, targets), _range_of(outputs)
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
    """Return outputs of the right answers, (samples, ...), or noise where the form is unknown."""
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
    """Return a function that brings numbers into the range of a model's outputs, if it has one."""
    sums = outputs.sum(dim=-1) if outputs.ndim > 1 else outputs
    if outputs.min() < 0:
        exponentials = outputs.exp().sum(dim=-1) if outputs.ndim > 1 else outputs
        logarithms = bool(((exponentials - 1).abs() <= _ROUNDING).all())
        return (lambda values: values.log_softmax(dim=-1)) if logarithms else None
    if outputs.ndim > 1 and bool(((sums - 1).abs() <= _ROUNDING).all()):
        return lambda values: values.softmax(dim=-1)
    return torch.sigmoid if outputs.max() <= 1 else torch.abs


def _in_order(targets: Tensor) -> Tensor:
    """Return the places of samples in the order of their first target."""
    return targets.reshape(len(targets), -1)[:, 0].argsort(stable=True)


def _parts(places: Tensor) -> tuple[Tensor, Tensor]:
    """Divide places into two parts of different sizes."""
    third = max(1, len(places) // 3)
    return places[:third], places[third:]
