"""D, second half: whether tests on the runs support what is claimed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import new_seeds, scaling_remedy
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.bands import FoldsOfRuns, seed_intervals
from optrial.analysis.claims import ClaimKind, ClaimResult, ClaimVerdict
from optrial.analysis.contenders import finished
from optrial.analysis.statistics import (
    Comparison,
    Verdict,
    compare_all,
    mcnemar_bound,
    minimum_pairs,
    p_text,
    two_digits,
)
from optrial.analysis.view import ProblemView
from optrial.errors import all_listed, counted, quoted

SMALLEST_USEFUL = 0.001  # difference of accuracy: a tenth of a point
SEEDS_WORTH_ADDING = 100
MOST_COMPARED = 40  # settings; a list of ties among more is unreadable


def _supported(result: ClaimResult) -> bool:
    """Return True for a supported claim that one optimizer is better."""
    return result.verdict is ClaimVerdict.SUPPORTED and result.claim.kind is ClaimKind.BETTER


@audit_rule("D04", Severity.ERROR, "a claim is not supported")
def unsupported_claim(context: Context) -> Iterator[Observation]:
    """A claim is supported if paired tests over common seeds, corrected for the number of claims,
    are significant. An optimizer that leads by its mean alone is undecided against others.

    Source: Agarwal et al. 2021; modded-nanogpt, submission rules (significance).
    Example: "adam is best on test_accuracy" is undecided, because nadam is undecided against adam.
    Fix: drop the claim or call it undecided; add seeds if the difference is real.
    """
    for problem, result in context.decided:
        if result.verdict is ClaimVerdict.SUPPORTED or not result.pairs:
            continue
        yield Observation(
            result.sentence + _ties(context, problem, result),
            {"verdict": str(result.verdict), **result.numbers},
            context.claimed_runs(result.claim),
            _decision(context, problem, result),
        )


def _ties(context: Context, problem: ProblemView, result: ClaimResult) -> str:
    """Return the optimizers that are undecided for the best, for a claim that one is best."""
    if result.claim.kind is not ClaimKind.BEST:
        return ""
    best = _best_group(context, problem, result.claim.metric)
    return f"; undecided for the best: {', '.join(best)}" if len(best) > 1 else ""


def _best_group(context: Context, problem: ProblemView, metric: str) -> tuple[str, ...]:
    """Return the best contender of a problem and those that are undecided against it."""
    values = {c.name: finals for c in problem.contenders if (finals := c.values(metric))}
    better = context.directions.better(metric)
    if better is None:
        return ()
    if len(values) < 2:
        return tuple(values)
    family = compare_all(
        values, metric=metric, higher_is_better=better == "higher", seed=context.seed
    )
    best = next(iter(family.groups), ())
    undecided = {
        name
        for pair in family.pairs
        if pair.verdict is Verdict.UNDECIDED and best and best[0] in (pair.first, pair.second)
        for name in (pair.first, pair.second)
    }
    return tuple(name for name in best if name == best[0] or name in undecided)


def _decision(context: Context, problem: ProblemView, result: ClaimResult) -> Remedy:
    """Return as many seeds as the observed differences need; else removing the claim."""
    kept = [text for text in context.study.get("claims") or () if text != result.claim.text]
    if result.verdict is ClaimVerdict.REFUTED:
        return context.remedy("remove the claim; the opposite is true", {"claims": kept})
    if diverged := _diverged(result):
        return scaling_remedy(context, problem.records) or context.remedy(
            f"choose a setting of {names(diverged)} with which runs finish, or remove the claim",
            {"claims": kept},
        )
    needs = {
        seeds: distance
        for pair in result.comparisons
        if pair.pairs > 1
        and (distance := _distance(problem, result, pair))
        and math.isfinite(distance)
        and (seeds := pair.seeds_needed(abs(distance))) is not None
    }
    if not needs or max(needs) > SEEDS_WORTH_ADDING:
        why = f"; it would need over {SEEDS_WORTH_ADDING} seeds" if needs else ""
        return context.remedy(f"remove the claim{why}", {"claims": kept})
    needed = max(*needs, minimum_pairs(comparisons=len(context.results)))
    if needed <= min(len(c.seeds) for c in context.claimed(result.claim)):
        return context.remedy("remove the claim, or call it undecided", {"claims": kept})
    against = "; so far the runs speak against the claim" * (min(needs.values()) < 0)
    return context.more_seeds(needed, f"run about {needed} seeds{against}")


def _distance(problem: ProblemView, result: ClaimResult, pair: Comparison) -> float:
    """Return how far the observed difference is from what decides the claim; < 0 against it."""
    claim, difference = result.claim, pair.difference.estimate
    values = {c.name: c.values(claim.metric) for c in problem.contenders}
    amount = claim.amount.of(values.get(claim.second, {})) if claim.amount.value else 0.0
    if claim.kind is ClaimKind.EQUIVALENT:
        return amount - abs(difference)
    return (-difference if claim.better == "lower" else difference) - amount


def _diverged(result: ClaimResult) -> list[str]:
    """Return the optimizers whose diverged runs leave a claim undecided."""
    return sorted(
        {
            name
            for pair in result.comparisons
            if pair.verdict is Verdict.UNDECIDED_DIVERGED
            for name, count in zip((pair.first, pair.second), pair.diverged, strict=True)
            if count
        }
    )


@audit_rule("D06", Severity.WARNING, "the correction for multiple comparisons is too small")
def uncorrected(context: Context) -> Iterator[Observation]:
    """Every claim is corrected for the number of claims in the study. That is too little if claims
    were removed after results were known, or were found in the results: then any two optimizers
    could have become the claim.

    Source: Demsar 2006; Bonferroni 1936.
    Example: "adam > sgd on test_accuracy" has p = 0.016, significant among 1 claim but not among 4
    possible comparisons.
    Fix: restore the removed claims, or test the claim on new seeds.
    """
    texts = [str(text) for text in context.study.get("claims") or ()]
    tested = len(texts) + len(context.dropped_claims)
    for problem, result in context.decided:
        pairs = math.comb(len(problem.contenders), 2)
        family = max(tested, pairs if result.claim.text in context.late_claims else 0)
        if result.verdict is ClaimVerdict.SUPPORTED and family * result.p_value > result.alpha:
            yield Observation(
                f"{quoted(result.claim.text)} has {p_text(result.p_value)}, significant among "
                f"{counted(len(texts), 'claim')} but not among {family} possible comparisons",
                {"p_value": result.p_value, "family": family, "claims": len(texts)},
                context.claimed_runs(result.claim),
                context.remedy(
                    "restore the removed claims", {"claims": [*texts, *context.dropped_claims]}
                )
                if context.dropped_claims
                else new_seeds(context, "test the claim on new seeds, in a new folder"),
            )


@audit_rule(
    "D08",
    Severity.WARNING,
    "a claimed gap is within the noise of the test set",
    facts=("split_sizes",),
    concerns=lambda context: any(c.metric == "test_accuracy" for c in context.claims),
)
def test_set_noise(context: Context) -> Iterator[Observation]:
    """More seeds average out the randomness of training, but not that of a finite test set, because
    all runs are tested on the same samples. A gap below McNemar's bound may not hold on other
    samples of the same kind. The bound assumes the largest disagreement that the two error rates
    allow; stored predictions would give a sharper one.

    Source: Jordan 2023; McNemar 1947; Dietterich 1998.
    Example: "adam > sgd on test_accuracy": the gap is 0.08 points, but 1,000 test samples resolve
    only 1.6 points at these accuracies.
    Fix: use a larger test set, or restrict the claim to these samples.
    """
    for result in context.results:
        claim, gap = result.claim, result.numbers.get("difference")
        contenders = context.claimed(claim)
        sizes = {(r.facts.split_sizes or {}).get("test") for c in contenders for r in c.records}
        samples = max((size for size in sizes if size), default=0)
        if any(c.spec.fold for c in contenders):  # every fold tests on other samples
            continue
        on_accuracy = claim.metric == "test_accuracy"
        if not (_supported(result) and gap is not None and samples and on_accuracy):
            continue
        means = [fmean(finished(c.records, claim.metric)) for c in contenders]
        bound = mcnemar_bound(means[0], means[1], samples)
        if abs(gap) < bound:
            digits = 2 if f"{abs(gap):.2g}" != f"{bound:.2g}" else 3
            yield Observation(
                f"{quoted(claim.text)}: the gap is {100 * abs(gap):.{digits}g} points, but "
                f"{samples:,} test samples resolve only {100 * bound:.{digits}g} points at these "
                "accuracies",
                {"gap": abs(gap), "bound": bound, "images": samples},
                context.claimed_runs(claim),
                context.remedy("test on more samples, or restrict the claim to these"),
            )


@audit_rule("D12", Severity.ADVICE, "a difference is significant but too small to matter")
def no_practical_size(context: Context) -> Iterator[Observation]:
    """With many seeds, a difference of a hundredth of a point becomes significant. It need not
    matter in practice.

    Source: Benavoli et al. 2017 (region of practical equivalence).
    Example: the 95 % interval of the difference, 0.012 to 0.061 points, lies within 0.1 points of
    0.
    Fix: claim an amount: `A > B on test_accuracy by 0.2 points`.
    """
    for result in context.results:
        low, high = (result.numbers.get(limit) for limit in ("low", "high"))
        if (
            _supported(result)
            and result.claim.percent
            and low is not None
            and high is not None
            and max(abs(low), abs(high)) < SMALLEST_USEFUL
        ):
            yield Observation(
                f"{quoted(result.claim.text)}: the 95 % interval of the difference, "
                f"{100 * low:.3f} to {100 * high:.3f} points, lies within "
                f"{100 * SMALLEST_USEFUL:g} points of 0",
                {"low": low, "high": high, "practical": SMALLEST_USEFUL},
                context.claimed_runs(result.claim),
                context.remedy("claim the amount that matters"),
            )


@audit_rule("D15", Severity.ADVICE, "the best optimizers are undecided")
def undecided(context: Context) -> Iterator[Observation]:
    """If paired tests show no difference between the best optimizers, their order in a table may be
    chance, and so are decimals finer than the interval. D02 covers studies with too few seeds for
    any difference.

    Source: Agarwal et al. 2021; Demsar 2006 (groups that are not significantly different).
    Example: adam and nadam are undecided on test accuracy, known to within 0.12 points.
    Fix: report them as undecided, with as many decimals as the interval supports.
    """
    metric = context.report_metric
    for problem in context.problems:
        count, seeds = len(problem.finishing), min(len(c.pairs) for c in problem.contenders)
        fewest = minimum_pairs(comparisons=math.comb(count, 2)) if count > 1 else math.inf
        fewest = min(fewest, 2) if problem.pairing == "fold" else fewest
        if not 1 < count <= MOST_COMPARED or seeds < fewest:
            continue
        best = _best_group(context, problem, metric)
        contenders = [c for c in problem.contenders if c.name in best]
        done = [r for c in contenders[:1] for r in c.records if r.final(metric) is not None]
        if len(best) > 1 and done:
            row, folds = np.array([finished(done, metric)]), FoldsOfRuns.of(done, metric)
            (interval,) = seed_intervals(row, context.generator("D15", problem.name), folds=folds)
            scale, unit = (100, " points") if context.directions.percent(metric) else (1, "")
            half = scale * (interval.high - interval.low) / 2
            precision = f", known to within {two_digits(half)}{unit}" if interval.known else ""
            title = context.directions.title(metric)
            yield Observation(
                f"{all_listed(best)} are undecided on {title}{precision}",
                {"undecided": list(best), "half_width": half if interval.known else None},
                [r for c in contenders for r in c.records],
                context.remedy("report them as undecided"),
            )
