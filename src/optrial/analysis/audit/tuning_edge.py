"""A, second third: whether the best values lie inside what was tried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.remedies import balanced
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import OptimizerRuns, hyperparameters
from optrial.analysis.values import final_values
from optrial.metric_names import higher_is_better

__all__ = ["TUNING_EDGE_RULES"]

POSSIBLE_EDGE = 0.2  # chance that the edge is best above which it is said
NEAR_BOUND = 0.05  # share of a continuous range that counts as its edge
LEAST_RATIO = 1.5  # by which a grid goes on
ALIKE = 1.5  # ratios by which 1, 3, 10, 30 may differ
RESAMPLES = 200


class _Edge(NamedTuple):
    """How an optimizer's best value of one hyperparameter lies among those tried."""

    optimizer: OptimizerRuns
    name: str
    values: list[float]
    best: float
    upwards: bool
    chance: float  # that the edge is best, over resampled seeds


@audit_rule("A01", Severity.ERROR, "the best value lies at the edge of those that were tried")
def best_at_edge(context: Context) -> Iterator[Observation]:
    """Beyond the edge there may be a better value, so the optimizer is not at its best. An error
    for learning rates, a warning for other hyperparameters and where only some resamples of the
    seeds have the edge best. Values beyond the best that diverged are no edge; nor is 0.

    Source: Wilson et al. 2017; Choi et al. 2019; Deep Learning Tuning Playbook.
    Example: adam does best with lr 0.01, the largest of 0.0001, 0.001 and 0.01.
    Fix: extend the grid there, and those of the others by as much; `tune.extend` does it by itself.
    """
    for problem in context.problems:
        found = [e for o in problem.optimizers for e in _edges(context, o)]
        for severity in (Severity.ERROR, Severity.WARNING):
            edges = [e for e in found if (_severity(e) is severity)]
            if edges:
                yield Observation(
                    "; ".join(map(_said, edges)),
                    {"edges": [e._asdict() | {"optimizer": e.optimizer.name} for e in edges]},
                    [r for e in edges for r in e.optimizer.with_value(e.name, e.best)],
                    _extension(context, problem.optimizers, edges),
                    severity,
                )


def _severity(edge: _Edge) -> Severity:
    blocking = edge.name == "lr" and edge.chance >= 0.5
    return Severity.ERROR if blocking else Severity.WARNING


def _said(edge: _Edge) -> str:
    end = "largest" if edge.upwards else "smallest"
    tried = ", ".join(f"{value:g}" for value in edge.values[:8])
    does = "does" if edge.chance >= 0.5 else "may do"
    return (
        f"{edge.optimizer.name} {does} best with {edge.name} {edge.best:g}, the {end} of "
        f"{tried} (chance over seeds {edge.chance:.0%})"
    )


def _edges(context: Context, optimizer: OptimizerRuns) -> Iterator[_Edge]:
    metric = context.selects_on or context.report_metric
    for name, values in optimizer.tuned.items():
        if len(values) < 3 and name != "lr":
            continue  # two values are a choice, not a range
        merits = [_seed_merits(optimizer, name, value, metric) for value in values]
        seeds = sorted(set.intersection(*(set(each) for each in merits)))
        if not seeds:
            continue
        table = np.array([[each[seed] for seed in seeds] for each in merits])
        if not np.isfinite(table.mean(axis=1)).any():
            continue
        generator = context.generator("A01", optimizer.name, name)
        drawn = generator.integers(len(seeds), size=(RESAMPLES, len(seeds)))
        means = np.concatenate([table.mean(axis=1)[:, None], table[:, drawn].mean(axis=2)], axis=1)
        low, high = _at_ends(context, optimizer, name, values, means)
        upwards = bool(high.mean() > low.mean())
        at_end = high if upwards else low
        if at_end[0] or at_end[1:].mean() > POSSIBLE_EDGE:
            best = values[-1] if upwards else values[0]
            if best != 0:
                yield _Edge(optimizer, name, values, best, upwards, float(at_end[1:].mean()))


