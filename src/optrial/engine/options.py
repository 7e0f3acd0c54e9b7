"""The options of a run that every engine reads the same way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.data import Dataset, augment
from optrial.models import activation_count
from optrial.plan import RunSpec
from optrial.rules import learning_rate_factors

__all__ = [
    "augmentation",
    "data_facts",
    "implementation_of",
    "mixed_precision",
    "rate_factors",
    "samples_at_once",
    "storage_dtype",
]

_EVALUATED_AT_ONCE = 2**26  # activations; bounds the memory of evaluation, not its result
_MOST_SAMPLES = 2**15


def storage_dtype(precision: str) -> torch.dtype:
    """Return the type of weights, their updates and the data; bfloat16 is for products only."""
    return torch.float64 if precision == "float64" else torch.float32


def mixed_precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which products are taken in bfloat16, where that is the precision."""
    if precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def rate_factors(spec: RunSpec, first_step: int, count: int) -> NDArray[np.float64]:
    """Return by what the schedule multiplies the learning rate of `count` steps, (count,)."""
    steps = np.arange(first_step, first_step + count)
    if spec.schedule is None:
        return np.ones(count)
    factors: NDArray[np.float64] = learning_rate_factors(spec.schedule, steps, spec.steps)
    return factors


def implementation_of(spec: RunSpec) -> str:
    """Say for the records whose code updates the parameters."""
    return spec.rule if ":" in spec.rule else f"optrial.rules.{spec.rule}"


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """Return what a later reader needs to judge the data and to build the model again."""
    return {
        "input_shape": list(dataset.input_shape),
        "outputs": dataset.classes,
        "split_sizes": dataset.sizes,
        "split_overlap": _overlaps(dataset),
        "scaling_fitted_on": ["train"],
    }


_known_overlaps: dict[str, dict[str, int]] = {}  # by the hash of a dataset


def _overlaps(dataset: Dataset) -> dict[str, int]:
    """Return for each pair of splits how many samples of the second are in the first too."""
    if dataset.sha256 not in _known_overlaps:
        rows = {
            name: [inputs.tobytes() for inputs in split.inputs]
            for name, split in dataset.splits.items()
        }
        seen = {name: set(map(hash, found)) for name, found in rows.items()}
        _known_overlaps[dataset.sha256] = {
            f"{first} and {second}": sum(hash(row) in seen[first] for row in rows[second])
            for first, second in combinations(rows, 2)
        }
    return _known_overlaps[dataset.sha256]


def samples_at_once(model: nn.Module, input_shape: tuple[int, ...], runs: int) -> int:
    """Return how many samples of how many runs are evaluated together."""
    activations = activation_count(model, input_shape)
    return max(1, min(_MOST_SAMPLES, _EVALUATED_AT_ONCE // activations) // runs)


def augmentation(dataset: Dataset, device: torch.device) -> Callable[..., torch.Tensor]:
    """Return what varies the inputs of a training batch: (inputs, key) -> inputs.

    Inputs are (batch, ...) with the `mask_key` of seed and step, or (seeds, batch, ...) with an
    int64 tensor of them, (seeds,).
    """
    options = dataset.augmentation
    if options is None:
        return lambda inputs, key: inputs  # noqa: ARG005
    fill = torch.from_numpy(options.fill).to(device)

    def vary(inputs: torch.Tensor, key: int | torch.Tensor) -> torch.Tensor:
        filled = fill.to(inputs.dtype)
        varied: torch.Tensor = augment(
            inputs, key, flip=options.flip, crop=options.crop, fill=filled
        )
        return varied

    return vary
