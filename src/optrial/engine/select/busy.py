"""Recognizes from wall time and CPU time that other programs use the processor."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

__all__ = ["BUSY", "LEAST_CPU_SHARE", "Clocks", "cpu_share", "share_of_products"]

BUSY = "another program uses this machine: measured speeds are not kept"

LEAST_CPU_SHARE = 0.8
"""Least `cpu_share` of a measurement that is kept."""

_SIZE, _PRODUCTS = 512, 16  # 4e9 operations: 0.03 s on one core
_LONG_SECONDS = 0.5  # of these products, after which no more are needed


class Clocks(NamedTuple):
    """Clocks in seconds.

    Attributes:
        wall: time that passes.
        thread: CPU time of the calling thread.
        process: CPU time of all threads of the process.
    """

    wall: Callable[[], float] = time.perf_counter
    thread: Callable[[], float] = time.thread_time
    process: Callable[[], float] = time.process_time


def cpu_share(cpu: float, wall: float, threads: int = 1) -> float:
    """Return 1 if threads had the processor all the time, and less the more they waited for it.

    A processor that is missing counts in full among up to four threads, because each parallel
    region waits for its last thread; among more it counts less, because clocks are not exact.

    Args:
        cpu: CPU time of the threads in seconds.
        wall: wall time in seconds.
        threads: number of threads that were busy.
    """
    missing = threads - cpu / wall if wall > 0 else 0.0
    return min(1.0, 1.0 - missing / max(1.0, threads / 4))


def share_of_products(clocks: Clocks) -> float:
    """Return the `cpu_share` of matrix products, which occupy all threads of PyTorch.

    Training steps are no measure for more than one thread: parts of them run on one only.
    """
    matrix = torch.ones(_SIZE, _SIZE)
    matrix @ matrix  # starts the threads
    started, used = clocks.wall(), clocks.process()
    wall = 0.0
    for _ in range(_PRODUCTS):
        matrix @ matrix
        wall = clocks.wall() - started
        if wall > _LONG_SECONDS:
            break
    cpu = clocks.process() - used
    return cpu_share(cpu, wall, torch.get_num_threads())
