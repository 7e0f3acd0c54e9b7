"""Trains stacks on a Ray cluster, one task per stack."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self
from urllib.parse import urlsplit

import ray
import torch
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from optrial.config import Parallel
from optrial.data import Dataset
from optrial.engine import Engines
from optrial.errors import EngineError, OptrialError, one_line
from optrial.executors.room import Room, cores
from optrial.executors.setup import WorkerSetup
from optrial.executors.task import StackTask
from optrial.executors.trainer import Trainer
from optrial.executors.updates import Arrays, Died, Ended, Failure, Hung, Update, merged_steps
from optrial.interruption import STOPPING
from optrial.spec import StackId

__all__ = ["OnRay", "check_cluster"]

_CONNECT_SECONDS = 10.0  # longest time until a cluster answers
_LOOK_SECONDS = 0.1  # longest time without a look at signals
_REPORT_SECONDS = 0.5  # least time between two reports of steps, and two questions whether to stop
_REPORTS_PER_SECOND = 200  # of all tasks together; the driver takes some hundred
_LOST_SECONDS = 1.0  # after which Ray may know that a node is lost, before a stack is submitted
_COUNT_SECONDS = 5.0  # time after which the nodes of the cluster are counted again
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class _Board:
    """An actor through which the driver and the tasks of a study exchange messages."""

    def __init__(self) -> None:
        self._stopping = False
        self._posts: list[tuple[StackId, Update]] = []

    def stop(self) -> None:
        self._stopping = True

    def stopping(self) -> bool:
        return self._stopping

    def post(self, stack: StackId, update: Update) -> None:
        self._posts.append((stack, update))

    def take(self) -> list[tuple[StackId, Update]]:
        posts, self._posts = self._posts, []
        return posts


_engines: dict[str, dict[str, Engines]] = {}
"""Engines of this process by study; a process trains many stacks."""


def _train(
    study: str,
    setup: bytes,
    datasets: Sequence[Dataset],
    board: Any,
    report_seconds: float,
    task: StackTask,
    checkpoint: Arrays | None,
) -> Iterator[Update]:
    """Train a stack in a task of Ray; yield its updates, steps every `report_seconds`."""
    if study not in _engines:
        # Arrays of the object store are read-only, and no tensor of the data is written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        _engines.clear()
        _engines[study] = WorkerSetup.loads(setup).engines(datasets)

    def tell(update: Update) -> None:
        ray.get(board.post.remote(task.stack, update))
        if isinstance(update, Hung):
            os._exit(1)

    trainer = Trainer(_engines[study], task.timeout, tell)
    asked_at = time.monotonic()

    def stopping() -> bool:
        nonlocal asked_at
        if time.monotonic() - asked_at < report_seconds:
            return False
        asked_at = time.monotonic()
        return bool(ray.get(board.stopping.remote()))

    with trainer:
        for update in merged_steps(trainer.train(task, checkpoint, stopping), report_seconds):
            if isinstance(update, Ended) and update.failure and update.failure.memory_ran_out:
                tell(update)
                os._exit(1)  # what this process holds would be lacking for the next stack
            yield update
            del update  # or else a checkpoint would take memory until the next one


class OnRay:
    """An `Executor` whose stacks are tasks of Ray.

    Ray retries nothing: the driver submits a stack again, from the last checkpoint that it stored.

    Args:
        setup: what tasks need.
        datasets: the datasets of the study.
        parallel: address and resources.

    Raises:
        EngineError: there is no such cluster, or no node has the resources of a stack.
    """

    room, in_process = Room.unlimited(), False

    def __init__(self, setup: WorkerSetup, datasets: Sequence[Dataset], parallel: Parallel) -> None:
        self._shared = setup.dumps(), list(datasets)
        self._parallel = parallel
        self._study = uuid.uuid4().hex
        self._streams: dict[Any, StackId] = {}
        self._gpus = parallel.resources.num_gpus
        self._stopping = False
        self._counted_at = -_COUNT_SECONDS
        self._nodes: list[dict[str, float]] = []  # resources of each node

    def __enter__(self) -> Self:
        with ExitStack() as on_failure:
            if not ray.is_initialized():  # else the program has connected to a cluster itself
                _connect(self._parallel.address)
                on_failure.callback(ray.shutdown)
            _check_resources(self._cpus(1), self._gpus or 0, self._counted())
            here = ray.get_runtime_context().get_node_id()
            options = {"scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False)}
            self._board = ray.remote(_Board).options(num_cpus=0, **options).remote()
            on_failure.callback(ray.kill, self._board)
            self._setup, self._data = map(ray.put, self._shared)
            self._posts = self._board.take.remote()
            self._on_exit = on_failure.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(RayError):  # the cluster may be lost
            for stream in self._streams:
                ray.cancel(stream, force=True)
        self._on_exit.close()

    def _cpus(self, threads: int) -> int:
        """Return the number of CPUs of a task; no node may have as many as there are threads."""
        most = max((int(node.get("CPU", 0)) for node in self._counted()), default=1)
        return self._parallel.resources.num_cpus or max(1, min(threads, most))

    def _counted(self) -> list[dict[str, float]]:
        """Return the resources of each node; nodes may come and go."""
        if time.monotonic() - self._counted_at > _COUNT_SECONDS:
            self._counted_at = time.monotonic()
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return self._nodes

    @property
    def slots(self) -> int:
        """See `Executor`."""
        if self._parallel.n_jobs != "auto":
            return self._parallel.n_jobs
        cpus, gpus = (sum(n.get(name, 0) for n in self._counted()) for name in ("CPU", "GPU"))
        slots = cpus // self._cpus(1)
        return max(1, int(min(slots, gpus / self._gpus) if self._gpus else slots))

    def submit(self, task: StackTask, checkpoint: Arrays | None) -> None:
        """See `Executor`."""
        options = {"num_gpus": self._gpus} if self._gpus is not None else {}
        remote = ray.remote(_train).options(
            num_cpus=self._cpus(task.threads or 1),
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=4,
            **options,
        )
        report_seconds = max(_REPORT_SECONDS, self.slots / _REPORTS_PER_SECOND)
        shared = (self._study, self._setup, self._data, self._board, report_seconds)
        self._streams[remote.remote(*shared, task, checkpoint)] = task.stack

    def updates(self) -> Sequence[tuple[StackId, Update]]:
        """See `Executor`.

        Raises:
            EngineError: a task cannot train.
        """
        with _cluster_errors():
            return self._updates()

    def _updates(self) -> list[tuple[StackId, Update]]:
        updates = self._posted()
        if not self._streams:
            return updates
        streams = list(self._streams)
        if ray.wait(streams, timeout=_LOOK_SECONDS)[0]:
            ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
        else:
            ready = []
        for stream in ready:
            update = _next(stream)
            if isinstance(update, Ended | Died):
                updates += self._posted() + self._posted(wait=True)
            if stack := self._streams.get(stream):  # else its end was posted
                updates.append((stack, update))
            if isinstance(update, Ended | Died):
                self._streams.pop(stream, None)
        if any(isinstance(update, Died) for _, update in updates):
            time.sleep(_LOST_SECONDS)  # once, however many tasks a lost node had
        return updates

    def _posted(self, *, wait: bool = False) -> list[tuple[StackId, Update]]:
        """Return updates that came past the streams.

        Args:
            wait: whether to wait for an answer; an earlier question may have been answered before
                the last of them came.
        """
        ready, _ = ray.wait([self._posts], timeout=None if wait else 0)
        if not ready:
            return []
        posts = ray.get(self._posts)
        self._posts = self._board.take.remote()
        streams = {stack: stream for stream, stack in self._streams.items()}
        updates = [(stack, _as_end(update)) for stack, update in posts if stack in streams]
        for stack, update in updates:
            if isinstance(update, Ended):
                self._streams.pop(streams[stack], None)
        return updates

    def cancel(self, stack: StackId) -> None:
        """See `Executor`."""
        for stream in [stream for stream, other in self._streams.items() if other == stack]:
            del self._streams[stream]
            ray.cancel(stream, force=True)

    def stop(self) -> None:
        """See `Executor`."""
        if not self._stopping:
            self._stopping = True
            with _cluster_errors():
                ray.get(self._board.stop.remote())


def _check_resources(cpus: int, gpus: float, nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse a stack for which no node has the resources.

    Raises:
        EngineError: there is no such node.
    """
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        raise EngineError(
            f"no node of the Ray cluster has the resources of a stack (num_cpus: {cpus:g}, "
            f"num_gpus: {gpus:g}); change resources, or start a node that has them."
        )


