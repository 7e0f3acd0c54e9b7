"""D, last third: whether means stand for the runs behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean, median

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.audit.scale import scaling_remedy
from optrial.analysis.contenders import Contender, finished
from optrial.analysis.view import ProblemView
from optrial.learning_rates import usual_rates
from optrial.spec import Direction, Status

__all__ = ["AGGREGATE_RULES"]

OUTLIER = 5.0  # robust standard deviations


@audit_rule("D03", Severity.WARNING, "a result without an interval")
def no_interval(context: Context) -> Iterator[Observation]:
    """One run that finished has neither a standard deviation nor an interval: its value looks like
    a mean over seeds and is none. With one planned seed D01 says so.

    Source: Agarwal et al. 2021 (intervals for every estimate); Bouthillier et al. 2021.
    Example: 1 of 3 runs of adam finished, so that its mean has no interval.
    Fix: a setting with which more runs finish, or more seeds.
    """
    metric = context.report_metric
    lone = [
        c
        for c in context.contenders
        if len(set(c.seeds)) > 1 and len(finished(c.records, metric)) == 1
    ]
    if lone:
        yield Observation(
            names(f"1 of {len(c.records)} runs of {c.name} finished" for c in lone)
            + ", so that there is no interval",
            {"finished": {c.name: [1, len(c.records)] for c in lone}},
            [r for c in lone for r in c.records],
            _calmer(context, lone),
        )


@audit_rule("D09", Severity.ERROR, "runs diverged, and means leave them out")
def diverged_dropped(context: Context) -> Iterator[Observation]:
    """A mean over the runs that finished rewards an optimizer for failing on hard seeds. A run that
    diverged counts as the worst. An error where leaving such runs out changes the order of
    optimizers, or where they were left out of the study; a warning where every run of an optimizer
    diverged, so that nothing can be said about it; else advice.

    Source: Dahl et al. 2023 (AlgoPerf: an unreached target counts as infinite time).
    Example: adam leads by its mean over 7 runs, but 3 more diverged; counting them, sgd leads.
    Fix: rank by median, report the failure rate, or choose a setting that does not diverge.
    """
    planned = {(r.optimizer, r.setting) for r in context.records}
    ids = {r.run_id for r in context.records}
    dropped = [
        r
        for r in context.former
        if r.status is Status.DIVERGED
        and (r.optimizer, r.setting) in planned
        and r.run_id not in ids
    ]
    if dropped:
        seeds = {*(r.seed for r in dropped), *(r.seed for r in context.compared)}
        yield Observation(
            f"{len(dropped)} runs of {names(r.optimizer for r in dropped)} that diverged were left "
            "out of the study",
            {"dropped": len(dropped)},
            dropped,
            context.remedy("put their seeds back", {"seeds": sorted(seeds)}),
        )
    for problem in context.problems:
        yield from _order_by_finished(context, problem)


def _order_by_finished(context: Context, problem: ProblemView) -> Iterator[Observation]:
    metric, contenders = context.report_metric, problem.contenders
    lost = {c.name: c.count(Status.DIVERGED) for c in contenders}
    failing = [c for c in contenders if lost[c.name]]
    if not failing:
        return
    by_mean = _leader(contenders, metric, context.directions.better(metric))
    misled = len(contenders) > 1 and lost.get(by_mean, 0) > min(lost.values())
    counts = names(f"{lost[c.name]} of {len(c.records)} of {c.name}" for c in failing)
    told = f"; {by_mean} leads by the mean over the runs that finished only" if misled else ""
    hopeless = any(lost[c.name] == len(c.records) for c in failing)
    yield Observation(
        f"runs that diverged: {counts}{told}",
        {"diverged": lost, "leads_by_finished": by_mean},
        [r for c in failing for r in c.records if r.status is Status.DIVERGED],
        scaling_remedy(context, problem.records) or _calmer(context, failing),
        Severity.ERROR if misled else Severity.WARNING if hopeless else Severity.ADVICE,
    )


def _leader(contenders: tuple[Contender, ...], metric: str, better: Direction | None) -> str:
    """Return the contender with the best mean over the runs that finished; "" without any."""
    means = {c.name: fmean(values) for c in contenders if (values := finished(c.records, metric))}
    best = {"higher": max, "lower": min}.get(better or "")
    return best(means, key=means.__getitem__, default="") if best else ""


def _smaller(contender: Contender, rate: float) -> float:
    """Return a third of a rate; where every run diverged, a tenth or a usual rate, the smaller."""
    if contender.count(Status.DIVERGED) < len(contender.records):
        return rate / 3
    low, high = usual_rates(contender.records[0].rule, rate)
    return min(rate / 10, math.sqrt(low * high))


def _calmer(context: Context, contenders: list[Contender]) -> Remedy:
    """Return the remedy of a smaller learning rate for each optimizer that diverges."""
    settings = {}
    tuned = {optimizer.name for optimizer in context.optimizers if "lr" in optimizer.tuned}
    for contender in contenders:
        path, _ = context.entry(contender.optimizer)
        rate = contender.records[0].hyperparameters.get("lr")
        if path and isinstance(rate, int | float) and rate > 0 and contender.optimizer not in tuned:
            settings[f"{path}.lr"] = float(f"{_smaller(contender, rate):.3g}")
    return context.remedy(
        "use a smaller learning rate, or report the failure rate",
        settings,
        sum(len(c.records) for c in contenders),
    )


@audit_rule("D14", Severity.ADVICE, "one run lies far from the others")
def outliers(context: Context) -> Iterator[Observation]:
    """A single run that went wrong can carry the mean and its interval. Median and interquartile
    mean show what the others do.

    Source: Agarwal et al. 2021.
    Example: seed 3 of adam has 0.81, the others 0.96 to 0.97.
    Fix: report the interquartile mean beside the mean; look at the run.
    """
    metric = context.report_metric
    for contender in context.contenders:
        values = finished(contender.records, metric)
        if len(values) < 5:
            continue
        middle = median(values)
        spread = 1.4826 * median(abs(value - middle) for value in values)
        far = [
            r
            for r in contender.records
            if (value := r.metrics.get(metric)) is not None
            and spread > 0
            and abs(value - middle) > OUTLIER * spread
            and abs(value - middle) > 4 * float(np.std([v for v in values if v != value], ddof=1))
        ]
        if far:
            yield Observation(
                f"{metric} of {contender.name} is {middle:.4g} in the median, but "
                + names(f"{r.metrics[metric]:.4g} with seed {r.seed}" for r in far),
                {"median": middle, "outliers": {str(r.seed): r.metrics[metric] for r in far}},
                far,
                context.remedy("report the interquartile mean beside the mean"),
            )


AGGREGATE_RULES = (no_interval, diverged_dropped, outliers)
