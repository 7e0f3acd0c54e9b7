"""Runs that are trained one by one: what such an engine writes, and how it becomes a `Learner`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from optrial.engine.evaluation import Evaluation
from optrial.engine.hashing import StepHashes, arrays_sha256
from optrial.engine.probes import series
from optrial.engine.training import Steps
from optrial.spec import RunSpec

__all__ = ["Batch", "Measured", "Solo", "SoloEngine"]


class Batch(NamedTuple):
    """Samples of one step, in the engine's own arrays."""

    indices: Any  # (batch,), positions in the training split
    inputs: Any  # (batch, *input_shape)
    targets: Any  # (batch,)


class Measured(NamedTuple):
    """Loss of one run on a batch, and the sums of its metrics that are means over samples."""

    loss: float
    metrics: Sequence[float]
    probes: Mapping[str, Tensor] = {}  # what was measured besides, by name


class SoloEngine(Protocol):
    """One model, its optimizer and its data."""

    spec: RunSpec
    loss_limit: float  # above it the run has diverged
    threads: int | None  # how many threads train it; None leaves the process as it is
    facts: Mapping[str, Any]  # how it trains: device, implementation of the rule, ...

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step`, `first_step` + 1, ... without end."""

    def step(self, batch: Batch, step: int) -> Measured:
        """Train on a batch; return its mean loss before the update and the sum of each metric."""

    def mask_keys(self) -> Sequence[int]:
        """Return the keys that its dropout layers had in the last step; none without dropout."""

    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate a split after so many steps, in evaluation mode; changes nothing."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that a later `load` needs to go on as if never interrupted."""

    def load(self, state: Mapping[str, NDArray[Any]], step: int) -> None:
        """Take up the state left after `step` steps."""

    def parameters_sha256(self) -> str:
        """Return the hash of all parameters."""

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return a copy of parameters and buffers, by name, as they would be evaluated."""

    def modules(self) -> Mapping[str, bool]:
        """Return whether each module is in training mode, by name."""

    def evaluated_modules(self) -> Mapping[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""

    def buffers(self) -> Iterable[NDArray[Any]]:
        """Return what evaluation might change: averages of batch norm, ..."""

    def load_weights(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `weights` returned, to evaluate; training cannot go on from it."""


class Solo:
    """A `Learner` of one run."""

    chunk = 10

    def __init__(self, engine: SoloEngine) -> None:
        self.engine = engine
        self.threads = engine.threads
        self.facts = engine.facts
        self._initial = engine.parameters_sha256()
        self._hashes = StepHashes(engine.spec.steps_per_epoch)

    @property
    def run_facts(self) -> list[dict[str, Any]]:
        """Hashes that show with which other runs this one is paired."""
        return [{"initial_parameters_sha256": self._initial, **self._hashes.facts}]

    def start(self, first_step: int) -> None:
        """Get ready to take `first_step` next."""
        self._batches = self.engine.batches(first_step)
        self._step = first_step - 1

    def advance(self, steps: int) -> Steps:
        """Take up to `steps` steps; stop after one at which the run diverges."""
        measured, samples = [], []
        for _ in range(steps):
            batch = next(self._batches)
            self._step += 1
            measured.append(self.engine.step(batch, self._step))
            samples.append(len(batch.targets))
            if self._hashes.wants(self._step):
                keys = self.engine.mask_keys() if self._step == 1 else ()
                self._hashes.add(self._step, batch.indices, keys)
            loss = measured[-1].loss
            if not math.isfinite(loss) or loss > self.engine.loss_limit:
                break
        losses = np.array([each.loss for each in measured], np.float64)
        metrics = np.array([each.metrics for each in measured], np.float64)
        probes = series([each.probes for each in measured], runs=1)
        return Steps(losses[:, None], metrics[:, None], np.array(samples, np.float64), probes)

    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate a split after so many steps."""
        return self.engine.evaluate(split, step)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the engine's state and the hashes of the steps so far."""
        return self.engine.state() | {"hashes": self._hashes.state()}

    def load(self, state: Mapping[str, NDArray[Any]], step: int) -> None:
        """Take up the state left after `step` steps."""
        own = dict(state)
        self._hashes.load(own.pop("hashes"))
        self.engine.load(own, step)

    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters of the run."""
        del run
        return self.engine.parameters_sha256()

    def weights(self, run: int) -> dict[str, NDArray[Any]]:
        """Return a copy of parameters and buffers, by name, as they would be evaluated."""
        del run
        return self.engine.weights()

    def load_weights(self, run: int, weights: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `weights` returned, to evaluate."""
        del run
        self.engine.load_weights(weights)

    def modules(self) -> Mapping[str, bool]:
        """Return whether each module is in training mode, by name."""
        return self.engine.modules()

    def evaluated_modules(self) -> Mapping[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""
        return self.engine.evaluated_modules()

    def buffers_sha256(self) -> str:
        """Return the hash of what evaluation might change."""
        return arrays_sha256(self.engine.buffers())
