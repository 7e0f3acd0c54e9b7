"""Trains stacks in the process that calls it, without store and hooks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Self

from optrial.descriptors import open_descriptors
from optrial.engine import (
    Engines,
    Learner,
    Resumption,
    Training,
    certificates,
    provenance,
)
from optrial.errors import (
    USER_CODE_ERRORS,
    CheckpointError,
    EngineError,
    one_line,
    reason_of,
)
from optrial.executors.task import StackTask
from optrial.executors.updates import Arrays, Commit, Ended, Failure, Hung, Note, Stepped, Update
from optrial.memory import out_of_memory
from optrial.models import kept_process
from optrial.pace import Pace
from optrial.records import Segment
from optrial.spec import RunFacts, RunSpec, Status
from optrial.user_output import collected
from optrial.watching import TimedOut, Watch

__all__ = ["Trainer"]

_MISCOMPILED = (
    "PyTorch's compiler gives other numbers than PyTorch itself, so these runs are trained "
    "uncompiled"
)

_STATE_OF_GPU = re.compile(r" GPU \d+ has a total capacity .*")
"""Numbers in PyTorch's message that memory ran out; they differ from run to run."""


class Trainer:
    """Trains one stack after the other. Enter it in the thread that trains.

    Args:
        engines: builders of learners, by hash of the dataset.
        timeout: seconds that a run may take; None for no limit.
        tell: takes updates while a step is under way, from another thread: `Note` and `Hung`.
    """

    def __init__(
        self,
        engines: Mapping[str, Engines],
        timeout: float | None,
        tell: Callable[[Update], object],
    ) -> None:
        self._engines = engines
        self._tell = tell
        self._on_exit = ExitStack()
        self._watch = Watch(
            lambda text: tell(Note(text)), timeout, lambda reason: tell(Hung(reason))
        )
        self._resumption = Resumption(
            lambda specs: self._build("reference" if len(specs) == 1 else "stacked", specs)
        )
        self._paused_at = 0  # the step of the last pause

    def __enter__(self) -> Self:
        self._output = self._on_exit.enter_context(collected(self._print))
        self._on_exit.enter_context(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._on_exit.close()

    def _print(self, text: str) -> None:
        self._tell(Note(text, of_user_code=True))

    def _build(self, engine: str, specs: Sequence[RunSpec]) -> Learner:
        return self._engines[specs[0].dataset_sha256].build(engine, specs)

    def train(
        self, task: StackTask, checkpoint: Arrays | None, stopping: Callable[[], bool]
    ) -> Generator[Update]:
        """Train a stack to its end, or until stopped.

        The numbers do not depend on when the caller asks for the next update.

        Args:
            task: the stack.
            checkpoint: checkpoint that the training continues from.
            stopping: asked at each pause; if it returns True, the training ends, with a commit.

        Raises:
            EngineError: the engine or device cannot train this stack.
        """
        failure: Failure | None = None
        changes: Sequence[str] = ()
        training = self._train(task, checkpoint, stopping)
        del checkpoint  # or else it would take memory until the end
        try:
            with kept_process() as changes:
                yield from training
        except EngineError:
            raise
        except TimedOut as error:
            failure = Failure(str(error), timed_out=True, hung=error.is_step)
        except USER_CODE_ERRORS as error:  # a failed run is a status; the others go on
            failure = Failure(
                _STATE_OF_GPU.sub("", reason_of(error)), memory_ran_out=out_of_memory(error)
            )
        del training
        self._output.flush()
        for change in changes:
            yield Note(f"{task.specs[0].optimizer} {change}")
        # The error, and with it the memory that its traceback holds, is gone here.
        yield Ended(failure)

    def _train(
        self, task: StackTask, checkpoint: Arrays | None, stopping: Callable[[], bool]
    ) -> Iterator[Update]:
        pace = Pace(task.checkpoint_seconds)
        self._watch_stack(task)
        with self._watch.working():
            self._engines[task.specs[0].dataset_sha256].make_room(task.specs)
            learner = self._build(task.stack.engine, task.specs)
            learner.threads = task.threads or learner.threads
            training = Training(task.specs, learner)
            compiled = learner.facts.compiled
            if checkpoint is not None:
                training.resume(checkpoint)
                checkpoint = None
        self._paused_at = training.step
        # No name keeps the iterator: an error in this loop ends it, which restores the process.
        for _ in self._watch.pauses(training.run(), first=not task.stack.is_compiled):
            open_descriptors()  # before this process opens files
            runs = training.in_training
            steps = training.step - self._paused_at
            self._paused_at = training.step
            yield Stepped(training.step, runs * steps)
            if compiled and not learner.facts.compiled:
                compiled = False
                yield Note(f"{task.names}: {_MISCOMPILED}")
            exceeded = not training.ended and training.run_seconds > (task.timeout or math.inf)
            stops = stopping()
            if training.ended or exceeded or stops or pace.due(training.seconds):
                try:
                    with pace.storing():
                        state = None if training.ended else training.checkpoint(shared=True)
                    if state is not None:
                        self._resumption.check(training, state)
                except CheckpointError as error:  # no more is committed before its end
                    yield Note(
                        f"{task.specs[0].optimizer} cannot be resumed: {error}; a stopped run "
                        "starts over"
                    )
                    pace.seconds = math.inf
                else:
                    weights = _weights(training, task)  # before checks, which change them
                    segments, note = self._segments(training, task.ended)
                    if note:
                        yield Note(note)
                    with pace.storing():
                        yield Commit(segments, state, weights)
                    del segments, state, weights  # they would take memory until the next ones
                if exceeded:
                    raise self._took_too_long(training, task)
            if stops:
                return

    def _watch_stack(self, task: StackTask) -> None:
        steps = task.specs[0].steps
        self._paused_at = 0
        if self._output.tell != self._print:  # the driver adds them otherwise
            self._output.runs = task.names
        self._watch.begin(task.names, lambda: f"after step {self._paused_at:,} of {steps:,}")

    @staticmethod
    def _took_too_long(training: Training, task: StackTask) -> TimedOut:
        place = f"at step {training.step:,} of {training.specs[0].steps:,}"
        return TimedOut(f"took longer than timeout {task.timeout:g} s, {place}", is_step=False)

    def _segments(
        self, training: Training, ended: Mapping[str, Status]
    ) -> tuple[list[Segment], str]:
        """Return what to commit of each run, with checks at the end, and a note if one failed."""
        new = training.segments()
        segments = list(_of_unfinished(map(_with_provenance, new), ended))
        if not training.ended:
            return segments, ""
        try:
            facts = certificates(training, lambda spec: self._build("reference", [spec]))
        except CheckpointError:  # which is noted already
            return segments, ""
        except USER_CODE_ERRORS as error:  # a check must not cost the runs
            return segments, f"the training could not be checked: {one_line(error)}"
        return [
            replace(segment, facts=segment.facts | facts.get(segment.run_id, RunFacts()))
            for segment in segments
        ], ""


def _weights(training: Training, task: StackTask) -> dict[str, Arrays]:
    """Return the weights that completed runs save, by run id."""
    if not task.saves_weights:
        return {}
    trained = {spec.run_id: training.weights(run) for run, spec in enumerate(training.specs)}
    return {
        run_id: weights
        for run_id, weights in trained.items()
        if weights and run_id not in task.ended
    }


def _with_provenance(segment: Segment) -> Segment:
    return replace(segment, facts=provenance() | segment.facts)


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
