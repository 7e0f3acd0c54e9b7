"""Trains stacks in this process, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Self

from optrial.executors.room import Room
from optrial.executors.task import StackTask
from optrial.executors.trainer import Trainer
from optrial.executors.updates import Arrays, Ended, Update
from optrial.spec import StackId

__all__ = ["Local"]


class Local:
    """An `Executor` that trains while the driver asks for updates.

    Args:
        trainer: trains the stacks.
    """

    slots = 1
    room, in_process = Room.unlimited(), True

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._training: Generator[Update] | None = None
        self._stopping = False

    def __enter__(self) -> Self:
        self._trainer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._training is not None:
            self._training.close()  # which restores the process
        self._trainer.__exit__(*error)

    def submit(self, task: StackTask, checkpoint: Arrays | None) -> None:
        """See `Executor`."""
        self._stack = task.stack
        self._training = self._trainer.train(task, checkpoint, lambda: self._stopping)

    def updates(self) -> Sequence[tuple[StackId, Update]]:
        """Train until the next update; see `Executor`."""
        if self._training is None:
            return []
        update = next(self._training)
        if isinstance(update, Ended):
            self._training = None
        return [(self._stack, update)]

    def cancel(self, stack: StackId) -> None:
        """See `Executor`."""
        if self._training is not None and stack == self._stack:
            self._training.close()  # which restores the process
            self._training = None

    def stop(self) -> None:
        """See `Executor`."""
        self._stopping = True