@contextmanager
def _cluster_errors() -> Iterator[None]:
    """Turn the loss of the cluster into an error of optrial."""
    try:
        yield
    except RayError as error:
        raise EngineError(
            f"the Ray cluster is lost ({one_line(error)}); everything stored so far is kept, and "
            "running the study again continues it."
        ) from error


def _as_end(update: Update) -> Update:
    """Return the end of a stack whose step hangs, because its process ends; else the update."""
    if isinstance(update, Hung):
        return Ended(Failure(update.reason, timed_out=True, hung=True))
    return update


def _next(stream: Any) -> Update:
    """Return the next update of a task, or how it ended.

    Raises:
        EngineError: the task cannot train.
    """
    try:
        update: Update = ray.get(next(stream))
        return update
    except StopIteration:
        return Died("the task ended early")
    except OutOfMemoryError:
        return Ended(
            Failure("Ray ended it because the node ran out of memory", memory_ran_out=True)
        )
    except RayTaskError as error:
        if isinstance(error.cause, OptrialError):
            raise EngineError(str(error.cause)) from error
        raise EngineError(f"a task of Ray cannot train: {one_line(error.cause)}") from error
    except RayError as error:
        return Died(type(error).__name__, blames_stack=isinstance(error, WorkerCrashedError))


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keep the handlers of signals; Ray replaces that of SIGTERM, which stops a study."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # else it was not set by Python
                signal.signal(number, handler)


