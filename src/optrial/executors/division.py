"""Divides new runs among workers: narrower stacks with fewer threads, so that no core is idle.

How runs are divided is stored with them, and part of their numbers. It depends on the study, the
machine and the executor, but not on the number of workers that train them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from optrial.config import Parallel
from optrial.engine import Choice, Engines, Part, has_fixed_threads, least_seconds, most_seconds
from optrial.errors import USER_CODE_ERRORS
from optrial.executors.room import cores
from optrial.plan import balanced_stacks, estimate, grids_of, pack, training_work
from optrial.spec import RunSpec

__all__ = ["WORTH_SECONDS", "Share", "divided", "expected_work", "share_of_worker"]

WORTH_SECONDS = 20.0
"""Training time below which workers, which start within seconds, are not worth their start."""

_GAIN = 0.9
"""Largest share of the time in one process that division must take to be chosen."""

_FINEST = 4
"""Largest number of stacks per worker that are made to keep all workers busy."""

_EVEN = 1.05
"""Work of the busiest worker, as a multiple of the mean, that is even enough."""

_CORES_OF_CLUSTER = 16
"""Number of cores of a cluster if neither this machine has as many nor `n_jobs` names more."""


class Share(NamedTuple):
    """Largest stack and threads of one worker.

    Attributes:
        width: most runs of a stack.
        threads: number of CPU threads.
    """

    width: int
    threads: int


def share_of_worker(runs: Sequence[RunSpec], engines: Engines, parallel: Parallel) -> Share | None:
    """Return the share of a worker in new runs; None if one process may train them as well.

    Args:
        runs: the runs, of one dataset.
        engines: engines of their dataset.
        parallel: what the user asks for.
    """
    if not _wants_workers(parallel) or engines.on_cuda:
        return None
    seconds = 0.0
    with suppress(*USER_CODE_ERRORS):  # of a model that cannot be built
        seconds = estimate(runs, engines.dataset, len(runs)).stacked_seconds
    if seconds < WORTH_SECONDS:
        return None
    whole = Choice("stacked", tuple(pack(runs, len(runs))), seconds)
    stacks = _stacks([whole], engines, _workers(parallel))
    return Share(max(len(stack.runs) for stack in stacks), _threads(stacks, parallel))


def divided(choices: Sequence[Choice], engines: Engines, parallel: Parallel) -> list[Part]:
    """Return the stacks of new runs.

    Args:
        choices: how one process would train them, or one worker its share.
        engines: engines of their dataset.
        parallel: what the user asks for.
    """
    seconds = sum(choice.seconds for choice in choices)
    alone = parallel.executor == "local" or (parallel.executor == "auto" and parallel.n_jobs == 1)
    if alone or engines.on_cuda or seconds < WORTH_SECONDS:
        return _whole(choices, engines)
    count = _workers(parallel)
    stacks = _stacks(choices, engines, count)
    threads = _threads(stacks, parallel)
    parts = [Part(s.engine, s.runs, _limited(engines.threads(s.runs), threads, s)) for s in stacks]
    if _wants_workers(parallel):
        return parts
    whole = _whole(choices, engines)
    if count == 1:
        return whole
    slowdown = 1.0
    if max(part.threads for part in whole) > 1:
        widest = max(parts, key=_width), max(whole, key=_width)
        slowdown = _slowdown(*widest, choices, engines)
    worth = slowdown * _share_of_work(stacks, parts, count) < _GAIN
    return parts if worth else whole


def _wants_workers(parallel: Parallel) -> bool:
    """Return whether the user asks for workers, whatever is faster."""
    return parallel.executor in ("processes", "ray") or parallel.n_jobs not in ("auto", 1)


def _workers(parallel: Parallel) -> int:
    """Return the number of workers that runs are divided among."""
    if parallel.executor != "ray":
        return cores()
    asked = parallel.n_jobs if parallel.n_jobs != "auto" else 0
    return max(cores(), asked, _CORES_OF_CLUSTER)


def _threads(stacks: Sequence[_Stack], parallel: Parallel) -> int:
    """Return the most threads of a stack whose runs do not fix them."""
    return parallel.resources.num_cpus or max(1, _workers(parallel) // len(stacks))


def _limited(threads: int, most: int, stack: _Stack) -> int:
    """Return the threads of a stack in a worker; those that are part of its runs stay."""
    return threads if has_fixed_threads(stack.runs[0]) else min(threads, most)


def expected_work(run: RunSpec, engines: Engines) -> float:
    """Return the work of a run; 1 if its model cannot be built, which ends its training."""
    with suppress(*USER_CODE_ERRORS):
        return training_work(run, engines.dataset)
    return 1.0


def _whole(choices: Sequence[Choice], engines: Engines) -> list[Part]:
    """Return the stacks of one process."""
    return [part for choice in choices for part in _of_one_process(choice, engines)]


def _of_one_process(choice: Choice, engines: Engines) -> list[Part]:
    """Return the stacks of a choice, on a busy machine with one thread if that is faster."""
    stacks = [Part(choice.engine, runs, engines.threads(runs)) for runs in choice.stacks]
    widest = max(stacks, key=_width)
    on_one = widest._replace(threads=1)
    fixed = has_fixed_threads(widest.runs[0])
    if not choice.busy or fixed or widest.threads == 1:
        return stacks
    if _slowdown(on_one, widest, [choice], engines) >= 1:
        return stacks
    return [stack._replace(threads=1) for stack in stacks]


def _slowdown(part: Part, whole: Part, choices: Sequence[Choice], engines: Engines) -> float:
    """Return `Engines.slowdown`; infinite if its steps take too much of the training of choices."""
    seconds = sum(choice.seconds for choice in choices)
    steps = sum(run.steps for choice in choices for stack in choice.stacks for run in stack)
    within = most_seconds(seconds)
    if least_seconds(seconds / max(1, steps), len(part.runs) + len(whole.runs)) > within:
        return math.inf
    return engines.slowdown(part, whole, within)


class _Stack(NamedTuple):
    """A stack, and the work of its training."""

    engine: str
    runs: Sequence[RunSpec]
    work: float


def _stacks(choices: Sequence[Choice], engines: Engines, count: int) -> list[_Stack]:
    """Divide runs into stacks that keep `count` workers busy for about the same time."""
    every = [run for choice in choices for stack in choice.stacks for run in stack]
    settings = {run.without_seed: run for run in every}
    work = {setting: expected_work(run, engines) for setting, run in settings.items()}
    mean = sum(work[run.without_seed] for run in every) / count
    best: list[_Stack] = []
    for finer in range(1, _FINEST + 1):
        stacks = [
            _Stack(choice.engine, runs, sum(work[run.without_seed] for run in runs))
            for choice in choices
            for grid in grids_of(run for stack in choice.stacks for run in stack)
            for runs in balanced_stacks(
                grid, [work[same[0].without_seed] for same in grid], mean / finer, choice.width
            )
        ]
        if not best or _most_work(stacks, count) < _most_work(best, count) / _EVEN:
            best = stacks
        if _most_work(best, count) < _EVEN * mean:
            break
    return best


def _most_work(stacks: Iterable[_Stack], count: int) -> float:
    """Return the work of the busiest of `count` workers, which take the largest stacks first."""
    workers = [0.0] * count
    for work in sorted((stack.work for stack in stacks), reverse=True):
        heapq.heapreplace(workers, workers[0] + work)
    return max(workers)


def _share_of_work(stacks: Sequence[_Stack], parts: Sequence[Part], count: int) -> float:
    """Return the work of the busiest of the workers that train parts, as a share of the whole."""
    at_once = max(1, count // max(part.threads for part in parts))
    return _most_work(stacks, at_once) / sum(stack.work for stack in stacks)


def _width(part: Part) -> int:
    return len(part.runs)
