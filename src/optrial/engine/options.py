"""Options of a run that all engines interpret in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from optrial.code import is_code, load_code
from optrial.data import BatchOrder, Dataset, augment, shared_samples
from optrial.engine.constant_answer import constant_answer, units_of
from optrial.engine.evaluation import Extent, Finish
from optrial.input_parts import PackedShape
from optrial.keyed import evaluation_key
from optrial.models import (
    Objective,
    activation_count,
    build_objective,
    finished,
    float32_products,
    needs_whole_split,
    output_count,
    seeded_draws,
)
from optrial.plan import EVALUATED_AT_ONCE, KEPT_OUTPUTS, MOST_SAMPLES, gradients_per_step
from optrial.rules import learning_rate_factors, scheduled_values
from optrial.spec import Part, RunFacts, RunSpec, Scale, Scales

__all__ = [
    "arithmetic_facts",
    "augmentation",
    "batch_order",
    "changed_values",
    "data_facts",
    "decayed_share",
    "evaluation_draws",
    "evaluation_extent",
    "finish_of",
    "gradient_facts",
    "implementation_of",
    "objective_of",
    "rate_factors",
    "sam_radii",
    "storage_dtype",
]


class Split(Protocol):
    """Inputs, (samples, ...), and targets of a split."""

    inputs: Any
    targets: Any


_SCALE_FROM = 2**22  # values; about 20 ms


def storage_dtype(precision: str) -> torch.dtype:
    """Return the type of weights, updates and data; bfloat16 is used for products only."""
    return torch.float64 if precision == "float64" else torch.float32


def batch_order(spec: RunSpec, size: int, stride: int = 1) -> BatchOrder:
    """Return the training samples, out of `size`, that each step of a run uses.

    Args:
        spec: the run.
        size: samples of an epoch.
        stride: places of a text per sample; see `optrial.data.Batched`.
    """
    return BatchOrder(
        size=size,
        stride=stride,
        batch_size=spec.batch_size,
        seed=spec.seed,
        sampling=spec.sampling,
        shuffle=spec.shuffle,
        drop_last=spec.drop_last,
    )


def rate_factors(
    schedule: Mapping[str, Any] | None, total: int, first_step: int, count: int
) -> NDArray[np.float64]:
    """Return the factors of the learning rate at `count` of `total` steps, (count,)."""
    if schedule is None:
        return np.ones(count)
    steps = np.arange(first_step, first_step + count)
    factors: NDArray[np.float64] = learning_rate_factors(schedule, steps, total, load_code)
    wrong = factors[~((factors >= 0) & (factors < np.inf))]
    if len(wrong):
        raise ValueError(
            f"'{schedule['kind']}' gave lr the factor {wrong[0]}; a schedule returns finite "
            "numbers of 0 or more"
        )
    return factors


def changed_values(
    schedule: Mapping[str, Any] | None, known: Mapping[str, Any], total: int, step: int
) -> dict[str, float]:
    """Return the values of the hyperparameters that a schedule changes besides lr, at a step.

    Arguments as for `optrial.rules.scheduled_values`.
    """
    if schedule is None:
        return {}
    values = scheduled_values(schedule, known, np.array([step]), total)
    return {name: float(value[0]) for name, value in values.items()}


def sam_radii(spec: RunSpec, first_step: int, count: int) -> NDArray[np.float64]:
    """Return the distances at which SAM takes the gradient, at `count` steps of a run that has it.

    Returns:
        (count,); those of the warm-up of ``sam.rho`` or ``adaptive_sam.rho``, if it has one.
    """
    assert spec.sam_rho is not None
    name = "adaptive_sam.rho" if spec.sam_adaptive else "sam.rho"
    known, steps = {name: spec.sam_rho}, np.arange(first_step, first_step + count)
    changed = scheduled_values(spec.schedule, known, steps, spec.steps) if spec.schedule else {}
    return changed.get(name, np.full(count, spec.sam_rho))


def objective_of(spec: RunSpec, dataset: Dataset) -> Objective:
    """Return loss and metrics of a run."""
    return build_objective(
        spec.loss,
        spec.loss_arguments,
        spec.metrics,
        spec.whole_split,
        dataset.ignored,
        units_of(spec, dataset),
    )


def implementation_of(*rules: str) -> str:
    """Return the name of the code that updates the parameters by some rules, for the records."""
    names = (rule if ":" in rule else f"optrial.rules.{rule}" for rule in rules)
    return " and ".join(dict.fromkeys(names))


def decayed_share(parts: Iterable[Part], sizes: Mapping[str, int]) -> float:
    """Return the fraction of the parameters on which weight decay acts.

    Args:
        parts: rules with the parameters that they update.
        sizes: number of values of each parameter, by name.
    """
    parts = list(parts)
    total = sum(sizes[name] for part in parts for name in part.parameters)
    decayed = sum(sizes[n] for part in parts if part.weight_decay > 0 for n in part.parameters)
    return decayed / total


def gradient_facts(spec: RunSpec) -> RunFacts:
    """Return how many gradients a step computes; unknown for a class, which may call a closure."""
    return RunFacts() if spec.uses_torch else RunFacts(gradients_per_step=gradients_per_step(spec))


def has_own_code(run: RunSpec) -> bool:
    """Return whether a run has user code, which may not stack."""
    return any(map(is_code, (run.model, run.loss, *run.metrics, *run.code)))


def arithmetic_facts() -> RunFacts:
    """Return the settings of PyTorch that affect rounding."""
    return RunFacts(
        float32_products=float32_products(),  # "highest" is without TF32
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        cudnn_benchmark=torch.backends.cudnn.benchmark,
    )


def device_facts(device: torch.device) -> RunFacts:
    """Return the device, and the model of a GPU."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return RunFacts(device=str(device), gpu=gpu)


