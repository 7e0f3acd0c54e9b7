"""A, second half: whether the settings that tuning chose can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import scipy  # imports its modules when they are first used
from numpy.typing import NDArray

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.grids import (
    COARSE,
    decades,
    extended,
    has_room_above,
    parts_between,
    refined,
    unequal_widths,
)
from optrial.analysis.audit.remedies import (
    SCALE_FIRST,
    added_runs,
    balanced,
    equal_search,
    scaling_remedy,
    trials_needed,
)
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.claims import ClaimKind, ClaimResult, ClaimVerdict
from optrial.analysis.contenders import (
    OptimizerRuns,
    best_setting,
    finished,
    hyperparameters,
    is_rate,
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
from optrial.spec import FINAL, Selection, Status, metric_title, three_digits

EDGE_CHANCE = 0.2  # least chance of the edge being best that is reported
NEAR_BOUND = 0.05  # share of a continuous range that counts as its edge
EDGE_RESAMPLES = 2_000
_DRAWS_AT_ONCE = 100_000  # they fit a cache
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


class _Edge(NamedTuple):
    """A best value at the edge of the tried values of one hyperparameter."""

    optimizer: OptimizerRuns
    name: str
    values: list[float]
    best: float
    upwards: bool
    chance: float  # of the edge being best, over resampled seeds


@audit_rule("A01", Severity.ERROR, "the best value lies at the edge of the tried range")
def best_at_edge(context: Context) -> Iterator[Observation]:
    """There may be a better value beyond the edge, so the optimizer may not be at its best. An
    error for learning rates; a warning for other hyperparameters, and where the edge is best in
    fewer than half of the resamples of the seeds. A value next to diverged ones is not an edge, nor
    is 0.

    Source: Wilson et al. 2017; Choi et al. 2019; Deep Learning Tuning Playbook.
    Example: adam does best with lr 0.01, the largest of 0.0001, 0.001 and 0.01.
    Fix: extend the grid there, and the grids of the others by as many values; `tune.extend` does it
    automatically.
    """
    for problem in context.problems:
        all_edges = [edge for o in problem.optimizers for edge in _edges(context, o)]
        for severity in (Severity.ERROR, Severity.WARNING):
            edges = [edge for edge in all_edges if _severity(edge) is severity]
            if edges:
                yield Observation(
                    "; ".join(map(_edge_text, edges)),
                    {"edges": [e._asdict() | {"optimizer": e.optimizer.name} for e in edges]},
                    [r for e in edges for r in e.optimizer.with_value(e.name, e.best)],
                    _extension(context, problem, edges),
                    severity,
                )


def _severity(edge: _Edge) -> Severity:
    blocking = is_rate(edge.name) and edge.chance >= 0.5
    return Severity.ERROR if blocking else Severity.WARNING


def _edge_text(edge: _Edge) -> str:
    end = "largest" if edge.upwards else "smallest"
    best, *tried = map(three_digits, (edge.best, *edge.values[:8]))
    does = "does" if edge.chance >= 0.5 else "may do"
    return (
        f"{edge.optimizer.name} {does} best with {edge.name} {best}, the {end} of "
        f"{', '.join(tried)} ({100 * edge.chance:.0f} % of resampled seeds choose it)"
    )


def _edges(context: Context, optimizer: OptimizerRuns) -> Iterator[_Edge]:
    selection = context.ranked_by
    if selection is None:
        return
    for name, values in optimizer.tuned.items():
        if len(values) < 3 and not is_rate(name):
            continue  # two values are a choice, not a range
        scores = [_scores_by_seed(optimizer, name, value, selection) for value in values]
        seeds = sorted(set.intersection(*map(set, scores)))
        if not seeds:
            continue
        table = np.array([[by_seed[seed] for seed in seeds] for by_seed in scores])
        if not np.isfinite(table.mean(axis=1)).any():
            continue
        generator = context.generator("A01", optimizer.name, name)
        drawn = generator.integers(len(seeds), size=(EDGE_RESAMPLES, len(seeds)))
        parts = np.array_split(drawn, math.ceil(drawn.size / _DRAWS_AT_ONCE))
        resampled = [table[:, part].mean(axis=2) for part in parts]
        means = np.concatenate([table.mean(axis=1)[:, None], *resampled], axis=1)
        low, high = _best_at_ends(context, optimizer, name, values, means)
        upwards = bool(high.mean() > low.mean())
        at_end, best = (high, values[-1]) if upwards else (low, values[0])
        chance = float(at_end[1:].mean())
        if best != 0 and (at_end[0] or chance > EDGE_CHANCE):
            yield _Edge(optimizer, name, values, best, upwards, chance)


def _best_at_ends(
    context: Context, optimizer: OptimizerRuns, name: str, values: Sequence[float], means: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return per column of mean scores whether the lowest or the highest value is best.

    The outermost of values drawn from a range is at the edge only if it is near a bound.
    """
    inner = means[1:-1].max(axis=0, initial=-np.inf)
    low = (means[0] > inner) & (means[0] >= means[-1])
    high = (means[-1] > inner) & (means[-1] > means[0])
    if drawn_from := context.drawn_from(optimizer, name):
        scale = math.log if "log" in drawn_from else float
        first, last = (scale(float(end)) for end in drawn_from.get("log") or drawn_from["lin"])
        near = NEAR_BOUND * (last - first)
        low = low & (scale(values[0]) < first + near)
        high = high & (scale(values[-1]) > last - near)
    return low, high


