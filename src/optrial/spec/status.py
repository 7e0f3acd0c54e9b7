"""Status of a run."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ENDED", "FAILED", "FINAL", "Status"]


class Status(StrEnum):
    """Progress of a run.

    Only a completed run has final metrics: a failure is a status, never a number.
    """

    PLANNED = "planned"
    """Not started."""
    DONE = "done"
    """Completed: it took every planned step with finite numbers."""
    DIVERGED = "diverged"
    """Its loss or its parameters stopped being finite; it was frozen at that step."""
    ERROR = "error"
    """It could not be trained; its reason says why. Running the study again retries it."""
    INTERRUPTED = "interrupted"
    """In progress, or its process ended; running the study again continues it."""


FINAL = frozenset({Status.DONE, Status.DIVERGED})
"""The run has its result, which running the study again does not change."""

FAILED = frozenset({Status.DIVERGED, Status.ERROR})
"""The run ended without final metrics."""

ENDED = FINAL | FAILED
"""The run is over, with or without a result."""