def data_facts(spec: RunSpec, dataset: Dataset) -> RunFacts:
    """Return the facts needed to judge data and metrics, and to rebuild the model."""
    return RunFacts(
        input_shape=tuple(dataset.input_shape),
        input_parts=PackedShape(dataset.parts).as_dict() if dataset.parts else None,
        outputs=dataset.classes,
        vocabulary=dataset.vocabulary,
        bytes_per_token=dataset.bytes_per_token or None,
        split_sizes=dataset.sizes,
        split_overlap=_overlaps(dataset),
        scale=_scales(dataset),
        constant_answer=constant_answer(spec, dataset),
    )


_known_overlaps: dict[str, dict[str, int]] = {}  # by the hash of a dataset


def _overlaps(dataset: Dataset) -> dict[str, int]:
    """Return, for each pair of splits, how many samples of the second are also in the first."""
    if dataset.sha256 not in _known_overlaps:
        _known_overlaps[dataset.sha256] = {
            f"{first} and {second}": int(shared.sum())
            for (first, second), shared in shared_samples(dataset.splits).items()
        }
    return _known_overlaps[dataset.sha256]


_known_scales: dict[str, Scales] = {}  # by the hash of a dataset


def _scales(dataset: Dataset) -> Scales:
    """Return the scales of the inputs and targets of the training split, as a model sees them."""
    if dataset.sha256 not in _known_scales:
        train = dataset.splits["train"]
        inputs = train.inputs
        if dataset.parts:  # whole numbers have no scale
            numbers = [not part.whole for part in dataset.parts for _ in range(part.size)]
            inputs = inputs[:, numbers] if any(numbers) else inputs.astype(np.int64)
        _known_scales[dataset.sha256] = Scales(_scale(inputs), _scale(train.targets))
    return _known_scales[dataset.sha256]


def _scale(values: NDArray[Any]) -> Scale | None:
    if values.dtype.kind != "f":
        return None
    # Enough samples to tell the order of magnitude, however large the dataset is.
    every = -(-values.size // _SCALE_FROM)
    sample = values[::every].astype(np.float64)
    axes = tuple(axis for axis in range(sample.ndim) if axis != 1 or sample.ndim not in (2, 4))
    return Scale(
        mean=float(np.abs(sample.mean(axes)).max()),
        std=float(sample.std(axes).max()),
        whole=bool((sample % 1 == 0).all()),
    )


def evaluation_extent(
    model: nn.Module, spec: RunSpec, objective: Objective, split: Split, runs: int
) -> Extent:
    """Return how much of a split is evaluated together.

    Args:
        model: of the runs.
        spec: of one of them.
        objective: what is computed.
        split: the data.
        runs: how many runs there are.
    """
    size, shape = len(split.targets), tuple(split.inputs.shape[1:])
    activations = activation_count(model, shape, split.inputs.dtype)
    most = EVALUATED_AT_ONCE // activations
    samples = max(1, min(MOST_SAMPLES, most) // runs)
    if "model" in spec.whole_split:  # the outputs of a sample depend on those beside it
        samples, runs = size, max(1, min(runs, most // size))
    if objective.needs_outputs:
        outputs = size * output_count(model, shape, split.inputs.dtype)
        runs = max(1, min(runs, KEPT_OUTPUTS // outputs))
    return Extent(samples, runs)


def finish_of(spec: RunSpec, dataset: Dataset, split: str) -> Finish:
    """Return what turns means over a split into the metrics of a run."""
    names = [name for name in spec.metrics if not needs_whole_split(name, spec.whole_split)]
    bytes_per_token = dataset.bytes_per_token.get(split)

    def finish(means: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = zip(names, means.T, strict=True)
        metrics = [finished(name, column, bytes_per_token) for name, column in columns]
        return np.stack(metrics, axis=1) if metrics else means

    return finish


def evaluation_draws(spec: RunSpec, step: int, split: str) -> AbstractContextManager[None]:
    """Return the context in which user code draws while a run is evaluated.

    A script has one generator for everything, and catalogued models draw nothing.
    """
    if spec.rng == "script" or not spec.code:
        return nullcontext()
    return seeded_draws(evaluation_key(spec.seed, step, split))


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
