"""The course of one training, the same for every engine that trains runs one by one.

An engine supplies a `Learner`: batches, one step, one evaluation. Here is what surrounds them:
metrics, the cadence of evaluation, divergence, interruption and checkpoints.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from optrial.data import BatchOrder
from optrial.engine.threads import limited_threads
from optrial.plan import RunSpec
from optrial.records import Curve, Segment, Status

__all__ = ["Batch", "Learner", "Training", "always", "batch_order"]

Arrays = Mapping[str, np.ndarray]

_HASHED_BATCHES = 10
"""So many first batches enter the hash by which runs are shown to have seen the same data."""


class Batch(NamedTuple):
    """Samples of one step, in the engine's own arrays."""

    indices: Any  # (batch,), positions in the training split
    inputs: Any  # (batch, *input_shape)
    targets: Any  # (batch,)


class Learner(Protocol):
    """A model, its optimizer and its data, in whatever arrays an engine uses."""

    initial_parameters_sha256: str
    facts: Mapping[str, Any]  # how it trains: device, implementation of the rule, ...
    threads: int | None  # how many threads train it; None leaves the process as it is

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `first_step`, `first_step` + 1, ... without end."""

    def step(self, batch: Batch, step: int) -> tuple[float, int]:
        """Train on a batch; return its mean loss before the update and how many were right."""

    def evaluate(self, split: str) -> tuple[float, float]:
        """Return mean loss and accuracy over a split, in evaluation mode, changing nothing."""

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that a later `load` needs to go on as if never interrupted."""

    def load(self, state: Arrays, step: int) -> None:
        """Take up the state left after `step` steps."""

    def parameters_sha256(self) -> str:
        """Return the hash of all parameters."""


def batch_order(spec: RunSpec, size: int) -> BatchOrder:
    """Return which of `size` training samples each step of a run sees."""
    return BatchOrder(
        size=size,
        batch_size=spec.batch_size,
        seed=spec.seed,
        sampling=spec.sampling,
        shuffle=spec.shuffle,
        drop_last=spec.drop_last,
    )


def always(step: int) -> bool:
    """Go on, whatever the step."""
    del step
    return True


@dataclass
class Training:
    """One run under way.

    Iterate `run` and, whenever it pauses, optionally take what was gained with `segment` and, to
    be able to go on later, `checkpoint`.

    Attributes:
        spec: the run.
        learner: a fresh learner for it.
        status: INTERRUPTED until it is DONE or DIVERGED.
        step: training steps taken.
        reason: why it diverged.
    """

    spec: RunSpec
    learner: Learner
    status: Status = Status.INTERRUPTED
    step: int = 0
    reason: str = ""
    _points: dict[str, list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list), repr=False
    )
    # Sums over the epoch under way: loss x samples, right answers, samples.
    _epoch: np.ndarray = field(default_factory=lambda: np.zeros(3), repr=False)
    _seconds: np.ndarray = field(default_factory=lambda: np.zeros(2), repr=False)
    _batches_hash: bytes = b""

    def resume(self, checkpoint: Arrays) -> None:
        """Take up what `checkpoint` returned earlier, perhaps in another process."""
        state = dict(checkpoint)
        self.step = int(state.pop("training.step"))
        self._epoch = state.pop("training.epoch").copy()
        self._seconds = state.pop("training.seconds").copy()
        self._batches_hash = state.pop("training.batches_hash").tobytes()
        self.learner.load(state, self.step)

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Return the arrays that `resume` needs."""
        return self.learner.state() | {
            "training.step": np.array(self.step),
            "training.epoch": self._epoch.copy(),
            "training.seconds": self._seconds.copy(),
            "training.batches_hash": np.frombuffer(self._batches_hash, np.uint8),
        }

    def segment(self) -> Segment:
        """Return what was gained since the last call."""
        curves = {
            metric: Curve(np.array([s for s, _ in points]), np.array([v for _, v in points]))
            for metric, points in self._points.items()
        }
        self._points.clear()
        seconds = dict(zip(("training", "evaluation"), self._seconds.tolist(), strict=True))
        facts = {
            "initial_parameters_sha256": self.learner.initial_parameters_sha256,
            "parameters_sha256": self.learner.parameters_sha256(),
            "first_batches_sha256": self._batches_hash.hex(),
            "seconds": seconds,
            "stack_width": 1,
            "threads": self.learner.threads or torch.get_num_threads(),
            **self.learner.facts,
        }
        return Segment(
            run_id=self.spec.run_id,
            step=self.step,
            curves=curves,
            status=self.status,
            reason=self.reason,
            facts=facts,
        )

    def run(self, keep_going: Callable[[int], bool] = always) -> Iterator[Status]:
        """Train; pause after each evaluation and at the end, yielding the status.

        Args:
            keep_going: called after each step with its number; when it returns False the run
                pauses there and ends, INTERRUPTED, ready for a checkpoint.
        """
        with limited_threads(self.learner.threads):
            yield from self._run(keep_going)

    def _run(self, keep_going: Callable[[int], bool]) -> Iterator[Status]:
        spec = self.spec
        batches = self.learner.batches(self.step + 1)
        while self.step < spec.steps:
            if not self._train_step(next(batches)):
                break
            if self.step % spec.evaluate_every == 0 or self.step == spec.steps:
                if not self._evaluate():
                    break
                if self.step < spec.steps:
                    yield self.status
            if not keep_going(self.step) and self.step < spec.steps:
                yield self.status
                return
        else:
            self.status = Status.DONE
        yield self.status

    def _train_step(self, batch: Batch) -> bool:
        """Take a step and record it; False if the loss was not finite."""
        started = time.perf_counter()
        loss, correct = self.learner.step(batch, self.step + 1)
        self._seconds[0] += time.perf_counter() - started
        self.step += 1
        if self.step <= _HASHED_BATCHES:
            seen = np.asarray(batch.indices, np.int64).tobytes()
            self._batches_hash = hashlib.sha256(self._batches_hash + seen).digest()
        if not math.isfinite(loss):
            return self._diverge(f"train_loss is {loss} at step {self.step}")
        self._record("train_loss", loss)
        self._epoch += (loss * len(batch.targets), correct, len(batch.targets))
        if self.step % self.spec.steps_per_epoch == 0:
            loss_sum, right, samples = self._epoch
            self._record("train_loss_epoch", loss_sum / samples)
            self._record("train_accuracy_epoch", right / samples)
            self._epoch[:] = 0
        return True

    def _evaluate(self) -> bool:
        """Evaluate on every split asked for; False if a loss was not finite."""
        started = time.perf_counter()
        values = {split: self.learner.evaluate(split) for split in self.spec.evaluate_on}
        self._seconds[1] += time.perf_counter() - started
        for split, (loss, accuracy) in values.items():
            if not math.isfinite(loss):
                return self._diverge(f"{split}_loss is {loss} after step {self.step}")
            # "train_loss" is each step's; the whole training split has a name of its own.
            prefix = "train_eval" if split == "train" else split
            self._record(f"{prefix}_loss", loss)
            self._record(f"{prefix}_accuracy", accuracy)
        return True

    def _record(self, metric: str, value: float) -> None:
        self._points[metric].append((self.step, float(value)))

    def _diverge(self, reason: str) -> bool:
        self.status, self.reason = Status.DIVERGED, reason
        return False
