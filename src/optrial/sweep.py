"""The one place joining engine and store: leaves what is recorded, trains the rest."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from optrial.attempts import CHOOSING, Attempt, Attempts
from optrial.callbacks import Callback, Callbacks
from optrial.code import changed_code
from optrial.config import Parallel
from optrial.data import Dataset
from optrial.engine import Choice, Engines, provenance, release_memory, return_freed_memory
from optrial.errors import USER_CODE_ERRORS, LeaseLostError, counted, listed
from optrial.executors import (
    Arrays,
    Commit,
    Died,
    Ended,
    Executor,
    Failure,
    Hung,
    Need,
    Note,
    StackTask,
    Stepped,
    Update,
    divided,
    started,
)
from optrial.garbage import collecting_no_garbage
from optrial.interruption import Stop
from optrial.memory import needs_memory
from optrial.plan import Plan, arrange, estimate, make_plan, pack
from optrial.records import PlannedRun, Progress, Record, Segment, Store, WeightFiles
from optrial.spec import ENDED, FINAL, RunFacts, RunSpec, StackId, Status
from optrial.supervision import supervised
from optrial.user_output import UserOutput, collected

__all__ = ["continued", "planned_runs", "sweep"]

_CHANGED = (
    "holds or reads something that its use changes, such as a counter or a list: its runs may "
    "depend on those before them, and are other runs the next time; create that inside the function"
)
_OPEN = (Status.PLANNED, Status.INTERRUPTED)
"""Statuses of runs that any process trains; others have ended."""

_LOOK_SECONDS = 1.0
"""Least time between two looks at what other processes do."""

_LOOK_SHARE = 0.05
"""Largest share of the time that these looks take."""


def sweep(
    plan: Plan,
    datasets: Mapping[str, Dataset],
    store: Store,
    stop: Stop,
    *,
    device: str = "auto",
    checkpoint_seconds: float = 1.0,
    callback: Callback | None = None,
    weights: WeightFiles | None = None,
    parallel: Parallel = Parallel(),  # noqa: B008  a frozen value
) -> None:
    """Train every run of `plan` that `store` does not hold yet.

    Where the plan's study tunes, what is recorded decides what is tried next: wave follows wave
    until each optimizer's setting is chosen and its runs for the report are trained too.

    A run that is done or diverged is left as it is. One that was interrupted or failed goes on
    from its checkpoint, to the same bits as if it had never stopped. `stop` ends the sweep, with a
    checkpoint, after a tenth of a second's worth of steps at most, or after the step or evaluation
    under way where that takes longer.

    Args:
        plan: the runs; of a study that tunes, as many as are known.
        datasets: the dataset of each problem, by name of the problem.
        store: where they are recorded. Other processes are kept out of a folder meanwhile; on a
            server, they may train other stacks of the same plan, and the sweep ends when all are
            trained.
        stop: ends the sweep when it is set; `at_once` is false while runs train.
        device: "auto", "cpu" or "cuda".
        checkpoint_seconds: seconds of training that a crash loses at most. Commits are rarer where
            they would take over 3 % of the time, and in long trainings, which lose up to 0.2 % of
            their time so far. 0 commits at every pause, `math.inf` at the end alone.
        callback: called as training goes on; see `optrial.Callback`.
        weights: where trained weights go, if the plan's runs are to save any.
        parallel: where stacks are trained, and how many at once.

    Raises:
        StoreBusyError: another process is training into the folder, or another plan into the
            server.
        EngineError: the engine or device cannot train this plan.
    """
    hooks = callback or Callbacks()
    with _writing(store, parallel, hooks, stop), ExitStack() as on_exit:
        return_freed_memory()  # of the loading, which takes several times as much as the data
        output = on_exit.enter_context(collected(hooks.on_message))
        callback = output.around(hooks)
        engines = {
            dataset.sha256: Engines(dataset, plan.runs[0].precision, device)
            for dataset in datasets.values()
        }
        driver = _Driver(engines, store, callback, output, stop, parallel, on_exit)
        driver.checkpoint_seconds, driver.weights = checkpoint_seconds, weights
        driver.timeout = plan.studies.shared.timeout
        on_exit.callback(driver.forget_attempts)
        stop.when_asked = driver.forget_attempts
        trained: Sequence[RunSpec] = ()
        while not stop.is_set():
            with store.planning():
                plan = continued(plan, datasets, store)
                if plan.runs == trained:
                    break
                known = driver.save_plan(plan)
            driver.train_plan(plan, known)
            trained = plan.runs
        for name in changed_code(plan.code):
            callback.on_message(f"'{name}' {_CHANGED}")


def _writing(
    store: Store, parallel: Parallel, callback: Callback, stop: Stop
) -> AbstractContextManager[None]:
    """Let this process write to a store: alone into a folder, as one of several on a server."""
    if not store.on_server:
        return store.lock()
    return store.share(
        heartbeat_interval=parallel.heartbeat_interval,
        grace_period=parallel.grace_period,
        tell=callback.on_message,
        stopping=stop.is_set,
    )


def planned_runs(plan: Plan, stack_of: Mapping[str, StackId]) -> list[PlannedRun]:
    """Return the runs of a plan as the store keeps them.

    Args:
        plan: the plan.
        stack_of: stack of each run, by run id.
    """
    with collecting_no_garbage():
        return [
            PlannedRun(
                run_id=run.run_id,
                problem=plan.problems[run.run_id],
                spec=run,
                setting=plan.settings[run.run_id],
                phase=plan.phases[run.run_id],
                stack=stack_of[run.run_id],
            )
            for run in plan.runs
        ]


def continued(plan: Plan, datasets: Mapping[str, Dataset], store: Store) -> Plan:
    """Extend the plan using the results recorded so far."""
    if plan.studies.shared.tune is None:
        return plan
    selections = {name: study.selection for name, study in plan.studies.by_name.items()}
    scores = {
        record.run_id: selection.score(record.final(selection.metric))
        for record in store.runs(everything=True)
        if record.status in ENDED and (selection := selections.get(record.problem))
    }
    return make_plan(plan.studies, datasets, scores, plan.code)


@dataclass
class _Active:
    """A stack that is being trained.

    Attributes:
        task: its task.
        records: its runs, as they were stored at its start.
        need: what its training needs.
        counted: number of steps that were reported.
    """

    task: StackTask
    records: Sequence[Record]
    need: Need
    counted: int


class _Driver:
    """Hands stacks to an executor, and stores what comes back."""

    def __init__(
        self,
        engines: Mapping[str, Engines],  # by hash of the dataset
        store: Store,
        callback: Callback,
        output: UserOutput,
        stop: Stop,
        parallel: Parallel,
        on_exit: ExitStack,
    ) -> None:
        self.engines = engines
        self.store = store
        self.callback = callback
        self.output = output
        self.stop = stop
        self.parallel = parallel
        self.on_exit = on_exit  # ends the executor
        self.checkpoint_seconds = 1.0
        self.timeout: float | None = None
        self.weights: WeightFiles | None = None
        self.executor: Executor | None = None
        self.attempts = Attempts(store.attempt(), store.set_attempt)
        self.planned: Container[str] = ()  # a stack may hold runs of an earlier plan too
        self.attempted: set[str] = set()  # what failed is not tried again in this sweep
        self.ended: set[str] = set()  # runs whose end was reported
        self.hook_error: BaseException | None = None  # raised by a hook; it stops the study
        self.notes: set[str] = set()  # notes that were shown
        self.queue: deque[StackId] = deque()
        self.members: dict[StackId, Sequence[str]] = {}  # ids of the runs of stacks to train
        self.active: dict[StackId, _Active] = {}
        self.full: int | None = None  # number of stacks beside which the next one has no room
        self.alone: set[StackId] = set()  # stacks that are not trained beside others
        self.tried_twice: set[StackId] = set()  # after what others left was released
        self.claimed: set[StackId] = set()  # stacks that no other process trains now
        self.retried: set[str] = set()  # failed runs that this process tries again
        self.steps: Mapping[str, int] = {}  # planned steps of each run
        self.reported: dict[str, int] = {}  # steps of runs that other processes may train
        self.look_at = 0.0  # when to look at other processes

    @property
    def stopping(self) -> bool:
        """Whether no further stack is trained."""
        return self.stop.is_set() or self.hook_error is not None

    def forget_attempts(self) -> None:
        """Make the store forget the work under way, because this process does not die in it."""
        self.attempts.forget()

    def save_plan(self, plan: Plan) -> dict[str, Progress]:
        """Make a plan the current one, with stacks for its new runs; return all runs stored."""
        on_server = self.store.on_server
        if on_server:  # one process at a time chooses; leases name the stacks under way
            self.attempts = Attempts(self.store.attempt(), self.store.set_attempt)
        known = self.store.progress()
        with supervised("trying a few steps to choose how to train"):
            planned = self._planned(plan, known)
        self.store.save_plan(plan.hash, plan.studies.as_dict(), planned)
        if on_server:
            self.attempts.forget()
            self.attempts = Attempts("", lambda text: None)  # noqa: ARG005
        return known | {
            run.run_id: Progress(run.run_id, run.stack, Status.PLANNED, 0)
            for run in planned
            if run.run_id not in known
        }

    def train_plan(self, plan: Plan, known: Mapping[str, Progress]) -> None:
        """Train what is left of a plan, or until told to stop.

        Args:
            plan: the plan.
            known: all runs that are stored.
        """
        runs = [known[run.run_id] for run in plan.runs]
        self.steps = {run.run_id: run.steps for run in plan.runs}
        self.planned = self.steps.keys()
        self.ended |= {run.run_id for run in runs if run.status in FINAL}
        left = [r for r in runs if r.status not in FINAL and r.run_id not in self.attempted]
        failed = [run.run_id for run in left if run.status is Status.ERROR]
        excluded = self._left_to_others(failed) or self._exceeded(failed)
        left = [run for run in left if run.run_id not in excluded]
        self.retried |= {run.run_id for run in left if run.status is Status.ERROR}
        self.attempted |= {run.run_id for run in left}
        if plan.why and left:
            self.callback.on_message(plan.why)
        self.callback.on_plan(
            runs=len(runs),
            steps=sum(self.steps.values()),
            runs_left=len(left),
            steps_left=sum(self.steps[run.run_id] - run.step for run in left),
        )
        self.reported = {run.run_id: run.step for run in left}
        members: dict[StackId, list[str]] = {}
        for run in known.values() if left else ():
            members.setdefault(run.stack, []).append(run.run_id)
        self.members |= members
        self.queue.extend(dict.fromkeys(run.stack for run in left))
        if left:
            self._train_queue(self._started(plan))

    def _left_to_others(self, failed: Sequence[str]) -> set[str]:
        """Return failed runs that this process leaves alone: only one process tries them again."""
        if not failed or not self.store.on_server or self.store.is_alone():
            return set()
        if not self.attempted.issuperset(failed):
            self.callback.on_message(
                f"{counted(len(failed), 'failed run')} will not be tried again while other "
                "processes train this study"
            )
        return set(failed)

    def _started(self, plan: Plan) -> Executor:
        if self.executor is None:
            stacks = {stack: self.members[stack] for stack in self.queue}
            executor = started(self.parallel, plan, stacks, self.engines, self._take_aside)
            self.executor = self.on_exit.enter_context(executor)
            self.attempts.in_process = executor.in_process
        return self.executor

    def _train_queue(self, executor: Executor) -> None:
        """Train all stacks of the queue, or until told to stop."""
        self.stop.at_once = False
        while self._submit(executor) or self.active or self._look_at_others():
            self._take_updates(executor)
            self._follow_others()
            if self.stopping:
                self.queue.clear()
                executor.stop()
        if self.hook_error is not None:
            raise self.hook_error
        self.stop.at_once = True

    def _submit(self, executor: Executor) -> bool:
        """Submit as many stacks as are trained at once; return whether any is left."""
        while self.queue and len(self.active) not in (executor.slots, self.full):
            if self.stopping or not self._has_claim():
                break
            stack = self.queue[0]
            records = self.store.runs_of(self.members[stack])
            need = self._need(stack, records)
            if not executor.room.admits(need, [active.need for active in self.active.values()]):
                self.full = len(self.active)  # until one of them ends
                break
            self.full = None
            self.queue.popleft()
            with self._leased(executor, stack):
                is_open = any(r.status in _OPEN or r.run_id in self.retried for r in records)
                if not is_open or self._killed_before(stack, records):
                    self._release(stack)
                else:
                    self._start(executor, stack, records, need)
        return bool(self.queue) and not self.stopping

    def _start(
        self, executor: Executor, stack: StackId, records: Sequence[Record], need: Need
    ) -> None:
        self._take_over(records)
        self.attempts.begin(str(stack))
        checkpoint = self.store.checkpoint(stack)
        task = self._task(stack, records, resumes=checkpoint is not None)
        step = max(record.step for record in records if record.status not in FINAL)
        self.active[stack] = _Active(task, records, need, 0 if checkpoint is None else step)
        executor.submit(task, checkpoint)

    def _need(self, stack: StackId, records: Sequence[Record]) -> Need:
        specs = [record.spec for record in records]
        memory = self._bytes(specs) if self.active else 0  # the first always has room
        return Need(stack.threads or 1, memory, stack in self.alone)

    def _has_claim(self) -> bool:
        """Move a stack that no other process trains to the front; return False if there is none."""
        if self.queue[0] in self.claimed:
            return True
        statuses = (*_OPEN, Status.ERROR) if self.retried else _OPEN
        claim = self.store.claim(self.queue, statuses)
        if claim is None:
            if not self.active:
                time.sleep(min(_LOOK_SECONDS, self.parallel.heartbeat_interval))
            return False
        stack = claim.stack
        if stack != self.queue[0]:
            self.queue.remove(stack)
            self.queue.appendleft(stack)
        self.claimed.add(stack)
        if claim.deaths:
            self.attempts.dead[str(stack)] = Attempt(str(stack), claim.deaths)
        return True

    def _release(self, stack: StackId) -> None:
        if stack in self.claimed:
            self.claimed.discard(stack)
            self.store.release(stack)

    @contextmanager
    def _leased(self, executor: Executor | None, stack: StackId) -> Iterator[None]:
        """Leave a stack to the process that has taken it over."""
        try:
            yield
        except LeaseLostError as error:
            self.claimed.discard(stack)
            if active := self.active.pop(stack, None):
                self._set_reported(active.records, active.counted)
                if executor is not None:
                    executor.cancel(stack)
            self._call(self.callback.on_message, str(error))

    def _take_over(self, records: Sequence[Record]) -> None:
        """Report the steps that another process has trained, before this one goes on."""
        for record in records:
            if count := record.step - self.reported.get(record.run_id, record.step):
                self.reported[record.run_id] = record.step
                self._call(self.callback.on_step, count)

    def _set_reported(self, records: Sequence[Record], step: int) -> None:
        """Note the steps that were reported of runs that this process no longer trains."""
        self.reported |= {r.run_id: step for r in records if r.run_id in self.reported}

    def _follow_others(self) -> None:
        """Report what other processes have trained, at times; queue what is left to train."""
        if self.store.on_server and time.monotonic() > self.look_at:
            started = time.monotonic()
            self._look_at_others()
            cost = time.monotonic() - started
            self.look_at = time.monotonic() + max(_LOOK_SECONDS, cost / _LOOK_SHARE)

    def _look_at_others(self) -> bool:
        """See `_follow_others`; return whether anything is left to train."""
        if not self.store.on_server or not self.reported or self.stopping:
            return False
        stored = self.store.progress()
        for run in [stored[run_id] for run_id in self.reported]:
            if run.stack not in self.active:
                self._follow(run)
        members: dict[StackId, list[str]] = {}
        for run in stored.values():
            members.setdefault(run.stack, []).append(run.run_id)
        self.members |= members
        left = dict.fromkeys(stored[run_id].stack for run_id in self.reported)
        queue = dict.fromkeys([*self.queue, *left])
        self.queue = deque(s for s in queue if s in left and s not in self.active)
        return bool(self.queue)

    def _follow(self, run: Progress) -> None:
        """Report the progress of a run that another process trains."""
        count = run.step - self.reported[run.run_id]
        self.reported[run.run_id] = run.step
        if count:
            self._call(self.callback.on_step, count)
        if run.status not in _OPEN and not (
            run.status is Status.ERROR and run.run_id in self.retried
        ):
            del self.reported[run.run_id]
            self.ended.add(run.run_id)
            left = self.steps[run.run_id] - run.step
            self._call(self.callback.on_run_end, run.run_id, run.status, left)

    def _task(self, stack: StackId, records: Sequence[Record], *, resumes: bool) -> StackTask:
        return StackTask(
            stack=stack,
            specs=arrange(record.spec for record in records),
            names=listed([f"{r.optimizer} {r.setting} seed={r.seed}" for r in records]),
            ended={r.run_id: r.status for r in records if r.status in FINAL},
            threads=stack.threads or (records[0].facts.threads if resumes else None),
            checkpoint_seconds=self.checkpoint_seconds,
            timeout=self.timeout,
            saves_weights=self.weights is not None,
        )

    def _take_updates(self, executor: Executor) -> None:
        # No name outlives this: a checkpoint would take memory while its training goes on.
        for stack, update in executor.updates():
            if active := self.active.get(stack):
                with self._leased(executor, stack):
                    self._take(active, update)
                if stack not in self.active and stack not in self.queue:
                    self._release(stack)

    def _take(self, active: _Active, update: Update) -> None:
        """Act on an update of a stack."""
        match update:
            case Stepped(step, count):
                self._call(self.callback.on_step, count)
                active.counted = step
            case Commit():
                self._commit(active, update)
            case Note(text, of_user_code=True):
                self.output.tell_once(text, active.task.names)
            case Note(text):
                self._note(text)
            case Hung(reason):
                self._give_up(active, reason)
            case Died():
                del self.active[active.task.stack]
                self._take_death(active, update)
            case Ended(failure):
                del self.active[active.task.stack]
                if failure is not None and not self.stopping:
                    # A signal may also end processes that a training needs.
                    self._take_failure(active, failure)

    def _take_aside(self, update: Update) -> None:
        """Act on an update of the only stack under way, in another thread."""
        for stack, active in list(self.active.items()):
            with self._leased(None, stack):
                self._take(active, update)

    def _take_death(self, active: _Active, death: Died) -> None:
        """Train a stack again whose worker has died."""
        stack = active.task.stack
        self.attempts.died(str(stack), death.reason, blames=death.blames_stack)
        if self.stopping:
            return
        note = f"a worker process has died ({death.reason}); going on where it was"
        suspect, specs = self.attempts.dead.get(str(stack)), active.task.specs
        limit = self._engines(specs).memory_limit
        exhausted = suspect is not None and suspect.exhausted_memory(self._bytes(specs), limit)
        if exhausted and self._shared_memory(stack):  # others may have taken it
            del self.attempts.dead[str(stack)]
            note = f"a worker process has died ({death.reason}); training its stack alone"
            suspect = None
        # A suspect has a message of its own.
        self._again(active, "" if suspect else f"{note}: {active.task.names}")

    def _again(self, active: _Active, note: str) -> None:
        """Train a stack next, from what is stored of it."""
        latest = self.store.runs_of([record.run_id for record in active.records])
        left = [record for record in latest if record.status not in FINAL]
        if left:
            step = max(record.step for record in left)
            self._call(self.callback.on_step, min(0, step - active.counted) * len(left))
            self._set_reported(active.records, min(step, active.counted))
            if note:
                self._call(self.callback.on_message, note)
            self.queue.appendleft(active.task.stack)

    def _shared_memory(self, stack: StackId) -> bool:
        """Return whether a stack was trained beside others; the next time it is not."""
        was_shared = bool(self.active) and stack not in self.alone
        self.alone.add(stack)
        return was_shared

    def _take_failure(self, active: _Active, failure: Failure) -> None:
        """Train the runs of a failed stack further in another way, or record why they failed.

        If a run fails or memory runs out, the stack is halved and both halves are trained from the
        start, until a failing run is alone and recorded as failed.
        """
        release_memory()
        stack, records, reason = active.task.stack, active.records, failure.reason
        specs = [record.spec for record in records]
        if failure.memory_ran_out:
            reason = f"{self._needed('the run', specs[:1])} ({reason})"
        if failure.timed_out and (len(records) == 1 or not failure.hung):
            for record in records:
                self._fail(stack, record, reason, RunFacts(timeout=self.timeout))
        elif failure.memory_ran_out and self._shared_memory(stack):
            note = "memory ran out while several stacks trained; training one of them alone"
            self._again(active, f"{note}: {active.task.names}")
        elif len(records) > 1:
            note = f"one of {len(records)} runs failed ({reason}); training them in halves"
            if failure.memory_ran_out:
                limit = self._engines(specs).memory_limit
                note = f"memory ran out with {len(records)} runs at a time; going on with fewer"
                note += f" ({limit})"
            engine = stack.engine if failure.memory_ran_out else "stacked"
            self._halve(stack, records, engine, note, active.counted)
        elif failure.memory_ran_out and stack not in self.tried_twice:
            self.tried_twice.add(stack)  # what earlier stacks left behind is released now
            self._again(active, "")
        elif failure.memory_ran_out and stack.is_compiled and specs[0].compile != "always":
            note = "memory ran out; going on without compiling"
            self._halve(stack, records, "stacked", note, active.counted)
        else:
            self._fail(stack, records[0], reason)

    def _engines(self, specs: Sequence[RunSpec]) -> Engines:
        return self.engines[specs[0].dataset_sha256]

    def _bytes(self, specs: Sequence[RunSpec]) -> int:
        """Return the memory that some runs need as a stack; 0 if their model cannot be built."""
        with suppress(*USER_CODE_ERRORS):
            return estimate(specs, self._engines(specs).dataset, len(specs)).stack_bytes
        return 0

    def _needed(self, subject: str, specs: Sequence[RunSpec]) -> str:
        return needs_memory(subject, self._bytes(specs), self._engines(specs).memory_limit)

    def _killed_before(self, stack: StackId, records: Sequence[Record]) -> bool:
        """Halve or give up a stack that killed a process; return whether that was done."""
        attempt = self.attempts.dead.get(str(stack))
        if attempt is None:
            return False
        count, specs = len(records), [record.spec for record in records]
        limit, needed = self._engines(specs).memory_limit, self._bytes(specs)
        who = f"a worker process ({attempt.cause})" if attempt.cause else "the last process"
        died = f"{who} died while it trained {count} runs, and stored nothing of them"
        repeated = attempt.deaths > self.parallel.retries
        if count > 1 and (repeated or attempt.exhausted_memory(needed, limit)):
            note = f"{died}; going on with fewer at a time ({limit})"
            self._halve(stack, records, stack.engine, note, counted=0)
        elif repeated:
            died = f"{attempt.deaths} processes died while they trained this run"
            died += f" ({attempt.cause})" * bool(attempt.cause)
            self._fail(stack, records[0], f"{died}; {self._needed('it', specs)}")
        else:
            runs = "this run" if count == 1 else "these runs"
            note = f"{died.replace('1 runs', 'one run')}; trying {runs} again"
            self._call(self.callback.on_message, note)
            return False
        return True

    def _planned(self, plan: Plan, known: Mapping[str, Progress]) -> list[PlannedRun]:
        """Return the plan's runs with their stacks; runs that are not known get new stacks."""
        stack_of = {run_id: run.stack for run_id, run in known.items()}
        new = [run for run in plan.runs if run.run_id not in stack_of]
        if new:
            self.callback.on_prepare("trying a few steps to choose how to train")
            self.attempts.begin(CHOOSING)
        for _, group in itertools.groupby(new, lambda run: plan.problems[run.run_id]):
            specs = list(group)
            choices = self._choices(specs)
            for note in dict.fromkeys(note for choice in choices for note in choice.notes):
                self.callback.on_message(note)
            for part in divided(choices, self._engines(specs), self.parallel):
                stack = StackId.of(*part)
                stack_of |= dict.fromkeys((run.run_id for run in part.runs), stack)
        return planned_runs(plan, stack_of)

    def _choices(self, specs: Sequence[RunSpec]) -> Sequence[Choice]:
        """Return how to train new runs; one by one if choosing killed the last process."""
        engines, died = self._engines(specs), self.attempts.dead.get(CHOOSING)
        if died and died.suspected(self._bytes(specs[:1]), engines.memory_limit):
            return [engines.one_by_one(specs, "the last process died when steps were tried")]
        return engines.choose(specs)

    def _commit(self, active: _Active, commit: Commit) -> None:
        """Store the progress of a stack, and tell which runs have ended."""
        segments = [
            replace(segment, facts=segment.facts | self._saved(segment.run_id, commit.weights))
            for segment in commit.segments
        ]
        stack = active.task.stack
        upcoming = self.queue[0] if commit.checkpoint is None and self.queue else None
        upcoming = None if self.stopping else upcoming
        attempt = self.attempts.stored(str(stack), None if upcoming is None else str(upcoming))
        self.store.commit(segments, stack, commit.checkpoint, attempt)
        for segment in segments:
            latest = {name: float(c.values[-1]) for name, c in segment.curves.items() if len(c)}
            if latest and segment.run_id in self.planned:
                self._call(self.callback.on_values, segment.run_id, segment.step, latest)
        self._tell_ends(segments, active.task.specs[0].steps)

    def _saved(self, run_id: str, weights: Mapping[str, Arrays]) -> RunFacts:
        """Write the weights of a run to the disk, if it saves any; return their hash."""
        if self.weights is None or run_id not in weights:
            return RunFacts()
        return RunFacts(weights_sha256=self.weights.write(run_id, weights[run_id]))

    def _call(self, hook: Callable[..., object], *arguments: object) -> None:
        """Call a hook; its first error is raised once every training has ended, not before."""
        if self.hook_error is None:
            try:
                hook(*arguments)
            except USER_CODE_ERRORS as error:
                self.hook_error = error

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.add(text)
            self._call(self.callback.on_message, text)

    def _halve(
        self, stack: StackId, records: Sequence[Record], engine: str, note: str, counted: int
    ) -> None:
        """Train the runs of a failed stack as two stacks, or one run with an engine.

        They start from the first step: the numbers of a run are those of the stack it is stored
        with, whenever the error occurred. They are compiled only after running out of memory;
        otherwise compiling every half would take longer than it saves.

        Args:
            stack: the stack.
            records: its runs.
            engine: engine of the new stacks.
            note: message for the user.
            counted: number of steps of the stack that were reported.
        """
        self._call(self.callback.on_message, note)
        latest = self.store.runs_of([record.run_id for record in records])
        halves = self._restack(stack, latest, engine)
        restarted = set(itertools.chain.from_iterable(halves.values()))
        taken = {r.run_id: r.step if r.status in FINAL else counted for r in latest}
        steps = sum(taken[run_id] for run_id in restarted)
        self._call(self.callback.on_step, -steps)
        self._set_reported(records, 0)
        # Runs that had diverged are left to train again.
        self.reported |= {run_id: 0 for run_id in restarted if run_id in self.steps}
        self.members |= halves
        self.queue.extendleft(reversed(list(halves)))

    def _restack(
        self, stack: StackId, latest: Sequence[Record], engine: str
    ) -> dict[StackId, list[str]]:
        """Store the runs of a stack as runs of its halves, which start again.

        Runs that diverged start again too, because it depends on the time whether they were stored
        before the stack failed. Only in a stack that ended once, which a repair trains again,
        everything that ended stays as it is.

        Args:
            stack: the stack.
            latest: its runs, as they are stored.
            engine: engine of the new stacks.
        """
        kept = FINAL if any(record.status is Status.DONE for record in latest) else ()
        specs = [record.spec for record in latest if record.status not in kept]
        stacks: dict[StackId, list[str]] = {}
        for half in pack(specs, (len(specs) + 1) // 2):
            threads = self._engines(half).threads(half)
            threads = min(threads, stack.threads or threads)
            stacks[StackId.of(engine, half, threads)] = [spec.run_id for spec in half]
        self.store.restack(stacks)
        return stacks

    def _exceeded(self, run_ids: Sequence[str]) -> set[str]:
        """Return failed runs that would exceed the time limit again, and say how many there are."""
        limit = self.timeout or 0.0
        failed = self.store.runs_of(run_ids) if run_ids and limit else ()
        run_ids = [record.run_id for record in failed if (record.facts.timeout or 0.0) >= limit]
        if run_ids and not self.attempted.issuperset(run_ids):
            self.callback.on_message(
                f"{counted(len(run_ids), 'run')} took longer than timeout {limit:g} s before, and "
                "stay as they are; raise or remove timeout to train them further"
            )
        self.attempted.update(run_ids)
        return set(run_ids)

    def _give_up(self, active: _Active, reason: str) -> None:
        """Store that a step hangs and cannot be interrupted.

        The runs of a stack are stored as those of its halves, which the next sweep trains.
        """
        if len(active.records) > 1:
            latest = self.store.runs_of([record.run_id for record in active.records])
            self._restack(active.task.stack, latest, "stacked")
            self.attempts.forget()
        else:
            timeout = RunFacts(timeout=self.timeout)
            self._fail(active.task.stack, active.records[0], reason, timeout)
        self.callback.on_hang(reason)

    def _fail(
        self, stack: StackId, record: Record, reason: str, facts: RunFacts | None = None
    ) -> None:
        """Record that a run cannot be trained further; it keeps what it has."""
        (latest,) = self.store.runs_of([record.run_id])
        if latest.status in FINAL:
            return
        known = _with_provenance(_as_segment(latest))
        failed = replace(known, status=Status.ERROR, reason=reason)
        if facts is not None:
            failed = replace(failed, facts=failed.facts | facts)
        attempt = self.attempts.stored(str(stack))
        self.store.commit([failed], stack, self.store.checkpoint(stack), attempt)
        self._tell_ends([failed], record.steps)

    def _tell_ends(self, segments: Sequence[Segment], steps: int) -> None:
        for segment in segments:
            ended = segment.status is not Status.INTERRUPTED and segment.run_id not in self.ended
            if ended and segment.run_id in self.planned:
                self.ended.add(segment.run_id)
                self.reported.pop(segment.run_id, None)
                left = steps - segment.step
                self._call(self.callback.on_run_end, segment.run_id, segment.status, left)


def _as_segment(record: Record) -> Segment:
    """The last thing that is known of a run, without new points."""
    return Segment(
        run_id=record.run_id,
        step=record.step,
        curves={},
        status=record.status,
        reason=record.reason,
        facts=record.facts,
    )


def _with_provenance(segment: Segment) -> Segment:
    return replace(segment, facts=provenance() | segment.facts)
