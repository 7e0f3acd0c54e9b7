"""Executors train stacks: in this process, in worker processes, or on a Ray cluster.

The unit of work is a stack. The driver, `optrial.sweep`, submits a `StackTask` and takes the
updates that its training yields; it alone writes to the store and calls hooks.
"""

from optrial.executors.division import divided, expected_work, share_of_worker
from optrial.executors.executor import Executor
from optrial.executors.local import Local
from optrial.executors.processes import Processes
from optrial.executors.room import Need, Room
from optrial.executors.setup import WorkerSetup
from optrial.executors.start import check_executor, started
from optrial.executors.task import StackTask
from optrial.executors.trainer import Trainer
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

__all__ = [
    "Arrays",
    "Commit",
    "Died",
    "Ended",
    "Executor",
    "Failure",
    "Hung",
    "Local",
    "Need",
    "Note",
    "Processes",
    "Room",
    "StackTask",
    "Stepped",
    "Trainer",
    "Update",
    "WorkerSetup",
    "check_executor",
    "divided",
    "expected_work",
    "share_of_worker",
    "started",
]