def _at_ends(
    context: Context,
    optimizer: OptimizerRuns,
    name: str,
    values: list[float],
    means: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each column of mean merits, whether the lowest or the highest value is best.

    Of values drawn from a range, the outermost is at the edge only if it is near a bound.
    """
    inner = means[1:-1].max(axis=0, initial=-np.inf)
    low = (means[0] > inner) & (means[0] >= means[-1])
    high = (means[-1] > inner) & (means[-1] > means[0])
    given = context.entry(optimizer.name)[1].get(name)
    if isinstance(given, Mapping) and "points" not in given:
        scale = math.log if "log" in given else float
        first, last = (scale(float(end)) for end in given.get("log") or given["lin"])
        near = NEAR_BOUND * (last - first)
        low = low & (scale(values[0]) < first + near)
        high = high & (scale(values[-1]) > last - near)
    return low, high


def _seed_merits(
    optimizer: OptimizerRuns, name: str, value: float, metric: str
) -> dict[int, float]:
    """Return merit by seed of the best setting that has this value; -inf where it diverged."""
    best: dict[int, float] = {}
    for runs in optimizer.tried.values():
        if hyperparameters(runs[0]).get(name) != value:
            continue
        sign = 1 if higher_is_better(metric) else -1
        by_seed = final_values(runs, metric)
        found = {s: sign * v if math.isfinite(v) else -math.inf for s, v in by_seed.items()}
        if found and (not best or fmean(found.values()) > fmean(best.values())):
            best = found
    return best


def _extension(context: Context, optimizers: Sequence[OptimizerRuns], edges: list[_Edge]) -> Remedy:
    """Two points beyond each edge, and as many for the others: one on either side."""
    extended = names(f"{edge.name} of {edge.optimizer.name}" for edge in edges)
    action = f"try two more values beyond the best {extended}, and as many for the others"
    at_edge = {edge.optimizer.name: edge for edge in edges}
    runs = sum(
        2 * len(o.trials) // len(o.tuned[name])
        for o in optimizers
        if (name := at_edge[o.name].name if o.name in at_edge else "lr") in o.tuned
    )
    settings: dict[str, Any] = {}
    for optimizer in optimizers:
        edge = at_edge.get(optimizer.name)
        name = edge.name if edge else "lr"
        path, entry = context.entry(optimizer.name)
        if path and name in optimizer.tuned:
            below, above = (1, 1) if not edge else (0, 2) if edge.upwards else (2, 0)
            settings[f"{path}.{name}"] = _grown(optimizer, name, entry.get(name), below, above)
    settings = balanced(context, optimizers, settings)
    tune = context.study.get("tune") or {}
    grids = tune.get("sampler", "grid") == "grid" and all(o.tuned for o in optimizers)
    if tune.get("extend") is False and grids:
        settings["tune.extend"] = True  # should two be too few
    return context.remedy(action, settings, runs)


def _grown(optimizer: OptimizerRuns, name: str, given: Any, below: int, above: int) -> Any:
    """Return the values of a hyperparameter with more at the ends; a range stays a range."""
    if isinstance(given, Mapping) and "points" not in given:
        return _wider(given, below > 1, above > 1)
    return _beyond(optimizer.tuned[name], below, above)


def _wider(given: Mapping[str, Any], below: bool, above: bool) -> dict[str, list[float]]:
    """Return a range with another decade, or another quarter of a linear one, at its edge."""
    kind = "log" if "log" in given else "lin"
    low, high = map(float, given[kind])
    more = (high - low) / 4
    lower, higher = (low / 10, high * 10) if kind == "log" else (low - more, high + more)
    return {kind: [lower if below else low, higher if above else high]}


def _beyond(values: list[float], below: int, above: int) -> list[float]:
    """Return values with more of them at the ends, at like ratios, below 1 where all are."""
    positive = [value for value in values if value > 0]
    shares = 0.5 <= positive[-1] < 1 and len(positive) > 1 and positive[0] > 0.1
    grown = [1 - value for value in positive] if shares else positive
    for _ in range(above):
        grown = [*grown, _following(grown)]
    for _ in range(below):
        grown = [_following(grown[::-1]), *grown]
    short = [float(f"{value:.3g}") for value in grown]
    if shares:
        short = [round(1 - value, 9) for value in short if value < 1]
    return [value for value in values if value <= 0] + short


def _following(values: Sequence[float]) -> float:
    """Return what comes next: after 1, 3, 10 it is 30, after 1, 10 it is 100."""
    if len(values) < 2:
        return 10 * values[-1]
    *before, ratio = (b / a for a, b in pairwise(values))
    if before and max(before[-1] / ratio, ratio / before[-1]) < ALIKE:
        ratio = before[-1]
    return values[-1] * (max(LEAST_RATIO, ratio) if ratio > 1 else min(1 / LEAST_RATIO, ratio))


TUNING_EDGE_RULES = (best_at_edge,)
