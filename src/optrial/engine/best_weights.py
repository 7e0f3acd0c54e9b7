"""The best weights of each run so far, for `save: best`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optrial.engine.learner import Arrays

__all__ = ["BestWeights"]

Weights = dict[str, NDArray[Any]]


class BestWeights:
    """Weights of each run at its best evaluation.

    Attributes:
        steps: step of that evaluation, (runs,); 0 if there is none.
        weights: weights by name, one mapping per run; empty if there is none.
    """

    def __init__(self, runs: int) -> None:
        self.steps = np.zeros(runs, np.int64)
        self.weights: list[Weights] = [{} for _ in range(runs)]
        self._scores = np.full(runs, -np.inf)

    def offer(self, run: int, step: int, score: float, weights: Callable[[int], Weights]) -> None:
        """Keep the weights of a run if its score is higher than ever before."""
        if score > self._scores[run]:
            self._scores[run] = score
            self.steps[run] = step
            self.weights[run] = weights(run)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `load` needs."""
        return {
            "training.best_merits": self._scores.copy(),
            "training.best_steps": self.steps.copy(),
            **{
                f"best.{run}.{name}": array
                for run, weights in enumerate(self.weights)
                for name, array in weights.items()
            },
        }

    def load(self, state: Arrays) -> None:
        """Restore the result of `state`."""
        self._scores = state["training.best_merits"].copy()
        self.steps = state["training.best_steps"].copy()
        for name, array in state.items():
            if name.startswith("best."):
                _, run, parameter = name.split(".", 2)
                self.weights[int(run)][parameter] = array
