"""The driver: hands stacks to an executor, and acts on the updates that come back."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from optrial.attempts import Attempt, Attempts
from optrial.config import Parallel
from optrial.engine import release_memory
from optrial.errors import LeaseLostError, counted, listed
from optrial.executors import (
    Commit,
    Died,
    Ended,
    Executor,
    Hung,
    Need,
    Note,
    StackTask,
    Stepped,
    Update,
    expected_work,
    started,
)
from optrial.interruption import Stop
from optrial.plan import Plan, arrange
from optrial.records import Progress, Record, Store
from optrial.spec import FINAL, RunFacts, StackId, Status
from optrial.sweep.commits import Commits
from optrial.sweep.needs import Needs
from optrial.sweep.queue import Active, Queue
from optrial.sweep.remedies import Again, GiveUp, Halve, Remedies, Remedy
from optrial.sweep.reports import Reports
from optrial.user_output import UserOutput

__all__ = ["Driver"]

_OPEN = (Status.PLANNED, Status.INTERRUPTED)
"""Statuses of runs that any process trains; others have ended."""

_LOOK_SECONDS = 1.0
"""Least time between two looks at what other processes do."""

_LOOK_SHARE = 0.05
"""Largest share of the time that these looks take."""


class Driver:
    """Trains plans. A context that ends the executor.

    Args:
        store: the store.
        needs: memory that runs need, and their engines.
        attempts: stacks under way that have stored nothing yet.
        commits: stores what happens.
        reports: reports to the hooks.
        output: output of user code.
        stop: ends the training when it is set.
        parallel: where stacks are trained, and how many at once.
        checkpoint_seconds: seconds of training that a crash loses at most.
        timeout: seconds that a run may take; None for no limit.
    """

    def __init__(
        self,
        *,
        store: Store,
        needs: Needs,
        attempts: Attempts,
        commits: Commits,
        reports: Reports,
        output: UserOutput,
        stop: Stop,
        parallel: Parallel,
        checkpoint_seconds: float,
        timeout: float | None,
    ) -> None:
        self._store = store
        self._needs = needs
        self._attempts = attempts
        self._commits = commits
        self._remedies = Remedies(needs, attempts, parallel.retries, timeout)
        self._reports = reports
        self._output = output
        self._stop = stop
        self._parallel = parallel
        self._checkpoint_seconds = checkpoint_seconds
        self._timeout = timeout
        self._on_exit = ExitStack()  # ends the executor
        self._executor: Executor | None = None
        self._queue = Queue(store)
        self._active: dict[StackId, Active] = {}
        self._full = math.inf  # number of stacks beside which the next one has no room
        self._attempted: set[str] = set()  # what failed is not tried again in this sweep
        self._retried: set[str] = set()  # failed runs that this process tries again
        self._look_at = 0.0  # when to look at other processes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    @property
    def _stopping(self) -> bool:
        """True if no further stack is trained."""
        return self._stop.is_set() or self._reports.error is not None

    def train(self, plan: Plan, known: Mapping[str, Progress]) -> None:
        """Train what is left of a plan, or until told to stop.

        Args:
            plan: the plan.
            known: all runs that are stored.
        """
        runs = [known[run.run_id] for run in plan.runs]
        left = self._left(runs)
        if plan.why and left:
            self._reports.callback.on_message(plan.why)
        self._reports.begin({run.run_id: run.steps for run in plan.runs}, runs, left)
        if left:
            self._queue.append(left, known.values())
            executor = self._started(plan)
            if not executor.in_process:
                self._queue.order_by(self._work(plan, known))
            self._train_queue(executor)

    def _left(self, runs: Sequence[Progress]) -> list[Progress]:
        """Return the runs that this process trains, or may train beside others."""
        left = [r for r in runs if r.status not in FINAL and r.run_id not in self._attempted]
        failed = [run.run_id for run in left if run.status is Status.ERROR]
        excluded = self._left_to_others(failed) or self._exceeding(failed)
        left = [run for run in left if run.run_id not in excluded]
        self._retried |= {run.run_id for run in left if run.status is Status.ERROR}
        self._attempted |= {run.run_id for run in left}
        return left

    def _left_to_others(self, failed: Sequence[str]) -> set[str]:
        """Return failed runs that this process leaves alone: only one process tries them again."""
        if not failed or not self._store.on_server or self._store.is_alone():
            return set()
        if not self._attempted.issuperset(failed):
            self._reports.callback.on_message(
                f"{counted(len(failed), 'failed run')} will not be tried again while other "
                "processes train this study"
            )
        return set(failed)

    def _exceeding(self, failed: Sequence[str]) -> set[str]:
        """Return failed runs that would exceed the time limit again, with a message."""
        limit = self._timeout or 0.0
        records = self._store.runs_of(failed) if failed and limit else ()
        run_ids = {record.run_id for record in records if (record.facts.timeout or 0.0) >= limit}
        if not self._attempted.issuperset(run_ids):
            self._reports.callback.on_message(
                f"{counted(len(run_ids), 'run')} took longer than timeout {limit:g} s before, and "
                "stay as they are; raise or remove timeout to train them further"
            )
        self._attempted |= run_ids
        return run_ids

    def _started(self, plan: Plan) -> Executor:
        """Return the executor: workers stay, but a later wave may be the first that needs them."""
        if self._executor is None or self._executor.in_process:
            self._on_exit.close()
            engines, stacks = self._needs.by_dataset, self._queue.members
            executor = started(self._parallel, plan, stacks, engines, self._take_aside)
            self._executor = self._on_exit.enter_context(executor)
            self._attempts.in_process = executor.in_process
        return self._executor

    def _work(self, plan: Plan, known: Mapping[str, Progress]) -> Mapping[StackId, float]:
        """Return the expected work of each stack of a plan."""
        of_setting: dict[str, float] = {}
        of_stack: defaultdict[StackId, float] = defaultdict(float)
        for run in plan.runs:
            if run.without_seed not in of_setting:
                of_setting[run.without_seed] = expected_work(run, self._needs.engines([run]))
            of_stack[known[run.run_id].stack] += of_setting[run.without_seed]
        return of_stack

    def _train_queue(self, executor: Executor) -> None:
        """Train all stacks of the queue, or until told to stop."""
        self._stop.at_once = False
        while self._submit(executor) or self._active or self._look_at_others():
            self._take_updates(executor)
            self._follow_others()
            if self._stopping:
                self._queue.clear()
                executor.stop()
        if self._reports.error is not None:
            raise self._reports.error
        self._stop.at_once = True

    # From the queue to the executor

    def _submit(self, executor: Executor) -> bool:
        """Submit as many stacks as are trained at once; return whether any is left."""
        while self._queue and len(self._active) < min(executor.slots, self._full):
            stack = None if self._stopping else self._claimed()
            if stack is None:
                break
            records = self._queue.records(stack)
            need = self._need(executor, stack, records)
            if not executor.room.admits(need, [active.need for active in self._active.values()]):
                self._full = len(self._active)  # until one of them ends
                break
            self._full = math.inf
            self._queue.pop()
            with self._leased(executor, stack):
                if not self._starts(stack, records):
                    self._queue.release(stack)
                else:
                    self._start(executor, stack, records, need)
        return bool(self._queue) and not self._stopping

    def _claimed(self) -> StackId | None:
        """Return the first stack of the queue, which no other process trains; None if all are."""
        claim = self._queue.claim((*_OPEN, Status.ERROR) if self._retried else _OPEN)
        if claim is None:
            if not self._active:
                time.sleep(min(_LOOK_SECONDS, self._parallel.heartbeat_interval))
            return None
        if claim.deaths:
            self._attempts.dead[str(claim.stack)] = Attempt(str(claim.stack), claim.deaths)
        return claim.stack

    def _need(self, executor: Executor, stack: StackId, records: Sequence[Record]) -> Need:
        specs = [record.spec for record in records]
        memory = self._needs.memory(specs) if executor.room.memory < math.inf else 0
        return Need(stack.threads or 1, memory, self._remedies.trains_alone(stack))

    def _is_open(self, run: Progress | Record) -> bool:
        return run.status in _OPEN or (run.status is Status.ERROR and run.run_id in self._retried)

    def _starts(self, stack: StackId, records: Sequence[Record]) -> bool:
        """Return whether to train a stack: it has runs left, and killed no process."""
        if not any(map(self._is_open, records)):
            return False
        match self._remedies.before(stack, records):
            case Again(note):
                self._reports.message(note)
            case Halve() as halve:
                self._halve(stack, records, halve, counted=0)
                return False
            case GiveUp() as end:
                self._give_up(stack, records, end)
                return False
        return True

    def _start(
        self, executor: Executor, stack: StackId, records: Sequence[Record], need: Need
    ) -> None:
        self._reports.taken_over(records)
        self._attempts.begin(str(stack))
        checkpoint = self._store.checkpoint(stack)
        task = self._task(stack, records, resumes=checkpoint is not None)
        step = max(record.step for record in records if record.status not in FINAL)
        self._active[stack] = Active(task, records, need, 0 if checkpoint is None else step)
        executor.submit(task, checkpoint)

    def _task(self, stack: StackId, records: Sequence[Record], *, resumes: bool) -> StackTask:
        return StackTask(
            stack=stack,
            specs=arrange(record.spec for record in records),
            names=listed([record.title for record in records]),
            ended={r.run_id: r.status for r in records if r.status in FINAL},
            threads=stack.threads or (records[0].facts.threads if resumes else None),
            checkpoint_seconds=self._checkpoint_seconds,
            timeout=self._timeout,
            saves_weights=self._commits.saves_weights,
        )

    # From the executor to the store and the hooks

    def _take_updates(self, executor: Executor) -> None:
        # No name outlives this: a checkpoint would take memory while its training goes on.
        for stack, update in executor.updates():
            if active := self._active.get(stack):
                with self._leased(executor, stack):
                    self._take(active, update)
                if stack not in self._active and stack not in self._queue:
                    self._queue.release(stack)

    def _take_aside(self, update: Update) -> None:
        """Act on an update of the only stack under way, in another thread."""
        for stack, active in list(self._active.items()):
            with self._leased(None, stack):
                self._take(active, update)

    def _take(self, active: Active, update: Update) -> None:
        """Act on an update of a stack."""
        stack = active.task.stack
        match update:
            case Stepped(step, count):
                self._reports.steps(count)
                active.counted = step
            case Commit():
                upcoming = None if self._stopping else self._queue.first
                self._reports.stored(self._commits.progress(stack, update, upcoming))
            case Note(text, of_user_code=True):
                self._output.tell_once(text, active.task.names)
            case Note(text):
                self._reports.note(text)
            case Hung(reason):
                self._abandon(active, reason)
            case Died(reason, blames):
                del self._active[stack]
                self._attempts.died(str(stack), reason, blames=blames)
                if not self._stopping:
                    self._apply(
                        active, self._remedies.after_death(active, update, len(self._active))
                    )
            case Ended(failure):
                del self._active[stack]
                # A signal may also end processes that a training needs.
                if failure is not None and not self._stopping:
                    release_memory()
                    others = len(self._active)
                    self._apply(active, self._remedies.after_failure(active, failure, others))

    def _apply(self, active: Active, remedy: Remedy) -> None:
        match remedy:
            case Again(note):
                self._train_again(active, note)
            case Halve():
                self._halve(active.task.stack, active.records, remedy, active.counted)
            case GiveUp():
                self._give_up(active.task.stack, active.records, remedy)

    def _latest(self, records: Sequence[Record]) -> list[Record]:
        return self._store.runs_of([record.run_id for record in records])

    def _train_again(self, active: Active, note: str) -> None:
        """Train a stack next, from what is stored of it."""
        left = [r for r in self._latest(active.records) if r.status not in FINAL]
        if left:
            step = max(record.step for record in left)
            self._reports.steps(min(0, step - active.counted) * len(left))
            self._reports.set_steps(active.records, min(step, active.counted))
            if note:
                self._reports.message(note)
            self._queue.insert({active.task.stack: [r.run_id for r in active.records]})

    def _halve(self, stack: StackId, records: Sequence[Record], halve: Halve, counted: int) -> None:
        """Train the runs of a stack as two stacks, or one run with another engine.

        Args:
            stack: the stack.
            records: its runs.
            halve: the engine, and a message.
            counted: number of steps of the stack that were reported.
        """
        self._reports.message(halve.note)
        latest = self._latest(records)
        halves = self._commits.restack(stack, latest, halve.engine)
        restarted = {run_id for members in halves.values() for run_id in members}
        self._reports.set_steps(records, 0)
        self._reports.restarted(
            {
                r.run_id: r.step if r.status in FINAL else counted
                for r in latest
                if r.run_id in restarted
            }
        )
        self._queue.insert(halves)

    def _give_up(self, stack: StackId, records: Sequence[Record], end: GiveUp) -> None:
        for record in records:
            self._reports.stored(self._commits.failure(stack, record, end.reason, end.facts))

    def _abandon(self, active: Active, reason: str) -> None:
        """Store that a step hangs and cannot be interrupted, because this process will end.

        The runs of a stack are stored as those of its halves, which the next sweep trains.
        """
        stack, records = active.task.stack, active.records
        if len(records) > 1:
            self._commits.restack(stack, self._latest(records), "stacked")
            self._attempts.forget()
        else:
            self._give_up(stack, records, GiveUp(reason, RunFacts(timeout=self._timeout)))
        self._reports.callback.on_hang(reason)

    # Other processes, on a server

    @contextmanager
    def _leased(self, executor: Executor | None, stack: StackId) -> Iterator[None]:
        """Leave a stack to the process that has taken it over."""
        try:
            yield
        except LeaseLostError as error:
            self._queue.lose(stack)
            if active := self._active.pop(stack, None):
                self._reports.set_steps(active.records, active.counted)
                if executor is not None:
                    executor.cancel(stack)
            self._reports.message(str(error))

    def _follow_others(self) -> None:
        """Report what other processes have trained, at times; queue what is left to train."""
        if self._store.on_server and time.monotonic() > self._look_at:
            began = time.monotonic()
            self._look_at_others()
            cost = time.monotonic() - began
            self._look_at = time.monotonic() + max(_LOOK_SECONDS, cost / _LOOK_SHARE)

    def _look_at_others(self) -> bool:
        """See `_follow_others`; return whether anything is left to train."""
        if not self._store.on_server or not self._reports.left or self._stopping:
            return False
        stored = self._store.progress()
        for run in [stored[run_id] for run_id in self._reports.left]:
            if run.stack not in self._active:
                self._reports.followed(run, is_open=self._is_open(run))
        left = [stored[run_id] for run_id in self._reports.left]
        self._queue.replace(left, stored.values(), self._active)
        return bool(self._queue)
