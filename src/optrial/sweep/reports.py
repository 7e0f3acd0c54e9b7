"""Reports to the hooks of a study: messages, steps and ends of runs, each counted once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from optrial.callbacks import Callback
from optrial.errors import USER_CODE_ERRORS
from optrial.records import Progress, Record, Segment
from optrial.spec import FINAL, Status

__all__ = ["Reports"]


class Reports:
    """Calls the hooks of a study, also for what other processes train.

    The first error of a hook is kept and raised once every training has ended, not before.

    Args:
        callback: the hooks.

    Attributes:
        error: the error of a hook, which stops the study.
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.error: BaseException | None = None
        self._steps: Mapping[str, int] = {}  # planned steps of each run
        self._reported: dict[str, int] = {}  # steps of runs that this or another process trains
        self._ended: set[str] = set()
        self._notes: set[str] = set()

    def begin(
        self, steps: Mapping[str, int], runs: Sequence[Progress], left: Sequence[Progress]
    ) -> None:
        """Report a plan.

        Args:
            steps: planned steps of each run; a stack may hold runs of an earlier plan too.
            runs: the runs of the plan.
            left: those that are left to train.
        """
        self._steps = steps
        self._ended |= {run.run_id for run in runs if run.status in FINAL}
        self._reported = {run.run_id: run.step for run in left}
        self.callback.on_plan(
            runs=len(runs),
            steps=sum(steps.values()),
            runs_left=len(left),
            steps_left=sum(steps[run.run_id] - run.step for run in left),
        )

    @property
    def left(self) -> Collection[str]:
        """Ids of the runs whose end was not reported."""
        return self._reported.keys()

    def message(self, text: str) -> None:
        """Report a message."""
        self._call(self.callback.on_message, text)

    def note(self, text: str) -> None:
        """Report a message, unless it was reported before."""
        if text not in self._notes:
            self._notes.add(text)
            self.message(text)

    def steps(self, count: int) -> None:
        """Report steps, summed over runs; a negative number takes steps back."""
        self._call(self.callback.on_step, count)

    def set_steps(self, records: Sequence[Record], step: int) -> None:
        """Note the steps that were reported of runs that this process no longer trains."""
        self._reported |= {r.run_id: step for r in records if r.run_id in self._reported}

    def restarted(self, steps: Mapping[str, int]) -> None:
        """Report that runs start again, also runs that had diverged.

        Args:
            steps: steps that were reported of them.
        """
        self.steps(-sum(steps.values()))
        self._reported |= {run_id: 0 for run_id in steps if run_id in self._steps}

    def taken_over(self, records: Sequence[Record]) -> None:
        """Report the steps that another process has trained, before this one goes on."""
        for record in records:
            self._catch_up(record.run_id, record.step)

    def followed(self, run: Progress, *, is_open: bool) -> None:
        """Report the progress of a run that another process trains.

        Args:
            run: the run.
            is_open: whether it is still to be trained.
        """
        self._catch_up(run.run_id, run.step)
        if not is_open:
            self._end(run.run_id, run.status, run.step)

    def _catch_up(self, run_id: str, step: int) -> None:
        if count := step - self._reported.get(run_id, step):
            self._reported[run_id] = step
            self.steps(count)

    def stored(self, segments: Sequence[Segment]) -> None:
        """Report what was stored: the latest values of runs, and the runs that have ended."""
        planned = [segment for segment in segments if segment.run_id in self._steps]
        for segment in planned:
            curves = segment.curves.items()
            if latest := {name: float(curve.values[-1]) for name, curve in curves if len(curve)}:
                self._call(self.callback.on_values, segment.run_id, segment.step, latest)
        for segment in planned:
            if segment.status is not Status.INTERRUPTED:
                self._end(segment.run_id, segment.status, segment.step)

    def _end(self, run_id: str, status: Status, step: int) -> None:
        self._reported.pop(run_id, None)
        if run_id not in self._ended:
            self._ended.add(run_id)
            self._call(self.callback.on_run_end, run_id, status, self._steps[run_id] - step)

    def _call(self, hook: Callable[..., object], *arguments: object) -> None:
        if self.error is None:
            try:
                hook(*arguments)
            except USER_CODE_ERRORS as error:
                self.error = error