def _scores_by_seed(
    optimizer: OptimizerRuns, name: str, value: float, selection: Selection
) -> dict[tuple[int | None, int], float]:
    """Return scores by fold and seed of the best setting with this value.

    They are -inf for a failed run, and for the runs of a setting that successive halving left out.
    """
    best: dict[tuple[int | None, int], float] = {}
    for setting_id, runs in optimizer.tried.items():
        if hyperparameters(runs[0]).get(name) != value:
            continue
        lost = setting_id not in optimizer.finalists
        scores = {
            (r.fold, r.seed): None if lost else selection.score(r.final(selection.metric))
            for r in runs
            if r.status in FINAL
        }
        finite = {run: -math.inf if s is None else s for run, s in scores.items()}
        if finite and (not best or fmean(finite.values()) > fmean(best.values())):
            best = finite
    return best


def _extension(context: Context, problem: ProblemView, edges: Sequence[_Edge]) -> Remedy:
    """Return the remedy of two more values per grid: beyond each edge, else one at either end.

    If the data is not on a unit scale, scaling it comes first. A
    rate at the end of the sensible range points to the data or the loss instead. Every optimizer is
    searched with as many trials instead where equal numbers of trials would become unequal, as
    beside an optimizer without a grid of rates, or where longer grids would be coarse (A08), or
    would no longer span as many decades because their steps differ (A07).
    """
    if scaling_remedy(context, problem.records):
        return context.remedy(SCALE_FIRST)
    at_edge = {edge.optimizer.name for edge in edges}
    settings: dict[str, Any] = {}
    runs = 0
    after = {optimizer.name: Fraction(len(optimizer.tried)) for optimizer in problem.optimizers}
    equal, coarse = len({*after.values()}) == 1, False
    widths = {o.name: decades(o.tuned["lr"]) for o in problem.optimizers if "lr" in o.tuned}
    alike = not unequal_widths(widths.values())
    for optimizer in problem.optimizers:
        if not context.path(optimizer.name):
            continue
        own = {edge.name: edge for edge in edges if edge.optimizer.name == optimizer.name}
        changes: dict[str, Sequence[float] | Mapping[str, Any]] = {}
        for name in own or ["lr"] * ("lr" in optimizer.tuned):
            written = context.written(optimizer, name)
            values = extended(optimizer, name, written, *_sides(optimizer, own.get(name)))
            if values is None:
                return _no_room(context, edges)
            if values != written:
                changes[name] = values
        settings |= {context.value_path(optimizer, name): v for name, v in changes.items()}
        if "lr" in changes:
            widths[optimizer.name] = decades(_ends_of(changes["lr"]))
        growth = _growth(optimizer, changes)
        after[optimizer.name] *= growth or 1
        if growth and len(optimizer.tried) < TRIALS_FOR_CURVE <= after[optimizer.name]:
            rates = changes.get("lr", ())
            coarse |= not isinstance(rates, Mapping) and _is_coarse(rates)
        runs += round(len(optimizer.trials) * (growth - 1 if growth else 1))
    uneven = alike and unequal_widths(widths.values())
    if coarse or uneven or (equal and len({*after.values()}) > 1):
        trials = round(max(after.values()))
        action = f"tune every optimizer with {trials} trials, over a wider range"
        ends = {path: _ends_of(values) for path, values in settings.items()}
        remedy = equal_search(context, problem.optimizers, trials, action, ends)
        return replace(remedy, settings=remedy.settings and {**settings, **remedy.settings})
    settings = balanced(context, problem.optimizers, settings)
    tune = context.study.get("tune") or {}
    grids = tune.get("sampler", "grid") == "grid" and all(o.tuned for o in problem.optimizers)
    if tune.get("extend") is False and grids:
        settings["tune.extend"] = True  # two values may be too few
    more = names(
        f"two {'larger' if edge.upwards else 'smaller'} values of {edge.name} for "
        f"{edge.optimizer.name}"
        for edge in edges
    )
    others = any(o.name not in at_edge and "lr" in o.tuned for o in problem.optimizers)
    action = f"try {more}{', and two more for each of the others' * others}"
    action += ", and further ones while an edge is best" * bool(settings)
    return context.with_enough_seeds(context.remedy(action, settings, runs), problem)


