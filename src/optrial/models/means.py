"""Whether code of the user's is a mean over samples, which batches of a split add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optrial.code import is_code, load_code
from optrial.models.catalogue import build_model
from optrial.models.metrics import own_value
from optrial.models.objective import build_objective, widened
from optrial.models.precision import place_model

__all__ = ["needing_whole_split"]

_ROUNDING = 1e-4  # relative; what is no mean is off by a hundredth or more
_DRAWS = 4  # of outputs beside those of the model, which are nearly constant before training

Function = Callable[[Tensor, Tensor], Any]


def needing_whole_split(
    model: tuple[str, Mapping[str, Any]],
    loss: tuple[str, Mapping[str, Any]],
    metrics: Sequence[str],
    batch: tuple[NDArray[Any], NDArray[Any]],
    classes: int,
) -> list[str]:
    """Return the parts of a problem that cannot be evaluated batch by batch.

    These are names of metrics, "loss", and "model" where the outputs of a sample depend on the
    samples beside it. Each is compared on a batch and on its parts. Parts of the catalogue are
    known and not tried.

    Args:
        model: its name and arguments.
        loss: likewise.
        metrics: names.
        batch: inputs, in the type that models are trained in, and targets of some samples, of each
            class where there are classes.
        classes: number of classes, or of values to predict.
    """
    inputs, targets = map(torch.from_numpy, batch)
    own = [name for name in metrics if is_code(name)]
    if not (own or is_code(model[0]) or is_code(loss[0])):
        return []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        shape = tuple(inputs.shape[1:])
        built = build_model(*model, input_shape=shape, classes=classes, seed=0)
        built = place_model(built, inputs.device, inputs.dtype)
        built(inputs)  # in training mode, for some models must have seen a batch to be evaluated
        built.eval()
        outputs = widened(built(inputs))
        needing = [] if not is_code(model[0]) or _acts_by_sample(built, inputs) else ["model"]
        built.train()
        drawn = list(_drawn(outputs, targets))
        if is_code(loss[0]) and not _is_mean(build_objective(*loss, ()).loss, drawn, targets):
            needing.append("loss")
        return needing + [name for name in own if not _is_mean(load_code(name), drawn, targets)]


def _acts_by_sample(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether parts of a batch have the outputs that they have within it.

    A model that draws is taken to: its draws differ in any case.
    """
    before = torch.get_rng_state()
    whole = model(inputs)
    if not torch.equal(before, torch.get_rng_state()):
        return True
    parts = _parts(torch.arange(len(inputs)))
    if whole.ndim == 0:  # the loss that it computes by itself
        mean = sum(model(inputs[rows]) * len(rows) for rows in parts) / len(inputs)
        return bool((mean - whole).abs() <= _ROUNDING * whole.abs())
    scale = whole.abs().max()
    return all(
        bool((model(inputs[rows]) - whole[rows]).abs().max() <= _ROUNDING * scale) for rows in parts
    )


def _is_mean(function: Function, drawn: Sequence[Tensor], targets: Tensor) -> bool:
    """Return whether a function of a batch is the mean of its values of parts of the batch."""
    return all(_adds_up(function, outputs, targets) for outputs in drawn)


def _adds_up(function: Function, outputs: Tensor, targets: Tensor) -> bool:
    try:
        whole = own_value(function, outputs, targets)
    except Exception:  # noqa: BLE001  outputs that the model would not put out
        return True
    if not torch.isfinite(whole):
        return True
    for parts in (_parts(_in_order(targets)), _parts(torch.arange(len(targets)))):
        try:
            values = torch.stack([own_value(function, outputs[p], targets[p]) for p in parts])
        except Exception:  # noqa: BLE001  it takes both classes, for one
            return False
        mean = sum(v * len(p) for v, p in zip(values, parts, strict=True)) / len(targets)
        scale = torch.maximum(values.abs().max(), whole.abs())
        if not bool((mean - whole).abs() <= _ROUNDING * scale):
            return False
    return True


def _drawn(outputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
    """Yield outputs of the model's form: its own, and others that vary more."""
    yield outputs
    numbers = targets.is_floating_point() and targets.numel() == outputs.numel()
    for _ in range(_DRAWS):
        noise = torch.randn_like(outputs)
        yield targets.reshape(outputs.shape) + noise * targets.std() if numbers else 2 * noise


def _in_order(targets: Tensor) -> Tensor:
    """Return the places of samples in the order of their first target."""
    return targets.reshape(len(targets), -1)[:, 0].argsort(stable=True)


def _parts(places: Tensor) -> tuple[Tensor, Tensor]:
    """Divide places into two parts of different sizes."""
    third = max(1, len(places) // 3)
    return places[:third], places[third:]
