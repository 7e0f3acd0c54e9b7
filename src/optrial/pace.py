"""Frequency at which the progress of a training is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Pace"]

_COST_SHARE = 0.03  # largest share of the time that checkpoints may take
_LOSS_SHARE = 0.002  # share of the training time that a crash may lose


class Pace:
    """Decides when the progress of a training is stored.

    Attributes:
        seconds: least time between two checkpoints; 0 for every pause, infinite for none.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._cost = 0.0  # seconds that the last checkpoint took
        self._stored_at = time.monotonic()

    def due(self, trained_seconds: float) -> bool:
        """Return whether to store the progress, after so many seconds of training."""
        wait = max(self.seconds, self._cost / _COST_SHARE, _LOSS_SHARE * trained_seconds)
        if self.seconds > 0 and time.monotonic() - self._stored_at < wait:
            return False
        self._cost = 0.0
        return True

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Add to the cost of the current checkpoint."""
        started = time.monotonic()
        yield
        self._stored_at = time.monotonic()
        self._cost += self._stored_at - started
