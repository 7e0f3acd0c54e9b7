"""A01: whether the best value lies at the edge of what was tried."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optrial.analysis.audit.context import Context, names
from optrial.analysis.audit.finding import Observation, Remedy, Severity
from optrial.analysis.audit.grids import (
    COARSE,
    decades,
    extended,
    has_room_above,
    unequal_widths,
)
from optrial.analysis.audit.remedies import (
    POINTS,
    SCALE_FIRST,
    balanced,
    equal_search,
    scaling_remedy,
)
from optrial.analysis.audit.rule import audit_rule
from optrial.analysis.contenders import (
    OptimizerRuns,
    hyperparameters,
    is_rate,
)
from optrial.analysis.view import ProblemView
from optrial.spec import FINAL, Selection, Status, three_digits

EDGE_CHANCE = 0.2  # least chance of the edge being best that is reported
NEAR_BOUND = 0.05  # share of a continuous range that counts as its edge
EDGE_RESAMPLES = 2_000
_DRAWS_AT_ONCE = 100_000  # they fit a cache

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


class _Longer(NamedTuple):
    """An optimizer and the values that its hyperparameters have after an extension.

    Attributes:
        optimizer: its trials before.
        rates: learning rates before; none if they are not tuned.
        changes: values afterwards, of the hyperparameters that get more of them.
    """

    optimizer: OptimizerRuns
    rates: Sequence[float]
    changes: Mapping[str, Sequence[float] | Mapping[str, Any]]

    @property
    def growth(self) -> Fraction | None:
        """The factor by which the trials of a grid grow; None for those of a range: all are new."""
        factor = Fraction(1)
        for name, values in self.changes.items():
            if isinstance(values, Mapping):
                return None
            tried = self.optimizer.tuned[name]
            factor *= Fraction(len({*tried, *values}), len(tried))
        return factor

    @property
    def trials(self) -> Fraction:
        """The number of trials."""
        return len(self.optimizer.tried) * (self.growth or Fraction(1))

    @property
    def runs(self) -> int:
        """The number of tuning runs that are new."""
        growth = self.growth
        return round(len(self.optimizer.trials) * (growth - 1 if growth else 1))

    @property
    def width(self) -> float:
        """The decades of learning rates; 0 if it is not tuned."""
        return decades(_ends_of(self.changes.get("lr", self.rates)))

    @property
    def becomes_coarse(self) -> bool:
        """True if a grid gets trials enough for A08, which finds its steps too large."""
        rates = self.changes.get("lr", ())
        enough = bool(self.growth) and len(self.optimizer.tried) < POINTS <= self.trials
        return enough and not isinstance(rates, Mapping) and _is_coarse(rates)


def _extension(context: Context, problem: ProblemView, edges: Sequence[_Edge]) -> Remedy:
    """Return the remedy of two more values per grid: beyond each edge, else one at either end.

    If the data is not on a unit scale, scaling it comes first. A rate at the end of the sensible
    range points to the data or the loss instead. Every optimizer is searched with as many trials
    instead where equal numbers of trials would become unequal, as beside an optimizer without a
    grid of rates, or where longer grids would be coarse (A08), or would no longer span as many
    decades because their steps differ (A07).
    """
    if scaling_remedy(context, problem.records):
        return context.remedy(SCALE_FIRST)
    grown = [_longer(context, optimizer, edges) for optimizer in problem.optimizers]
    longer = [one for one in grown if one]
    if len(longer) < len(grown):
        return _no_room(context, edges)
    settings: dict[str, Any] = {
        context.value_path(one.optimizer, name): values
        for one in longer
        for name, values in one.changes.items()
    }
    if _become_unequal(longer) or any(one.becomes_coarse for one in longer):
        trials = round(max(one.trials for one in longer))
        action = f"tune every optimizer with {trials} trials, over a wider range"
        ends = {path: _ends_of(values) for path, values in settings.items()}
        remedy = equal_search(context, problem.optimizers, trials, action, ends)
        return replace(remedy, settings=remedy.settings and {**settings, **remedy.settings})
    settings = balanced(context, problem.optimizers, settings)
    tune = context.study.get("tune") or {}
    grids = tune.get("sampler", "grid") == "grid" and all(o.tuned for o in problem.optimizers)
    if tune.get("extend") is False and grids:
        settings["tune.extend"] = True  # two values may be too few
    action = _more_values(problem, edges)
    action += ", and further ones while an edge is best" * bool(settings)
    runs = sum(one.runs for one in longer)
    return context.with_enough_seeds(context.remedy(action, settings, runs), problem)


def _longer(context: Context, optimizer: OptimizerRuns, edges: Sequence[_Edge]) -> _Longer | None:
    """Return an optimizer with two more values each; None if a rate has no room left."""
    own = {edge.name: edge for edge in edges if edge.optimizer.name == optimizer.name}
    is_tuned = "lr" in optimizer.tuned
    grown = own or ["lr"] * is_tuned
    changes: dict[str, Sequence[float] | Mapping[str, Any]] = {}
    for name in grown if context.path(optimizer.name) else ():
        written = context.written(optimizer, name)
        values = extended(optimizer, name, written, *_sides(optimizer, own.get(name)))
        if values is None:
            return None
        if values != written:
            changes[name] = values
    return _Longer(optimizer, context.rates(optimizer) if is_tuned else (), changes)


def _become_unequal(longer: Sequence[_Longer]) -> bool:
    """Return True if equal numbers of trials become unequal, or comparable ranges of rates."""
    before = [len(one.optimizer.tried) for one in longer]
    if len({*before}) == 1 and len({one.trials for one in longer}) > 1:
        return True
    tuned = [one for one in longer if one.rates]
    widths = [decades(one.rates) for one in tuned]
    return not unequal_widths(widths) and unequal_widths([one.width for one in tuned])


def _more_values(problem: ProblemView, edges: Sequence[_Edge]) -> str:
    """Say which values to add."""
    more = names(
        f"two {'larger' if edge.upwards else 'smaller'} values of {edge.name} for "
        f"{edge.optimizer.name}"
        for edge in edges
    )
    at_edge = {edge.optimizer.name for edge in edges}
    others = any(o.name not in at_edge and "lr" in o.tuned for o in problem.optimizers)
    return f"try {more}{', and two more for each of the others' * others}"


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
