"""A, second half: whether the settings that tuning chose can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import NDArray

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.grids import (
    COARSE,
    parts_between,
    refined,
)
from optrial.analysis.audit.remedies import (
    POINTS,
    added_runs,
    balanced,
    equal_search,
    trials_needed,
)
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimKind, ClaimResult, ClaimVerdict
from optrial.analysis.contenders import (
    OptimizerRuns,
    best_setting,
    finished,
    hyperparameters,
    setting_score,
)
from optrial.analysis.statistics import (
    BestOfK,
    Verdict,
    best_of_k,
    known_values,
    mean_interval,
)
from optrial.analysis.values import final_values
from optrial.analysis.view import ProblemView
from optrial.errors import counted, quoted
from optrial.records import Record
from optrial.spec import metric_title

INCLUSIONS = (
    ("momentum", "sgd", "momentum"),
    ("nesterov", "sgd", "momentum"),
    ("adam", "momentum", "eps"),
    ("adamw", "momentum", "eps"),
    ("nadam", "nesterov", "eps"),
    ("rmsprop", "sgd", "eps"),
    ("rmsprop_nesterov", "rmsprop", "momentum"),
)
"""(general, special, hyperparameter): the general rule becomes the special one in the limit of the
hyperparameter (Choi et al. 2019)."""
TRIALS_FOR_CURVE = 5
CURVE_RESAMPLES = 200
RUNS_FOR_INTERVAL = 3
SIGNIFICANT = 0.05

Floats = NDArray[np.float64]


@audit_rule("A06", Severity.WARNING, "a rule loses to its own special case")
def inclusion_violated(context: Context) -> Iterator[Observation]:
    """Adam with a large epsilon is momentum, and momentum with coefficient 0 is SGD. A rule that is
    tuned over all of its hyperparameters cannot lose to its own special case; if it does, the
    search left out the hyperparameter that makes them equal. An error if the study claims that the
    special case is better.

    Source: Choi et al. 2019.
    Example: momentum loses to sgd on test accuracy with momentum fixed at 0.9, although a
    different value makes the two equal.
    Fix: also tune the hyperparameter that turns the general rule into the special case.
    """
    for problem in context.problems:
        by_rule = {o.rule: o for o in problem.optimizers}
        for general_rule, special_rule, name in INCLUSIONS:
            general, special = by_rule.get(general_rule), by_rule.get(special_rule)
            if not (general and special and general.chosen and special.chosen):
                continue
            if problem.not_compared or name in general.tuned:
                continue
            pair = problem.pair(general.chosen.name, special.chosen.name)
            if pair.verdict is not Verdict.WORSE:
                continue
            fixed = hyperparameters(general.reported[0]).get(name)
            value = "its default" if fixed is None else fixed
            claimed = any(
                claim.kind is ClaimKind.BETTER
                and (claim.first, claim.second) == (special.name, general.name)
                for claim in context.claims
            )
            yield Observation(
                f"{general.name} loses to {special.name} on {metric_title(pair.metric)} with "
                f"{name} fixed at {value}, although a different value makes the two equal",
                {"general": general.name, "special": special.name, "fixed": {name: fixed}},
                [*general.reported, *special.reported],
                _imitation(context, problem, general, name),
                Severity.ERROR if claimed else None,
            )


def _imitation(context: Context, problem: ProblemView, general: OptimizerRuns, name: str) -> Remedy:
    """Return the remedy of equal searches in which the general rule can become the special one."""
    trials = max(trials_needed(("lr", name)), *(len(o.tried) for o in problem.optimizers))
    action = (
        f"also tune hyperparameter {name} of {general.name}, with the same number of trials for "
        "every optimizer"
    )
    remedy = equal_search(context, problem.optimizers, trials, action)
    if not remedy.settings:
        return remedy
    values = {"log": [1e-8, 1.0]} if name == "eps" else {"lin": [0.0, 0.99]}
    path = f"{context.path(general.name)}.{name}"
    return replace(remedy, settings={path: values, **remedy.settings})


@audit_rule("A08", Severity.WARNING, "the learning-rate grid is coarse around the best value")
def coarse_grid(context: Context) -> Iterator[Observation]:
    """If neighbouring learning rates differ by a factor of ten, the best of them can be too large
    or too small by a factor of three, and by chance more so for one optimizer than for another. A05
    covers grids of fewer than five trials; searches that draw from a range are judged by their
    number of trials alone.

    Source: Wilson et al. 2017; Deep Learning Tuning Playbook.
    Example: neighbouring learning rates around the best differ by a factor of 10 (adam).
    Fix: add the values in between, `lr: {log: [0.0001, 0.01], points: 5}`.
    """
    for problem in context.problems:
        near: dict[str, list[float]] = {}
        coarse: dict[str, float] = {}
        runs: list[Record] = []
        for optimizer in problem.optimizers:
            rates = [rate for rate in optimizer.tuned.get("lr", []) if rate > 0]
            best = _best_rate(context, optimizer)
            if context.drawn_from(optimizer, "lr") or best not in rates or len(rates) < 2:
                continue
            place = rates.index(best)
            first = max(0, min(place - 1, len(rates) - 3))  # as many values are added for all
            near[optimizer.name] = rates[first : first + 3]
            neighbours = rates[max(0, place - 1) : place + 2]
            ratio = max(high / low for low, high in pairwise(neighbours))
            if ratio > COARSE and len(optimizer.tried) >= POINTS:
                coarse[optimizer.name] = ratio
                runs += [r for rate in neighbours for r in optimizer.with_value("lr", rate)]
        if coarse:
            ratios = names(f"{float(f'{ratio:.2g}'):,g} ({name})" for name, ratio in coarse.items())
            yield Observation(
                f"neighbouring learning rates around the best differ by a factor of {ratios}",
                {"ratio": coarse},
                runs,
                context.with_enough_seeds(
                    _between(context, problem.optimizers, near, "add the learning rates between"),
                    problem,
                ),
            )


def _best_rate(context: Context, optimizer: OptimizerRuns) -> float | None:
    """Return the learning rate of the chosen setting; where none is, of the best reported one."""
    if optimizer.chosen or context.ranked_by is None:
        return optimizer.best_rate
    best = best_setting(optimizer.finalists, context.ranked_by)
    rate = hyperparameters(optimizer.finalists[best][0]).get("lr") if best else None
    return rate if isinstance(rate, int | float) else None


def _between(
    context: Context,
    optimizers: Sequence[OptimizerRuns],
    near: Mapping[str, Sequence[float]],
    action: str,
) -> Remedy:
    """Return the remedy of learning rates between those of `near`, equally many for all."""
    parts = max(map(parts_between, near.values()), default=2)
    settings: dict[str, Any] = {}
    runs = 0
    for optimizer in optimizers:
        path = context.path(optimizer.name)
        if path and optimizer.name in near:
            rates = refined(optimizer.tuned["lr"], near[optimizer.name], parts)
            settings[f"{path}.lr"] = rates
            runs += added_runs(optimizer, "lr", rates)
    return context.remedy(action, balanced(context, optimizers, settings), runs)


@audit_rule("A11", Severity.WARNING, "the ranking depends on the number of trials")
def budget_decides(context: Context) -> Iterator[Observation]:
    """The best of k random trials improves with k, more slowly for an optimizer that is hard to
    tune. If the curves of two optimizers cross, their order holds for one tuning budget only.

    Source: Dodge et al. 2019; Sivaprasad et al. 2020.
    Example: adam leads sgd after 2 trials but not after 9.
    Fix: report the whole best-of-k curve, or tune with more trials.
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
                resamples=CURVE_RESAMPLES,
            )
            for o in problem.optimizers
            if len(o.tried) >= TRIALS_FOR_CURVE and len(o.rungs) == 1
        }
        crossings = [
            (first, second, *trials)
            for first, one in curves.items()
            for second, other in curves.items()
            if (trials := _overtaken(one, other, higher))
        ]
        if crossings:
            involved = {name for crossing in crossings for name in crossing[:2]}
            yield Observation(
                names(
                    f"{a} leads {b} after {counted(k, 'trial')} but not after {n}"
                    for a, b, k, n in crossings
                ),
                {"crossings": [list(crossing) for crossing in crossings]},
                [r for o in problem.optimizers if o.name in involved for r in o.trials],
                context.remedy("state the number of trials for which the order holds"),
            )


