"""Interface between the course of a training and an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from optrial.engine.evaluation import Evaluation
from optrial.spec import RunFacts

__all__ = ["Arrays", "Floats", "Learner", "Steps"]

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]


class Steps(NamedTuple):
    """Measurements of some training steps.

    Attributes:
        losses: mean loss of each batch before its update, (steps, runs).
        metrics: sums over each batch of the metrics that are means, (steps, runs, metrics).
        samples: number of samples in each batch, (steps,), or (steps, runs) where a sample counts
            by the share of its positions that do.
        probes: probes by name, (steps, runs) each, NaN where not measured.
    """

    losses: Floats
    metrics: Floats
    samples: Floats
    probes: Mapping[str, Floats] = {}

    @property
    def weights(self) -> Floats:
        """The divisors of losses and metrics, (steps, 1) or (steps, runs)."""
        return self.samples[:, None] if self.samples.ndim == 1 else self.samples


class Learner(Protocol):
    """Models, their optimizers and their data, in the arrays of an engine."""

    chunk: int  # most steps to ask for at once, so that training can be interrupted
    threads: int | None  # number of threads; None leaves the process as it is
    facts: RunFacts  # facts that all runs share, such as the device

    @property
    def run_facts(self) -> Sequence[RunFacts]:
        """Facts of each run, such as the hash of its initial weights."""

    def start(self, first_step: int) -> None:
        """Prepare to take `first_step` next."""

    def advance(self, steps: int) -> Steps:
        """Take up to `steps` steps; fewer only if every run has diverged.

        A run whose loss is not finite, or exceeds its limit, keeps its parameters from then on.
        """

    def scale_rates(self, run: int, scales: Mapping[str, float]) -> None:
        """Multiply learning rates of a run from the next step on.

        Args:
            run: the run.
            scales: factors by the key of the schedule; see `schedule_key`.
        """

    def stop(self, run: int) -> None:
        """Keep the parameters of a run from now on."""

    def evaluate(self, split: str, step: int, *, raw: bool = False) -> Evaluation:
        """Evaluate every run on a whole split after `step` steps, in evaluation mode.

        Runs with an average are evaluated there or, if `raw`, at their weights.

        Evaluation does not affect training. User code draws by seed, step and split, so the same
        weights give the same values again.
        """

    def state(self, *, shared: bool = False) -> dict[str, NDArray[Any]]:
        """Return the arrays that `load` needs to continue as if never interrupted.

        Args:
            shared: whether they may share memory with the learner, until its next step.
        """

    def load(self, state: Arrays, step: int) -> None:
        """Restore the state after `step` steps."""

    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters of a run."""

    def weights(self, run: int) -> dict[str, NDArray[Any]]:
        """Return a copy of a run's parameters and buffers, by name, at the point of evaluation."""

    def load_weights(self, run: int, weights: Arrays) -> None:
        """Restore the result of `weights`, for evaluation only."""

    def modules(self) -> Mapping[str, bool]:
        """Return whether each module is in training mode, by name."""

    def evaluated_modules(self) -> Mapping[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""

    def buffers_sha256(self) -> str:
        """Return the hash of what evaluation might change, such as averages of batch norm."""
