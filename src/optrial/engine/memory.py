"""Measures the peak of memory that training a run takes: each run in a process of its own."""

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
from optrial.engine.build import Engines
from optrial.engine.process import process_for
from optrial.models import resolve_model
from optrial.rules import RULES
from optrial.spec import RunSpec

__all__ = ["MEMORY_STEPS", "Meter", "memory_meter"]

MEMORY_STEPS = 10
"""Training steps during which the peak is looked for."""

Meter = Callable[[str, RunSpec], int]
"""Returns the bytes that a run takes with an engine as `optrial.engine.Choice` names it."""

_shared: dict[str, Any] = {}  # in a process that measures: what all its runs train on


@contextmanager
def memory_meter(dataset: Dataset, device: str) -> Iterator[Meter]:
    """Give what measures the peak, in bytes, that training a run takes beside program and data.

    On CUDA it is the memory that PyTorch allocates there. On the CPU it is resident memory, of a
    process that trains this run and nothing else. What keeps the run from being trained there is
    raised; an object of a notebook, which no other process can see, is one such thing.

    Args:
        dataset: what runs train on.
        device: "auto", "cpu" or "cuda".
    """
    if device != "cpu" and torch.cuda.is_available():
        yield partial(_cuda_memory, dataset, device)
        return
    # Spawned, for this process has used PyTorch, whose threads a fork would wait for in vain.
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, _prepare, (dataset, device)) as pool:
        yield lambda engine, spec: pool.submit(_in_a_fork, engine, spec).result()


def _cuda_memory(dataset: Dataset, device: str, engine: str, spec: RunSpec) -> int:
    engines = Engines(dataset, spec.precision, device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _train(engines, engine, spec)
    return torch.cuda.max_memory_allocated() - before


def _prepare(dataset: Dataset, device: str) -> None:
    """Keep the data, and load what every run needs, so that its own process begins with it."""
    sys.stdout = sys.stderr  # user code may print, and standard output is for results
    _shared.update(dataset=dataset, device=device)
    import_module("torch._dynamo")  # PyTorch does so when it first builds an optimizer


def _in_a_fork(engine: str, spec: RunSpec) -> int:
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(_resident_memory, engine, spec).result()


def _resident_memory(engine: str, spec: RunSpec) -> int:
    """Measure this process, which has not trained anything yet."""
    dataset, device = _shared["dataset"], _shared["device"]
    engines = Engines(dataset, spec.precision, device)
    _train_something_small(engine, spec, device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak so far
    before = _peak_resident()
    _train(engines, engine, spec)
    return _peak_resident() - before


def _train_something_small(engine: str, spec: RunSpec, device: str) -> None:
    """Let libraries load and set up what no optimizer is to blame for."""
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
    """Return the most bytes of memory that this process has had.

    Linux keeps two such figures; that of `getrusage` cannot be reset.
    """
    with suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        if found := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE):
            return 1024 * int(found[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
