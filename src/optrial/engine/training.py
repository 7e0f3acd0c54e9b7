"""The course of a training, the same for every engine: one run, or a stack of runs side by side.

An engine supplies a `Learner`: it takes steps and evaluates. Here is what surrounds that: metrics,
the cadence of evaluation, divergence, interruption and checkpoints.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from optrial.data import BatchOrder
from optrial.engine.evaluation import Evaluation
from optrial.engine.hashing import arrays_sha256
from optrial.engine.process import process_for
from optrial.models import needs_whole_split, seeded_draws
from optrial.records import Curve, Segment
from optrial.spec import (
    FINAL,
    PROBES,
    EvaluationCheck,
    RunFacts,
    RunSpec,
    Seconds,
    Status,
    TrainingCheck,
    label_of,
    metric_label,
)

__all__ = ["FIRST_STEPS", "Learner", "Steps", "Training", "always", "batch_order"]

Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]


_ANOTHER_STEP = 0
"""Step after which nothing is evaluated, so that its draws are different ones."""
_HUGE = float(np.finfo(np.float64).max)  # infinity is no JSON

FIRST_STEPS = 2
"""Whose losses are kept beside the curves: the second one shows the first update."""

_STOP_SECONDS = 0.1
"""Training time between two checks whether to stop, unless a single step takes longer."""


class Steps(NamedTuple):
    """What a learner measured while it trained, one row a step."""

    losses: Floats  # (steps, runs), mean over each batch, before its update
    metrics: Floats  # (steps, runs, metrics), sums over each batch of those that are means
    samples: Floats  # (steps,), samples in each batch
    probes: Mapping[str, Floats] = {}  # (steps, runs) each, NaN where it was not measured


class _Points(NamedTuple):
    """Points of the curves of one metric: steps, (n,), and for each run, (n, runs), values and
    whether they were measured."""

    steps: NDArray[np.int64]
    values: Floats
    measured: NDArray[np.bool_]


class Learner(Protocol):
    """Models, their optimizers and their data, in whatever arrays an engine uses."""

    chunk: int  # most steps it should be asked for at once, to stay interruptible
    threads: int | None  # how many threads train it; None leaves the process as it is
    facts: RunFacts  # how it trains, for the records: device, ...

    @property
    def run_facts(self) -> Sequence[RunFacts]:
        """The same for each run: hash of its initial weights, ..."""

    def start(self, first_step: int) -> None:
        """Get ready to take `first_step` next."""

    def advance(self, steps: int) -> Steps:
        """Take up to `steps` steps; fewer only if every run has diverged.

        A run whose loss is not finite, or exceeds its limit, keeps its parameters from then on.
        """

    def evaluate(self, split: str, step: int) -> Evaluation:
        """Evaluate every run on a whole split after so many steps, in evaluation mode.

        It changes nothing that training depends on. User code draws by seed, step and split, so
        that the same weights give the same values again.
        """

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that a later `load` needs to go on as if never interrupted."""

    def load(self, state: Arrays, step: int) -> None:
        """Take up the state left after `step` steps."""

    def parameters_sha256(self, run: int) -> str:
        """Return the hash of all parameters of a run."""

    def weights(self, run: int) -> dict[str, NDArray[Any]]:
        """Return a copy of a run's parameters and buffers, by name, as it would be evaluated."""

    def modules(self) -> Mapping[str, bool]:
        """Return whether each module is in training mode, by name."""

    def evaluated_modules(self) -> Mapping[str, bool]:
        """Return whether each module was in training mode in the last evaluation, by name."""

    def buffers_sha256(self) -> str:
        """Return the hash of what evaluation might change: averages of batch norm, ..."""

    def load_weights(self, run: int, weights: Arrays) -> None:
        """Take up what `weights` returned, to evaluate; training cannot go on from it."""


def _checks(
    before: tuple[Mapping[str, bool], str, str], after: tuple[Mapping[str, bool], str, str]
) -> RunFacts:
    """What an audit wants to know of an evaluation."""
    (modes, buffers, generators), (modes_after, buffers_after, generators_after) = before, after
    return RunFacts(
        training=TrainingCheck(tuple(name for name, on in modes.items() if not on)),
        evaluation=EvaluationCheck(
            training_modules=tuple(name for name, on in modes_after.items() if on),
            buffers_sha256=(buffers, buffers_after),
            generators_sha256=(generators, generators_after),
        ),
    )


