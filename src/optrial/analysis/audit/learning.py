"""E, third part: whether a network learned anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import Contender
from optrial.analysis.view import ProblemView
from optrial.errors import counted
from optrial.records import Curve, Record
from optrial.spec import Directions, MetricName, Status, metric_title

MARGIN = 1e-3  # relative to the constant answer's loss; absolute for scores such as r2
STANDARD_ERRORS = 2.0
FEWEST_EPOCHS = 10  # with fewer, the loss of each step is read
FIRST_VALUES = 10
LAST_PART = 0.2
LEAST_FALL = 1e-3  # relative to the first values

Floats = NDArray[np.float64]


@audit_rule(
    "E20",
    Severity.WARNING,
    "a model is no better than a constant answer",
    facts=("constant_answer",),
    root=True,
)
def constant_answers(context: Context) -> Iterator[Observation]:
    """A model that ignores its inputs can always answer with the shares of the classes, or with the
    mean of the values: ln 10 = 2.303 and 10 % for ten equal classes. A run that is no better on any
    metric of validation or test data has learned nothing that generalizes, so a comparison with it
    says which setting works, not which optimizer is better. An accuracy must exceed that of the
    constant by two standard errors. An error if no contender does better; advice if every optimizer
    has a setting that does.

    Source: Cawley & Talbot 2010; scikit-learn's `DummyClassifier`.
    Example: 3 of 3 runs of rmsprop_momentum: test loss 2.303 (constant answer: 2.303), test
    accuracy 10 % (10 %).
    Fix: try smaller and larger learning rates, another initialization, or longer training; a low
    training loss points to overfitting instead.
    """
    for problem in context.problems:
        constant = {
            contender.name: runs
            for contender in problem.contenders
            if (runs := [r for r in contender.records if _is_constant(r, context.directions)])
        }
        if constant:
            runs = [record for records in constant.values() for record in records]
            done = sum(contender.count(Status.DONE) for contender in problem.contenders)
            severity = None if problem.covers_an_optimizer(constant) else Severity.ADVICE
            first = next(iter(constant.values()))[0]
            yield Observation(
                f"{_counts(problem, constant)}: {_beside_constant(first, context.directions)}",
                {"runs": {name: len(records) for name, records in constant.items()}},
                runs,
                context.rerun(
                    "try other learning rates or another initialization, and train again", runs
                ),
                Severity.ERROR if len(runs) == done else severity,
            )


def _counts(problem: ProblemView, runs: dict[str, list[Record]]) -> str:
    """Return the number of affected runs of each contender."""
    totals = {c.name: len(c.records) for c in problem.contenders}
    return names(
        f"{len(of_one)} of {counted(totals[name], 'run')} of {name}"
        for name, of_one in runs.items()
    )


def _judged(record: Record) -> tuple[str, ...]:
    """Return the metrics that decide: on validation and test data, else on training data.

    A run with averaged weights is judged by these.
    """
    finite = tuple(name for name, value in record.metrics.items() if value is not None)
    return _judged_of(finite, tuple(record.facts.constant_answer or ()))


@lru_cache(1024)
def _judged_of(metrics: tuple[str, ...], answers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the metrics that decide, of those that have a value, and a constant answer."""
    named = map(MetricName.parse, metrics)
    known = [name for name in named if not name.raw and _plain(str(name)) in answers]
    evaluated = [name for name in known if name.evaluated]
    held_out = [name for name in evaluated if not name.of_training]
    judged = held_out or evaluated or [name for name in known if name.epoch_mean]
    return tuple(map(str, judged))


@lru_cache(1024)
def _plain(metric: str) -> str:
    """Return the name of a metric without ``_epoch``: a constant answer has one mean."""
    name = MetricName.parse(metric)
    return str(MetricName(name.label, name.split))


def _is_constant(record: Record, directions: Directions) -> bool:
    metrics = _judged(record) if record.status is Status.DONE else ()
    return bool(metrics) and not any(_is_better(record, metric, directions) for metric in metrics)


def _is_better(record: Record, metric: str, directions: Directions) -> bool:
    """Return True if a run is clearly better than the constant answer on a metric."""
    value, answer = record.metrics[metric], _answer(record, metric)
    assert value is not None
    if directions.better(metric) == "lower":
        return value < answer - MARGIN * abs(answer)
    margin = MARGIN
    if directions.percent(metric):
        split = MetricName.parse(metric).split or ""
        samples = (record.facts.split_sizes or {}).get(split, 0) or math.inf
        margin = STANDARD_ERRORS * math.sqrt(answer * (1 - answer) / samples)
    return value > answer + margin


