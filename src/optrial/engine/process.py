"""How the process computes while runs are trained: threads, denormal numbers, freed memory."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol

import torch
from threadpoolctl import threadpool_limits

from optrial.data import Dataset
from optrial.plan import step_operations
from optrial.spec import RunFacts, RunSpec

__all__ = ["can_flush_denormals", "keep_freed_memory", "process_for", "threads_for"]

_FLOPS_WORTH_SHARING = 1e7
"""Below so many operations a step, one thread is as fast alone, and much faster on a busy machine:
an MLP 64-64-10 with batch 32 (1e6) took 0.7 ms a step on one thread and, with another process on
the second core, 10 ms on two."""


class _Trains(Protocol):
    threads: int | None
    facts: RunFacts


@contextmanager
def process_for(learner: _Trains) -> Iterator[None]:
    """Set the process as a learner's threads and facts say, and back afterwards."""
    with (
        _limited_threads(learner.threads),
        _flushed_denormals(bool(learner.facts.flushes_denormals)),
    ):
        yield


def threads_for(spec: RunSpec, dataset: Dataset) -> int | None:
    """Return 1 for a run of small steps, None to leave the number of threads as it is.

    It depends on the run alone, so that a run that is resumed is trained the same way.
    """
    return 1 if step_operations(spec, dataset) < _FLOPS_WORTH_SHARING else None


@contextmanager
def _limited_threads(threads: int | None) -> Iterator[None]:
    """Let PyTorch and the matrix products of NumPy use so many threads; None changes nothing."""
    if threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _flushed_denormals(flush: bool) -> Iterator[None]:
    """Take denormal numbers for 0, in all threads that compute; a CPU is slow with them.

    They are those next to 0, below 1.2e-38 in float32. Weight decay brings the weights of dead
    units there, and a product of such weights takes some 300 times as long as any other; one such
    run would hold up its whole stack.
    """
    if not flush:
        yield
        return
    _flush_denormals(True)
    try:
        yield
    finally:
        _flush_denormals(False)


@cache
def can_flush_denormals() -> bool:
    """Whether this processor can take denormal numbers for 0; leaves it as PyTorch has it."""
    supported = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    return supported


def _flush_denormals(flush: bool) -> None:
    """Set this thread, and those of OpenMP that share its work, which PyTorch leaves as they are.

    The floating-point environment of this thread is handed to all, by a parallel region of them.
    """
    torch.set_flush_denormal(flush)
    if platform.libc_ver()[0] != "glibc":
        return
    environment = ctypes.create_string_buffer(64)  # fenv_t takes 32 bytes on x86-64, 8 on ARM
    mathematics, openmp = ctypes.CDLL("libm.so.6"), ctypes.CDLL(None)
    if hasattr(openmp, "GOMP_parallel"):
        mathematics.fegetenv(environment)
        openmp.GOMP_parallel(mathematics.fesetenv, environment, torch.get_num_threads(), 0)


@cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep freed blocks for the next step instead of returning them to the kernel.

    By default every array over 128 KiB is mapped afresh and its pages are faulted in again at each
    step, which can cost more than the arithmetic. Returns whether it was done: on glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    trim_threshold, mmap_threshold, large = -1, -3, 2**30
    return bool(mallopt(mmap_threshold, large) and mallopt(trim_threshold, large))