def batch_order(spec: RunSpec, size: int) -> BatchOrder:
    """Return which of `size` training samples each step of a run sees."""
    return BatchOrder(
        size=size,
        batch_size=spec.batch_size,
        seed=spec.seed,
        sampling=spec.sampling,
        shuffle=spec.shuffle,
        drop_last=spec.drop_last,
    )


def always(step: int) -> bool:
    """Go on, whatever the step."""
    del step
    return True


class Training:
    """Runs under way, trained side by side with one budget and one cadence.

    Iterate `run` and, whenever it pauses, optionally take what was gained with `segments` and, to
    be able to go on later, `checkpoint`.

    Attributes:
        specs: the runs.
        learner: a fresh learner for them.
        step: training steps taken.
        status: of each run: INTERRUPTED until it is DONE or DIVERGED.
        first_losses: of up to `FIRST_STEPS` steps, (steps, runs).
    """

    def __init__(self, specs: Sequence[RunSpec], learner: Learner) -> None:
        self.specs = tuple(specs)
        self.learner = learner
        self.step = 0
        self.status = [Status.INTERRUPTED] * len(specs)
        self._reasons = [""] * len(specs)
        self._last_steps = np.full(len(specs), -1)  # of diverged runs
        self._reported = np.zeros(len(specs), bool)  # whether its last facts were handed out
        self._points: dict[str, list[_Points]] = defaultdict(list)
        self._labels = [metric_label(name) for name in specs[0].metrics]
        # Those of batches; others mean something on a whole split alone.
        self._mean_labels = [
            metric_label(name)
            for name in specs[0].metrics
            if not needs_whole_split(name, specs[0].whole_split)
        ]
        asked = specs[0].probes.measure if specs[0].probes else ()
        self._summed = [name for name in asked if PROBES[name].summed]
        # Sums over the epoch under way, of each run: samples, loss x samples, metrics, probes.
        self._epoch = np.zeros((2 + len(self._mean_labels) + len(self._summed), len(specs)))
        self.first_losses = np.empty((0, len(specs)))
        self._seconds = np.zeros(2)
        self._step_seconds = np.inf  # of the last steps taken; unknown before the first
        self._warm_up = np.zeros(2)  # seconds and steps of the first chunk of each process
        self._is_warm = False
        self._best_merits = np.full(len(specs), -np.inf)
        self._checks = RunFacts()
        self._evaluation_differences: Floats | None = None
        # Why metrics have no finite value, of the last epoch and of the last evaluation.
        self._epoch_reasons: list[dict[str, str]] = [{} for _ in specs]
        self._evaluation_reasons: list[dict[str, str]] = [{} for _ in specs]
        self._best_steps = np.zeros(len(specs), np.int64)
        self._best_weights: list[dict[str, NDArray[Any]]] = [{} for _ in specs]

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without evaluation."""
        return float(self._seconds[0])

    def _warm_up_seconds(self) -> float | None:
        """Return how many of the training's seconds the first steps took beyond the usual ones.

        None while no later steps have shown what is usual.
        """
        seconds, steps = self._warm_up
        later = self.step - steps
        return (
            max(0.0, float(seconds - steps * (self.seconds - seconds) / later)) if later else None
        )

    @property
    def evaluation_is_cheap(self) -> bool:
        """Whether evaluating one run on one split twice takes less than a hundredth of training."""
        one_run = self._seconds[1] / len(self.specs)
        splits = self.step // self.specs[0].evaluate_every * len(self.specs[0].evaluate_on)
        return splits > 0 and 200 * one_run / splits < self.seconds

    @property
    def ended(self) -> bool:
        """Whether no run is left to train."""
        return Status.INTERRUPTED not in self.status

    def resume(self, checkpoint: Arrays) -> None:
        """Take up what `checkpoint` returned earlier, perhaps in another process."""
        state = dict(checkpoint)
        self.step = int(state.pop("training.step"))
        self._epoch = state.pop("training.epoch").copy()
        self._seconds = state.pop("training.seconds").copy()
        self._warm_up = state.pop("training.warm_up").copy()
        self.first_losses = state.pop("training.first_losses").copy()
        self._last_steps = state.pop("training.last_steps").copy()
        self._reasons = state.pop("training.reasons").tolist()
        self._best_merits = state.pop("training.best_merits").copy()
        self._best_steps = state.pop("training.best_steps").copy()
        for name in [name for name in state if name.startswith("best.")]:
            _, run, parameter = name.split(".", 2)
            self._best_weights[int(run)][parameter] = state.pop(name)
        for index in np.flatnonzero(self._last_steps >= 0).tolist():
            self.status[index] = Status.DIVERGED
        self.learner.load(state, self.step)

    def checkpoint(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `resume` needs."""
        return self.learner.state() | {
            "training.step": np.array(self.step),
            "training.epoch": self._epoch.copy(),
            "training.seconds": self._seconds.copy(),
            "training.warm_up": self._warm_up.copy(),
            "training.first_losses": self.first_losses,
            "training.last_steps": self._last_steps.copy(),
            "training.reasons": np.array(self._reasons, dtype=str),
            "training.best_merits": self._best_merits.copy(),
            "training.best_steps": self._best_steps.copy(),
            **{
                f"best.{run}.{name}": array
                for run, weights in enumerate(self._best_weights)
                for name, array in weights.items()
            },
        }

    def segments(self) -> list[Segment]:
        """Return what each run gained since the last call.

        Runs that diverged are in it until all have ended, so that their facts, some of which the
        stack shares, do not depend on when segments are asked for.
        """
        run_facts = self.learner.run_facts
        training, evaluation = self._seconds.tolist()
        shared = self._checks | self.learner.facts
        shared |= RunFacts(
            seconds=Seconds(training, evaluation),
            warm_up_seconds=self._warm_up_seconds(),
            stack_width=len(self.specs),
            threads=self.learner.threads or torch.get_num_threads(),
        )
        found = []
        for index in np.flatnonzero(~self._reported).tolist():
            differences, ended = self._evaluation_differences, self.status[index] in FINAL
            saves = self.specs[index].save is not None
            facts = RunFacts(
                evaluation_difference=None if differences is None else float(differences[index]),
                not_finite=self._not_finite(index) or None,
                parameters_sha256=self.learner.parameters_sha256(index) if ended else None,
                saved_step=(int(self._best_steps[index]) or self.step) if saves else None,
            )
            diverged = self.status[index] is Status.DIVERGED
            segment = Segment(
                run_id=self.specs[index].run_id,
                step=int(self._last_steps[index]) if diverged else self.step,
                curves=self._curves(index),
                status=self.status[index],
                reason=self._reason(index),
                facts=shared | run_facts[index] | facts,
            )
            self._reported[index] = self.ended
            found.append(segment)
        self._points.clear()
        return found

    def _reason(self, run: int) -> str:
        """Say why a run diverged, or why metrics of one that is done have no value."""
        if self.status[run] is not Status.DONE:
            return self._reasons[run]
        return "; ".join(f"{metric}: {why}" for metric, why in self._not_finite(run).items())

    def _not_finite(self, run: int) -> dict[str, str]:
        """Return why the last values of metrics are not finite, by the metric."""
        return self._epoch_reasons[run] | self._evaluation_reasons[run]

    def _curves(self, run: int) -> dict[str, Curve]:
        """The recorded points of one run."""
        curves = {}
        for metric, parts in self._points.items():
            steps = np.concatenate([part.steps for part in parts])
            values = np.concatenate([part.values[:, run] for part in parts])
            measured = np.concatenate([part.measured[:, run] for part in parts])
            if measured.any():
                curves[metric] = Curve(steps[measured], values[measured])
        return curves

    def run(self, keep_going: Callable[[int], bool] = always) -> Iterator[None]:
        """Train; pause after each evaluation and at the end.

        Args:
            keep_going: called with the number of steps taken, after about a tenth of a second's
                worth of steps, after each step that takes longer, and after each evaluation. When
                it returns False, the training pauses there and ends, INTERRUPTED, ready for a
                checkpoint.
        """
        with process_for(self.learner):
            yield from self._run(keep_going)

    def _run(self, keep_going: Callable[[int], bool]) -> Iterator[None]:
        total, every = self.specs[0].steps, self.specs[0].evaluate_every
        self.learner.start(self.step + 1)
        while not self.ended and self.step < total:
            until = min(total, (self.step // every + 1) * every)
            self._train(min(until - self.step, self._steps_at_once()))
            if self.step == until and not self.ended:
                self._evaluate()
                if self.step < total and not self.ended:
                    yield
            if not keep_going(self.step) and self.step < total and not self.ended:
                yield
                return
        self.status = [Status.DONE if s is Status.INTERRUPTED else s for s in self.status]
        yield

    def _steps_at_once(self) -> int:
        """Return how many steps to take before checking again whether to stop.

        The numbers do not depend on it: a learner takes the same steps however they are divided.
        """
        return max(1, int(min(self.learner.chunk, _STOP_SECONDS / self._step_seconds)))

    def _train(self, steps: int) -> None:
        """Take steps and record them; find the runs whose loss stopped being finite."""
        started = time.perf_counter()
        measured = self.learner.advance(steps)
        elapsed = time.perf_counter() - started  # losses are on the host: no work is under way
        if not self._is_warm:
            self._warm_up += elapsed, len(measured.losses)
            self._is_warm = True
        losses = measured.losses
        self._seconds[0] += elapsed
        self._step_seconds = max(elapsed / len(losses), 1e-9)
        missing = FIRST_STEPS - len(self.first_losses)
        self.first_losses = np.vstack([self.first_losses, losses[:missing]])
        numbers = self.step + 1 + np.arange(len(losses))
        limit = self.specs[0].loss_limit or np.inf
        with np.errstate(invalid="ignore"):
            alive = np.isfinite(losses) & (losses <= limit)
        for run in np.flatnonzero(~alive.all(axis=0)).tolist():
            at = int(alive[:, run].argmin())
            above = f", above loss_limit {limit:g}" if np.isfinite(losses[at, run]) else ""
            reason = f"train_loss is {losses[at, run]:.6g} at step {{}}{above}"
            self._diverge(run, int(numbers[at]), reason)
            losses[at:, run] = np.nan
        self._record("train_loss", numbers, losses)
        if self.specs[0].batch_metrics:
            self._record_metrics(numbers, measured)
        probes = {n: np.where(alive, v, np.nan) for n, v in measured.probes.items()}
        self._record_probes(numbers, probes)
        self._sum_epochs(numbers, measured, probes)
        self.step = int(numbers[-1])

    def _record_metrics(self, numbers: NDArray[np.int64], measured: Steps) -> None:
        """Record the mean of each metric over each batch whose loss is finite."""
        means = measured.metrics / measured.samples[:, None, None]
        alive = np.isfinite(measured.losses)
        for label, values in zip(self._mean_labels, np.moveaxis(means, 2, 0), strict=True):
            self._record(f"train_{label}", numbers, values, alive)

    def _record_probes(self, numbers: NDArray[np.int64], probes: Mapping[str, Floats]) -> None:
        """Record the probes of single steps at which any was measured."""
        for name, values in probes.items():
            rows = np.isfinite(values).any(axis=1)
            if name not in self._summed:
                self._record(name, numbers[rows], values[rows])

    def _sum_epochs(
        self, numbers: NDArray[np.int64], measured: Steps, probes: Mapping[str, Floats]
    ) -> None:
        samples = np.broadcast_to(measured.samples[:, None], measured.losses.shape)
        metrics = np.moveaxis(measured.metrics, 2, 0)
        summed = [probes.get(name, np.full_like(samples, np.nan)) for name in self._summed]
        rows = np.stack([samples, measured.losses * samples, *metrics, *summed], axis=1)
        for step, row in zip(numbers, rows, strict=True):
            self._epoch += row
            if step % self.specs[0].steps_per_epoch == 0:
                sums = self._epoch[2 + len(self._mean_labels) :]
                for name, total in zip(self._summed, sums, strict=True):
                    self._record(name, step, total.copy())
                loss, *values = self._epoch[1 : 2 + len(self._mean_labels)] / self._epoch[0]
                self._record("train_loss_epoch", step, loss)
                self._epoch_reasons = [{} for _ in self.specs]
                for label, value in zip(self._mean_labels, values, strict=True):
                    metric = f"train_{label}_epoch"
                    self._record(metric, step, value, np.isfinite(loss))
                    for run in np.flatnonzero(np.isfinite(loss) & ~np.isfinite(value)).tolist():
                        self._epoch_reasons[run][metric] = f"it is {value[run]}"
                self._epoch[:] = 0

    def _evaluate(self) -> None:
        """Evaluate on every split asked for; find the runs whose loss is not finite."""
        started = time.perf_counter()
        first, before = self._checks.evaluation is None, self._modes_and_hashes()
        evaluations = {
            split: self.learner.evaluate(split, self.step) for split in self.specs[0].evaluate_on
        }
        if first:
            _, buffers, generators = self._modes_and_hashes()
            modes = self.learner.evaluated_modules()
            self._checks = _checks(before, (modes, buffers, generators))
            self._evaluation_differences = self._evaluated_again(evaluations)
        self._seconds[1] += time.perf_counter() - started
        self._evaluation_reasons = [{} for _ in self.specs]
        for split, evaluation in evaluations.items():
            self._record_evaluation(split, evaluation)
        if self.specs[0].save == "best":
            self._keep_best(evaluations["validation"].losses, evaluations["validation"].metrics)

    def _record_evaluation(self, split: str, evaluation: Evaluation) -> None:
        """Record the values of the runs whose loss on a split is finite, whatever they are."""
        # "train_loss" is each step's; the whole training split has a name of its own.
        prefix = "train_eval" if split == "train" else split
        for run in np.flatnonzero(~np.isfinite(evaluation.losses)).tolist():
            self._diverge(
                run, self.step, f"{split}_loss is {evaluation.losses[run]} after step {{}}"
            )
        alive = np.array([status is not Status.DIVERGED for status in self.status])
        self._record(f"{prefix}_loss", self.step, evaluation.losses, alive)
        for label, column in zip(self._labels, evaluation.metrics.T, strict=True):
            self._record(f"{prefix}_{label}", self.step, column, alive)
        for (run, place), reason in evaluation.reasons.items():
            if alive[run]:
                self._evaluation_reasons[run][f"{prefix}_{self._labels[place]}"] = reason

    def _evaluated_again(self, evaluations: Mapping[str, Evaluation]) -> Floats | None:
        """Return by how much values change, per run, when user code draws other random numbers.

        None where no user code is evaluated, or where a script's generator on a GPU, which cannot
        be restored here, would be drawn from.
        """
        spec, script = self.specs[0], self.specs[0].rng == "script"
        evaluated = {spec.model, spec.loss, *spec.metrics} & spec.code.keys()
        if not evaluated or (script and self.learner.facts.device != "cpu"):
            return None
        split, once = next(iter(evaluations.items()))
        with seeded_draws(_ANOTHER_STEP) if script else nullcontext():
            again = self.learner.evaluate(split, _ANOTHER_STEP)
        before = np.column_stack([once.losses, once.metrics])
        after = np.column_stack([again.losses, again.metrics])
        same = (before == after) | (np.isnan(before) & np.isnan(after))
        with np.errstate(invalid="ignore"):
            changes = np.where(same, 0.0, np.abs(before - after))
        largest: Floats = np.nan_to_num(changes, nan=_HUGE, posinf=_HUGE).max(axis=1)
        return largest

    def _modes_and_hashes(self) -> tuple[Mapping[str, bool], str, str]:
        """Return what evaluation must not change; read once, because it costs time."""
        if self._checks.evaluation:
            return {}, "", ""
        generators = [
            torch.get_rng_state().numpy(),
            np.asarray(np.random.get_state(legacy=False)["state"]["key"]),
        ]
        return self.learner.modules(), self.learner.buffers_sha256(), arrays_sha256(generators)

    def _keep_best(self, losses: Floats, metrics: Floats) -> None:
        """Keep the weights of the runs whose value of the selecting metric is the best so far."""
        selection = self.specs[0].select
        assert selection is not None  # `plan.check_study` refuses to save the best of nothing
        label = label_of(selection.metric)
        values = losses if label == "loss" else metrics[:, self._labels.index(label)]
        for run, value in enumerate(values.tolist()):
            merit = selection.merit(value)
            better = merit is not None and merit > self._best_merits[run]
            if better and self.status[run] is not Status.DIVERGED:
                self._best_merits[run] = merit
                self._best_steps[run] = self.step
                self._best_weights[run] = self.learner.weights(run)

    def weights(self, run: int) -> dict[str, NDArray[Any]] | None:
        """Return the weights of a run that are to be saved, or None."""
        if self.specs[0].save is None or self.status[run] is not Status.DONE:
            return None
        return self._best_weights[run] or self.learner.weights(run)

    def _record(
        self,
        metric: str,
        steps: int | NDArray[np.int64],
        values: Floats,
        measured: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add points of all runs; by default those that are not finite were not measured."""
        rows = np.atleast_2d(values)
        known = np.isfinite(rows) if measured is None else np.atleast_2d(measured)
        self._points[metric].append(_Points(np.atleast_1d(steps), rows, known))

    def _diverge(self, run: int, step: int, reason: str) -> None:
        if self.status[run] is not Status.DIVERGED:
            self.status[run] = Status.DIVERGED
            self._last_steps[run] = step
            self._reasons[run] = reason.format(step)
