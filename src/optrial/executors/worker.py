"""A worker process: receives stacks through a connection, and sends updates back.

It ignores SIGINT and SIGHUP, which are for the driver. If the driver is gone, it ends at once.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass

from optrial.child import Parent
from optrial.errors import USER_CODE_ERRORS, OptrialError, one_line
from optrial.executors.setup import WorkerSetup
from optrial.executors.shared_data import DataPlan
from optrial.executors.task import StackTask
from optrial.executors.trainer import Trainer
from optrial.executors.updates import Arrays, Commit, Update, merged_steps

__all__ = ["Job", "Ready", "Refused", "Start", "Stop", "Stored", "main"]

_SEND_SECONDS = 0.1
"""Least time between two reports of steps."""


@dataclass(frozen=True)
class Start:
    """Sent to a worker first.

    Attributes:
        setup: `WorkerSetup` as bytes.
        data: what is in the file of the datasets.
        timeout: seconds that a run may take; None for no limit.
    """

    setup: bytes
    data: DataPlan
    timeout: float | None


@dataclass(frozen=True)
class Job:
    """Sent to a worker: a stack to train."""

    task: StackTask
    checkpoint: Arrays | None


@dataclass(frozen=True)
class Stored:
    """Sent to a worker: its last commit is stored."""


@dataclass(frozen=True)
class Stop:
    """Sent to a worker: end the stack under way, with a commit."""


@dataclass(frozen=True)
class Ready:
    """Sent by a worker that can train."""


@dataclass(frozen=True)
class Refused:
    """Sent by a worker that cannot train.

    Attributes:
        reason: the reason.
    """

    reason: str


class _Driver(Parent):
    """The connection to the driver; a thread reads from it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._stored = threading.Semaphore(0)
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.stopping = threading.Event()

    def read(self) -> None:
        """Read what the driver sends; end the process if that fails."""
        try:
            while True:
                match self.receive():
                    case Stored():
                        self._stored.release()
                    case Stop():
                        self.stopping.set()
                    case Job() as job:
                        self.jobs.put(job)
        finally:
            os._exit(1)

    def report(self, update: Update) -> None:
        """Send an update of the stack under way; wait until a commit is stored."""
        self.send(update)
        if isinstance(update, Commit):
            self._stored.acquire()


def main(descriptor: int, data: int) -> None:
    """Train what the driver sends, until it closes the connection.

    Args:
        descriptor: descriptor of the connection.
        data: descriptor of the file with the arrays of the datasets.
    """
    driver = _Driver(descriptor)
    try:
        start = driver.receive()
        assert isinstance(start, Start)
        engines = WorkerSetup.loads(start.setup).engines(start.data.mapped(data))
    except OptrialError as error:
        driver.send(Refused(str(error)))
        return
    except USER_CODE_ERRORS as error:
        driver.send(Refused(f"a worker process cannot start: {one_line(error)}"))
        return
    driver.send(Ready())
    threading.Thread(target=driver.read, name="optrial-driver", daemon=True).start()
    with Trainer(engines, start.timeout, driver.send) as trainer:
        while True:
            job = driver.jobs.get()
            training = trainer.train(job.task, job.checkpoint, driver.stopping.is_set)
            del job
            try:
                for update in merged_steps(training, _SEND_SECONDS):
                    driver.report(update)
                    del update  # or else a checkpoint would take memory until the next one
            except OptrialError as error:
                driver.send(Refused(str(error)))
