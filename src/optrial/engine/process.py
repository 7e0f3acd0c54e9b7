"""The process during training: threads, denormal numbers, memory."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Protocol

import torch
from threadpoolctl import threadpool_limits

from optrial.data import Dataset
from optrial.memory import MemoryLimit, limits_address_space, memory_limit, resident_memory
from optrial.models import apply_settings, float32_products, settings
from optrial.plan import step_work
from optrial.spec import RunFacts, RunSpec

__all__ = [
    "FreedMemory",
    "can_flush_denormals",
    "device_limit",
    "keep_freed_memory",
    "limited_threads",
    "machine_load",
    "process_for",
    "release_memory",
    "threads_for",
]

_WORK_WORTH_SHARING = 5e7
"""Work of a step below which one thread is as fast, and much faster on a busy machine.

It is half a millisecond of one core. On two cores, an MLP 784-50-50-10 with batch 128 (4e7) took
0.5 ms per step on one thread and on two; beside another such process, 0.63 ms on one and 58 on two.
"""


class _Trains(Protocol):
    threads: int | None
    facts: RunFacts


@contextmanager
def process_for(learner: _Trains) -> Iterator[None]:
    """Apply a learner's threads, handling of denormals and convolutions; restore them afterwards.

    Convolutions on a GPU repeat their bits, and have the precision of other products; by default
    PyTorch computes them in TF32, which has 10 bits, and products in float32.
    """
    with (
        limited_threads(learner.threads),
        _flushed_denormals(bool(learner.facts.flushes_denormals)),
        _repeatable_convolutions(on_gpu=(learner.facts.device or "cpu") != "cpu"),
    ):
        yield


def has_fixed_threads(run: RunSpec) -> bool:
    """Return whether the study, or the script that it replays, fixes the number of threads."""
    return run.threads is not None or run.rng == "script"


def threads_for(runs: Sequence[RunSpec], dataset: Dataset) -> int | None:
    """Return the number of threads of a stack: its own, 1 for small steps, None for the default.

    A script has PyTorch's default, like any script. The number does not depend on how busy the
    machine is.
    """
    first = runs[0]
    if has_fixed_threads(first):
        return first.threads
    return 1 if step_work(runs, dataset) < _WORK_WORTH_SHARING else None


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Limit the threads of PyTorch and of NumPy's matrix products; None changes nothing."""
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
    """Treat denormal numbers as 0 in all computing threads, because a CPU is slow with them.

    Denormal numbers lie below 1.2e-38 in float32. Weight decay shrinks the weights of dead units to
    them, and products of such weights take about 300 times as long; one such run would slow down
    its whole stack.
    """
    if not flush:
        yield
        return
    _flush_denormals(True)
    try:
        yield
    finally:
        _flush_denormals(False)


@contextmanager
def _repeatable_convolutions(*, on_gpu: bool) -> Iterator[None]:
    """Let cuDNN use only kernels that repeat their bits, and TF32 only where products do."""
    if not on_gpu:
        yield
        return
    cudnn = torch.backends.cudnn
    place = "torch.backends.cudnn."
    before = {name: value for name, value in settings().items() if name.startswith(place)}
    cudnn.deterministic = True
    cudnn.allow_tf32 = float32_products() != "highest"
    try:
        yield
    finally:
        apply_settings(before)


@cache
def can_flush_denormals() -> bool:
    """Return whether this processor can flush denormal numbers; PyTorch's default is kept."""
    supported = torch.set_flush_denormal(True)
    torch.set_flush_denormal(False)
    return supported


def _flush_denormals(flush: bool) -> None:
    """Set this thread and the OpenMP threads that share its work, which PyTorch does not set.

    A parallel region copies the floating-point environment of this thread to the others.
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
    """Make glibc keep freed blocks for the next step instead of returning them to the kernel.

    By default, every array over 128 KiB is mapped again at each step and its pages are faulted in,
    which can cost more than the arithmetic. Under a limit on the address space, arrays over 1 MiB
    are returned at once: kept blocks count towards the limit, even if they cannot be used again.
    Returns whether blocks are kept; False without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    trim_threshold, mmap_threshold, large = -1, -3, 2**30
    if limits_address_space():
        mallopt(mmap_threshold, 2**20)
        return False
    return bool(mallopt(mmap_threshold, large) and mallopt(trim_threshold, large))


class FreedMemory:
    """Returns freed blocks to the system when they pile up.

    glibc before 2.38 often does not use a freed block for the next array of the same size, because
    small allocations split it (https://sourceware.org/bugzilla/show_bug.cgi?id=14581). What a
    training keeps for its next step then grows without end: by 40 MB per step in the worst case.
    """

    def __init__(self) -> None:
        self._limit: float | None = None  # of the resident memory
        self._next = 0.0

    def limit(self) -> None:
        """Return what is free once this process has grown by a quarter and 256 MB.

        Call it at every pause; it looks at most once per second.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + 1
        resident = resident_memory()
        if self._limit is not None and resident > self._limit:
            return_freed_memory()
            resident = resident_memory()
        if self._limit is None or resident > self._limit:
            self._limit = 1.25 * resident + 256e6


def machine_load() -> float | None:
    """Return how many processes wanted each core, averaged over a minute; None if unknown."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):  # Windows has none
        return None


def release_memory() -> None:
    """Free the memory of objects that are not used any more, and return it to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return_freed_memory()


def return_freed_memory() -> None:
    """Return the memory that was freed to the system; after a training, a process keeps it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def device_limit(place: torch.device) -> MemoryLimit:
    """Return the tightest limit on the memory of a device.

    On a GPU it is what the card has left, or the share that
    `torch.cuda.set_per_process_memory_fraction` leaves to this process. Memory that PyTorch keeps
    for its next arrays is free.
    """
    if place.type != "cuda":
        return memory_limit()
    name = torch.cuda.get_device_name(place)
    free, total = torch.cuda.mem_get_info(place)
    used = torch.cuda.memory_allocated(place)
    kept = torch.cuda.memory_reserved(place) - used
    index = torch.cuda.current_device() if place.index is None else place.index
    share = torch.cuda.get_per_process_memory_fraction(index)  # takes no device without an index
    limits = (
        MemoryLimit(name, total, total - free - kept),
        MemoryLimit(f"{name}, share of this process", int(share * total), used),
    )
    return min(limits, key=lambda limit: limit.free)
