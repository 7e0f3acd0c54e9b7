"""Trains stacks in worker processes on this machine."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Self

from optrial.child import Child
from optrial.data import Dataset
from optrial.errors import EngineError
from optrial.executors.room import Room
from optrial.executors.setup import WorkerSetup
from optrial.executors.shared_data import SharedData
from optrial.executors.task import StackTask
from optrial.executors.updates import (
    Arrays,
    Commit,
    Died,
    Ended,
    Failure,
    Hung,
    Note,
    Stepped,
    Update,
)
from optrial.executors.worker import Job, Ready, Refused, Start, Stop, Stored
from optrial.spec import StackId

__all__ = ["Processes"]

_LOOK_SECONDS = 0.1
"""Longest time without a look at signals and at processes that died silently."""

_FAILED_STARTS = 3
"""Number of workers in a row that may die before they can train."""


class _Worker(Child):
    """A worker process and the driver's end of the connection to it.

    Args:
        start: first message to it, pickled.
        data: the arrays of the datasets.
        environment: environment variables, beside those of this process.

    Attributes:
        stack: the stack that it trains; None if it trains none.
        ready: whether it has started.
    """

    def __init__(self, start: bytes, data: SharedData, environment: dict[str, str]) -> None:
        super().__init__("executors.worker:main", [data.file.fileno()], environment)
        self.stack: StackId | None = None
        self.ready = False
        self.send_bytes(start)


class Processes:
    """An `Executor` whose workers are processes, which live until the end of the study.

    They start by and by, as stacks are submitted.

    Args:
        setup: what the workers need.
        datasets: the datasets of the study.
        timeout: seconds that a run may take; None for no limit.
        slots: number of workers.
        room: what the stacks that are trained at once may need together.
        environments: environment variables of each worker, beside those of this process.

    Raises:
        EngineError: user code cannot be sent, or data cannot be shared.
    """

    in_process = False

    def __init__(
        self,
        setup: WorkerSetup,
        datasets: Sequence[Dataset],
        timeout: float | None,
        slots: int,
        room: Room,
        environments: Sequence[dict[str, str]] = ({},),
    ) -> None:
        self.slots = slots
        self.room = room
        self._data = SharedData(datasets)
        self._start = pickle.dumps(Start(setup.dumps(), self._data.plan, timeout))
        self._environments = environments
        self._workers: list[_Worker] = []
        self._unanswered: list[_Worker] = []  # workers that wait until their commit is stored
        self._failed_starts = 0
        self._stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._data.close()

    def submit(self, task: StackTask, checkpoint: Arrays | None) -> None:
        """See `Executor`."""
        for worker in [
            w for w in self._workers if w.stack is None and w.process.poll() is not None
        ]:
            self._remove(worker)  # it died while it trained nothing
        worker = next((w for w in self._workers if w.stack is None), None) or self._started()
        worker.stack = task.stack
        worker.send(Job(task, checkpoint))

    def _started(self) -> _Worker:
        place = len(self._workers) % len(self._environments)
        try:
            worker = _Worker(self._start, self._data, self._environments[place])
        except OSError as error:
            raise EngineError(
                f"a worker process cannot start ({error}); use fewer workers, or executor: local."
            ) from error
        self._workers.append(worker)
        return worker

    def updates(self) -> Sequence[tuple[StackId, Update]]:
        """See `Executor`.

        Raises:
            EngineError: a worker cannot start or train.
        """
        for worker in self._unanswered:  # what they sent is stored by now
            worker.send(Stored())
        self._unanswered.clear()
        busy = {w.connection: w for w in self._workers if w.stack is not None}
        ready = [busy[c] for c in wait(list(busy), _LOOK_SECONDS) if isinstance(c, Connection)]
        updates = []
        for worker in busy.values():
            stack = worker.stack
            if worker in ready:
                update = self._received(worker)
            else:
                update = self._death_of(worker) if worker.has_died else None
            if stack is not None and update is not None:
                updates.append((stack, update))
        return updates

    def _received(self, worker: _Worker) -> Update | None:
        """Return what a worker has sent, if the driver has to know of it."""
        match worker.receive():
            case None:
                return self._death_of(worker)
            case Ready():
                worker.ready, self._failed_starts = True, 0
            case Refused(reason):
                raise EngineError(reason)
            case Hung(reason):
                self._remove(worker)
                return Ended(Failure(reason, timed_out=True, hung=True))
            case Ended(failure) as update:
                worker.stack = None
                if failure is not None and failure.memory_ran_out:
                    self._remove(worker)  # what it holds would be lacking for the next stack
                return update
            case Commit() as update:
                self._unanswered.append(worker)
                return update
            case Stepped() | Note() as update:
                return update
        return None

    def _death_of(self, worker: _Worker) -> Died:
        """Return the death of a worker.

        Raises:
            EngineError: workers die again and again before they can train.
        """
        ending = self._remove(worker)
        self._failed_starts += not worker.ready
        if self._failed_starts > _FAILED_STARTS:
            raise EngineError(
                f"worker processes end before they can train ({ending}); use fewer workers, or "
                "executor: local."
            )
        return Died(ending, blames_stack=worker.ready)

    def _remove(self, worker: _Worker) -> str:
        self._workers.remove(worker)
        return worker.kill()

    def cancel(self, stack: StackId) -> None:
        """See `Executor`."""
        for worker in [worker for worker in self._workers if worker.stack == stack]:
            if worker in self._unanswered:
                self._unanswered.remove(worker)
            self._remove(worker)

    def stop(self) -> None:
        """See `Executor`."""
        if not self._stopping:
            self._stopping = True
            for worker in self._workers:
                worker.send(Stop())
