"""D, first half: whether there are enough runs, and whether means represent them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import new_seeds, scaling_remedy
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimKind, ClaimResult, ClaimVerdict
from optrial.analysis.contenders import Contender, finished
from optrial.analysis.view import ProblemView
from optrial.errors import counted, quoted
from optrial.rules.learning_rates import usual_rates
from optrial.spec import Direction, Status, metric_title

ENOUGH_SEEDS = 10
OUTLIER = 5.0  # robust standard deviations


def _claims_or_compares(context: Context) -> bool:
    return bool(context.claims) or len(context.contenders) > 1


@audit_rule("D01", Severity.ERROR, "there is only one seed", concerns=_claims_or_compares)
def one_seed(context: Context) -> Iterator[Observation]:
    """Initial weights and data order alone change a result by as much as most differences between
    optimizers. One run per setting does not show by how much.

    Source: Bouthillier et al. 2021; Agarwal et al. 2021.
    Example: sgd, momentum, adam were run with one seed.
    Fix: `seeds: 10`.
    """
    lone = [c for c in context.contenders if len(c.pairs) == 1]
    if lone:
        count = max(ENOUGH_SEEDS, *map(context.seeds_needed, context.problems))
        yield Observation(
            f"{names(c.name for c in lone)} {'was' if len(lone) == 1 else 'were'} run with "
            "one seed",
            {"seeds": {c.name: len(c.pairs) for c in context.contenders}},
            [r for c in lone for r in c.records],
            context.more_seeds(count, f"run {count} seeds"),
        )


@audit_rule("D02", Severity.WARNING, "too few seeds to detect a difference")
def underpowered(context: Context) -> Iterator[Observation]:
    """The smallest possible p-value of n pairs is 2^(1-n). Below a certain number of seeds no
    difference, however large, can be significant. A claim of equivalence needs as many as show a
    difference of its margin.

    Source: Bouthillier et al. 2021; Noether 1987.
    Example: there are 3 seeds, but a comparison of 6 optimizers needs at least 10.
    Fix: add seeds; existing runs are kept.
    """
    if len(context.contenders) < 2 or min(len(c.pairs) for c in context.contenders) < 2:
        return
    claims = len(context.results)
    for problem in context.problems:
        if problem.pairing == "fold":  # any number of folds can show a difference
            continue
        count = len(problem.finishing if len(problem.finishing) > 1 else problem.contenders)
        fewest, needed = (
            min(len(c.pairs) for c in problem.contenders),
            context.seeds_needed(problem),
        )
        if fewest < needed:
            kind = "optimizers" if problem.chooses else "settings"
            subject = (
                f"a test of {counted(claims, 'claim')}"
                if claims
                else f"a comparison of {count} {kind}"
            )
            be = "is" if fewest == 1 else "are"
            yield Observation(
                f"there {be} {counted(fewest, 'seed')}, but {subject} needs at least {needed}",
                {"seeds": fewest, "needed": needed},
                problem.compared,
                context.more_seeds(needed, f"run {needed} seeds"),
            )
    for result in context.results:
        yield from _margin_below_power(context, result)


def _margin_below_power(context: Context, result: ClaimResult) -> Iterator[Observation]:
    """Report an undecided claim of equivalence whose margin is too small for its seeds to show."""
    amount, is_equivalence = result.claim.amount, result.claim.kind is ClaimKind.EQUIVALENT
    if result.verdict is not ClaimVerdict.UNDECIDED or not is_equivalence or amount.relative:
        return
    (pair,) = result.comparisons
    needed = pair.seeds_needed(amount.value) if pair.pairs > 1 else None
    if needed is not None and needed > pair.pairs:
        yield Observation(
            f"{quoted(result.claim.text)} needs about {needed} seeds to show a difference of that "
            f"size; there are {pair.pairs}",
            {"seeds": pair.pairs, "needed": needed},
            context.claimed_runs(result.claim),
            context.more_seeds(needed, f"run {needed} seeds"),
        )


@audit_rule("D03", Severity.WARNING, "a result has no interval")
def no_interval(context: Context) -> Iterator[Observation]:
    """If only one run finished there is neither a standard deviation nor an interval: the value
    looks like a mean over seeds but is not one. D01 covers studies with a single planned seed.

    Source: Agarwal et al. 2021 (intervals for every estimate); Bouthillier et al. 2021.
    Example: only 1 of 3 runs of adam finished, so the result has no interval.
    Fix: choose a setting with which more runs finish, or add seeds.
    """
    metric = context.report_metric
    lone = [
        c for c in context.contenders if len(c.pairs) > 1 and len(finished(c.records, metric)) == 1
    ]
    if lone:
        yield Observation(
            f"only {names(f'1 of {len(c.records)} runs of {c.name}' for c in lone)} finished, so "
            "the result has no interval",
            {"finished": {c.name: [1, len(c.records)] for c in lone}},
            [r for c in lone for r in c.records],
            _smaller_rates(context, lone),
        )


@audit_rule("D05", Severity.ADVICE, "optimizers do not have the same seeds")
def unpaired(context: Context) -> Iterator[Observation]:
    """Runs with the same seed start from the same weights and see the same batches, so their
    difference is less noisy than either result. A seed that only one optimizer has cannot be
    paired.

    Source: Bouthillier et al. 2021.
    Example: adam lacks 5 of 10 seeds, sgd lacks 5 of 10 seeds.
    Fix: use the same seeds for all.
    """
    for problem in context.problems:
        seeds = {c.name: set(c.seeds) for c in problem.contenders}
        union = set().union(*seeds.values())
        lacking = {name: sorted(union - have) for name, have in seeds.items() if have != union}
        if lacking:
            missing = sum(map(len, lacking.values()))
            yield Observation(
                names(
                    f"{name} lacks {len(s)} of {counted(len(union), 'seed')}"
                    for name, s in lacking.items()
                ),
                {"lacking": lacking},
                problem.compared,
                context.remedy("run all with the same seeds", {"seeds": sorted(union)}, missing),
            )


@audit_rule(
    "D07",
    Severity.WARNING,
    "seeds vary only one source of randomness",
    facts=("initial_parameters_sha256", "first_batches_sha256"),
)
def one_source(context: Context) -> Iterator[Observation]:
    """If the seed changes the data order but not the initial weights, or the reverse, the interval
    covers only part of the randomness and is too short.

    Source: Bouthillier et al. 2021.
    Example: the 5 seeds of adam have 5 data orders and 1 set of initial weights.
    Fix: let the seed change both, as `rng: streams` and `shuffle: true` do.
    """
    for contender in context.contenders:
        known = {
            record.seed: (facts.initial_parameters_sha256, facts.first_batches_sha256)
            for record in contender.records
            if (facts := record.facts).initial_parameters_sha256 and facts.first_batches_sha256
        }
        starts, orders = {start for start, _ in known.values()}, {o for _, o in known.values()}
        seeds = len(known)
        if seeds > 1 and min(len(starts), len(orders)) == 1:
            yield Observation(
                f"the {seeds} seeds of {contender.name} have {counted(len(orders), 'data order')} "
                f"and {len(starts)} set{'s' * (len(starts) > 1)} of initial weights",
                {"seeds": seeds, "orders": len(orders), "initial_weights": len(starts)},
                contender.records,
                context.remedy(
                    "let the seed change initial weights and data order",
                    {"shuffle": True, "rng": "streams"},
                    len(context.records),
                ),
            )


@audit_rule("D09", Severity.ERROR, "means leave out runs that diverged")
def diverged_dropped(context: Context) -> Iterator[Observation]:
    """A mean over finished runs rewards an optimizer for failing on hard seeds. A run that diverged
    counts as the worst. An error if the mean changes the leading optimizer, or if diverged runs
    were removed from the study; a warning if every run of an optimizer diverged, which leaves it
    without a result; otherwise advice.

    Source: Dahl et al. 2023 (AlgoPerf: an unreached target counts as infinite time).
    Example: 3 of 10 runs of adam diverged; adam leads only by the mean over finished runs.
    Fix: rank by the median, report the failure rate, or choose a setting that does not diverge.
    """
    removed = context.removed_seeds(Status.DIVERGED)
    if removed:
        seeds = {*(r.seed for r in removed), *(r.seed for r in context.compared)}
        yield Observation(
            f"{counted(len(removed), 'diverged run')} of {names(r.optimizer for r in removed)} "
            f"{'was' if len(removed) == 1 else 'were'} removed from the study",
            {"dropped": len(removed)},
            removed,
            context.remedy("restore their seeds", {"seeds": sorted(seeds)}),
        )
    for problem in context.problems:
        yield from _leads_by_finished(context, problem)


def _leads_by_finished(context: Context, problem: ProblemView) -> Iterator[Observation]:
    """Report diverged runs, and whether the mean over finished runs hides them."""
    metric, contenders = context.report_metric, problem.contenders
    diverged = {c.name: c.count(Status.DIVERGED) for c in contenders}
    failing = [c for c in contenders if diverged[c.name]]
    if not failing:
        return
    leader = _leader(contenders, metric, context.directions.better(metric))
    misleads = len(contenders) > 1 and diverged.get(leader, 0) > min(diverged.values())
    hopeless = problem.covers_an_optimizer(
        [c.name for c in failing if diverged[c.name] == len(c.records)]
    )
    counts = names(
        f"{diverged[c.name]} of {counted(len(c.records), 'run')} of {c.name}" for c in failing
    )
    reversal = f"; {leader} leads only by the mean over finished runs" if misleads else ""
    yield Observation(
        f"{counts} diverged{reversal}",
        {"diverged": diverged, "leads_by_finished": leader},
        [r for c in failing for r in c.records if r.status is Status.DIVERGED],
        scaling_remedy(context, problem.records) or _smaller_rates(context, failing),
        Severity.ERROR if misleads else Severity.WARNING if hopeless else Severity.ADVICE,
    )


def _leader(contenders: Sequence[Contender], metric: str, better: Direction | None) -> str:
    """Return the contender with the best mean over finished runs; empty if there is none."""
    means = {c.name: fmean(values) for c in contenders if (values := finished(c.records, metric))}
    best = {"higher": max, "lower": min}.get(better or "")
    return best(means, key=means.__getitem__, default="") if best else ""


def _smaller_rates(context: Context, contenders: Sequence[Contender]) -> Remedy:
    """Return the remedy of a smaller learning rate for each optimizer that diverges."""
    settings = {}
    tuned = {optimizer.name for optimizer in context.optimizers if "lr" in optimizer.tuned}
    for contender in contenders:
        path = context.path(contender.optimizer)
        rate = contender.records[0].hyperparameters.get("lr")
        if path and isinstance(rate, int | float) and rate > 0 and contender.optimizer not in tuned:
            settings[f"{path}.lr"] = float(f"{_smaller(contender, rate):.3g}")
    return context.remedy(
        "use a smaller learning rate, or report the failure rate",
        settings,
        sum(len(c.records) for c in contenders),
    )


def _smaller(contender: Contender, rate: float) -> float:
    """Return a third of a rate; if every run diverged, a tenth or a usual rate, the smaller."""
    if contender.count(Status.DIVERGED) < len(contender.records):
        return rate / 3
    low, high = usual_rates(contender.records[0].rule, rate)
    return min(rate / 10, math.sqrt(low * high))


@audit_rule("D13", Severity.WARNING, "seeds were added after looking at results")
def optional_stopping(context: Context) -> Iterator[Observation]:
    """Adding seeds until a difference is significant finds one in the end even if there is none. A
    single extension is advice only.

    Source: optional stopping, Armitage et al. 1969.
    Example: the study had 3, then 5, then 8 seeds, each time after runs had ended.
    Fix: fix the number of seeds in advance, or test the claims on new seeds only.
    """
    counts = [_seed_count(plan.study) for plan in context.plans]
    grown = [
        after
        for (before, after), plan in zip(pairwise(counts), context.plans[1:], strict=True)
        if plan.ended and after > before
    ]
    if grown and context.claims:
        each_time = (
            ", each time after runs had ended" if len(grown) > 1 else " after runs had ended"
        )
        yield Observation(
            f"the study had {counts[0]}, then {', then '.join(map(str, grown))} seeds{each_time}",
            {"seeds": [counts[0], *grown]},
            context.compared,
            new_seeds(context, "test the claims on new seeds, in a new folder"),
            Severity.WARNING if len(grown) > 1 else Severity.ADVICE,
        )


def _seed_count(study: Mapping[str, Any]) -> int:
    """Return the number of seeds; the most of any problem if problems have their own."""
    by_problem = [
        p.get("seeds") for p in study.get("problem", {}).values() if isinstance(p, Mapping)
    ]
    seeds = [choice for choice in (study.get("seeds"), *by_problem) if choice]
    return max((n if isinstance(n, int) else len(n) for n in seeds), default=0)


@audit_rule("D14", Severity.ADVICE, "a run is an outlier")
def outliers(context: Context) -> Iterator[Observation]:
    """A single run that went wrong can dominate the mean and its interval. The median and the
    interquartile mean show the other runs.

    Source: Agarwal et al. 2021.
    Example: the median test accuracy of adam is 96.5 %, but seed 3 has 81 %.
    Fix: report the interquartile mean beside the mean; look at the run.
    """
    metric = context.report_metric
    for contender in context.contenders:
        values = finished(contender.records, metric)
        if len(values) < 5 or contender.spec.fold:  # folds are tested on different samples
            continue
        middle = median(values)
        spread = 1.4826 * median(abs(value - middle) for value in values)
        far = {
            r.seed: value
            for r in contender.records
            if (value := r.metrics.get(metric)) is not None
            and spread > 0
            and abs(value - middle) > OUTLIER * spread
            and abs(value - middle) > 4 * float(np.std([v for v in values if v != value], ddof=1))
        }
        if far:
            shown = partial(context.directions.shown, metric)
            yield Observation(
                f"the median {metric_title(metric)} of {contender.name} is {shown(middle)}, "
                "but " + names(f"seed {seed} has {shown(value)}" for seed, value in far.items()),
                {"median": middle, "outliers": {str(seed): value for seed, value in far.items()}},
                [r for r in contender.records if r.seed in far],
                context.remedy("report the interquartile mean beside the mean"),
            )
