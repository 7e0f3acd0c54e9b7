"""The course of a training, the same for every engine: one run, or a stack of runs side by side.

An engine supplies a `Learner`, which takes steps and evaluates. `Training` adds the recording, the
cadence of evaluation, divergence, interruption and checkpoints.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from optrial.engine.best_weights import BestWeights
from optrial.engine.curves import Curves, EpochSums
from optrial.engine.evaluation import Evaluation
from optrial.engine.evaluation_checks import Untouched, change_when_repeated
from optrial.engine.learner import Arrays, Floats, Learner, Steps
from optrial.engine.process import FreedMemory, machine_load, process_for
from optrial.engine.validation import EarlyStops, Plateaus
from optrial.errors import Problem, StudyError, listed
from optrial.models import Snapshot
from optrial.records import Segment
from optrial.spec import FINAL, MetricName, RunFacts, RunSpec, Seconds, Status, metric_label

__all__ = ["FIRST_STEPS", "Training"]

FIRST_STEPS = 2
"""Steps whose losses are kept for certificates; the second one shows the first update."""

_STOP_SECONDS = 0.1
"""Training time between two pauses, unless a single step takes longer."""


def _always(step: int) -> bool:
    del step
    return True


class Training:
    """Runs trained side by side, with one budget and one cadence.

    Iterate over `run`. At each pause, `segments` returns the new part of each record, and
    `checkpoint` the state from which another `Training` can `resume`.

    Attributes:
        specs: the runs.
        learner: learner of the runs.
        step: training steps taken.
        status: status of each run, INTERRUPTED until it is DONE or DIVERGED.
        first_losses: losses of the first steps, (steps, runs) with up to `FIRST_STEPS` steps.
    """

    def __init__(self, specs: Sequence[RunSpec], learner: Learner) -> None:
        count = len(specs)
        self.specs = tuple(specs)
        self.learner = learner
        self.step = 0
        self.status = [Status.INTERRUPTED] * count
        self.first_losses = np.empty((0, count))
        self._reasons = [""] * count  # why runs diverged
        self._last_steps = np.full(count, -1)  # of runs that diverged or stopped early
        self._reported = np.zeros(count, bool)  # whether a run's last segment was returned
        self._labels = [metric_label(name) for name in specs[0].metrics]
        self._curves = Curves()
        bytes_per_token = (learner.facts.bytes_per_token or {}).get("train")
        self._epoch = EpochSums(specs[0], count, bytes_per_token)
        self._best = BestWeights(count)
        self._plateaus = Plateaus(specs)
        self._stops = EarlyStops(specs)
        self._seconds = np.zeros(2)  # of training and of evaluation
        self._step_seconds = np.inf  # of the last steps
        self._warm_up = np.zeros(2)  # seconds and steps of the first chunk of each process
        self._is_warm = False
        self._load = 0.0
        self._checks = RunFacts()
        self._evaluation_changes: Floats | None = None
        # Reasons for metrics without a finite value, in the last epoch and the last evaluation.
        self._epoch_reasons: list[dict[str, str]] = [{} for _ in specs]
        self._evaluation_reasons: list[dict[str, str]] = [{} for _ in specs]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without evaluation."""
        return float(self._seconds[0])

    @property
    def run_seconds(self) -> float:
        """Seconds of training and evaluation per run so far, without those of compiling."""
        compiling = self._warm_up[0] if self.learner.facts.compiled else 0.0
        return float(self._seconds.sum() - compiling) / len(self.specs)

    @property
    def evaluation_is_cheap(self) -> bool:
        """True if evaluating one run on one split twice takes less than 1 % of the training."""
        one_run = self._seconds[1] / len(self.specs)
        splits = self.step // self.specs[0].evaluate_every * len(self.specs[0].evaluate_on)
        return splits > 0 and 200 * one_run / splits < self.seconds

    @property
    def in_training(self) -> int:
        """Number of runs that have neither diverged nor stopped early."""
        return int((self._last_steps < 0).sum())

    @property
    def ended(self) -> bool:
        """True if every run has ended."""
        return Status.INTERRUPTED not in self.status

    def run(self, keep_going: Callable[[int], bool] = _always) -> Iterator[None]:
        """Train; pause about every tenth of a second, after each longer step, and at the end.

        At each pause the training is ready for a checkpoint. Whether one is made does not affect
        the numbers.

        Args:
            keep_going: called before each pause with the number of steps taken. If it returns
                False, the training stops after the pause, INTERRUPTED.
        """
        freed = FreedMemory()
        with process_for(self.learner):
            before = Snapshot()
            for _ in self._run(keep_going):
                freed.limit()
                # A resumed training would lack the change, and other runs would have it.
                if changes := before.changes():
                    optimizers = listed(list(dict.fromkeys(run.optimizer for run in self.specs)))
                    raise StudyError([Problem("", f"{optimizers} {changes[0]}")])
                yield

    def _run(self, keep_going: Callable[[int], bool]) -> Iterator[None]:
        total, every = self.specs[0].steps, self.specs[0].evaluate_every
        self.learner.start(self.step + 1)
        if self.specs[0].evaluate_start and not self.step and not self._checks.evaluation:
            self._evaluate()
        while not self.ended and self.step < total and not self._out_of_time:
            until = min(total, (self.step // every + 1) * every)
            self._train(min(until - self.step, self._steps_at_once()))
            if (self.step == until or self._out_of_time) and not self.ended:
                self._evaluate()
            going = keep_going(self.step)
            if self.step < total and not self.ended and not self._out_of_time:
                yield
                if not going:
                    return
        self.status = [Status.DONE if s is Status.INTERRUPTED else s for s in self.status]
        yield

    def _steps_at_once(self) -> int:
        """Return the number of steps until the next pause.

        It does not affect the numbers: a learner takes the same steps however they are divided.
        """
        seconds = _STOP_SECONDS
        if (budget := self.specs[0].budget_seconds) is not None:
            seconds = min(seconds, budget - self.seconds)
        return max(1, int(min(self.learner.chunk, seconds / self._step_seconds)))

    @property
    def _out_of_time(self) -> bool:
        """True if a budget in seconds is spent."""
        budget = self.specs[0].budget_seconds
        return budget is not None and self.seconds >= budget

    def _train(self, steps: int) -> None:
        """Take steps and record them; find the runs whose loss is no longer finite."""
        started = time.perf_counter()
        measured = self.learner.advance(steps)
        elapsed = time.perf_counter() - started  # includes all work: the losses are on the host
        losses = measured.losses
        if not self._is_warm:
            self._warm_up += elapsed, len(losses)
            self._is_warm = True
        self._seconds[0] += elapsed
        self._step_seconds = max(elapsed / len(losses), 1e-9)
        if self.specs[0].budget_seconds is not None:
            self._load = max(self._load, machine_load() or 0.0)
        missing = FIRST_STEPS - len(self.first_losses)
        self.first_losses = np.vstack([self.first_losses, losses[:missing]])
        numbers = self.step + 1 + np.arange(len(losses))
        alive = self._end_diverged(numbers, losses)
        self._curves.add(MetricName("loss", "train"), numbers, losses)
        if self.specs[0].batch_metrics:
            self._record_batch_metrics(numbers, measured)
        probes = {n: np.where(alive, v, np.nan) for n, v in measured.probes.items()}
        self._record_probes(numbers, probes)
        self._record_epochs(measured, probes)
        self.step = int(numbers[-1])

    def _end_diverged(self, numbers: NDArray[np.int64], losses: Floats) -> NDArray[np.bool_]:
        """Set losses to NaN from the step of divergence on; return where they are valid."""
        limit = self.specs[0].loss_limit or np.inf
        losses[:, self._last_steps >= 0] = np.nan
        with np.errstate(invalid="ignore"):
            alive = np.isfinite(losses) & (losses <= limit)
        for run in np.flatnonzero(~alive.all(axis=0)).tolist():
            at = int(alive[:, run].argmin())
            above = f", above loss_limit {limit:g}" if np.isfinite(losses[at, run]) else ""
            reason = f"train_loss is {losses[at, run]:.6g} at step {{}}{above}"
            self._diverge(run, int(numbers[at]), reason)
            losses[at:, run] = np.nan
        return alive

    def _record_batch_metrics(self, numbers: NDArray[np.int64], measured: Steps) -> None:
        """Record the mean of each metric over each batch whose loss is finite."""
        means = np.moveaxis(measured.metrics / measured.weights[:, :, None], 2, 0)
        alive = np.isfinite(measured.losses)
        metrics = self._epoch.finished(list(means))
        for label, values in zip(self._epoch.labels, metrics, strict=True):
            self._curves.add(MetricName(label, "train"), numbers, values, alive)

    def _record_probes(self, numbers: NDArray[np.int64], probes: Mapping[str, Floats]) -> None:
        """Record the probes of single steps."""
        for name, values in probes.items():
            rows = np.isfinite(values).any(axis=1)
            if name not in self._epoch.probes:
                self._curves.add(MetricName(name), numbers[rows], values[rows])

    def _record_epochs(self, measured: Steps, probes: Mapping[str, Floats]) -> None:
        """Record the means of the epochs that the steps complete."""
        for epoch in self._epoch.add(self.step + 1, measured, probes):
            for name, total in epoch.probes.items():
                self._curves.add(MetricName(name), epoch.step, total)
            self._curves.add(MetricName("loss", "train", epoch_mean=True), epoch.step, epoch.loss)
            alive = np.isfinite(epoch.loss)
            for run in self._active():
                self._epoch_reasons[run] = {}
            for label, values in epoch.metrics.items():
                metric = MetricName(label, "train", epoch_mean=True)
                self._curves.add(metric, epoch.step, values, alive)
                for run in np.flatnonzero(alive & ~np.isfinite(values)).tolist():
                    self._epoch_reasons[run][str(metric)] = f"it is {values[run]}"

    def _evaluate(self) -> None:
        """Evaluate on every split of the study; find the runs whose loss is not finite."""
        started = time.perf_counter()
        # Hashes cost time: only the first evaluation is checked.
        before = None if self._checks.evaluation else Untouched.of(self.learner)
        splits = self.specs[0].evaluate_on
        evaluations = {split: self.learner.evaluate(split, self.step) for split in splits}
        raw: dict[str, Evaluation] = {}
        if self.specs[0].average is not None:
            raw = {split: self.learner.evaluate(split, self.step, raw=True) for split in splits}
        if before:
            self._checks = before.facts(self.learner)
            self._evaluation_changes = change_when_repeated(
                self.learner, self.specs[0], evaluations
            )
        self._seconds[1] += time.perf_counter() - started
        for run in self._active():
            self._evaluation_reasons[run] = {}
        for split, evaluation in evaluations.items():
            self._record_evaluation(split, evaluation)
        for split, evaluation in raw.items():
            self._record_evaluation(split, evaluation, raw=True)
        if self.specs[0].save == "best":
            self._keep_best(evaluations["validation"])
        if self.step and "validation" in evaluations:
            self._judge(evaluations["validation"])

    def _active(self) -> list[int]:
        """Return the runs that are still trained."""
        return [run for run, status in enumerate(self.status) if status is Status.INTERRUPTED]

    def _judge(self, validation: Evaluation) -> None:
        """Adapt learning rates to validation results, and end runs that no longer improve."""
        for run in self._active():
            value = partial(self._validation_value, validation, run)
            self._plateaus.update(run, value)
            if scales := self._plateaus.scales(run):
                self.learner.scale_rates(run, scales)
            if self.step < self.specs[run].steps and self._stops.ends(run, value):
                self.status[run], self._last_steps[run] = Status.DONE, self.step
                self.learner.stop(run)

    def _validation_value(self, validation: Evaluation, run: int, metric: str) -> float:
        name = MetricName.parse(metric)
        if name.is_loss:
            return float(validation.losses[run])
        return float(validation.metrics[run, self._labels.index(name.label)])

    def _record_evaluation(self, split: str, evaluation: Evaluation, *, raw: bool = False) -> None:
        """Record loss and metrics of the runs whose loss on a split is finite."""
        for run in np.flatnonzero(~np.isfinite(evaluation.losses)).tolist():
            self._diverge(
                run, self.step, f"{split}_loss is {evaluation.losses[run]} after step {{}}"
            )
        alive = np.isin(np.arange(len(self.specs)), self._active())
        loss, *names = [
            MetricName.evaluation(label, split, raw=raw) for label in ("loss", *self._labels)
        ]
        self._curves.add(loss, self.step, evaluation.losses, alive)
        for name, column in zip(names, evaluation.metrics.T, strict=True):
            self._curves.add(name, self.step, column, alive)
        for (run, place), reason in evaluation.reasons.items():
            if alive[run]:
                self._evaluation_reasons[run][str(names[place])] = reason

    def _keep_best(self, validation: Evaluation) -> None:
        """Keep the weights of the runs whose selecting metric is the best so far."""
        selection = self.specs[0].select
        assert selection is not None  # `plan.check_study` refuses to save the best of nothing
        for run in self._active():
            score = selection.score(self._validation_value(validation, run, selection.metric))
            if score is not None:
                self._best.offer(run, self.step, score, self.learner.weights)

    def _diverge(self, run: int, step: int, reason: str) -> None:
        if self.status[run] is Status.INTERRUPTED:
            self.status[run] = Status.DIVERGED
            self._last_steps[run] = step
            self._reasons[run] = reason.format(step)

    def weights(self, run: int) -> dict[str, NDArray[Any]] | None:
        """Return the weights of a run to save; None if it saves none or is not done."""
        if self.specs[0].save is None or self.status[run] is not Status.DONE:
            return None
        return self._best.weights[run] or self.learner.weights(run)

    def segments(self) -> list[Segment]:
        """Return the new part of each run's record since the last call.

        Diverged runs are included until all runs have ended, so that the facts they share with the
        stack do not depend on when this is called.
        """
        run_facts = self.learner.run_facts
        training, evaluation = self._seconds.tolist()
        shared = self._checks | self.learner.facts
        shared |= RunFacts(
            seconds=Seconds(training, evaluation),
            warm_up_seconds=self._warm_up_seconds(),
            stack_width=len(self.specs),
            load=self._load or None,
            threads=self.learner.threads or torch.get_num_threads(),
        )
        segments = []
        for run in np.flatnonzero(~self._reported).tolist():
            last = int(self._last_steps[run])
            stops = self._stops.stopped[run] and not self.ended  # it is done when its stack is
            segment = Segment(
                run_id=self.specs[run].run_id,
                step=last if last >= 0 else self.step,
                curves=self._curves.of(run),
                status=Status.INTERRUPTED if stops else self.status[run],
                reason=self._reason(run),
                facts=shared | run_facts[run] | self._facts(run),
            )
            self._reported[run] = self.ended
            segments.append(segment)
        self._curves.clear()
        return segments

    def _facts(self, run: int) -> RunFacts:
        """Return the facts about a run that depend on its course so far."""
        changes, ended = self._evaluation_changes, self.status[run] in FINAL
        saves = self.specs[run].save is not None
        return RunFacts(
            evaluation_difference=None if changes is None else float(changes[run]),
            not_finite=self._not_finite(run) or None,
            parameters_sha256=self.learner.parameters_sha256(run) if ended else None,
            saved_step=self._saved_step(run) if saves else None,
            stopped_early=int(self._last_steps[run]) if self._stops.stopped[run] else None,
        )

    def _saved_step(self, run: int) -> int:
        """Return the step of the weights that are kept: the best ones so far, or the last ones."""
        if self._best.weights[run]:
            return int(self._best.steps[run])
        return int(self._last_steps[run]) if self._stops.stopped[run] else self.step

    def _reason(self, run: int) -> str:
        """Return why a run diverged, or why metrics of a finished run have no value."""
        if self.status[run] is not Status.DONE:
            return self._reasons[run]
        return "; ".join(f"{metric}: {why}" for metric, why in self._not_finite(run).items())

    def _not_finite(self, run: int) -> dict[str, str]:
        """Return why the last values of metrics are not finite, by metric."""
        return self._epoch_reasons[run] | self._evaluation_reasons[run]

    def _warm_up_seconds(self) -> float | None:
        """Return the extra time of the first steps, compared with as many later ones.

        None until there are later steps.
        """
        seconds, steps = self._warm_up
        later = self.step - steps
        return (
            max(0.0, float(seconds - steps * (self.seconds - seconds) / later)) if later else None
        )

    def checkpoint(self, *, shared: bool = False) -> dict[str, NDArray[Any]]:
        """Return the arrays that `resume` needs.

        Args:
            shared: whether they may share memory with the training, until its next step.
        """
        return self.learner.state(shared=shared) | {
            "training.step": np.array(self.step),
            "training.epoch": self._epoch.sums.copy(),
            "training.seconds": self._seconds.copy(),
            "training.warm_up": self._warm_up.copy(),
            "training.load": np.array(self._load),
            "training.first_losses": self.first_losses,
            "training.last_steps": self._last_steps.copy(),
            "training.reasons": np.array(self._reasons, dtype=str),
            "training.not_finite": np.array(
                list(
                    map(json.dumps, zip(self._epoch_reasons, self._evaluation_reasons, strict=True))
                )
            ),
            **self._best.state(),
            **self._plateaus.state(),
            **self._stops.state(),
        }

    def resume(self, checkpoint: Arrays) -> None:
        """Restore the result of `checkpoint`, perhaps in another process.

        The learner must have the threads of the training so far, because sums are split among them.
        """
        self.step = int(checkpoint["training.step"])
        self._epoch.sums = checkpoint["training.epoch"].copy()
        self._seconds = checkpoint["training.seconds"].copy()
        self._warm_up = checkpoint["training.warm_up"].copy()
        self._load = float(checkpoint.get("training.load", 0.0))
        self.first_losses = checkpoint["training.first_losses"].copy()
        self._last_steps = checkpoint["training.last_steps"].copy()
        self._reasons = checkpoint["training.reasons"].tolist()
        if "training.not_finite" in checkpoint:  # stores before version 4 lack it
            not_finite = map(json.loads, checkpoint["training.not_finite"].tolist())
            self._epoch_reasons, self._evaluation_reasons = map(list, zip(*not_finite, strict=True))
        self._best.load(checkpoint)
        self._plateaus.load(checkpoint)
        self._stops.load(checkpoint)
        for run in np.flatnonzero(self._last_steps >= 0).tolist():
            self.status[run] = Status.DONE if self._stops.stopped[run] else Status.DIVERGED
        # A learner ignores the arrays of the training.
        self.learner.load(checkpoint, self.step)
        for run in range(len(self.specs)):
            if scales := self._plateaus.scales(run):
                self.learner.scale_rates(run, scales)
