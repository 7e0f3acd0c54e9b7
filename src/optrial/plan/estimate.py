"""Rough cost of a plan before anything runs, from its sizes and a few constants."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import NamedTuple

import torch

from optrial.code import load_code
from optrial.data import Dataset
from optrial.memory import out_of_memory
from optrial.models import (
    SampleCost,
    activation_count,
    build_model,
    input_dtype,
    sample_cost,
    trained_parameters,
)
from optrial.plan.evaluation import EVALUATED_AT_ONCE, KEPT_OUTPUTS, MOST_SAMPLES, kept_outputs
from optrial.plan.optimizers import (
    further_values,
    gradients_per_step,
    is_capturable,
    needs_curvature,
    rule_of,
)
from optrial.spec import PROBES, OptimizerKind, RunSpec

__all__ = ["Estimate", "estimate", "step_work", "training_work"]


class _Speed(NamedTuple):
    """Cost of a step besides its matrix products.

    Attributes:
        step: seconds per step for loop, batch and metrics.
        tensor: seconds per parameter tensor for forward, backward and update.
        state: seconds per array of optimizer state of a parameter tensor.
        traffic: bytes per second that an update, written as array operations, reads and writes.
    """

    step: float
    tensor: float
    state: float
    traffic: float


_NUMPY = _Speed(step=50e-6, tensor=30e-6, state=13e-6, traffic=5e9)
_ON_CPU = _Speed(step=120e-6, tensor=160e-6, state=35e-6, traffic=8e9)
"""As measured on two 2.5 GHz cores, like `_NUMPY`."""
_ON_GPU = _Speed(step=1500e-6, tensor=260e-6, state=45e-6, traffic=1.5e12)
"""As measured on an H100, where the host launches each kernel."""
_REPLAYED = _Speed(step=60e-6, tensor=45e-6, state=10e-6, traffic=1.5e12)
"""The same for stacks whose steps are replayed as a CUDA graph."""
_ELEMENT_WORK = 100.0
"""Operations of matrix products that take as long as one element of an elementwise operation."""
_PASSES = 4  # how often an update reads or writes each array
_FORWARD, _BACKWARD = 4, 8
"""Reads and writes, by elementwise operations, of each value kept for the backward pass."""
_WORK = {"muon": 10, "shampoo": 10, "soap": 10, "psgd_kron": 10, "normuon": 11, "scion": 10}
"""Further arrays of the size of the parameters that the update of a rule computes."""
_PROBED = 3
"""Further arrays of the size of the parameters that probes compute or compare with."""
_TWICE = 2
"""Factor of the activations of a step that differentiates its gradient."""
_SMALLEST_PRODUCT = 512
"""Rows below which the speed of products is not measured, however little memory is free."""
_GPU_BYTES = 1.5e8
"""Workspaces of CUDA libraries and of the graph of a step, as measured on an H100."""
_EVALUATED_SHARE = 1.0
_ACTIVATIONS = 5  # arrays of the size of what is saved for the backward pass, at its peak


@dataclass(frozen=True)
class Estimate:
    """Expected cost of a set of runs on this machine, within a factor of about two.

    Attributes:
        seconds: training time of the runs one after the other. A step of an optimizer with the
            argument `max_iter`, such as LBFGS, counts as so many; one of another optimizer with a
            closure as one, though it may compute several gradients.
        stacked_seconds: training time of the runs in stacks; a stack calls every kernel once for
            all of its runs.
        evaluation_seconds: time of evaluation.
        peak_bytes: data, and what one stack needs.
        stack_bytes: parameters, gradients, state and activations of one stack, its evaluation and
            its checkpoint; on a GPU also workspaces of CUDA libraries.
        run_bytes: the same of one run.
        parameters: number of trained parameters of the largest model.
        tensors: number of tensors that hold them.
    """

    seconds: float
    stacked_seconds: float
    evaluation_seconds: float
    peak_bytes: int
    stack_bytes: int
    run_bytes: int
    parameters: int
    tensors: int


def estimate(
    runs: Sequence[RunSpec], dataset: Dataset, width: int = 1, *, on_cuda: bool = False
) -> Estimate:
    """Estimate the cost of `runs`: time one after the other or in stacks, memory of a stack.

    Args:
        runs: at least one run.
        dataset: their data.
        width: number of runs in a stack.
        on_cuda: True if a GPU trains them; runs of the numpy engine stay on the CPU.
    """
    settings = {run.without_seed: run for run in runs}
    of_setting = {text: _cost(run, dataset, on_cuda) for text, run in settings.items()}
    costs = [of_setting[run.without_seed] for run in runs]
    largest = max(cost.bytes for cost in of_setting.values())
    values = sum(split.inputs.size for split in dataset.splits.values())
    stack_bytes = width * largest
    stack_bytes += max(_evaluation_bytes(run, dataset, width) for run in settings.values())
    stack_bytes += max(_check_bytes(run, dataset, width) for run in settings.values())
    stack_bytes += int(_GPU_BYTES) if on_cuda and runs[0].engine != "numpy" else 0
    return Estimate(
        seconds=sum(cost.training for cost in costs),
        stacked_seconds=sum(cost.in_stack(width) for cost in costs),
        evaluation_seconds=sum(cost.evaluation for cost in costs),
        peak_bytes=values * max(map(_itemsize, settings.values())) + stack_bytes,
        stack_bytes=stack_bytes,
        run_bytes=largest,
        parameters=max(cost.parameters for cost in of_setting.values()),
        tensors=max(cost.tensors for cost in of_setting.values()),
    )


def _evaluation_bytes(run: RunSpec, dataset: Dataset, width: int) -> int:
    """Return the bytes of the activations and outputs that evaluating a stack keeps at once."""
    *_, activations = _sizes_of(run, dataset)
    largest = max((dataset.sizes[split] for split in run.evaluate_on), default=0)
    samples = largest
    if "model" not in run.whole_split:
        samples = min(largest, max(1, min(MOST_SAMPLES, EVALUATED_AT_ONCE // activations) // width))
    evaluated = max(samples * activations, min(width * samples * activations, EVALUATED_AT_ONCE))
    kept = kept_outputs(dataset, run.evaluate_on, run.metrics, run.whole_split)
    kept = max(kept, min(width * kept, KEPT_OUTPUTS))
    return int(kept + _EVALUATED_SHARE * evaluated) * _itemsize(run)


def _check_bytes(run: RunSpec, dataset: Dataset, width: int) -> int:
    """Return the bytes of checking that user code can be resumed, by up to two runs beside it.

    Each has parameters, gradients and the rule's state, a checkpoint of them, and its results.
    """
    if not run.code:
        return 0
    weights = sum(map(math.prod, _sizes_of(run, dataset).trained))
    return min(width, 2) * (2 * _state_size(run) + 4) * weights * _itemsize(run)


def step_work(runs: Sequence[RunSpec], dataset: Dataset) -> float:
    """Return the work of one training step of a stack, in operations of matrix products.

    Elements of activations and of parameters are converted to operations.

    Args:
        runs: the runs of the stack, which share model and batch size.
        dataset: their data.
    """
    sizes, batch = _sizes_of(runs[0], dataset), runs[0].batch_size
    elements = 3 * sizes.sample.saved * batch + sum(map(math.prod, sizes.trained))
    operations = _product_operations(sizes.sample, batch)
    return len(runs) * (operations + _ELEMENT_WORK * elements)


def training_work(run: RunSpec, dataset: Dataset) -> float:
    """Return the work of training a run in a stack, in operations of matrix products.

    Unlike the times of `estimate`, it is the same on every machine.
    """
    sizes = _sizes_of(run, dataset)
    arrays = 2 + _state_size(run) + max(_WORK.get(rule, 0) for _, rule in _rules(run))
    elements = 3 * sizes.sample.saved * run.batch_size + arrays * sum(map(math.prod, sizes.trained))
    operations = _product_operations(sizes.sample, run.batch_size)
    gradients = _iterations(run) + _probed_gradients(run)
    return run.steps * gradients * (operations + _ELEMENT_WORK * elements)


def _product_operations(sample: SampleCost, batch_size: int) -> int:
    """Return the operations of the products of a step: forward once, backward twice as much."""
    return 3 * sample.operations * batch_size


class _Cost(NamedTuple):
    """Cost of one run: seconds, bytes besides the data, sizes.

    The seconds of `calls` are those of the training that do not grow with the arrays, and
    `shared_calls` what the calls of a whole stack take.
    """

    training: float
    calls: float
    shared_calls: float
    evaluation: float
    bytes: int
    parameters: int
    tensors: int

    def in_stack(self, width: int) -> float:
        """Return the seconds of training the run as one of `width` in a stack."""
        if width == 1:
            return self.training
        return self.training - self.calls + self.shared_calls / width


def _cost(run: RunSpec, dataset: Dataset, on_cuda: bool) -> _Cost:
    shapes, untrained, sample, _ = _sizes_of(run, dataset)
    weights = sum(map(math.prod, shapes))
    state = _state_size(run)
    arrays = 2 + state  # the parameter, its gradient, the rule's state
    held = arrays + 2 + 4 * state  # with new values, and what an update computes on the way
    held += max(_WORK.get(rule, 0) for _, rule in _rules(run))
    known = (rule_of(kind, rule) for kind, rule in _rules(run) if kind != "torch")
    values = tuple(run.hyperparameters.items())
    further = max(
        (further_values(r, tuple(shapes), values if r.as_one_vector else ()) for r in known),
        default=0,
    )
    held += run.save == "best"  # whose weights are kept
    held += run.average is not None
    held += _PROBED * (run.probes is not None)
    itemsize = _itemsize(run)
    on_cuda &= run.engine != "numpy"
    rate = _flops_per_second(run.precision, on_cuda)
    speed, in_stack = _speeds(run, on_cuda)
    calls, shared_calls = (
        of.step + (of.tensor + of.state * state) * len(shapes) for of in (speed, in_stack)
    )
    step = (
        calls
        + _product_operations(sample, run.batch_size) / rate
        + _PASSES * arrays * weights * itemsize / speed.traffic
        + (_FORWARD + _BACKWARD) * sample.saved * run.batch_size * itemsize / speed.traffic
    )
    evaluated_sample = sample.operations / rate + _FORWARD * sample.saved * itemsize / speed.traffic
    passes = run.accumulate * gradients_per_step(run)
    gradients = passes * _iterations(run) + _probed_gradients(run)
    activations = _ACTIVATIONS * sample.saved * run.batch_size
    if needs_curvature(run):  # the backward pass is kept too, beside signs and products
        activations *= _TWICE
        held += 3
    evaluated = sum(dataset.sizes[split] for split in run.evaluate_on)
    steps = run.steps
    if run.budget_seconds is not None:
        steps = min(steps, math.ceil(run.budget_seconds / (gradients * step)))
    evaluations = math.ceil(steps / run.evaluate_every) + run.evaluate_start
    return _Cost(
        training=steps * gradients * step,
        calls=steps * gradients * calls,
        shared_calls=steps * gradients * shared_calls,
        evaluation=evaluations * evaluated * evaluated_sample,
        bytes=itemsize * (held * weights + 4 * further + untrained + activations),
        parameters=weights,
        tensors=len(shapes),
    )


def _speeds(run: RunSpec, on_cuda: bool) -> tuple[_Speed, _Speed]:
    """Return the speed of a run alone, and that of a stack of such runs."""
    if run.engine == "numpy":
        return _NUMPY, _NUMPY
    if not on_cuda:
        return _ON_CPU, _ON_CPU
    replayed = run.accumulate == 1 and not run.uses_torch and is_capturable(run)
    return _ON_GPU, _REPLAYED if replayed else _ON_GPU


def _state_size(run: RunSpec) -> int:
    """Return the most arrays of a rule's state per parameter; of a torch class two, as Adam has."""
    rules = [(run.optimizer_kind, run.rule, run.modify)]
    for group in run.groups:
        modify = run.modify if group.modify is None and group.rule is None else group.modify or ()
        kind, rule = group.optimizer_kind or run.optimizer_kind, group.rule or run.rule
        rules.append((kind, rule, modify))
    return max(
        2 if kind == "torch" else rule_of(kind, rule, modify).state_size
        for kind, rule, modify in rules
    )


