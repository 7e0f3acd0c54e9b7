"""C: whether all were trained alike, for long enough, and judged at the right moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import special

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimKind
from optrial.analysis.statistics import rank_stability
from optrial.records import Curve, Record
from optrial.spec import Status

__all__ = ["BUDGET_RULES"]

LAST_PART = 0.2  # of the evaluations, on which a slope is fitted
NOTICEABLE = 0.001  # least fall of the loss over that part
SETTLED = 0.7  # Kendall's tau between the ranks half-way and at the end


def _longer(context: Context, action: str, factor: float = 1.0) -> Remedy:
    """Return the remedy of one budget for all, `factor` times the longest."""
    steps = round(factor * max(record.steps for record in context.records))
    trained = [r for r in context.records if factor > 1 or r.steps < steps]
    like = sorted(context.records, key=lambda r: -r.steps)[: len(context.records) // 2 + 1]
    remedy = context.remedy(action, {"budget.steps": steps}, len(trained), like)
    seconds = remedy.seconds * factor if remedy.seconds is not None else None
    return Remedy(remedy.action, remedy.settings, remedy.runs, seconds)


@audit_rule("C01", Severity.ERROR, "optimizers were trained for unequal lengths")
def unequal_length(context: Context) -> Iterator[Observation]:
    """Longer training is an advantage of its own. All have to have the same number of steps or the
    same number of epochs; with different batch sizes, one of the two.

    Source: Choi et al. 2019; Dahl et al. 2023 (AlgoPerf); Schmidt et al. 2021.
    Example: adam was trained for 1000 steps and sgd for 500.
    Fix: one budget for all.
    """
    for problem in context.problems:
        firsts = {c.name: c.records[0] for c in problem.contenders}
        steps = {name: record.steps for name, record in firsts.items()}
        epochs = {n: round(r.steps / r.steps_per_epoch, 2) for n, r in firsts.items()}
        if len(set(steps.values())) > 1 and len(set(epochs.values())) > 1:
            yield Observation(
                names(f"{n}: {count} steps, {epochs[n]:g} epochs" for n, count in steps.items()),
                {"steps": steps, "epochs": epochs},
                problem.compared,
                _longer(context, "train all for as long as the longest"),
            )


@audit_rule("C02", Severity.ERROR, "compared before the schedule's end")
def before_schedule_end(context: Context) -> Iterator[Observation]:
    """Half-way through a schedule the learning rate is still high, and the order of optimizers is
    often another one than at its end.

    Source: Wen et al. 2025.
    Example: the learning rate of adam was to fall at step 900, but training ended at step 500.
    Fix: fit the schedule to the budget, its times as shares: `{kind: step, every: 0.3}`.
    """
    early = {
        record.run_id: (record, end)
        for record in context.records
        if (end := _schedule_end(record)) > record.step and record.status is Status.DONE
    }
    if early:
        record, end = next(iter(early.values()))
        yield Observation(
            f"the schedule of {names(r.optimizer for r, _ in early.values())} lasts until step "
            f"{end}, but training ended at step {record.step}",
            {"runs": len(early), "schedule_end": end, "step": record.step},
            [r for r, _ in early.values()],
            _longer(context, "train to the schedule's end", max(1.0, (end + 1) / record.steps)),
        )


def _schedule_end(record: Record) -> int:
    """Return a step up to which the schedule is to change the learning rate in leaps, or 0."""
    schedule = record.spec.schedule or {}
    times = [schedule.get("every"), *(schedule.get("at") or ())]
    return max((int(each) for each in times if isinstance(each, int | float)), default=0)


@audit_rule("C04", Severity.ADVICE, "still improving when training ended")
def still_improving(context: Context) -> Iterator[Observation]:
    """The comparison holds for this length of training. With a longer one, those that were still
    improving may overtake.

    Source: Wen et al. 2025.
    Example: validation_loss of sgd still fell over the last fifth of training.
    Fix: train for twice as long, or name the length in the claim.
    """
    metric = next((m for m in ("validation_loss", "test_loss") if m in context.metrics), "")
    curves = context.curves(metric) if metric else {}
    improving = {}
    for contender in context.contenders:
        found = [curves[r.run_id] for r in contender.records if r.run_id in curves]
        slopes = np.array([s for curve in found if (s := _last_slope(curve)) is not None])
        if len(slopes) > 2:
            error = slopes.std(ddof=1) / math.sqrt(len(slopes))
            upper = slopes.mean() + special.stdtrit(len(slopes) - 1, 0.975) * error
            if upper * LAST_PART * contender.records[0].steps < -NOTICEABLE:
                improving[contender.name] = float(slopes.mean())
    if improving:
        yield Observation(
            f"{metric} of {names(improving)} still fell over the last {LAST_PART:.0%} of training",
            {"slope_per_step": improving, "metric": metric},
            [r for c in context.contenders if c.name in improving for r in c.records],
            _longer(context, "train for twice as long", 2.0),
        )


def _last_slope(curve: Curve) -> float | None:
    """Return the slope of the last part of a curve; None for fewer than three points there."""
    last = curve.steps >= curve.steps[-1] * (1 - LAST_PART) if len(curve) else np.zeros(0, bool)
    if last.sum() < 3:
        return None
    steps, values = curve.steps[last].astype(float), curve.values[last]
    steps -= steps.mean()
    return float((steps @ values) / (steps @ steps))


@audit_rule("C05", Severity.ERROR, "batch sizes differ between optimizers")
def batch_sizes_differ(context: Context) -> Iterator[Observation]:
    """The batch size changes noise, best learning rate and number of updates: it is a factor of the
    comparison or equal for all.

    Source: Semenov et al. 2025; Choi et al. 2019.
    Example: adam was tried with batch size 32 and sgd with 128.
    Fix: one batch size for all, or the same list for each.
    """
    for problem in context.problems:
        sizes = {o.name: sorted({r.spec.batch_size for r in o.trials}) for o in problem.optimizers}
        if len({tuple(found) for found in sizes.values()}) > 1:
            common = sorted({size for found in sizes.values() for size in found})
            missing = {n: set(common) - set(found) for n, found in sizes.items()}
            yield Observation(
                names(f"{n}: batch size {', '.join(map(str, s))}" for n, s in sizes.items()),
                {"batch_sizes": sizes},
                problem.compared,
                context.remedy(
                    "train each with every batch size",
                    {"batch_size": common},
                    sum(len(o.trials) * len(missing[o.name]) for o in problem.optimizers),
                ),
            )


@audit_rule("C07", Severity.ADVICE, "the order changed during training")
def order_changed(context: Context) -> Iterator[Observation]:
    """Where half-way another optimizer was ahead, the length of training decides who wins.

    Source: Wen et al. 2025.
    Example: Kendall's tau between the order half-way and at the end is 0.33.
    Fix: name the length in the claim, or show the whole curves.
    """
    metric = context.report_metric
    better = context.directions.better(metric)
    curves = context.curves(metric) if better else {}
    for problem in context.problems:
        means = [_mean_curve([curves.get(r.run_id) for r in c.records]) for c in problem.contenders]
        known = [each for each in means if each is not None]
        if len(known) < 3 or len({tuple(each.steps) for each in known}) > 1 or len(known[0]) < 4:
            continue
        half, late = rank_stability(
            known[0].steps,
            [each.values for each in known],
            higher_is_better=better == "higher",
            shares=(0.5, 0.75),
        )
        if half < SETTLED:
            yield Observation(
                f"Kendall's tau between the order by {metric} half-way and at the end is "
                f"{half:.2f}, from three quarters on {late:.2f}",
                {"tau_half": half, "tau_three_quarters": None if math.isnan(late) else late},
                problem.compared,
                context.remedy("name the length of training in the claim"),
            )


def _mean_curve(curves: list[Curve | None]) -> Curve | None:
    """Return the mean over runs that were evaluated at the same steps; None if there are none."""
    known = [curve for curve in curves if curve is not None]
    if not known or any(not np.array_equal(c.steps, known[0].steps) for c in known):
        return None
    return Curve(known[0].steps, np.mean([curve.values for curve in known], axis=0))


@audit_rule("C08", Severity.WARNING, "claims look at training only")
def training_only(context: Context) -> Iterator[Observation]:
    """Fast minimisation of the training loss and good results on new data are two different
    merits. Claims on the one say nothing of the other.

    Source: Wilson et al. 2017.
    Example: every claim is on train_loss_epoch, though test_accuracy was evaluated.
    Fix: claim on a test metric too, or say that the claim is about optimisation.
    """
    claims: list[Any] = context.claims
    tested = [name for name in sorted(context.metrics) if name.startswith("test_")]
    if claims and tested and all(c.metric.startswith("train_") for c in claims):
        moved = [
            claim.text.replace(claim.metric, tested[0])
            for claim in claims
            if claim.kind is not ClaimKind.EQUIVALENT and not claim.amount.value
        ]
        texts = [claim.text for claim in claims]
        yield Observation(
            f"all {len(claims)} claims are on {names(c.metric for c in claims)}, none on "
            f"{names(tested)}",
            {"metrics": sorted({c.metric for c in claims})},
            context.compared,
            context.remedy("add the claims on the test split", {"claims": texts + moved}),
        )


BUDGET_RULES = (
    unequal_length,
    before_schedule_end,
    still_improving,
    batch_sizes_differ,
    order_changed,
    training_only,
)
