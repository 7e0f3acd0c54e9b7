"""A, last third: whether what tuning chose can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.families import INCLUSIONS
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import balanced, equal_search
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimKind, ClaimResult, ClaimVerdict
from optrial.analysis.contenders import OptimizerRuns, finished, hyperparameters, merit
from optrial.analysis.statistics import BestOfK, best_of_k, compare, known_values, mean_interval
from optrial.analysis.values import final_values
from optrial.analysis.view import ProblemView
from optrial.records import Record

__all__ = ["TUNING_OUTCOME_RULES"]

COARSE = 3.5  # ratio of neighbouring learning rates: two a decade are fine enough
RESAMPLES = 200
FEW = 3  # values below which an interval says nothing
POINTS_FOR_CURVE = 5
TRIALS = 16  # of a search over two hyperparameters
SETTLED = 0.7  # Kendall's tau of an order that lasts


@audit_rule("A06", Severity.WARNING, "a rule loses to its own special case")
def inclusion_violated(context: Context) -> Iterator[Observation]:
    """Adam with a large epsilon is momentum, momentum 0 is SGD. A rule tuned over all of its
    hyperparameters cannot lose to a special case of itself: if it does, the search left out what it
    takes to imitate it. An error where the study claims that the special case is better.

    Source: Choi et al. 2019.
    Example: momentum loses to sgd by 0.8 points while momentum was fixed at 0.9.
    Fix: tune the hyperparameter that makes the one from the other too.
    """
    metric = context.report_metric
    better = context.directions.better(metric)
    for problem in context.problems if better else ():
        by_rule = {o.rule: o for o in problem.optimizers}
        for general, special, name in INCLUSIONS:
            one, other = by_rule.get(general), by_rule.get(special)
            if not (one and other and one.chosen and other.chosen) or name in one.tuned:
                continue
            pair = compare(
                one.chosen.values(metric),
                other.chosen.values(metric),
                metric=metric,
                higher_is_better=better == "higher",
                seed=context.seed,
            )
            if pair.verdict.value != "worse":
                continue
            fixed = hyperparameters(one.reported[0]).get(name)
            claimed = any(
                claim.kind is ClaimKind.BETTER
                and (claim.first, claim.second) == (other.name, one.name)
                for claim in context.claims
            )
            yield Observation(
                f"{one.name} loses to {other.name} on {metric}, with {name} fixed at "
                f"{fixed}, though it can imitate it",
                {"general": one.name, "special": other.name, "fixed": {name: fixed}},
                [*one.reported, *other.reported],
                _imitation(context, problem, one, name),
                Severity.ERROR if claimed else None,
            )


def _imitation(context: Context, problem: ProblemView, general: OptimizerRuns, name: str) -> Remedy:
    """Equally many trials for all, in which the general rule may become the special one."""
    trials = max(TRIALS, *(len(o.tried) for o in problem.optimizers))
    action = f"tune {name} of {general.name} too, with as many trials for the others"
    remedy = equal_search(context, problem.optimizers, trials, action)
    if not remedy.settings:
        return remedy
    values = {"log": [1e-8, 1.0]} if name == "eps" else {"lin": [0.0, 0.99]}
    path = f"{context.entry(general.name)[0]}.{name}"
    return replace(remedy, settings={path: values, **remedy.settings})


@audit_rule("A08", Severity.WARNING, "learning rates too far apart near the best one")
def coarse_grid(context: Context) -> Iterator[Observation]:
    """Where neighbouring learning rates differ by a factor of ten, the best of them can be three
    times too large or small, by chance more so for one optimizer than for another. With fewer than
    five trials A05 says so already; a search that draws from a range is judged by its trials alone.

    Source: Wilson et al. 2017; Deep Learning Tuning Playbook.
    Example: next to adam's best lr 0.001 the nearest that were tried are 0.0001 and 0.01.
    Fix: add the values in between, `lr: {log: [0.0001, 0.01], points: 5}`.
    """
    for problem in context.problems:
        coarse: dict[str, float] = {}
        settings: dict[str, Any] = {}
        runs: list[Record] = []
        for optimizer in problem.optimizers:
            rates = [rate for rate in optimizer.tuned.get("lr", []) if rate > 0]
            drawn = context.drawn_from(optimizer.name, "lr")
            if drawn or optimizer.best_rate not in rates or len(rates) < 2:
                continue
            place = rates.index(optimizer.best_rate)
            near = rates[max(0, place - 1) : place + 2]
            ratio = max(b / a for a, b in pairwise(near))
            if path := context.entry(optimizer.name)[0]:
                settings[f"{path}.lr"] = _halved(rates, near)
            if ratio > COARSE and len(optimizer.tried) >= POINTS_FOR_CURVE:
                coarse[optimizer.name] = ratio
                runs += [r for rate in near for r in optimizer.with_value("lr", rate)]
        if coarse:
            said = names(f"{name} {ratio:.2g}" for name, ratio in coarse.items())
            yield Observation(
                f"ratio of neighbouring learning rates around the best: {said}",
                {"ratio": coarse},
                runs,
                context.remedy(
                    "add the learning rates in between",
                    balanced(context, problem.optimizers, settings),
                    len(runs) * 2 // 3,
                ),
            )


def _halved(rates: list[float], near: list[float]) -> list[float]:
    """Return the rates and the middle of every two neighbours of `near`, in logarithms."""
    return sorted({*rates, *(float(f"{math.sqrt(a * b):.3g}") for a, b in pairwise(near))})


@audit_rule("A11", Severity.WARNING, "who is ahead depends on the number of trials")
def budget_decides(context: Context) -> Iterator[Observation]:
    """The best of k random trials rises with k, faster for an optimizer that is hard to tune. Where
    the curves of two optimizers cross, the order holds for one tuning budget only.

    Source: Dodge et al. 2019; Sivaprasad et al. 2020.
    Example: adam is ahead for 2 trials and sgd for 9.
    Fix: report the whole curve of best-of-k, or tune with more trials.
    """
    selection = context.ranked_by
    if selection is None:
        return
    metric, higher = selection.metric, selection.better == "higher"
    for problem in context.problems:
        curves = {
            o.name: best_of_k(
                [_mean(runs, metric) for runs in o.tried.values()],
                context.generator("A11", problem.name, o.name),
                higher_is_better=higher,
                resamples=RESAMPLES,
            )
            for o in problem.optimizers
            if len(o.tried) >= POINTS_FOR_CURVE
        }
        crossed = [
            (first, second, early, k)
            for first, one in curves.items()
            for second, other in curves.items()
            for early, k in _overtaken(one, other, higher)
        ]
        if crossed:
            said = names(f"{a} leads {b} for {k} trials, not for {n}" for a, b, k, n in crossed)
            involved = {name for each in crossed for name in each[:2]}
            yield Observation(
                said,
                {"crossings": [list(each) for each in crossed]},
                [r for o in problem.optimizers if o.name in involved for r in o.trials],
                context.remedy("say for how many trials the order holds"),
            )


def _overtaken(one: BestOfK, other: BestOfK, higher: bool) -> Iterator[tuple[int, int]]:
    """Yield k and K where `one` is clearly ahead after k trials and behind after K."""
    sign, count = (1 if higher else -1), min(len(one.trials), len(other.trials))
    least = (one.low if higher else -one.high)[:count]
    most = (other.high if higher else -other.low)[:count]
    ahead = np.flatnonzero(least > most)
    if len(ahead) and sign * other.expected[count - 1] > sign * one.expected[count - 1]:
        yield int(ahead[0]) + 1, count


def _mean(runs: tuple[Record, ...], metric: str) -> float:
    """Return the mean over seeds of one trial; NaN where any of its runs has no finite value."""
    values = final_values(runs, metric)
    known = known_values(values)
    return fmean(known.values()) if known and len(known) == len(values) else math.nan


@audit_rule("A12", Severity.ERROR, "the chosen trial was a lucky one")
def lucky_trial(context: Context) -> Iterator[Observation]:
    """The best of many trials is partly the luckiest. If new seeds bring it clearly below what the
    second best had, interval below interval, another setting should have been chosen.

    Source: Dahl et al. 2023 (AlgoPerf); Deep Learning Tuning Playbook (study variance).
    Example: adam's best trial had 0.971 in tuning and 0.962 with new seeds; the second had 0.968.
    Fix: tune with more seeds a trial.
    """
    selection = context.selection
    if not context.has_tuning or selection is None:
        return
    metric, sign = selection.metric, (1 if selection.better == "higher" else -1)
    for optimizer in context.optimizers:
        tried = dict(optimizer.tried)
        chosen = optimizer.contenders[0]
        first = finished(tried.pop(chosen.setting_id, ()), metric)
        rivals = {merit(runs, selection): runs for runs in tried.values()}
        runner_up = rivals[max(rivals)] if rivals else ()
        second = finished(runner_up, metric)
        rerun = finished(optimizer.reported, metric)
        if min(len(second), len(rerun)) < FEW or not first:
            continue
        again, before = (
            mean_interval(
                [sign * value for value in values], context.generator("A12", optimizer.name, which)
            )
            for which, values in (("rerun", rerun), ("second", second))
        )
        if again.high < before.low:
            yield Observation(
                f"{optimizer.name} {chosen.setting} had {metric} "
                f"{fmean(first):.4g} in tuning and {fmean(rerun):.4g} with new seeds, less than "
                f"{runner_up[0].setting} had ({fmean(second):.4g})",
                {"tuning": fmean(first), "rerun": fmean(rerun), "second": fmean(second)},
                optimizer.reported,
                context.remedy(
                    "tune with more seeds a trial",
                    {"tune.seeds": 2 * max(map(len, optimizer.tried.values()))},
                    sum(len(o.trials) for o in context.optimizers),
                ),
            )


@audit_rule("A15", Severity.WARNING, "a claimed gap is smaller than the effect of the next setting")
def gap_below_tuning_noise(context: Context) -> Iterator[Observation]:
    """Where one step along the grid changes an optimizer by more than the gap between two of them,
    the gap may come from where the grid points happen to lie.

    Source: Bouthillier et al. 2021 (hyperparameter optimization as a source of variance).
    Example: adam leads sgd by 0.2 points, its neighbouring learning rates differ by 0.6 points.
    Fix: use a finer grid around the best settings.
    """
    for result in context.results:
        gap = result.numbers.get("difference")
        supported = result.verdict is ClaimVerdict.SUPPORTED
        if not (supported and result.claim.kind is ClaimKind.BETTER) or gap is None:
            continue
        spread = max(_neighbour_spread(context, result, name) for name in result.claim.optimizers)
        if abs(gap) < spread:
            scale, unit = (100, " points") if result.claim.percent else (1, "")
            optimizers = context.claimed_optimizers(result.claim)
            yield Observation(
                f'"{result.claim.text}" rests on a gap of {scale * abs(gap):.2g}{unit}, while the '
                f"neighbours of a chosen learning rate differ by {scale * spread:.2g}{unit}",
                {"gap": abs(gap), "spread": spread},
                [r for o in optimizers for r in o.reported],
                _finer(context, optimizers),
            )


def _neighbour_spread(context: Context, result: ClaimResult, name: str) -> float:
    """Return the standard deviation over the chosen learning rate and its two neighbours."""
    for optimizer in context.claimed_optimizers(result.claim):
        rates, best = optimizer.tuned.get("lr", []), optimizer.best_rate
        if optimizer.name == name and best in rates and rates.index(best) > 0:
            place = rates.index(best)
            near = [
                finished(optimizer.with_value("lr", rate), result.claim.metric)
                for rate in rates[place - 1 : place + 2]
            ]
            means = [fmean(values) for values in near if values]
            return float(np.std(means, ddof=1)) if len(means) > 2 else 0.0
    return 0.0


def _finer(context: Context, optimizers: list[OptimizerRuns]) -> Remedy:
    settings: dict[str, Any] = {}
    for optimizer in optimizers:
        rates, path = optimizer.tuned.get("lr", []), context.entry(optimizer.name)[0]
        if path and len(rates) > 1 and rates[0] > 0:
            settings[f"{path}.lr"] = _halved(rates, rates)
    runs = sum(len(o.trials) for o in optimizers)
    settings = balanced(context, context.optimizers, settings)
    return context.remedy("halve the steps of the grids of learning rates", settings, runs)


TUNING_OUTCOME_RULES = (
    inclusion_violated,
    coarse_grid,
    budget_decides,
    lucky_trial,
    gap_below_tuning_noise,
)
