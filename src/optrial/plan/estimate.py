"""What a plan will cost, from its sizes and a few constants: rough, before anything runs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from optrial.data import Dataset
from optrial.models import build_model
from optrial.plan.spec import RunSpec
from optrial.rules import RULES

__all__ = ["Estimate", "estimate"]

_STEP_SECONDS = {"reference": 150e-6, "numpy": 60e-6}
"""Overhead of one step that does not depend on sizes: loop, batch, metrics."""
_TENSOR_SECONDS = {"reference": 45e-6, "numpy": 15e-6}
"""Overhead of one step for each parameter tensor: its layer's forward and backward, its update."""
_TRAFFIC_BYTES_PER_SECOND = 1.5e9
"""How fast an update, written as separate array operations, goes through its arrays."""
_PASSES_PER_ARRAY = 4
"""How often a step reads or writes each array of a parameter's size."""


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a set of runs on this machine, within a factor of about two.

    Attributes:
        seconds: training and evaluation, one run after the other.
        peak_bytes: data, and the largest run's parameters, gradients, state and activations.
        parameters: number of trained parameters of the largest model.
    """

    seconds: float
    peak_bytes: int
    parameters: int


def estimate(runs: Sequence[RunSpec], dataset: Dataset) -> Estimate:
    """Estimate the cost of training `runs` one after the other."""
    costs = [_cost(run, dataset) for run in runs]
    values = sum(split.inputs.size for split in dataset.splits.values())
    return Estimate(
        seconds=sum(seconds for seconds, _, _ in costs),
        peak_bytes=values * max(map(_itemsize, runs)) + max(size for _, size, _ in costs),
        parameters=max(parameters for _, _, parameters in costs),
    )


def _cost(run: RunSpec, dataset: Dataset) -> tuple[float, int, int]:
    """Return seconds, bytes besides the data, and parameters of one run."""
    arguments = json.dumps(run.model_arguments)
    shapes = _parameter_shapes(run.model, arguments, dataset.input_shape, dataset.classes)
    weights = sum(map(math.prod, shapes))
    units = sum(sum(shape) for shape in shapes if len(shape) > 1)  # inputs and outputs of layers
    arrays = 2 + RULES[run.rule].state_size  # the parameter, its gradient, the rule's state
    itemsize = _itemsize(run)
    rate = _flops_per_second(run.precision)
    step = (
        _STEP_SECONDS[run.engine]
        + _TENSOR_SECONDS[run.engine] * len(shapes)
        + 6 * weights * run.batch_size / rate  # one product forward, two backward
        + _PASSES_PER_ARRAY * arrays * weights * itemsize / _TRAFFIC_BYTES_PER_SECOND
    )
    evaluated = sum(dataset.sizes[split] for split in run.evaluate_on)
    evaluations = math.ceil(run.steps / run.evaluate_every)
    seconds = run.steps * step + evaluations * 2 * weights * evaluated / rate
    return seconds, (arrays * weights + 2 * units * run.batch_size) * itemsize, weights


def _itemsize(run: RunSpec) -> int:
    return 8 if run.precision == "float64" else 4


@cache
def _parameter_shapes(
    kind: str, arguments: str, input_shape: tuple[int, ...], classes: int
) -> list[tuple[int, ...]]:
    """Build a model and return the shapes of its parameters.

    `arguments` is JSON, so that the many runs of one model build it once.
    """
    model = build_model(
        kind, json.loads(arguments), input_shape=input_shape, classes=classes, seed=0
    )
    return [tuple(parameter.shape) for parameter in model.parameters()]


@cache
def _flops_per_second(precision: str) -> float:
    """Measure the matrix products of this machine for a twentieth of a second."""
    size = 512
    matrix = torch.ones(size, size, dtype=getattr(torch, precision))
    matrix @ matrix
    products, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < 0.05:
        matrix @ matrix
        products += 1
    return products * 2 * size**3 / elapsed
