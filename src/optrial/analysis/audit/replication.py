"""D, first third: whether there are enough runs, of the right kind."""

from __future__ import annotations

import math
from collections.abc import Iterator

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Severity
from optrial.analysis.audit.remedies import new_seeds
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimResult, ClaimVerdict
from optrial.analysis.statistics import minimum_pairs

__all__ = ["REPLICATION_RULES"]

ENOUGH_SEEDS = 10


def _claimed_or_several(context: Context) -> bool:
    return bool(context.claims) or len(context.contenders) > 1


@audit_rule("D01", Severity.ERROR, "one seed", concerns=_claimed_or_several)
def one_seed(context: Context) -> Iterator[Observation]:
    """Initial weights and order of the data alone move a result by as much as most differences
    between optimizers. One run a setting tells nothing about that.

    Source: Bouthillier et al. 2021; Agarwal et al. 2021.
    Example: sgd, momentum and adam were run with one seed.
    Fix: `seeds: 10`.
    """
    lone = [c for c in context.contenders if len(set(c.seeds)) == 1]
    if lone:
        yield Observation(
            f"{names(c.name for c in lone)} {'was' if len(lone) == 1 else 'were'} run with "
            "one seed",
            {"seeds": {c.name: len(set(c.seeds)) for c in context.contenders}},
            [r for c in lone for r in c.records],
            context.more_seeds(ENOUGH_SEEDS, f"run {ENOUGH_SEEDS} seeds"),
        )


@audit_rule("D02", Severity.WARNING, "too few seeds to find a difference")
def underpowered(context: Context) -> Iterator[Observation]:
    """The smallest p-value of n pairs is 2^(1-n): below a number of seeds no difference, however
    large, can be significant. Where a claim names an amount, the seeds must be able to show it.

    Source: Bouthillier et al. 2021; Noether 1987.
    Example: 3 seeds, while 15 comparisons need at least 10.
    Fix: more seeds; those that are there are kept.
    """
    if len(context.contenders) < 2 or min(len(set(c.seeds)) for c in context.contenders) < 2:
        return
    family = len(context.claims)
    for problem in context.problems:
        count = len(problem.finishing if len(problem.finishing) > 1 else problem.contenders)
        fewest = min(len(set(c.seeds)) for c in problem.contenders)
        needed = minimum_pairs(comparisons=family or max(1, math.comb(count, 2)))
        if fewest < needed:
            several = "optimizers" if problem.chooses else "settings"
            what = f"{family} claims" if family else f"comparing {count} {several} with each other"
            yield Observation(
                f"{fewest} seeds, while {what} cannot be decided with fewer than {needed}",
                {"seeds": fewest, "needed": needed},
                problem.compared,
                context.more_seeds(needed, f"run {needed} seeds"),
            )
    for result in context.results:
        yield from _too_small_to_see(context, result)


def _too_small_to_see(context: Context, result: ClaimResult) -> Iterator[Observation]:
    """Say where an undecided claim names an amount that its seeds cannot show."""
    amount = result.claim.amount
    if result.verdict is not ClaimVerdict.UNDECIDED or not amount.value or amount.relative:
        return
    (pair,) = result.comparisons
    needed = pair.seeds_needed(amount.value) if pair.pairs > 1 else None
    if needed is not None and needed > pair.pairs:
        yield Observation(
            f'"{result.claim.text}": about {needed} seeds would show a difference of that size, '
            f"there are {pair.pairs}",
            {"seeds": pair.pairs, "needed": needed},
            context.claimed_runs(result.claim),
            context.more_seeds(needed, f"run {needed} seeds"),
        )


@audit_rule("D05", Severity.ADVICE, "optimizers share too few seeds to be paired")
def unpaired(context: Context) -> Iterator[Observation]:
    """Runs with one seed start from the same weights and see the same batches, so that their
    difference has less noise than each of them. Seeds that only one has cannot be paired.

    Source: Bouthillier et al. 2021.
    Example: adam has seeds 0 to 4, sgd 5 to 9.
    Fix: the same seeds for all.
    """
    for problem in context.problems:
        seeds = {c.name: set(c.seeds) for c in problem.contenders}
        everyone = set().union(*seeds.values())
        lacking = {name: sorted(everyone - own) for name, own in seeds.items() if own != everyone}
        if lacking:
            missing = sum(map(len, lacking.values()))
            yield Observation(
                names(f"{name} lacks {len(s)} of {len(everyone)}" for name, s in lacking.items()),
                {"lacking": lacking},
                problem.compared,
                context.remedy("run all with the same seeds", {"seeds": sorted(everyone)}, missing),
            )


@audit_rule(
    "D07",
    Severity.WARNING,
    "the seeds vary only one source of chance",
    facts=("initial_parameters_sha256", "first_batches_sha256"),
)
def one_source(context: Context) -> Iterator[Observation]:
    """If only the order of the data varies, and not the initial weights, the interval covers part
    of the chance in a result and is too short.

    Source: Bouthillier et al. 2021.
    Example: the 5 seeds of adam have 5 orders of the data and 1 set of initial weights.
    Fix: vary initial weights and order with the seed, as `rng: streams` and `shuffle: true` do.
    """
    for contender in context.contenders:
        starts = {r.facts.initial_parameters_sha256 for r in contender.records} - {None}
        orders = {r.facts.first_batches_sha256 for r in contender.records} - {None, ""}
        seeds = len(set(contender.seeds))
        if seeds > 1 and starts and orders and min(len(starts), len(orders)) == 1:
            yield Observation(
                f"the {seeds} seeds of {contender.name} have {len(orders)} orders of the data "
                f"and {len(starts)} sets of initial weights",
                {"seeds": seeds, "orders": len(orders), "initial_weights": len(starts)},
                contender.records,
                context.remedy(
                    "vary both with the seed",
                    {"shuffle": True, "rng": "streams"},
                    len(context.records),
                ),
            )


@audit_rule("D13", Severity.WARNING, "seeds were added again and again")
def optional_stopping(context: Context) -> Iterator[Observation]:
    """Looking, adding seeds, and looking again until a difference is significant finds one in the
    end where there is none. One planned extension is advice only.

    Source: optional stopping, Armitage et al. 1969.
    Example: the study had 3, then 5, then 8 seeds, each time after runs had ended.
    Fix: fix the number of seeds before, or test the claim with new seeds only.
    """
    counts = [_seed_count(plan.study) for plan in context.plans]
    pairs = zip(counts, counts[1:], context.plans[1:], strict=False)
    grown = [after for before, after, plan in pairs if plan.ended and after > before]
    if grown and context.claims:
        yield Observation(
            f"the study had {counts[0]}, then {', then '.join(map(str, grown))} seeds, each time "
            "after runs had ended",
            {"seeds": [counts[0], *grown]},
            context.compared,
            new_seeds(context, "test the claims with new seeds, in a new folder"),
            Severity.WARNING if len(grown) > 1 else Severity.ADVICE,
        )


def _seed_count(study: object) -> int:
    seeds = study.get("seeds", 0) if hasattr(study, "get") else 0
    return seeds if isinstance(seeds, int) else len(seeds)


REPLICATION_RULES = (one_seed, underpowered, unpaired, one_source, optional_stopping)
