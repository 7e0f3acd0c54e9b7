"""Starts the executor that a study asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType

import torch

from optrial.config import Parallel
from optrial.engine import Engines
from optrial.errors import USER_CODE_ERRORS, EngineError
from optrial.executors.division import WORTH_SECONDS
from optrial.executors.executor import Executor
from optrial.executors.local import Local
from optrial.executors.processes import Processes
from optrial.executors.room import Room, cores
from optrial.executors.setup import WorkerSetup
from optrial.executors.trainer import Trainer
from optrial.executors.updates import Update
from optrial.plan import Plan, estimate
from optrial.spec import StackId

__all__ = ["check_executor", "started"]


def check_executor(parallel: Parallel) -> None:
    """Refuse an executor that clearly cannot train, before anything is computed.

    Raises:
        EngineError: Ray is not installed, or its cluster cannot be used.
    """
    if parallel.executor == "ray":
        _ray().check_cluster(parallel)


def started(
    parallel: Parallel,
    plan: Plan,
    stacks: Mapping[StackId, Sequence[str]],
    engines: Mapping[str, Engines],
    tell: Callable[[Update], object],
) -> Executor:
    """Return the executor for a study, which starts no worker yet.

    Args:
        parallel: what the user asks for.
        plan: the study.
        stacks: ids of the runs of each stack to train.
        engines: engines of this process, by hash of the dataset.
        tell: takes updates of a local training from another thread.

    Raises:
        EngineError: user code cannot be sent, or data cannot be shared.
    """
    timeout = plan.studies.shared.timeout
    if any(run.budget_seconds for run in plan.runs):  # one at a time, so that they share no core
        if parallel.executor in ("processes", "ray") or parallel.n_jobs not in ("auto", 1):
            raise EngineError(
                "runs with a budget in seconds are trained one at a time, not by executor "
                f"{parallel.executor} with n_jobs {parallel.n_jobs}; use --executor local -j 1."
            )
        return Local(Trainer(engines, timeout, tell))
    alone = parallel.executor == "auto" and not _are_worth_workers(parallel, plan, stacks, engines)
    if parallel.executor == "local" or alone:
        return Local(Trainer(engines, timeout, tell))
    first = next(iter(engines.values()))
    device = "cpu" if parallel.resources.num_gpus == 0 else first.device
    setup = WorkerSetup.of(plan.code, plan.runs[0].precision, device)
    datasets = [of_one.dataset for of_one in engines.values()]
    if parallel.executor == "ray":
        on_ray: Executor = _ray().OnRay(setup, datasets, parallel)
        return on_ray
    devices = torch.cuda.device_count() if first.on_cuda else 0
    slots = parallel.n_jobs if parallel.n_jobs != "auto" else devices or cores()
    room = Room.of(slots, first.memory_limit.free * max(1, devices))
    return Processes(setup, datasets, timeout, slots, room, _one_each(devices))


def _are_worth_workers(
    parallel: Parallel,
    plan: Plan,
    stacks: Mapping[StackId, Sequence[str]],
    engines: Mapping[str, Engines],
) -> bool:
    """Return whether stacks are trained faster in worker processes than one after the other."""
    if parallel.n_jobs != "auto":
        return parallel.n_jobs > 1
    if len(stacks) < 2 or 2 * max(stack.threads or cores() for stack in stacks) > cores():
        return False
    left = {run_id for members in stacks.values() for run_id in members}
    seconds = 0.0
    for sha256, of_one in engines.items():
        specs = [r for r in plan.runs if r.run_id in left and r.dataset_sha256 == sha256]
        if of_one.on_cuda:
            return False
        width = max(map(len, stacks.values()))
        with suppress(*USER_CODE_ERRORS):  # of a model that cannot be built
            seconds += estimate(specs, of_one.dataset, width).stacked_seconds if specs else 0.0
    return seconds > WORTH_SECONDS


def _ray() -> ModuleType:
    """Import the executor of Ray, which is an extra.

    Raises:
        EngineError: Ray is not installed.
    """
    try:
        return import_module("optrial.executors.on_ray")
    except ImportError as error:
        raise EngineError(
            f"executor: ray needs Ray ({error}): pip install 'optrial[ray]'"
        ) from error


def _one_each(devices: int) -> list[dict[str, str]]:
    """Return the environment variables by which each of several workers sees one GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(devices)))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:devices]] or [{}]