def _overtaken(one: BestOfK, other: BestOfK, higher: bool) -> tuple[int, int] | None:
    """Return k and K if `one` is clearly ahead after k trials and behind after K, else None."""
    sign, count = (1 if higher else -1), min(len(one.trials), len(other.trials))
    worst = (one.low if higher else -one.high)[:count]
    best = (other.high if higher else -other.low)[:count]
    ahead = np.flatnonzero(worst > best)
    if len(ahead) and sign * other.expected[count - 1] > sign * one.expected[count - 1]:
        return int(ahead[0]) + 1, count
    return None


def _mean(runs: Sequence[Record], metric: str) -> float:
    """Return the mean over seeds of one trial; NaN if a run has no finite value."""
    values = final_values(runs, metric)
    known = known_values(values)
    return fmean(known.values()) if known and len(known) == len(values) else math.nan


@audit_rule("A12", Severity.ERROR, "the chosen setting was a lucky trial")
def lucky_trial(context: Context) -> Iterator[Observation]:
    """The best of many trials is partly the luckiest. If its results with new seeds are clearly
    worse than those of the second-best trial, a different setting should have been chosen. Worse
    means that the intervals do not overlap and that an exact test of the two means agrees: a few
    equal values, such as three of 100 %, have an interval without width.

    Source: Dahl et al. 2023 (AlgoPerf); Deep Learning Tuning Playbook (study variance).
    Example: adam lr=0.01 had validation accuracy 97.1 % in tuning and 96.2 % with new seeds, worse
    than lr=0.003 in tuning (96.8 %).
    Fix: tune with more seeds per trial.
    """
    selection = context.selection
    if not context.has_tuning or selection is None:
        return
    metric, sign = selection.metric, (1 if selection.better == "higher" else -1)
    shown = partial(context.directions.shown, metric)
    for optimizer in context.optimizers:
        tried = dict(optimizer.finalists)
        chosen = optimizer.contenders[0]
        first = finished(tried.pop(chosen.setting_id, ()), metric)
        rivals = {setting_score(runs, selection): runs for runs in tried.values()}
        runner_up = rivals[max(rivals)] if rivals else ()
        second = finished(runner_up, metric)
        rerun = finished(optimizer.reported, metric)
        if min(len(second), len(rerun)) < RUNS_FOR_INTERVAL or not first:
            continue
        tuned, new = (sign * np.array(values) for values in (second, rerun))
        if _clearly_above(tuned, new, context.generator("A12", optimizer.name)):
            yield Observation(
                f"{optimizer.name} {chosen.setting} had {metric_title(metric)} "
                f"{shown(fmean(first))} in tuning and {shown(fmean(rerun))} with new seeds, worse "
                f"than {runner_up[0].setting} in tuning ({shown(fmean(second))})",
                {"tuning": fmean(first), "rerun": fmean(rerun), "second": fmean(second)},
                optimizer.reported,
                context.remedy(
                    "tune with more seeds per trial",
                    {"tune.seeds": 2 * max(map(len, optimizer.tried.values()))},
                    sum(len(o.trials) for o in context.optimizers),
                ),
            )


