"""What a plan will cost, from its sizes and a few constants: rough, before anything runs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

from optrial.data import Dataset
from optrial.models import build_model
from optrial.plan.spec import RunSpec
from optrial.rules import RULES

__all__ = ["Estimate", "estimate"]


class _Speed(NamedTuple):
    """What a step of an engine costs besides its matrix products, as measured on two 2.5 GHz cores.

    Attributes:
        step: seconds whatever the sizes: loop, batch, metrics.
        tensor: seconds for each parameter tensor: its share of forward, backward and update.
        state: further seconds for each array that the rule keeps of a parameter tensor.
        traffic: bytes a second at which an update, written as array operations, passes its arrays.
    """

    step: float
    tensor: float
    state: float
    traffic: float


_SPEEDS = {
    "reference": _Speed(step=120e-6, tensor=160e-6, state=35e-6, traffic=8e9),
    # Of a run in a stack of sixteen, not compiled; the widths that are used depend on the machine.
    "stacked": _Speed(step=30e-6, tensor=60e-6, state=12e-6, traffic=5e9),
    "numpy": _Speed(step=50e-6, tensor=30e-6, state=13e-6, traffic=5e9),
}
_PASSES = 4  # how often an update reads or writes each array


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
    state = RULES[run.rule].state_size
    arrays = 2 + state  # the parameter, its gradient, the rule's state
    itemsize = _itemsize(run)
    rate = _flops_per_second(run.precision)
    speed = _SPEEDS["reference" if run.engine == "auto" else run.engine]
    step = (
        speed.step
        + (speed.tensor + speed.state * state) * len(shapes)
        + 6 * weights * run.batch_size / rate  # one product forward, two backward
        + _PASSES * arrays * weights * itemsize / speed.traffic
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
