"""Base of the engines that train one run at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from optrial.engine.evaluation import Evaluation
from optrial.engine.hashing import StepHashes
from optrial.engine.learner import Steps
from optrial.engine.probes import series
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

    @property
    def run_facts(self) -> list[RunFacts]:
        """Hashes used to verify that runs are paired."""
        return [RunFacts(initial_parameters_sha256=self.initial_sha256) | self._hashes.facts]

    def start(self, first_step: int) -> None:
        """Prepare to take `first_step` next."""
        self._batches = self.batches(first_step)
        self._step = first_step - 1

    def advance(self, steps: int) -> Steps:
        """Take up to `steps` steps; stop after one at which the run diverges."""
        measured, samples = [], []
        for _ in range(steps):
            batch = next(self._batches)
            self._step += 1
            measured.append(self.step(batch, self._step))
            weight = measured[-1].weight
            samples.append(len(batch.targets) if weight is None else weight)
            if self._hashes.wants(self._step):
                keys = self.mask_keys() if self._step == 1 else ()
                self._hashes.add(self._step, batch.indices, keys)
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

    @abstractmethod
    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step`, `first_step` + 1, ... without end."""

    @abstractmethod
    def step(self, batch: Batch, step: int) -> Measured:
        """Train on a batch; return its loss before the update and the sums of its metrics."""

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
