"""The one place joining engine and store: leaves what is recorded, trains the rest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from optrial.attempts import CHOOSING, Attempt
from optrial.callbacks import Callback, Callbacks
from optrial.code import changed_code
from optrial.data import Dataset
from optrial.engine import (
    Choice,
    Engines,
    Learner,
    Resumption,
    Training,
    certificates,
    provenance,
    release_memory,
)
from optrial.errors import (
    USER_CODE_ERRORS,
    CheckpointError,
    EngineError,
    StoreError,
    counted,
    listed,
    one_line,
    reason_of,
)
from optrial.interruption import Stop
from optrial.memory import needs_memory, out_of_memory
from optrial.models import kept_process
from optrial.pace import Pace
from optrial.plan import Plan, arrange, estimate, make_plan, pack
from optrial.records import PlannedRun, Progress, Record, Segment, Store, WeightFiles
from optrial.spec import ENDED, FINAL, RunFacts, RunSpec, StackId, Status
from optrial.watching import TimedOut, Watch

__all__ = ["sweep"]

_CHANGED = (
    "holds or reads something that its use changes, such as a counter or a list: its runs may "
    "depend on those before them, and are other runs the next time; create that inside the function"
)


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
        store: where they are recorded; locked meanwhile.
        stop: ends the sweep when it is set; `at_once` is false while runs train.
        device: "auto", "cpu" or "cuda".
        checkpoint_seconds: seconds of training that a crash loses at most. Commits are rarer where
            they would take over 3 % of the time, and in long trainings, which lose up to 0.2 % of
            their time so far. 0 commits at every pause, `math.inf` at the end alone.
        callback: called as training goes on; see `optrial.Callback`.
        weights: where trained weights go, if the plan's runs are to save any.

    Raises:
        StoreBusyError: another process is training into `store`.
        EngineError: the engine or device cannot train this plan.
    """
    callback = callback or Callbacks()
    with store.lock(), ExitStack() as on_exit:
        engines = {
            dataset.sha256: Engines(dataset, plan.runs[0].precision, device)
            for dataset in datasets.values()
        }
        timeout = plan.studies.shared.timeout
        worker = _Worker(engines, store, callback, stop, checkpoint_seconds, weights, timeout)
        on_exit.callback(worker.forget_attempt)
        stop.when_asked = worker.forget_attempt
        on_exit.enter_context(worker.watch)
        plan = _continued(plan, datasets, store)
        while True:
            worker.train_plan(plan)
            trained, plan = plan, _continued(plan, datasets, store)
            if stop.is_set() or plan.runs == trained.runs:
                break
        for name in changed_code(plan.code):
            callback.on_message(f"'{name}' {_CHANGED}")


def _continued(plan: Plan, datasets: Mapping[str, Dataset], store: Store) -> Plan:
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


@dataclass(frozen=True)
class _Failure:
    """Why the training of a stack ended early.

    Attributes:
        reason: reason for the record of a run.
        memory_ran_out: whether memory ran out.
        timed_out: whether it took too long.
        hung: whether a single step did, perhaps because of one run.
    """

    reason: str
    memory_ran_out: bool = False
    timed_out: bool = False
    hung: bool = False


