"""Measures the peak memory of training a run, each in a separate process."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optrial.data import Dataset
from optrial.data.dataset import Split
from optrial.engine import Engines, process_for, return_freed_memory
from optrial.models import resolve_model
from optrial.rules import RULES
from optrial.spec import RunSpec

__all__ = ["MEMORY_STEPS", "Meter", "memory_meter"]

MEMORY_STEPS = 10
"""Training steps over which the peak is taken."""

Meter = Callable[[str, RunSpec], int]
"""Returns the peak memory in bytes of a run with an engine, named as in `optrial.engine.Choice`."""

_shared: dict[str, Any] = {}  # arguments of `_prepare`, in the process that measures


@contextmanager
def memory_meter(dataset: Dataset, device: str) -> Iterator[Meter]:
    """Yield a function that measures the peak memory of a run, beyond program and data.

    On CUDA this is the memory that PyTorch allocates, on the CPU the resident memory of a process
    that trains this run only. The function raises any error of the run, also where that process
    cannot see an object defined in a notebook.

    Args:
        dataset: training data of all runs.
        device: "auto", "cpu" or "cuda".
    """
    if device != "cpu" and torch.cuda.is_available():
        yield partial(_cuda_memory, dataset, device)
        return
    # Not forked: this process has used PyTorch, and a fork would wait forever for its threads.
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, _prepare, (dataset, device)) as pool:
        yield lambda engine, spec: pool.submit(_in_a_fork, engine, spec).result()


def _cuda_memory(dataset: Dataset, device: str, engine: str, spec: RunSpec) -> int:
    engines = Engines(dataset, spec.precision, device)
    engines.load_data(spec)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _train(engines, engine, spec)
    return torch.cuda.max_memory_allocated() - before


def _prepare(dataset: Dataset, device: str) -> None:
    """Keep the data and load the libraries that every run needs before its process is forked."""
    sys.stdout = sys.stderr  # user code may print, and standard output is for results
    _shared.update(dataset=dataset, device=device)
    import_module("torch._dynamo")  # as PyTorch does when it builds its first optimizer


def _in_a_fork(engine: str, spec: RunSpec) -> int:
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(_resident_memory, engine, spec).result()


def _resident_memory(engine: str, spec: RunSpec) -> int:
    """Train a run in this process, which has trained nothing yet, and return its peak memory."""
    dataset, device = _shared["dataset"], _shared["device"]
    engines = Engines(dataset, spec.precision, device)
    engines.load_data(spec)
    _train_something_small(engine, spec, device)
    return_freed_memory()  # training would reuse it, and it would not be counted
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak on Linux
    before = _peak_resident()
    _train(engines, engine, spec)
    return _peak_resident() - before


def _train_something_small(engine: str, spec: RunSpec, device: str) -> None:
    """Make libraries allocate what does not depend on the optimizer."""
    split = Split(np.zeros((2, 1), np.float32), np.array([0, 1]))
    data = Dataset("two samples", {"train": split}, classes=2, sha256="")
    small = replace(
        spec,
        model="logistic",
        model_arguments=resolve_model("logistic", {}),
        loss="cross_entropy",
        loss_arguments={},
        metrics=(),
        optimizer_kind="rule",
        rule="sgd",
        hyperparameters=RULES["sgd"].defaults,
        decay="l2",
        groups=(),
        as_vectors=(),
        modify=(),
        schedule=None,
        code={},
        batch_size=2,
        steps_per_epoch=1,
    )
    _train(Engines(data, spec.precision, device), engine, small)


def _train(engines: Engines, engine: str, spec: RunSpec) -> None:
    learner = engines.build(engine, [spec])
    with process_for(learner):
        learner.start(1)
        learner.advance(MEMORY_STEPS)


def _peak_resident() -> int:
    """Return the peak resident memory of this process in bytes.

    Linux keeps two such figures; the one of `getrusage` cannot be reset.
    """
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        if match := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE):
            return 1024 * int(match[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
