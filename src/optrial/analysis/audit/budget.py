"""C: whether all optimizers were trained equally long, and long enough."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import scipy  # imports its modules when they are first used

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimKind
from optrial.analysis.statistics import rank_stability
from optrial.records import Curve, Record
from optrial.spec import MetricName, Status, metric_title

LAST_PART = 0.2  # of the evaluations, over which a slope is fitted
LEAST_FALL = 0.001  # of the loss over that part
STABLE_TAU = 0.7  # Kendall's tau between the ranks half-way and at the end


def _longer(context: Context, action: str, factor: float = 1.0) -> Remedy:
    """Return the remedy of one budget for all, `factor` times the longest."""
    steps = round(factor * max(record.steps for record in context.records))
    trained = [r for r in context.records if factor > 1 or r.steps < steps]
    like = sorted(context.records, key=lambda r: -r.steps)[: len(context.records) // 2 + 1]
    remedy = context.remedy(action, {"budget.steps": steps}, len(trained), like)
    seconds = remedy.seconds * factor if remedy.seconds is not None else None
    return replace(remedy, seconds=seconds)


@audit_rule("C01", Severity.ERROR, "training lengths differ between optimizers")
def unequal_length(context: Context) -> Iterator[Observation]:
    """Longer training is an advantage in itself. All optimizers need the same number of steps or of
    epochs; with different batch sizes, one of the two.

    Source: Choi et al. 2019; Dahl et al. 2023 (AlgoPerf); Schmidt et al. 2021.
    Example: training lengths: adam 1000 steps (10 epochs), sgd 500 steps (5 epochs).
    Fix: use one budget for all.
    """
    for problem in context.problems:
        firsts = {c.name: c.records[0] for c in problem.contenders}
        if any(record.spec.budget_seconds for record in firsts.values()):
            continue  # the lengths are times
        steps = {name: record.steps for name, record in firsts.items()}
        epochs = {n: round(r.steps / r.steps_per_epoch, 2) for n, r in firsts.items()}
        if len(set(steps.values())) > 1 and len(set(epochs.values())) > 1:
            lengths = names(
                f"{n} {count} steps ({epochs[n]:g} epochs)" for n, count in steps.items()
            )
            yield Observation(
                f"training lengths: {lengths}",
                {"steps": steps, "epochs": epochs},
                problem.compared,
                _longer(context, "train all as long as the longest run"),
            )


@audit_rule("C02", Severity.ERROR, "training ended before the schedule did")
def before_schedule_end(context: Context) -> Iterator[Observation]:
    """Half-way through a schedule the learning rate is still high, and optimizers often rank
    differently than at its end.

    Source: Wen et al. 2025.
    Example: the schedule of adam lasts until step 900, but training ended at step 500.
    Fix: fit the schedule to the budget by giving its times as shares: `{kind: step, every: 0.3}`.
    """
    early = {
        record.run_id: (record, end)
        for record in context.records
        if (end := _schedule_end(record)) > record.step
        and record.status is Status.DONE
        and record.facts.stopped_early is None
    }
    if early:
        record, end = next(iter(early.values()))
        yield Observation(
            f"the schedule of {names(r.optimizer for r, _ in early.values())} lasts until step "
            f"{end}, but training ended at step {record.step}",
            {"runs": len(early), "schedule_end": end, "step": record.step},
            [r for r, _ in early.values()],
            _longer(
                context,
                "train to the end of the schedule",
                max(1.0, (end + 1) / max(1, record.steps)),
            ),
        )


def _schedule_end(record: Record) -> int:
    """Return the step of the last jump of the learning rate that a schedule names, or 0."""
    schedule = record.spec.schedule or {}
    steps = [schedule.get("every"), *(schedule.get("at") or ())]
    return max((int(step) for step in steps if isinstance(step, int | float)), default=0)


@audit_rule("C03", Severity.WARNING, "a step costs more gradients for some optimizers")
def unequal_gradients(context: Context) -> Iterator[Observation]:
    """Sharpness-aware minimization computes two gradients per step, and a rule that uses curvature
    also computes a product with the Hessian, which costs as much as a gradient. Equal numbers of
    steps are then not equal work.

    Source: Foret et al. 2021; Yao et al. 2021.
    Example: a step computes 2 gradients for sam, and 1 for sgd.
    Fix: say so beside the claim, or train the others twice as long in a further study.
    """
    for problem in context.problems:
        costs = {c.name: _gradients_per_step(c.records[0]) for c in problem.contenders}
        if len(set(costs.values())) > 1:
            by_cost: dict[float, list[str]] = {}
            for name, cost in sorted(costs.items(), key=lambda item: -item[1]):
                by_cost.setdefault(cost, []).append(name)
            *others, least = [f"{cost:g} for {names(same)}" for cost, same in by_cost.items()]
            first, *further = others
            text = ", ".join([first.replace(" for", " gradients for", 1), *further])
            yield Observation(
                f"a step computes {text}, and {least}",
                {"gradients": costs},
                problem.compared,
                context.remedy("state that equal steps are not equal work"),
            )


def _gradients_per_step(record: Record) -> float:
    """Return how many gradients a step computes; of a run that did not record it, by its spec."""
    recorded = record.facts.gradients_per_step
    return 1.0 + (record.spec.sam_rho is not None) if recorded is None else recorded


@audit_rule("C06", Severity.ADVICE, "runs ended before the budget")
def stopped_early(context: Context) -> Iterator[Observation]:
    """With early stopping, optimizers are compared where their validation results ended training,
    not after equal training. A schedule that spans the budget has not come to its end.

    Source: Prechelt 1998.
    Example: early stopping ended 3 of 6 runs of adam, at step 120 at the earliest.
    Fix: say so beside the claim, or leave `early_stopping` out and use `save: best`.
    """
    for problem in context.problems:
        ends = {
            c.name: [r.facts.stopped_early for r in c.records if r.facts.stopped_early is not None]
            for c in problem.contenders
        }
        counts = {c.name: len(c.records) for c in problem.contenders}
        parts = [
            f"{len(steps)} of {counts[name]} runs of {name}, at step {min(steps)} at the earliest"
            for name, steps in ends.items()
            if steps
        ]
        if parts:
            yield Observation(
                f"early stopping ended {names(parts)}",
                {"stopped": {name: len(steps) for name, steps in ends.items()}},
                [r for r in problem.compared if r.facts.stopped_early is not None],
                context.remedy("state that runs were stopped early"),
            )


@audit_rule("C04", Severity.ADVICE, "still improving at the end of training")
def still_improving(context: Context) -> Iterator[Observation]:
    """The comparison holds for this length of training. Optimizers that were still improving may
    overtake the others in a longer one.

    Source: Wen et al. 2025.
    Example: validation loss of sgd was still falling over the last 20 % of training.
    Fix: train twice as long, or state the training length in the claim.
    """
    metric = next((m for m in ("validation_loss", "test_loss") if m in context.metrics), "")
    curves = context.curves(metric) if metric else {}
    improving = {}
    for contender in context.contenders:
        known = [curves[r.run_id] for r in contender.records if r.run_id in curves]
        slopes = np.array([s for curve in known if (s := _last_slope(curve)) is not None])
        if len(slopes) > 2:
            error = slopes.std(ddof=1) / math.sqrt(len(slopes))
            upper = slopes.mean() + scipy.special.stdtrit(len(slopes) - 1, 0.975) * error
            if upper * LAST_PART * contender.records[0].steps < -LEAST_FALL:
                improving[contender.name] = float(slopes.mean())
    if improving:
        yield Observation(
            f"{metric_title(metric)} of {names(improving)} was still falling over the last "
            f"{100 * LAST_PART:.0f} % of training",
            {"slope_per_step": improving, "metric": metric},
            [r for c in context.contenders if c.name in improving for r in c.records],
            _longer(context, "train twice as long", 2.0),
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
    """The batch size changes the gradient noise, the best learning rate and the number of updates.
    It must be the same for all optimizers, or a grid axis of each.

    Source: Semenov et al. 2025; Choi et al. 2019.
    Example: adam was trained with batch size 32 and sgd with 128.
    Fix: use one batch size for all, or the same list for each.
    """
    for problem in context.problems:
        sizes = {
            o.name: sorted({r.spec.batch_size for r in o.one_of_each}) for o in problem.optimizers
        }
        if len(set(map(tuple, sizes.values()))) > 1:
            common = sorted(set().union(*sizes.values()))
            runs = sum(
                len(o.trials) * len({*common} - {*sizes[o.name]}) for o in problem.optimizers
            )
            yield Observation(
                names(
                    f"{name} was trained with batch size {', '.join(map(str, values))}"
                    for name, values in sizes.items()
                ),
                {"batch_sizes": sizes},
                problem.compared,
                context.remedy(
                    "train every optimizer with every batch size", {"batch_size": common}, runs
                ),
            )


@audit_rule("C07", Severity.ADVICE, "the ranking changed during training")
def order_changed(context: Context) -> Iterator[Observation]:
    """If a different optimizer led half-way, the length of training decides which one wins.

    Source: Wen et al. 2025.
    Example: Kendall's tau between the rankings half-way and at the end is 0.33.
    Fix: state the training length in the claim, or show the whole curves.
    """
    metric = context.report_metric
    better = context.directions.better(metric)
    curves = context.curves(metric) if better else {}
    for problem in context.problems:
        means = [_mean_curve([curves.get(r.run_id) for r in c.records]) for c in problem.contenders]
        known = [mean for mean in means if mean is not None]
        if len(known) < 3 or len({tuple(c.steps) for c in known}) > 1 or len(known[0]) < 4:
            continue
        half, late = rank_stability(
            known[0].steps,
            [curve.values for curve in known],
            higher_is_better=better == "higher",
            shares=(0.5, 0.75),
        )
        if half < STABLE_TAU:
            yield Observation(
                f"Kendall's tau between the rankings by {metric_title(metric)} half-way and at the "
                f"end is {half:.2f}; between those at three quarters and at the end it is "
                f"{late:.2f}",
                {"tau_half": half, "tau_three_quarters": None if math.isnan(late) else late},
                problem.compared,
                context.remedy("state the training length in the claim"),
            )


def _mean_curve(curves: Sequence[Curve | None]) -> Curve | None:
    """Return the mean over runs that were evaluated at the same steps; None if there are none."""
    known = [curve for curve in curves if curve is not None]
    if not known or any(not np.array_equal(c.steps, known[0].steps) for c in known):
        return None
    return Curve(known[0].steps, np.mean([curve.values for curve in known], axis=0))


@audit_rule("C08", Severity.WARNING, "all claims are on the training split")
def training_only(context: Context) -> Iterator[Observation]:
    """Minimizing the training loss fast and generalizing well are two different merits. A claim on
    one says nothing about the other.

    Source: Wilson et al. 2017.
    Example: all claims are on train_loss_epoch, although test_accuracy was evaluated.
    Fix: also claim on a test metric, or say that the claim is about optimization.
    """
    claims = context.claims
    tested = [name for name in sorted(context.metrics) if MetricName.parse(name).split == "test"]
    if claims and tested and all(MetricName.parse(c.metric).of_training for c in claims):
        on_test = [
            claim.text.replace(claim.metric, tested[0])
            for claim in claims
            if claim.kind is not ClaimKind.EQUIVALENT and not claim.amount.value
        ]
        yield Observation(
            f"all claims are on {names(c.metric for c in claims)}, although {names(tested)} "
            f"{'was' if len(tested) == 1 else 'were'} evaluated",
            {"metrics": sorted({c.metric for c in claims})},
            context.compared,
            context.remedy(
                "add the claims on the test split",
                {"claims": [*(claim.text for claim in claims), *on_test]},
            ),
        )
