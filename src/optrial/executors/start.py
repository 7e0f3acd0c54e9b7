"""Starts the executor that a study asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import torch

from optrial.config import Parallel
from optrial.engine import Engines
from optrial.errors import EngineError
from optrial.executors.executor import Executor
from optrial.executors.local import Local
from optrial.executors.processes import Processes
from optrial.executors.setup import WorkerSetup
from optrial.executors.trainer import Trainer
from optrial.executors.updates import Update
from optrial.plan import Plan

__all__ = ["cores", "started"]


def started(
    parallel: Parallel,
    plan: Plan,
    engines: Mapping[str, Engines],
    tell: Callable[[Update], object],
) -> Executor:
    """Return the executor for a study, which starts no worker yet.

    Args:
        parallel: what the user asks for.
        plan: the study.
        engines: engines of this process, by hash of the dataset.
        tell: takes updates of a local training from another thread.

    Raises:
        EngineError: user code cannot be sent, or data cannot be shared.
    """
    timeout = plan.studies.shared.timeout
    if parallel.executor == "ray":
        raise EngineError("executor: ray is not available yet; use processes.")
    several = parallel.n_jobs not in ("auto", 1)
    if parallel.executor == "local" or (parallel.executor == "auto" and not several):
        return Local(Trainer(engines, timeout, tell))
    first = next(iter(engines.values()))
    setup = WorkerSetup.of(plan.code, plan.runs[0].precision, first.device, timeout)
    devices = torch.cuda.device_count() if first.on_cuda else 0
    slots = parallel.n_jobs if parallel.n_jobs != "auto" else devices or cores()
    return Processes(setup, [e.dataset for e in engines.values()], slots, _one_each(devices))


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _one_each(devices: int) -> list[dict[str, str]]:
    """Return the environment variables by which each of several workers sees one GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(devices)))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:devices]] or [{}]
