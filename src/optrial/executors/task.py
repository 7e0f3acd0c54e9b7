"""Everything that the training of one stack needs besides data, user code and a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optrial.spec import RunSpec, StackId, Status

__all__ = ["StackTask"]


@dataclass(frozen=True, kw_only=True)
class StackTask:
    """One stack to train, in plain values that any process can receive.

    Attributes:
        stack: name of the stack, with its engine.
        specs: its runs, as `optrial.plan.arrange` orders them.
        names: names of its runs, for messages.
        ended: status of the runs that ended before; what is stored of them stays.
        threads: number of CPU threads; None leaves it to the engine.
        checkpoint_seconds: least seconds between two commits; see `optrial.pace`.
        timeout: seconds that a run may take; None for no limit.
        saves_weights: whether the weights of completed runs are returned.
    """

    stack: StackId
    specs: tuple[RunSpec, ...]
    names: str
    ended: Mapping[str, Status]
    threads: int | None
    checkpoint_seconds: float
    timeout: float | None
    saves_weights: bool
