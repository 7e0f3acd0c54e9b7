"""The one place joining engine and store: leaves what is recorded, trains the rest."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from optrial.data import Dataset
from optrial.engine import Learner, Training, learner_factory, provenance
from optrial.errors import StoreError
from optrial.plan import Plan, RunSpec
from optrial.records import PlannedRun, Record, Segment, Status, Store

__all__ = ["Watcher", "sweep"]

_FINAL = (Status.DONE, Status.DIVERGED)


class Watcher(Protocol):
    """Is told how a sweep goes on, to show it."""

    def started(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Learn how much the whole plan is, and how much of it is left to train."""

    def stepped(self) -> None:
        """A training step was taken."""

    def ended(self, status: Status, steps_left: int) -> None:
        """A run ended, perhaps before its time, with `steps_left` of its steps untrained."""


class Unwatched:
    """Shows nothing."""

    def started(self, runs: int, steps: int, runs_left: int, steps_left: int) -> None:
        """Do nothing."""

    def stepped(self) -> None:
        """Do nothing."""

    def ended(self, status: Status, steps_left: int) -> None:
        """Do nothing."""


def sweep(
    plan: Plan,
    dataset: Dataset,
    store: Store,
    *,
    device: str = "auto",
    checkpoint_seconds: float = 1.0,
    watcher: Watcher | None = None,
) -> Counter[Status]:
    """Train every run of `plan` that `store` does not hold yet.

    A run that is done or diverged is left as it is. One that was interrupted or failed goes on
    from its checkpoint, to the same bits as if it had never stopped. SIGINT and SIGTERM end the
    sweep after the step under way, with a checkpoint; a second one ends it at once.

    Args:
        plan: the runs.
        dataset: what they train on.
        store: where they are recorded; locked meanwhile.
        device: "auto", "cpu" or "cuda".
        checkpoint_seconds: least time between two commits of one run; a crash loses at most this
            much, and the time to the next evaluation.
        watcher: is told of progress.

    Returns:
        How many runs of the plan have each status now.

    Raises:
        StoreBusyError: another process is training into `store`.
        EngineError: the engine or device cannot train this plan.
    """
    watcher = watcher or Unwatched()
    with store.lock(), _stop_on_signal() as stopped:
        store.save_plan(plan.hash, plan.study.model_dump(mode="json"), _planned(plan))
        recorded = {record.run_id: record for record in store.runs()}
        left = [run for run in plan.runs if recorded[run.run_id].status not in _FINAL]
        watcher.started(
            runs=len(plan.runs),
            steps=sum(run.steps for run in plan.runs),
            runs_left=len(left),
            steps_left=sum(run.steps - recorded[run.run_id].step for run in left),
        )
        if left:
            build = learner_factory(left[0].engine, dataset, left[0].precision, device)
            worker = _Worker(build, store, watcher, stopped, checkpoint_seconds)
            for run in left:
                if not stopped.is_set():
                    worker.train(run, recorded[run.run_id])
        return Counter(record.status for record in store.runs())


@dataclass(frozen=True)
class _Worker:
    """Trains one run after the other, committing as it goes."""

    build: Callable[[RunSpec], Learner]
    store: Store
    watcher: Watcher
    stopped: threading.Event
    checkpoint_seconds: float

    def train(self, run: RunSpec, record: Record) -> None:
        """Train one run to its end, or until told to stop."""
        checkpoint = self.store.checkpoint(record.stack)
        committed, facts, committed_at = record.step, record.facts, time.monotonic()
        try:
            training = Training(run, self.build(run))
            if checkpoint is not None:
                training.resume(checkpoint)
            for status in training.run(self._keep_going):
                ended = status in _FINAL or self.stopped.is_set()
                if ended or time.monotonic() - committed_at >= self.checkpoint_seconds:
                    checkpoint = None if status in _FINAL else training.checkpoint()
                    segment = training.segment()
                    facts = {**provenance(), **segment.facts}
                    self.store.commit([replace(segment, facts=facts)], record.stack, checkpoint)
                    committed, committed_at = training.step, time.monotonic()
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  a failed run is a status; the others go on
            status, reason = Status.ERROR, f"{type(error).__name__}: {error}"
            failed = Segment(
                run_id=run.run_id,
                step=committed,
                curves={},
                status=status,
                reason=reason,
                facts={**provenance(), **facts},
            )
            self.store.commit([failed], record.stack, checkpoint)
        self.watcher.ended(status, run.steps - committed)

    def _keep_going(self, step: int) -> bool:
        del step
        self.watcher.stepped()
        return not self.stopped.is_set()


def _planned(plan: Plan) -> list[PlannedRun]:
    stack_of = {run.run_id: stack[0].run_id for stack in plan.stacks for run in stack}
    return [
        PlannedRun(
            run_id=run.run_id,
            optimizer=run.optimizer,
            setting=plan.settings[run.run_id],
            rule=run.rule,
            hyperparameters=run.hyperparameters,
            seed=run.seed,
            spec=run.as_dict(),
            stack=stack_of[run.run_id],
            steps=run.steps,
            steps_per_epoch=run.steps_per_epoch,
        )
        for run in plan.runs
    ]


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event; outside the main thread, change nothing."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        del number, frame
        stopped.set()
        restore()

    for number in previous:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        restore()