def _rules(run: RunSpec) -> list[tuple[OptimizerKind, str]]:
    """Return kind and name of each rule of a run."""
    groups = ((g.optimizer_kind, g.rule) for g in run.groups)
    own = [(kind, rule) for kind, rule in groups if kind is not None and rule is not None]
    return [(run.optimizer_kind, run.rule), *own]


def _iterations(run: RunSpec) -> int:
    """Return how many gradients a step computes: up to `max_iter` for a class such as LBFGS."""
    if run.optimizer_kind != "torch":
        return 1
    argument = signature(load_code(run.rule)).parameters.get("max_iter")
    iterations = run.hyperparameters.get("max_iter", argument and argument.default)
    return iterations if isinstance(iterations, int) and iterations > 0 else 1


def _probed_gradients(run: RunSpec) -> float:
    """Return how many gradients a step computes for probes, on average."""
    if run.probes is None:
        return 0.0
    probes = [PROBES[name] for name in run.probes.measure]
    return sum(p.gradients / (1 if p.summed else run.probes.every) for p in probes)


def _itemsize(run: RunSpec) -> int:
    return 8 if run.precision == "float64" else 4


class _Sizes(NamedTuple):
    """Shapes of a model's trained parameters, number of others, and what a sample costs.

    The activations are those of all layers for one sample.
    """

    trained: Sequence[tuple[int, ...]]
    untrained: int
    sample: SampleCost
    activations: int


