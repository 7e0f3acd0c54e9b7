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
from optrial.analysis.audit.scale import scaling_remedy
from optrial.analysis.contenders import OptimizerRuns, hyperparameters
from optrial.analysis.view import ProblemView
from optrial.learning_rates import sensible_rates
from optrial.spec import FINAL, Selection, Status

__all__ = ["TUNING_EDGE_RULES"]

POSSIBLE_EDGE = 0.2  # chance that the edge is best above which it is said
NEAR_BOUND = 0.05  # share of a continuous range that counts as its edge
LEAST_RATIO, LARGEST_RATIO = 1.5, 10.0  # by which a grid goes on
ALIKE = 1.5  # ratios by which 1, 3, 10, 30 may differ
RESAMPLES = 2_000


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
                    _extension(context, problem, edges),
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
    selection = context.ranked_by
    if selection is None:
        return
    for name, values in optimizer.tuned.items():
        if len(values) < 3 and name != "lr":
            continue  # two values are a choice, not a range
        merits = [_seed_merits(optimizer, name, value, selection) for value in values]
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
    if given := context.drawn_from(optimizer.name, name):
        scale = math.log if "log" in given else float
        first, last = (scale(float(end)) for end in given.get("log") or given["lin"])
        near = NEAR_BOUND * (last - first)
        low = low & (scale(values[0]) < first + near)
        high = high & (scale(values[-1]) > last - near)
    return low, high


def _seed_merits(
    optimizer: OptimizerRuns, name: str, value: float, selection: Selection
) -> dict[int, float]:
    """Return merit by seed of the best setting that has this value; -inf where it has none."""
    best: dict[int, float] = {}
    for runs in optimizer.tried.values():
        if hyperparameters(runs[0]).get(name) != value:
            continue
        merits = {
            r.seed: selection.merit(r.final(selection.metric)) for r in runs if r.status in FINAL
        }
        found = {s: -math.inf if merit is None else merit for s, merit in merits.items()}
        if found and (not best or fmean(found.values()) > fmean(best.values())):
            best = found
    return best


def _extension(context: Context, problem: ProblemView, edges: list[_Edge]) -> Remedy:
    """Two points beyond each edge, and as many for the others: one on either side.

    Not where the data is on another scale, which moves the best rates, nor beyond rates that are
    sensible.
    """
    if scaling := scaling_remedy(context, problem.records):
        return scaling
    optimizers = problem.optimizers
    at_edge = {edge.optimizer.name: edge for edge in edges}
    tuned = {o.name: at_edge[o.name].name if o.name in at_edge else "lr" for o in optimizers}
    settings, runs = {}, 0
    for optimizer in optimizers:
        name = tuned[optimizer.name]
        path, entry = context.entry(optimizer.name)
        if path and name in optimizer.tuned:
            below, above = _sides(optimizer, at_edge.get(optimizer.name))
            grown = _grown(optimizer, name, entry.get(name), below, above)
            if grown is None:
                return _at_the_end_of_the_sensible(context, edges)
            settings[f"{path}.{name}"] = grown
            runs += 2 * len(optimizer.trials) // len(optimizer.tuned[name])
    settings = balanced(context, optimizers, settings)
    tune = context.study.get("tune") or {}
    grids = tune.get("sampler", "grid") == "grid" and all(o.tuned for o in optimizers)
    if tune.get("extend") is False and grids:
        settings["tune.extend"] = True  # should two be too few
    extended = names(f"{edge.name} of {edge.optimizer.name}" for edge in edges)
    action = f"try two more values beyond the best {extended}, and as many for the others"
    return context.remedy(action, settings, runs)


def _sides(optimizer: OptimizerRuns, edge: _Edge | None) -> tuple[int, int]:
    """Return how many values to add below and above those tried: none beyond what diverged."""
    if edge:
        return (0, 2) if edge.upwards else (2, 0)
    rates = optimizer.tuned.get("lr", [])
    highest = optimizer.with_value("lr", rates[-1]) if rates else []
    diverges = any(record.status is Status.DIVERGED for record in highest)
    full = bool(rates) and rates[-1] * LEAST_RATIO > sensible_rates(optimizer.rule)[1]
    return (2, 0) if diverges or full else (1, 1)


def _at_the_end_of_the_sensible(context: Context, edges: list[_Edge]) -> Remedy:
    found = names(f"{edge.name} {edge.best:g} of {edge.optimizer.name}" for edge in edges)
    return context.remedy(
        f"look at the scale of the data, the loss and the initial weights: {found} is at the end "
        "of what is sensible"
    )


def _grown(optimizer: OptimizerRuns, name: str, given: Any, below: int, above: int) -> Any:
    """Return the values of a hyperparameter with more at the ends; a range stays a range.

    None for a learning rate that has no room left.
    """
    bounds = sensible_rates(optimizer.rule) if name == "lr" else (0.0, math.inf)
    if isinstance(given, Mapping) and "points" not in given:
        return _wider(given, below > 1, above > 1, bounds)
    return _beyond(optimizer.tuned[name], below, above, bounds)


def _wider(
    given: Mapping[str, Any], below: bool, above: bool, bounds: tuple[float, float]
) -> dict[str, list[float]] | None:
    """Return a range with another decade, or another quarter of a linear one, at its edge."""
    kind = "log" if "log" in given else "lin"
    low, high = map(float, given[kind])
    more = (high - low) / 4
    lower, higher = (low / 10, high * 10) if kind == "log" else (low - more, high + more)
    if kind == "log":
        lower, higher = max(lower, bounds[0]), min(higher, bounds[1])
    wider = [lower if below else low, higher if above else high]
    return None if (below and lower >= low) or (above and higher <= high) else {kind: wider}


def _beyond(
    values: list[float], below: int, above: int, bounds: tuple[float, float] = (0.0, math.inf)
) -> list[float] | None:
    """Return values with more of them at the ends, at like ratios, below 1 where all are.

    None where they would leave the bounds.
    """
    positive = [value for value in values if value > 0]
    shares = 0.5 <= positive[-1] < 1 and len(positive) > 1 and positive[0] > 0.1 and not bounds[0]
    grown = [1 - value for value in positive] if shares else positive
    for _ in range(above):
        grown = [*grown, _following(grown, (bounds[1] / positive[-1]) ** (1 / above))]
    for _ in range(below):
        most = (positive[0] / bounds[0]) ** (1 / below) if bounds[0] else math.inf
        grown = [_following(grown[::-1], most), *grown]
    if not shares and not bounds[0] <= grown[0] <= grown[-1] <= bounds[1] * (1 + 1e-9):
        return None
    short = [float(f"{value:.3g}") for value in grown]
    if shares:
        short = [round(1 - value, 9) for value in short if value < 1]
    return [value for value in values if value <= 0] + short


def _following(values: Sequence[float], most: float = math.inf) -> float:
    """Return what comes next: after 1, 3, 10 it is 30, after 1, 10 it is 100, by at most `most`.

    A ratio below `LEAST_RATIO` is of no use; one above 10 skips too much.
    """
    if len(values) < 2:
        return LARGEST_RATIO * values[-1]
    *before, ratio = (b / a for a, b in pairwise(values))
    if before and max(before[-1] / ratio, ratio / before[-1]) < ALIKE:
        ratio = before[-1]
    most = max(LEAST_RATIO, min(LARGEST_RATIO, most))
    size = min(most, max(LEAST_RATIO, ratio if ratio > 1 else 1 / ratio))
    return values[-1] * (size if ratio > 1 else 1 / size)


TUNING_EDGE_RULES = (best_at_edge,)