def _answer(record: Record, metric: str) -> float:
    return (record.facts.constant_answer or {})[_plain(metric)]


def _beside_constant(record: Record, directions: Directions) -> str:
    """Return the values of a run beside those of the constant answer."""
    texts = []
    for place, metric in enumerate(_judged(record)):
        value = record.metrics[metric]
        assert value is not None
        answer = directions.shown(metric, _answer(record, metric))
        beside = answer if place else f"constant answer: {answer}"
        texts.append(f"{directions.title(metric)} {directions.shown(metric, value)} ({beside})")
    return names(texts)


@audit_rule("E21", Severity.WARNING, "the training loss stands still")
def loss_stands_still(context: Context) -> Iterator[Observation]:
    """A training loss that is no lower at the end than after the first steps, beyond the noise of
    the batches, shows that the model did not learn: the learning rate is too small or too large,
    the initial weights pass no signal, or the budget ends before training gets going. The last
    fifth of the steps is compared with the first steps. Runs that E20 reports are left out. Advice
    if every optimizer has a setting that learns.

    Source: Deep Learning Tuning Playbook (instability and training failures).
    Example: training loss (per batch) of sgd lr=1e-05 is 2.301 at first and 2.302 over the last
    20 % of training.
    Fix: try larger and smaller learning rates, another initialization, or longer training.
    """
    for problem in context.problems:
        metric = _loss_of_steps(problem)
        curves = context.curves(metric) if metric else {}
        still: dict[str, list[Record]] = {}
        for contender in problem.contenders:
            runs = [r for r in _learning(contender, context) if r.run_id in curves]
            if runs and _stand_still([curves[run.run_id] for run in runs]):
                still[contender.name] = runs
        if still:
            name, runs = next(iter(still.items()))
            parts = [_first_and_last(curves[run.run_id].values) for run in runs]
            start = float(np.mean([first.mean() for first, _ in parts]))
            end = float(np.mean([last.mean() for _, last in parts]))
            others = f"; the same holds for {names(list(still)[1:])}" if len(still) > 1 else ""
            every = [run for records in still.values() for run in records]
            yield Observation(
                f"{metric_title(metric)} of {name} is {start:.4g} at first and {end:.4g} over the "
                f"last {100 * LAST_PART:.0f} % of training{others}",
                {"contenders": list(still), "first": start, "last": end},
                every,
                context.rerun(
                    "try other learning rates, another initialization or longer training", every
                ),
                None if problem.covers_an_optimizer(still) else Severity.ADVICE,
            )


def _learning(contender: Contender, context: Context) -> Iterable[Record]:
    """Return the finished runs that beat a constant answer, as far as is known."""
    return (
        record
        for record in contender.records
        if record.status is Status.DONE and not _is_constant(record, context.directions)
    )


def _loss_of_steps(problem: ProblemView) -> str:
    """Return the training loss to read: means of epochs if there are enough of them."""
    record = problem.compared[0]
    names = ["train_loss_epoch"] * (record.steps >= FEWEST_EPOCHS * record.steps_per_epoch)
    return next((name for name in (*names, "train_loss") if name in record.metrics), "")


def _stand_still(curves: Sequence[Curve]) -> bool:
    """Return True if no loss is lower at the end than at first, beyond its noise, nor their mean.

    The noise of a single short run hides a fall that all runs show together.
    """
    measured = []
    for curve in curves:
        if len(curve) < FIRST_VALUES or not np.isfinite(curve.values).all():
            return False
        fall, error, start = _fall(curve.values)
        if fall >= max(STANDARD_ERRORS * error, LEAST_FALL * abs(start)):
            return False
        measured.append((fall, error, start))
    falls, errors, starts = np.array(measured).T
    together = STANDARD_ERRORS * math.sqrt((errors**2).mean() / len(errors))
    return bool(falls.mean() < max(together, LEAST_FALL * abs(starts.mean())))


def _fall(values: Floats) -> tuple[float, float, float]:
    """Return by how much a loss fell, the standard error of that, and the loss at first."""
    first, last = _first_and_last(values)
    error = math.sqrt(last.var(ddof=1) * (1 / len(first) + 1 / len(last)))
    return float(first.mean() - last.mean()), error, float(first.mean())


def _first_and_last(values: Floats) -> tuple[Floats, Floats]:
    """Return the first values, at most a tenth of all, and the last fifth."""
    start = max(1, min(FIRST_VALUES, len(values) // 10))
    return values[:start], values[-max(2, round(LAST_PART * len(values))) :]