@dataclass
class _Worker:
    """Trains one stack after the other, committing as it goes."""

    engines: Mapping[str, Engines]  # by hash of the dataset
    store: Store
    callback: Callback
    stop: Stop
    checkpoint_seconds: float
    weights: WeightFiles | None  # where those that are to be saved go
    timeout: float | None  # seconds that a run may take
    planned: Container[str] = ()  # a stack may hold runs of an earlier plan too; they are not shown
    attempted: set[str] = field(default_factory=set)  # what failed is not tried again in this sweep
    ended: set[str] = field(default_factory=set)  # runs whose end was reported
    counted: int = 0  # steps of the current stack that were reported
    hook_error: BaseException | None = None  # raised by a hook; it stops the study
    resumption: Resumption = field(init=False)
    watch: Watch = field(init=False)
    current: tuple[StackId, Sequence[Record]] = field(init=False)  # what is being trained
    unresumable: set[str] = field(default_factory=set)  # notes about it, each given once
    died_in: Attempt | None = field(init=False)  # work that killed the last process
    noted: str = ""  # work under way that the store names
    upcoming: StackId | None = None  # the stack after the current one
    tried_twice: set[StackId] = field(default_factory=set)  # after what others left was released

    def __post_init__(self) -> None:
        self.died_in = Attempt.of_dead_process(self.store.attempt())
        self.watch = Watch(self.callback.on_message, self.timeout, self._give_up)
        self.resumption = Resumption(
            lambda specs: self.build("reference" if len(specs) == 1 else "stacked", specs)
        )

    def build(self, engine: str, specs: Sequence[RunSpec]) -> Learner:
        """Build what trains the runs of a stack."""
        return self.engines[specs[0].dataset_sha256].build(engine, specs)

    def train_plan(self, plan: Plan) -> None:
        """Make a plan the current one and train what is left of it, or until told to stop."""
        known = self.store.progress()
        with kept_process():
            planned = self._planned(plan, known)
        self.store.save_plan(plan.hash, plan.studies.as_dict(), planned)
        new = {
            run.run_id: Progress(run.run_id, run.stack, Status.PLANNED, 0)
            for run in planned
            if run.run_id not in known
        }
        known |= new
        runs = [known[run.run_id] for run in planned]
        steps = {run.run_id: run.steps for run in plan.runs}
        self.planned = steps.keys()
        self.ended |= {run.run_id for run in runs if run.status in FINAL}
        left = [r for r in runs if r.status not in FINAL and r.run_id not in self.attempted]
        exceeded = self._exceeded([run.run_id for run in left if run.status is Status.ERROR])
        left = [run for run in left if run.run_id not in exceeded]
        self.attempted |= {run.run_id for run in left}
        if plan.why and left:
            self.callback.on_message(plan.why)
        self.callback.on_plan(
            runs=len(runs),
            steps=sum(steps.values()),
            runs_left=len(left),
            steps_left=sum(steps[run.run_id] - run.step for run in left),
        )
        members: dict[StackId, list[str]] = {}
        for run in known.values() if left else ():
            members.setdefault(run.stack, []).append(run.run_id)
        self.stop.at_once = False
        order = list(dict.fromkeys(run.stack for run in left))
        for stack, self.upcoming in zip(order, [*order[1:], None], strict=False):
            if not self.stop.is_set():
                self.train(stack, self.store.runs_of(members[stack]))
        self.stop.at_once = True

    def train(self, stack: StackId, records: Sequence[Record]) -> None:
        """Train the runs of a stack to their end, or until told to stop.

        If a run fails or memory runs out, the stack is halved and both halves are trained from the
        start, until a failing run is alone and recorded as failed.
        """
        self.counted = 0
        if self._killed_before(stack, records):
            return
        self._begin(str(stack))
        failure = self._failure(stack, records)
        # The error, and with it the memory that its traceback holds, is gone here.
        if failure is None or self.stop.is_set():  # a signal may have ended processes it needs
            return
        release_memory()
        reason = failure.reason
        specs = [record.spec for record in records]
        if failure.memory_ran_out:
            reason = f"{self._needed('the run', specs[:1])} ({reason})"
        if failure.timed_out and (len(records) == 1 or not failure.hung):
            for record in records:
                self._fail(stack, record, reason, RunFacts(timeout=self.timeout))
        elif len(records) > 1:
            note = f"one of {len(records)} runs failed ({reason}); training them in halves"
            if failure.memory_ran_out:
                limit = self._engines(specs).memory_limit
                note = f"memory ran out with {len(records)} runs at a time; going on with fewer"
                note += f" ({limit})"
            self._halve(records, stack.engine if failure.memory_ran_out else "stacked", note)
        elif failure.memory_ran_out and stack not in self.tried_twice:
            self.tried_twice.add(stack)  # what earlier stacks left behind is released now
            (latest,) = self.store.runs_of([records[0].run_id])
            self.callback.on_step(min(0, latest.step - self.counted))
            self.train(stack, [latest])
        elif failure.memory_ran_out and stack.engine == "compiled" and specs[0].compile != "always":
            self._halve(records, "stacked", "memory ran out; going on without compiling")
        else:
            self._fail(stack, records[0], reason)

    def _failure(self, stack: StackId, records: Sequence[Record]) -> _Failure | None:
        """Train the runs of a stack; return why that failed, if it did."""
        failure: _Failure | None = None
        changes: Sequence[str] = ()
        try:
            with kept_process() as changes:
                self._train(stack, records, self.store.checkpoint(stack))
        except (StoreError, EngineError):
            raise
        except TimedOut as error:
            failure = _Failure(str(error), timed_out=True, hung=error.is_step)
        except USER_CODE_ERRORS as error:  # a failed run is a status; the others go on
            if error is self.hook_error:
                raise
            failure = _Failure(reason_of(error), memory_ran_out=out_of_memory(error))
        for change in changes:
            self.callback.on_message(f"{records[0].optimizer} {change}")
        return failure

    def _engines(self, specs: Sequence[RunSpec]) -> Engines:
        return self.engines[specs[0].dataset_sha256]

    def _bytes(self, specs: Sequence[RunSpec]) -> int:
        """Return the memory that some runs need as a stack; 0 if their model cannot be built."""
        with suppress(*USER_CODE_ERRORS):
            return estimate(specs, self._engines(specs).dataset, len(specs)).stack_bytes
        return 0

    def _needed(self, subject: str, specs: Sequence[RunSpec]) -> str:
        return needs_memory(subject, self._bytes(specs), self._engines(specs).memory_limit)

    def _begin(self, work: str) -> None:
        """Make the store remember the work under way until something of it is stored."""
        if self.noted != work:
            self.store.set_attempt(Attempt.begun(work, self.died_in).as_text())
            self.noted = work

    def forget_attempt(self) -> None:
        """Make the store forget the work under way, because this process does not die in it."""
        if self.noted or self.died_in:
            with suppress(StoreError):
                self.store.set_attempt("")
            self.noted = ""

    def _next_attempt(self, *, ended: bool) -> str | None:
        """Return what a commit makes the store remember: the next stack, nothing, or as before."""
        if ended and self.upcoming is not None and not self.stop.is_set():
            self.noted = str(self.upcoming)
            return Attempt.begun(self.noted, self.died_in).as_text()
        before, self.noted = self.noted, ""
        return "" if before else None

    def _killed_before(self, stack: StackId, records: Sequence[Record]) -> bool:
        """Halve or give up a stack that killed the last process; return whether that was done."""
        attempt = self.died_in
        if attempt is None or attempt.work != str(stack):
            return False
        count, specs = len(records), [record.spec for record in records]
        limit, needed = self._engines(specs).memory_limit, self._bytes(specs)
        died = f"the last process died while it trained {count} runs, and stored nothing of them"
        if count > 1 and attempt.suspected(needed, limit):
            self._halve(records, stack.engine, f"{died}; going on with fewer at a time ({limit})")
        elif attempt.repeated:
            died = f"{attempt.deaths} processes died while they trained this run"
            self._fail(stack, records[0], f"{died}; {self._needed('it', specs)}")
            self.died_in = None
        else:
            runs = "this run" if count == 1 else "these runs"
            self.callback.on_message(f"{died.replace('1 runs', 'one run')}; trying {runs} again")
            return False
        return True

    def _planned(self, plan: Plan, known: Mapping[str, Progress]) -> list[PlannedRun]:
        """Return the plan's runs with their stacks; runs that are not known get new stacks."""
        stack_of = {run_id: run.stack for run_id, run in known.items()}
        new = [run for run in plan.runs if run.run_id not in stack_of]
        if new:
            self.callback.on_prepare("trying a few steps to choose how to train")
            self._begin(CHOOSING)
        for _, group in itertools.groupby(new, lambda run: plan.problems[run.run_id]):
            specs = list(group)
            choices = self._choices(specs)
            for note in dict.fromkeys(note for choice in choices for note in choice.notes):
                self.callback.on_message(note)
            for choice in choices:
                for runs in choice.stacks:
                    stack = StackId.of(choice.engine, runs)
                    stack_of |= dict.fromkeys((run.run_id for run in runs), stack)
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

    def _choices(self, specs: Sequence[RunSpec]) -> Sequence[Choice]:
        """Return how to train new runs; one by one if choosing killed the last process."""
        engines, attempt = self._engines(specs), self.died_in
        died = attempt if attempt is not None and attempt.work == CHOOSING else None
        if died and died.suspected(self._bytes(specs[:1]), engines.memory_limit):
            return [engines.one_by_one(specs, "the last process died when steps were tried")]
        return engines.choose(specs)

    def _train(
        self, stack: StackId, records: Sequence[Record], checkpoint: Mapping[str, Any] | None
    ) -> None:
        pace = Pace(self.checkpoint_seconds)
        specs = arrange(record.spec for record in records)
        self._watch_stack(stack, records)
        ended = {record.run_id: record.status for record in records if record.status in FINAL}
        with self.watch.working():
            training = Training(specs, self.build(stack.engine, specs))
            if checkpoint is not None:
                training.resume(checkpoint, records[0].facts.threads)
                checkpoint = None
        # No name keeps the iterator: an error in this loop ends it, which restores the process.
        for _ in self.watch.pauses(
            training.run(self._count(training)), first=stack.engine != "compiled"
        ):
            exceeded = not training.ended and training.run_seconds > (self.timeout or math.inf)
            stopping = self.stop.is_set() or self.hook_error is not None
            pausing = training.ended or exceeded or stopping
            if pausing or pace.due(training.seconds):
                saved = self._save_weights(training, ended)
                try:
                    with pace.storing():
                        checkpoint = None if training.ended else training.checkpoint()
                    if checkpoint is not None:
                        self.resumption.check(training, checkpoint)
                except CheckpointError as error:  # no more is committed before its end
                    self._note_unresumable(specs[0], str(error))
                    pace.seconds = math.inf
                    if exceeded:
                        raise self._took_too_long(training) from error
                    continue
                segments = [
                    replace(segment, facts=segment.facts | saved.get(segment.run_id, RunFacts()))
                    for segment in map(_with_provenance, training.segments())
                ]
                segments = list(_of_unfinished(segments, ended))
                if training.ended:
                    segments = self._certified(training, segments)
                attempt = self._next_attempt(ended=training.ended)
                with pace.storing():
                    self.store.commit(segments, stack, checkpoint, attempt)
                checkpoint = None  # or else it would take memory until the next one
                self._tell(segments, specs[0].steps)
                if exceeded:
                    raise self._took_too_long(training)
        if self.hook_error is not None:
            raise self.hook_error

    def _save_weights(self, training: Training, ended: Container[str]) -> dict[str, RunFacts]:
        """Write the weights that completed runs save to the disk; return their hashes by run."""
        if self.weights is None:
            return {}
        trained = {spec.run_id: training.weights(run) for run, spec in enumerate(training.specs)}
        return {
            run_id: RunFacts(weights_sha256=self.weights.write(run_id, weights))
            for run_id, weights in trained.items()
            if weights and run_id not in ended
        }

    @contextmanager
    def _hooks(self) -> Iterator[Callback]:
        """Yield the callback; remember an error of its hooks, which is not one of the run."""
        try:
            yield self.callback
        except USER_CODE_ERRORS as error:
            self.hook_error = error
            raise

    def _note_unresumable(self, spec: RunSpec, reason: str) -> None:
        note = f"{spec.optimizer} cannot be resumed: {reason}; a run that is stopped begins again"
        if note not in self.unresumable:
            with self._hooks() as hooks:
                hooks.on_message(note)
        self.unresumable.add(note)

    def _certified(self, training: Training, segments: list[Segment]) -> list[Segment]:
        """Add the results of the checks that the training allows."""
        try:
            facts_by_run = certificates(training, lambda spec: self.build("reference", [spec]))
        except CheckpointError:  # which is noted already
            return segments
        except USER_CODE_ERRORS as error:  # a check must not cost the runs
            with self._hooks() as hooks:
                hooks.on_message(f"the training could not be checked: {one_line(error)}")
            return segments
        return [
            replace(segment, facts=segment.facts | facts_by_run.get(segment.run_id, RunFacts()))
            for segment in segments
        ]

    def _halve(self, failed: Sequence[Record], engine: str, note: str) -> None:
        """Train the unfinished runs of a failed stack as two stacks, or one run with an engine.

        They start from the first step: the numbers of a run are those of the stack it is stored
        with, whenever the error occurred. They are compiled only after running out of memory;
        otherwise compiling every half would take longer than it saves.
        """
        run_ids = [record.run_id for record in failed]
        self.callback.on_message(note)
        stacks = self._restack(run_ids, engine)
        self.callback.on_step(-self.counted * sum(map(len, stacks.values())))
        for part, members in stacks.items():
            if not self.stop.is_set():
                self.train(part, members)

    def _restack(self, run_ids: Sequence[str], engine: str) -> dict[StackId, list[Record]]:
        """Store the unfinished runs of a stack as runs of its halves, which start again."""
        records = {r.run_id: r for r in self.store.runs_of(run_ids) if r.status not in FINAL}
        specs = [record.spec for record in records.values()]
        halves = pack(specs, (len(specs) + 1) // 2)
        stacks = {StackId.of(engine, half): [spec.run_id for spec in half] for half in halves}
        self.store.restack(stacks)
        return {
            stack: [replace(records[run_id], stack=stack) for run_id in members]
            for stack, members in stacks.items()
        }

    def _watch_stack(self, stack: StackId, records: Sequence[Record]) -> None:
        self.current = stack, records
        names = listed([f"{r.optimizer} {r.setting} seed={r.seed}" for r in records])
        steps = records[0].steps
        self.watch.begin(names, lambda: f"after step {self.counted:,} of {steps:,}")

    def _took_too_long(self, training: Training) -> TimedOut:
        steps = training.specs[0].steps
        place = f"at step {training.step:,} of {steps:,}"
        return TimedOut(f"took longer than timeout {self.timeout:g} s, {place}", is_step=False)

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

    def _give_up(self, reason: str) -> None:
        """Store that a step hangs and cannot be interrupted, from another thread.

        The runs of a stack are stored as those of its halves, which the next sweep trains.
        """
        stack, records = self.current
        if len(records) > 1:
            self._restack([record.run_id for record in records], "stacked")
            self.forget_attempt()
        else:
            self._fail(stack, records[0], reason, RunFacts(timeout=self.timeout))
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
        self.store.commit([failed], stack, self.store.checkpoint(stack), attempt="")
        self.noted = ""
        self._tell([failed], record.steps)

    def _count(self, training: Training) -> Callable[[int], bool]:
        """Return a function that reports steps and returns whether to go on.

        An error of the hook is raised once the training has paused and is committed.
        """
        self.counted = training.step

        def keep_going(step: int) -> bool:
            self.watch.rest()
            runs = sum(status not in FINAL for status in training.status)
            with suppress(*USER_CODE_ERRORS), self._hooks() as hooks:
                hooks.on_step((step - self.counted) * runs)
            self.counted = step
            return not self.stop.is_set() and self.hook_error is None

        return keep_going

    def _tell(self, segments: Sequence[Segment], steps: int) -> None:
        for segment in segments:
            ended = segment.status is not Status.INTERRUPTED and segment.run_id not in self.ended
            if ended and segment.run_id in self.planned:
                self.ended.add(segment.run_id)
                with self._hooks() as hooks:
                    hooks.on_run_end(segment.run_id, segment.status, steps - segment.step)


def _of_unfinished(segments: Iterable[Segment], ended: Mapping[str, Status]) -> Iterator[Segment]:
    """Yield the segments to commit of a stack in which some runs had ended before.

    Where a repair makes a stack start again, runs that were done stay as they are. Facts of
    diverged runs are those of the whole stack, and change until it ends; their curves do not.
    """
    for segment in segments:
        before = ended.get(segment.run_id)
        if before is None:
            yield segment
        elif before is segment.status is Status.DIVERGED:
            yield replace(segment, curves={})


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
