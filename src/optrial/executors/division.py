"""Divides new runs among workers: narrower stacks with fewer threads, so that no core is idle.

How runs are divided is stored with them, and part of their numbers. It depends on the study, the
machine and the executor, but not on the number of workers that train them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from optrial.config import Parallel
from optrial.engine import Choice, Engines, Part, has_fixed_threads
from optrial.executors.room import cores
from optrial.plan import pack

__all__ = ["WORTH_SECONDS", "divided"]

WORTH_SECONDS = 20.0
"""Training time below which workers, which start within seconds, are not worth their start."""

_GAIN = 0.9
"""Largest share of the time in one process that division must take to be chosen."""

_CORES_OF_CLUSTER = 16
"""Number of cores of a cluster if neither this machine has as many nor `n_jobs` names more."""


def divided(choices: Sequence[Choice], engines: Engines, parallel: Parallel) -> list[Part]:
    """Return the stacks of new runs.

    Args:
        choices: how one process would train them.
        engines: engines of their dataset.
        parallel: what the user asks for.
    """
    whole = [part for choice in choices for part in _whole(choice, engines)]
    seconds = sum(choice.seconds for choice in choices)
    if parallel.executor == "local" or engines.on_cuda or seconds < WORTH_SECONDS:
        return whole
    count = cores()
    if parallel.executor == "ray":
        asked = parallel.n_jobs if parallel.n_jobs != "auto" else 0
        count = max(count, asked, _CORES_OF_CLUSTER)
    parts = _parts(choices, engines, count, parallel.resources.num_cpus)
    if parallel.executor == "auto" and parallel.n_jobs == "auto":
        worth = count > 1 and _seconds(parts, whole, engines, count, seconds) < _GAIN * seconds
        return parts if worth else whole
    return parts


def _whole(choice: Choice, engines: Engines) -> list[Part]:
    """Return the stacks of one process, on a busy machine with one thread if that is faster."""
    stacks = [Part(choice.engine, runs, engines.threads(runs)) for runs in choice.stacks]
    widest = max(stacks, key=_width)
    on_one = widest._replace(threads=1)
    fixed = has_fixed_threads(widest.runs[0])
    if not choice.busy or fixed or widest.threads == 1 or engines.slowdown(on_one, widest) >= 1:
        return stacks
    return [stack._replace(threads=1) for stack in stacks]


def _parts(
    choices: Sequence[Choice], engines: Engines, count: int, threads: int | None
) -> list[Part]:
    """Divide runs into about as many stacks as there are cores, or more."""
    runs = sum(len(stack) for choice in choices for stack in choice.stacks)
    width = max(1, math.ceil(runs / count))
    stacks = [
        (choice.engine, runs)
        for choice in choices
        for runs in (
            choice.stacks
            if choice.width <= width
            else pack((run for stack in choice.stacks for run in stack), width)
        )
    ]
    share = threads or max(1, count // len(stacks))
    return [Part(engine, runs, min(share, engines.threads(runs))) for engine, runs in stacks]


def _seconds(
    parts: Sequence[Part], whole: Sequence[Part], engines: Engines, count: int, seconds: float
) -> float:
    """Return the expected time of parts in workers, from the time in one process."""
    at_once = min(count // max(part.threads for part in parts), len(parts))
    rounds = math.ceil(len(parts) / at_once)
    slowdown = 1.0
    if max(part.threads for part in whole) > 1:
        slowdown = engines.slowdown(max(parts, key=_width), max(whole, key=_width))
    return seconds * slowdown * rounds / len(parts)


def _width(part: Part) -> int:
    return len(part.runs)