def _growth(
    optimizer: OptimizerRuns, changes: Mapping[str, Sequence[float] | Mapping[str, Any]]
) -> Fraction | None:
    """Return by what factor the trials of a grid grow; None for those of a range: all are new."""
    factor = Fraction(1)
    for name, values in changes.items():
        if isinstance(values, Mapping):
            return None
        tried = optimizer.tuned[name]
        factor *= Fraction(len({*tried, *values}), len(tried))
    return factor


def _ends_of(rates: Sequence[float] | Mapping[str, Any]) -> Sequence[float]:
    """Return the values of a grid, or the ends of a range."""
    return next(iter(rates.values())) if isinstance(rates, Mapping) else rates


def _is_coarse(rates: Iterable[float]) -> bool:
    """Return whether neighbouring learning rates differ too much."""
    return any(high > COARSE * low > 0 for low, high in pairwise(sorted(rates)))


def _sides(optimizer: OptimizerRuns, edge: _Edge | None) -> tuple[int, int]:
    """Return how many values to add below and above; none above rates that diverged."""
    if edge:
        return (0, 2) if edge.upwards else (2, 0)
    rates = optimizer.tuned.get("lr", [])
    highest = [r for r in optimizer.trials if rates and hyperparameters(r).get("lr") == rates[-1]]
    diverges = any(record.status is Status.DIVERGED for record in highest)
    return (1, 1) if has_room_above(optimizer) and not diverges else (2, 0)


def _no_room(context: Context, edges: Sequence[_Edge]) -> Remedy:
    values = names(
        f"{edge.name} {three_digits(edge.best)} of {edge.optimizer.name}" for edge in edges
    )
    return context.remedy(
        f"check the scale of the data, the loss and the initial weights: {values} is at the end of "
        "the sensible range"
    )


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
            if ratio > COARSE and len(optimizer.tried) >= TRIALS_FOR_CURVE:
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