def _clearly_above(first: Floats, second: Floats, generator: np.random.Generator) -> bool:
    """Return True if a mean is above another one by their intervals and by a permutation test.

    Args:
        first: (m,) values of the runs of one setting.
        second: (n,) values of another setting, with other seeds.
        generator: draws the resamples, and the permutations where they are many.
    """
    above, below = (mean_interval(values, generator) for values in (first, second))
    if above.low <= below.high:
        return False
    test = scipy.stats.permutation_test(
        (first, second),
        lambda one, other, axis: one.mean(axis=axis) - other.mean(axis=axis),
        vectorized=True,
        alternative="greater",
        random_state=generator,
    )
    return bool(test.pvalue <= SIGNIFICANT)


@audit_rule("A15", Severity.WARNING, "a claimed gap is smaller than one step of the grid")
def gap_below_tuning_noise(context: Context) -> Iterator[Observation]:
    """If one step along the grid changes an optimizer by more than the gap between two optimizers,
    the gap may come from where the grid points happen to lie.

    Source: Bouthillier et al. 2021 (hyperparameter optimization as a source of variance).
    Example: "adam > sgd on test_accuracy" rests on a gap of 0.2 points, but the results of
    neighbouring learning rates have a standard deviation of 0.6 points.
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
                f"{quoted(result.claim.text)} rests on a gap of {scale * abs(gap):.2g}{unit}, but "
                "the results of neighbouring learning rates have a standard deviation of "
                f"{scale * spread:.2g}{unit}",
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


def _finer(context: Context, claimed: Sequence[OptimizerRuns]) -> Remedy:
    """Return the remedy of grids with smaller steps, for all optimizers of the problems."""
    problems = {optimizer.problem for optimizer in claimed}
    optimizers = [o for o in context.optimizers if o.problem in problems]
    grids = {o.name: o.tuned.get("lr", []) for o in optimizers}
    near = {name: rates for name, rates in grids.items() if len(rates) > 1 and rates[0] > 0}
    return _between(context, optimizers, near, "use finer grids of learning rates")