def _sizes_of(run: RunSpec, dataset: Dataset) -> _Sizes:
    arguments, code = json.dumps(run.model_arguments), run.code.get(run.model, "")
    return _sizes(
        run.model, code, arguments, dataset.input_shape, dataset.classes, dataset.vocabulary
    )


@cache
def _sizes(
    kind: str,
    code: str,
    arguments: str,
    input_shape: tuple[int, ...],
    classes: int,
    vocabulary: int | None,
) -> _Sizes:
    """Build a model and measure it, once for the many runs of one model.

    Args:
        kind: of the model.
        code: hash of the model's code, "" for one of the catalogue.
        arguments: of the model, as JSON.
        input_shape: of a sample.
        classes: number of classes or outputs.
        vocabulary: number of tokens, if inputs are tokens.
    """
    del code  # part of the key
    model = build_model(
        kind,
        json.loads(arguments),
        input_shape=input_shape,
        classes=classes,
        vocabulary=vocabulary,
        seed=0,
    )
    dtype = input_dtype(vocabulary)
    trained = [tuple(parameter.shape) for parameter in trained_parameters(model).values()]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    untrained = parameters - sum(map(math.prod, trained))
    activations = activation_count(model, input_shape, dtype)
    return _Sizes(trained, untrained, sample_cost(model, input_shape, dtype), activations)


@cache
def _flops_per_second(precision: str, on_cuda: bool) -> float:
    """Measure the matrix products of this machine or its GPU for a twentieth of a second."""
    size, device = (4096, "cuda") if on_cuda else (512, "cpu")
    wait: Callable[[], None] = torch.cuda.synchronize if on_cuda else lambda: None
    while True:
        try:
            matrix = torch.ones(size, size, dtype=getattr(torch, precision), device=device)
            matrix @ matrix
            break
        except RuntimeError as error:
            if size < _SMALLEST_PRODUCT or not out_of_memory(error):
                raise
            size //= 2
    wait()
    products, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < 0.05:
        matrix @ matrix
        wait()
        products += 1
    return products * 2 * size**3 / elapsed
