"""D, second third: whether the runs say what is claimed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import new_seeds
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.audit.scale import scaling_remedy
from optrial.analysis.claims import ClaimKind, ClaimResult, ClaimVerdict
from optrial.analysis.contenders import finished
from optrial.analysis.statistics import (
    Verdict,
    compare_all,
    mcnemar_bound,
    mean_interval,
    minimum_pairs,
)
from optrial.analysis.view import ProblemView

__all__ = ["EVIDENCE_RULES"]

PRACTICAL = 0.001  # differences of accuracy below a tenth of a point are of no use
MOST_COMPARED = 40  # settings; beyond, nobody reads which are tied


@audit_rule("D04", Severity.ERROR, "a claim that the runs do not support")
def unsupported_claim(context: Context) -> Iterator[Observation]:
    """A claim is supported where paired tests over common seeds, corrected for the number of
    claims, say so. An optimizer that is ahead by its mean alone is in a group of ties.

    Source: Agarwal et al. 2021; modded-nanogpt, submission rules (significance).
    Example: "adam is best on test_accuracy" is undecided: not told apart from nadam.
    Fix: drop the claim or say that it is undecided; more seeds where the difference is real.
    """
    for problem, result in context.decided:
        if result.verdict is ClaimVerdict.SUPPORTED or not result.pairs:
            continue
        yield Observation(
            result.sentence + _ties(context, problem, result),
            {"verdict": str(result.verdict), **result.numbers},
            context.claimed_runs(result.claim),
            _decide(context, problem, result),
        )


def _ties(context: Context, problem: ProblemView, result: ClaimResult) -> str:
    """Name the group of the best, for a claim that one is."""
    if result.claim.kind is not ClaimKind.BEST:
        return ""
    best = _best_group(context, problem, result.claim.metric)
    return f"; tied for the best: {', '.join(best)}" if len(best) > 1 else ""


def _best_group(context: Context, problem: ProblemView, metric: str) -> tuple[str, ...]:
    """Return the best of a problem and who cannot be told apart from it."""
    values = {c.name: found for c in problem.contenders if (found := c.values(metric))}
    better = context.directions.better(metric)
    if better is None:
        return ()
    if len(values) < 2:
        return tuple(values)
    family = compare_all(
        values, metric=metric, higher_is_better=better == "higher", seed=context.seed
    )
    best = next(iter(family.groups), ())
    tied = {
        name
        for pair in family.pairs
        if pair.verdict is Verdict.TIED and best and best[0] in (pair.first, pair.second)
        for name in (pair.first, pair.second)
    }
    return tuple(name for name in best if name == best[0] or name in tied)


def _decide(context: Context, problem: ProblemView, result: ClaimResult) -> Remedy:
    """More seeds for an undecided claim, as many as its own differences ask for."""
    without = [text for text in context.study.get("claims") or () if text != result.claim.text]
    if result.verdict is ClaimVerdict.REFUTED:
        return context.remedy("remove the claim: the opposite is true", {"claims": without})
    lost = {
        name
        for pair in result.comparisons
        if pair.verdict is Verdict.UNDECIDED_DIVERGED
        for name, count in zip((pair.first, pair.second), pair.diverged, strict=True)
        if count
    }
    if lost:
        return scaling_remedy(context, problem.records) or context.remedy(
            f"give {names(sorted(lost))} a setting with which runs finish, or remove the claim",
            {"claims": without},
        )
    gaps = [
        needed
        for pair in result.comparisons
        if pair.pairs > 1
        and pair.difference.estimate
        and math.isfinite(pair.difference.estimate)
        and (needed := pair.seeds_needed(abs(pair.difference.estimate))) is not None
    ]
    if not gaps or max(gaps) > 100:
        return context.remedy(
            "remove the claim: over 100 seeds would be needed" if gaps else "remove the claim",
            {"claims": without},
        )
    needed = max(*gaps, minimum_pairs(comparisons=len(context.claims)))
    if needed <= min(len(c.seeds) for c in context.claimed(result.claim)):
        return context.remedy("remove the claim, or say that it is undecided", {"claims": without})
    return context.more_seeds(needed, f"run about {needed} seeds")


@audit_rule("D06", Severity.WARNING, "the correction leaves comparisons out")
def uncorrected(context: Context) -> Iterator[Observation]:
    """Every claim is corrected for all claims of the study. That is too little where claims were
    given up after results were there, or found in the results: then any two optimizers could have
    become the claim.

    Source: Demsar 2006; Holm 1979.
    Example: "adam > sgd on test_accuracy" has p = 0.016, enough for 1 claim, but 4 were tested.
    Fix: put the claims back that were given up, or test the claim with new seeds.
    """
    texts = [str(text) for text in context.study.get("claims") or ()]
    tested = len(texts) + len(context.dropped_claims)
    for problem, result in context.decided:
        pairs = math.comb(len(problem.contenders), 2)
        family = max(tested, pairs if result.claim.text in context.late_claims else 0)
        if result.verdict is ClaimVerdict.SUPPORTED and family * result.p_value > result.alpha:
            yield Observation(
                f'"{result.claim.text}" has p = {result.p_value:.2g}, enough for {len(texts)} '
                f"claim{'s' * (len(texts) > 1)}, but {family} comparisons were tested or open to "
                "be claimed",
                {"p_value": result.p_value, "family": family, "claims": len(texts)},
                context.claimed_runs(result.claim),
                context.remedy("put the claims back", {"claims": [*texts, *context.dropped_claims]})
                if context.dropped_claims
                else new_seeds(context, "test the claim with new seeds, in a new folder"),
            )


@audit_rule(
    "D08",
    Severity.WARNING,
    "a claimed gap is within the noise of the test set",
    facts=("split_sizes",),
    concerns=lambda context: any(c.metric == "test_accuracy" for c in context.claims),
)
def test_set_noise(context: Context) -> Iterator[Observation]:
    """More seeds average out training, not the finite test set: all are tested on the same images.
    A gap below McNemar's bound may not hold on other images of the same kind. The bound is that of
    the largest disagreement the two error rates allow; predictions would give a sharper one.

    Source: Jordan 2023; McNemar 1947; Dietterich 1998.
    Example: the gap is 0.08 points, 1,000 images resolve 1.6 points at these accuracies.
    Fix: a larger test set, or limit the claim to these images.
    """
    for result in context.results:
        claim, gap = result.claim, result.numbers.get("difference")
        supported = result.verdict is ClaimVerdict.SUPPORTED and claim.kind is ClaimKind.BETTER
        contenders = context.claimed(claim)
        sizes = {(r.facts.split_sizes or {}).get("test") for c in contenders for r in c.records}
        images = max((size for size in sizes if size), default=0)
        if not (supported and gap is not None and images and claim.metric == "test_accuracy"):
            continue
        means = [fmean(finished(c.records, claim.metric)) for c in contenders]
        bound = mcnemar_bound(means[0], means[1], images)
        if abs(gap) < bound:
            yield Observation(
                f'"{claim.text}": the gap is {100 * abs(gap):.2g} points, {images} test images '
                f"resolve {100 * bound:.2g} points for certain at these accuracies",
                {"gap": abs(gap), "bound": bound, "images": images},
                context.claimed_runs(claim),
                context.remedy("test on more images, or limit the claim to these"),
            )


@audit_rule("D12", Severity.ADVICE, "significant, but of no practical size")
def no_practical_size(context: Context) -> Iterator[Observation]:
    """With many seeds a difference of a hundredth of a point becomes significant. Whether it
    matters is another question.

    Source: Benavoli et al. 2017 (region of practical equivalence).
    Example: the whole interval of the difference lies within 0.1 points of 0.
    Fix: claim an amount: `A > B on test_accuracy by 0.2 points`.
    """
    for result in context.results:
        low, high = (result.numbers.get(limit) for limit in ("low", "high"))
        if (
            result.verdict is ClaimVerdict.SUPPORTED
            and result.claim.kind is ClaimKind.BETTER
            and result.claim.percent
            and low is not None
            and high is not None
            and max(abs(low), abs(high)) < PRACTICAL
        ):
            yield Observation(
                f'"{result.claim.text}": the interval of the difference, {100 * low:.3f} to '
                f"{100 * high:.3f} points, lies within {100 * PRACTICAL:g} points of 0",
                {"low": low, "high": high, "practical": PRACTICAL},
                context.claimed_runs(result.claim),
                context.remedy("claim the amount that matters"),
            )


@audit_rule("D15", Severity.ADVICE, "optimizers are tied")
def tied(context: Context) -> Iterator[Observation]:
    """Where paired tests cannot tell the best ones apart, their order in a table is chance, and so
    are decimals that are finer than the interval. With too few seeds to tell any apart D02 says it.

    Source: Agarwal et al. 2021; Demsar 2006 (groups that are not significantly different).
    Example: adam and nadam are tied on test_accuracy, which is known to 0.12 points.
    Fix: name them as tied, with as many decimals as the interval supports.
    """
    metric = context.report_metric
    for problem in context.problems:
        count, seeds = len(problem.finishing), min(len(set(c.seeds)) for c in problem.contenders)
        if not 1 < count <= MOST_COMPARED or seeds < minimum_pairs(comparisons=math.comb(count, 2)):
            continue
        best = _best_group(context, problem, metric)
        runs = [c for c in problem.contenders if c.name in best]
        values = finished(runs[0].records, metric) if runs else []
        if len(best) > 1 and values:
            interval = mean_interval(values, context.generator("D15", problem.name))
            scale, unit = (100, " points") if context.directions.percent(metric) else (1, "")
            half = scale * (interval.high - interval.low) / 2
            known = f", which is known to {half:.2g}{unit}" if interval.known else ""
            yield Observation(
                f"{names(best)} are tied on {metric}{known}",
                {"tied": list(best), "half_width": half if interval.known else None},
                [r for c in runs for r in c.records],
                context.remedy("name them as tied"),
            )


EVIDENCE_RULES = (
    unsupported_claim,
    uncorrected,
    test_set_noise,
    no_practical_size,
    tied,
)