def _reach(address: str) -> None:
    """Connect to an address for a moment: Ray itself waits for minutes, and may end the process.

    Only Ray knows what "auto" is.

    Raises:
        OSError: nothing answers there.
        ValueError: it names no port.
    """
    if address == "auto":
        return
    place = urlsplit(f"//{address}")
    with socket.create_connection((place.hostname, place.port), _CONNECT_SECONDS):
        pass


def check_cluster(parallel: Parallel) -> None:
    """Refuse a cluster that clearly cannot train, before anything is computed.

    Raises:
        EngineError: it does not answer, or this machine, on which one would start, lacks the
            resources of a stack.
    """
    if ray.is_initialized():
        return
    address, resources = _known(parallel.address), parallel.resources
    if address is None:
        here = {"CPU": float(cores()), "GPU": float(torch.cuda.device_count())}
        _check_resources(resources.num_cpus or 1, resources.num_gpus or 0, [here])
    else:
        with _connecting(address):
            _reach(address)


def _connect(address: str | None) -> None:
    """Connect to a cluster, or start one on this machine, without dashboard and statistics.

    Raises:
        EngineError: the cluster does not answer.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = _known(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with _connecting(address), _same_signals():
        if address is None:
            ray.init(address="local", num_cpus=cores(), include_dashboard=False, **quiet)
        else:
            _reach(address)
            ray.init(address=address, **quiet)


def _known(address: str | None) -> str | None:
    """Return an address; for "auto", that of the environment if it has one."""
    return os.environ.get("RAY_ADDRESS", address) if address == "auto" else address


@contextmanager
def _connecting(address: str | None) -> Iterator[None]:
    """Turn every error of a connection into one of optrial.

    Raises:
        EngineError: the cluster does not answer.
    """
    try:
        yield
    except Exception as error:  # Ray raises plain ones too, as when a node starts too slowly
        where = f"does not answer at {address}" if address else "on this machine does not start"
        way_out = (
            "start one with ray start --head, or leave address out, so that one starts here"
            if address
            else "run the study again when the machine is less busy, or use executor: processes"
        )
        raise EngineError(f"the Ray cluster {where} ({one_line(error)}); {way_out}.") from error
