"""Cores and memory of this machine, which the stacks that are trained at once share."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Need", "Room", "cores"]

_SHARE_OF_MEMORY = 0.8  # of the free memory; what stacks need is an estimate
_WORKER_BYTES = 4e8
"""Memory of a worker process beside its stack; most of it is PyTorch."""


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the number of cores that this process may use.

    Args:
        quota: file with the microseconds of CPU time that a container has per period.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with suppress(OSError, ValueError):  # there is no quota
        most, period = map(int, quota.read_text(encoding="utf-8").split())
        count = min(count or 1, math.ceil(most / period))
    return max(1, count or 1)


@dataclass(frozen=True)
class Need:
    """Threads and memory that the training of a stack needs.

    Attributes:
        threads: number of CPU threads.
        memory: expected number of bytes, beside those of its process.
        alone: whether nothing else may be trained at the same time.
    """

    threads: int
    memory: int
    alone: bool = False


@dataclass(frozen=True)
class Room:
    """Threads and memory that the stacks trained at once may use, with their processes.

    Attributes:
        threads: number of threads.
        memory: number of bytes.
    """

    threads: int
    memory: float

    @classmethod
    def of(cls, slots: int, free: float) -> Room:
        """Return the room of this machine.

        Args:
            slots: number of stacks that may be trained at once.
            free: free memory in bytes.
        """
        return cls(max(cores(), slots), _SHARE_OF_MEMORY * free)

    @classmethod
    def unlimited(cls) -> Room:
        """Return the room of an executor that decides itself what it trains at once."""
        return cls(sys.maxsize, math.inf)

    def admits(self, need: Need, others: Iterable[Need]) -> bool:
        """Return whether a stack can be trained beside others; a single one always can."""
        together = [need, *others]
        if len(together) == 1:
            return True
        threads = sum(n.threads for n in together)
        memory = sum(n.memory + _WORKER_BYTES for n in together)
        is_alone = any(n.alone for n in together)
        return not is_alone and threads <= self.threads and memory <= self.memory
