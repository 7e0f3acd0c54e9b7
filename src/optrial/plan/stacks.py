"""Stacks: groups of runs that are trained together, and their order."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise, product
from typing import TypeVar

from optrial.models import MODELS
from optrial.plan.optimizers import is_capturable, needs_curvature
from optrial.spec import RunSpec

__all__ = ["Grid", "arrange", "balanced_stacks", "grids_of", "pack", "stacks_of"]

T = TypeVar("T")

Grid = Sequence[Sequence[RunSpec]]
"""Settings that can share a stack, each with its runs by seed; all have the same seeds."""

_OF_A_RUN = {
    *("optimizer", "optimizer_kind", "rule", "hyperparameters", "weight_decay", "decay", "seed"),
    *("schedule", "clip_norm", "clip_value", "code", "groups", "as_vectors", "modify"),
    *("sam_rho", "average", "fold", "rung"),  # folds differ in dataset_sha256, rungs in steps
}
"""Fields in which the runs of one stack may differ, besides what the model's entry names."""

_ROUNDING = 1e-9
"""Part of a stack that is not worth another one."""


def pack(runs: Iterable[RunSpec], width: int) -> list[tuple[RunSpec, ...]]:
    """Cut runs into stacks of at most `width`, each a grid of all its settings by all its seeds.

    Runs of one stack share everything but rule, modifiers, hyperparameters, weight decay, schedule,
    clipping, groups of parameters except frozen ones, the distance of SAM, the average of the
    weights, seed and what the model's entry calls stackable. Runs whose rules need curvature,
    and those whose steps cannot be compiled as one program, have their own stacks. A torch class is
    never stacked. Runs with one seed see the same batches, so that a stack that is a grid gathers
    each batch once.

    Args:
        runs: in any order; the same runs always give the same stacks.
        width: most runs in a stack, from 1.
    """
    return list(stacks_of(grids_of(runs), width))


def grids_of(runs: Iterable[RunSpec]) -> list[Grid]:
    """Return the grids that runs, in any order, can be divided into."""
    settings: dict[str, list[RunSpec]] = {}
    for run in arrange(runs):
        settings.setdefault(run.without_seed, []).append(run)
    grids: dict[tuple[str, tuple[int, ...]], list[list[RunSpec]]] = {}
    for same in settings.values():
        seeds = tuple(run.seed for run in same)
        grids.setdefault((_shared(same[0]), seeds), []).append(same)
    return list(grids.values())


def stacks_of(grids: Iterable[Grid], width: int) -> Iterator[tuple[RunSpec, ...]]:
    """Yield the stacks of `pack`."""
    for grid in grids:
        for places in _cut(range(len(grid[0])), width):
            for some in _cut(grid, width // len(places)):
                yield tuple(same[place] for place in places for same in some)


def balanced_stacks(
    grid: Grid, work: Sequence[float], share: float, most: int
) -> list[tuple[RunSpec, ...]]:
    """Cut a grid into stacks of about equal work.

    Args:
        grid: the grid.
        work: work of one run of each setting.
        share: wanted work of a stack.
        most: most runs in a stack, from 1.
    """
    seeds = len(grid[0])
    count = max(1, math.ceil(seeds * sum(work) / share - _ROUNDING))
    least = math.ceil(seeds / most)

    def cut(parts: int) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
        places = _cut(range(seeds), math.ceil(seeds / parts))
        widest = most // max(map(len, places))
        wanted = max(math.ceil(count / len(places)), math.ceil(len(grid) / widest))
        return places, _cut_by_work(work, min(wanted, len(grid)), widest)

    def load(parts: int) -> tuple[float, int]:
        places, settings = cut(parts)
        stacks = len(places) * len(settings)
        largest = max(map(len, places)) * max(sum(work[s] for s in part) for part in settings)
        return math.ceil(stacks / count) * largest, stacks

    best = min(range(least, max(least, min(seeds, count)) + 1), key=load)
    return [
        tuple(grid[setting][place] for place in places for setting in settings)
        for places, settings in product(*cut(best))
    ]


def arrange(runs: Iterable[RunSpec]) -> tuple[RunSpec, ...]:
    """Put the runs of a stack in their order: by seed, rules, kind of weight decay, setting."""
    return tuple(sorted(runs, key=_place))


def _place(run: RunSpec) -> tuple[int, str, str, str, str]:
    return run.seed, run.rule, run.decay, run.structure, run.without_seed


def _shared(run: RunSpec) -> str:
    """Return the fields that all runs of a stack share, as text."""
    stackable = MODELS[run.model].stackable if run.model in MODELS else ()
    model = {name: v for name, v in run.model_arguments.items() if name not in stackable}
    names = set() if run.uses_torch else _OF_A_RUN
    common = {name: v for name, v in run.as_dict().items() if name not in names}
    common |= {"model_arguments": model, "frozen": run.frozen, "sam": run.sam_rho is not None}
    common["averaged"] = run.average is not None
    common["curvature"] = needs_curvature(run)
    common["capturable"] = is_capturable(run)
    return json.dumps(common, sort_keys=True)


def _cut(values: Sequence[T], most: int) -> list[Sequence[T]]:
    """Cut values into parts of equal size, give or take one, of at most `most`."""
    parts = math.ceil(len(values) / max(most, 1))
    edges = [round(part * len(values) / parts) for part in range(parts + 1)]
    return [values[first:last] for first, last in pairwise(edges)]


def _cut_by_work(work: Sequence[float], parts: int, most: int) -> list[Sequence[int]]:
    """Cut places into parts of about equal work, of at most `most` places."""
    before = [0.0, *accumulate(work)]
    edges = [_nearest(before, before[-1] * part / parts) for part in range(parts + 1)]
    cut = [range(first, last) for first, last in pairwise(edges)]
    if all(0 < len(part) <= most for part in cut):
        return list(cut)
    return _cut(range(len(work)), math.ceil(len(work) / parts))


def _nearest(values: Sequence[float], value: float) -> int:
    """Return the place of the value in an ascending sequence that is nearest to another one."""
    place = bisect_left(values, value)
    if place == len(values) or (place and value - values[place - 1] < values[place] - value):
        return place - 1
    return place
