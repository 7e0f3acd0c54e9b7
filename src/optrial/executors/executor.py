"""Interface of what trains stacks for the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from optrial.executors.room import Room
from optrial.executors.task import StackTask
from optrial.executors.updates import Arrays, Update
from optrial.spec import StackId

__all__ = ["Executor"]


class Executor(Protocol):
    """Trains the stacks that are submitted, and reports what happens to them.

    Used as a context; leaving it ends every training at once, without another commit.

    Attributes:
        room: what the stacks that are trained at once may need together.
        in_process: whether it trains in the process of the driver.
    """

    room: Room
    in_process: bool

    @property
    def slots(self) -> int:
        """Number of stacks that it trains at once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def submit(self, task: StackTask, checkpoint: Arrays | None) -> None:
        """Start to train a stack, from a checkpoint if there is one.

        The driver submits no more than `slots` stacks at once.
        """

    def updates(self) -> Sequence[tuple[StackId, Update]]:
        """Wait for a moment, and return what happened since the last call.

        The updates of a stack come in order. The last one is `Ended`.
        """

    def cancel(self, stack: StackId) -> None:
        """End the training of a stack at once, without another update."""

    def stop(self) -> None:
        """Pause every training, commit its checkpoint, and end."""
