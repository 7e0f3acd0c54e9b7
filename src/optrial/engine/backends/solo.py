"""Base of the engines that train one run at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from optrial.engine.evaluation import Evaluation
from optrial.engine.hashing import StepHashes
from optrial.engine.learner import Steps
from optrial.engine.options import rate_factors
from optrial.engine.probes import series
from optrial.engine.validation import schedule_key
from optrial.spec import RunFacts, RunSpec

__all__ = ["Batch", "Measured", "SoloEngine"]


class Batch(NamedTuple):
    """Samples of one step, in the engine's own arrays."""

    indices: Any  # (batch,), positions in the training split
    inputs: Any  # (batch, *input_shape)
    targets: Any  # (batch,)


class Measured(NamedTuple):
    """Mean loss of a batch, sums of the metrics that are means over samples, and probes.

    `weight` is the number by which the sums are divided; None for the number of samples.
    """

    loss: float
    metrics: Sequence[float]
    probes: Mapping[str, Tensor] = {}
    weight: float | None = None


class SoloEngine(ABC):
    """A `Learner` of one run, given its batches, its step and its evaluation."""

    chunk = 10
    threads: int | None
    facts: RunFacts
    initial_sha256: str  # of the weights before the first step

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self._loss_limit = spec.loss_limit or math.inf
        self._hashes = StepHashes(spec.steps_per_epoch)
        self._scales: Mapping[str, float] = {}

    @property
    def run_facts(self) -> list[RunFacts]:
        """Hashes used to verify that runs are paired."""
        return [RunFacts(initial_parameters_sha256=self.initial_sha256) | self._hashes.facts]

    def start(self, first_step: int) -> None:
        """Prepare to take `first_step` next."""
        self._batches = self.batches((first_step - 1) * self.spec.accumulate + 1)
        self._step = first_step - 1

    def scale_rates(self, run: int, scales: Mapping[str, float]) -> None:
        """Multiply learning rates from the next step on; see `Learner`."""
        del run
        self._scales = scales

    def stop(self, run: int) -> None:
        """Do nothing: no step follows."""
        del run

    def rate_factor(self, schedule: Mapping[str, Any], step: int) -> float:
        """Return the factor of the learning rate at a step."""
        factor = float(rate_factors(schedule, self.spec.steps, step, 1)[0])
        return factor * self._scales.get(schedule_key(schedule), 1.0)

    def advance(self, steps: int) -> Steps:
        """Take up to `steps` steps; stop after one at which the run diverges."""
        measured, samples = [], []
        for _ in range(steps):
            batches = list(islice(self._batches, self.spec.accumulate))
            self._step += 1
            measured.append(self.step(batches, self._step))
            weight = measured[-1].weight
            count = sum(len(batch.targets) for batch in batches)
            samples.append(count if weight is None else weight)
            if self._hashes.wants(self._step):
                keys = self.mask_keys() if self._step == 1 else ()
                rows = np.concatenate([np.asarray(batch.indices) for batch in batches])
                self._hashes.add(self._step, rows, keys)
            loss = measured[-1].loss
            if not math.isfinite(loss) or loss > self._loss_limit:
                break
        losses = np.array([step.loss for step in measured], np.float64)
        metrics = np.array([step.metrics for step in measured], np.float64)
        probes = series([step.probes for step in measured], runs=1)
        return Steps(losses[:, None], metrics[:, None], np.array(samples, np.float64), probes)

    def state(self, *, shared: bool = False) -> dict[str, NDArray[Any]]:
        """Return the arrays that `load` needs; see `Learner`."""
        del shared
        return {"hashes": self._hashes.state()}

    def load(self, state: Mapping[str, NDArray[Any]], step: int) -> None:
        """Restore the state after `step` steps."""
        del step
        self._hashes.load(state["hashes"])

    def part_number(self, step: int, place: int) -> int:
        """Return the number, from 1, of a batch of a step by its place, from 0."""
        return (step - 1) * self.spec.accumulate + place + 1

    @abstractmethod
    def batches(self, first: int) -> Iterator[Batch]:
        """Yield the batches with the numbers `first`, `first` + 1, ... without end."""

    @abstractmethod
    def step(self, batches: Sequence[Batch], step: int) -> Measured:
        """Train on the batches of a step; return the mean loss before the update, and metrics."""

    @abstractmethod
    def mask_keys(self) -> Sequence[int]:
        """Return the keys of the active dropout layers in the last step."""

    @abstractmethod
    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate a split; see `Learner`."""

    @abstractmethod
    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters."""

    @abstractmethod
    def weights(self, run: int) -> dict[str, NDArray[Any]]:
        """Return a copy of parameters and buffers, by name, at the point of evaluation."""

    @abstractmethod
    def load_weights(self, run: int, weights: Mapping[str, NDArray[Any]]) -> None:
        """Restore the result of `weights`, for evaluation only."""

    @abstractmethod
    def modules(self) -> Mapping[str, bool]:
        """Return whether each module is in training mode, by name."""

    @abstractmethod
    def evaluated_modules(self) -> Mapping[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""

    @abstractmethod
    def buffers_sha256(self) -> str:
        """Return the hash of what evaluation might change, such as averages of batch norm."""
