"""Faults of studies that several processes train: workers, tasks of Ray, or clients of a server."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from optrial.errors import StoreError
from optrial.records import Store
from optrial.spec import Status
from tests.faults import shim
from tests.faults.bench import (
    RESULTS,
    Bench,
    Result,
    answer_of,
    complaints,
    differences,
    last_line,
)
from tests.faults.kinds import SERVED, SIGNALLED, Kind, any_study, failures
from tests.faults.process import Fault, limit_memory, patience
from tests.faults.server import Server
from tests.faults.shim import CHANGES, Action, Operation

EXECUTOR_KINDS: dict[str, Kind] = {}

PROCESSES = ("--quiet", "--executor", "processes", "-j", "2")
RAY = ("--quiet", "--parallel-config", "ray.yaml")
LEASES = {"heartbeat_interval": 0.2, "grace_period": 1.5}
WORKER = {"processes": b"optrial.executors", "ray": b"ray::_train"}
"""A part of the command lines of workers, by executor."""

LONGEST_ON_RAY = 300.0
"""Seconds after which a command on Ray counts as hanging: it starts a cluster, and a process for
each of up to thirty tasks that die."""

STRAGGLE_SECONDS = 20.0
"""Time after its driver in which a worker must end."""

NOT_STARTED = "the Ray cluster on this machine does not start"

WORDS: Mapping[str, Sequence[str]] = {
    "raise": ["the model"],
    "memory": ["MemoryError", "memory"],
    "exhaust": ["memory"],
    "hang": ["took longer than timeout"],
    "abort": ["exit status 3", "the task ended", "WorkerCrashedError"],
    "crash": ["SIGSEGV", "the task ended", "WorkerCrashedError"],
    "kill": ["SIGKILL", "the task ended", "WorkerCrashedError"],
}
"""Parts of reasons; the reason of a run that misbehaves must hold one of them."""


def kind(function: Kind) -> Kind:
    EXECUTOR_KINDS[function.__name__.replace("_", "-")] = function
    return function


def disturb(
    bench: Bench,
    study: str,
    fault: Fault,
    chance: random.Random,
    options: Sequence[str] = PROCESSES,
    stopped: Callable[[Path], None] | None = None,
    check: Callable[[Path], list[str]] = lambda folder: [],
) -> Result:
    """Run a study in workers with a fault, then without in one process.

    Args:
        stopped: called with the working folder when the driver is stopped.
        check: returns what is wrong with the results in a folder after the first command. It is
            not asked if nothing was trained, because Ray gives up after 30 s of starting a node.
    """
    folder = bench.folder(study)
    meanwhile = partial(stopped, folder) if stopped else None
    if RAY[-1] in options:
        fault = replace(fault, longest=LONGEST_ON_RAY)
    disturbed = bench.run(folder, fault, *options, stopped=meanwhile)
    wrong = left_over(folder)
    if NOT_STARTED not in disturbed.err:
        wrong += check(folder / RESULTS)
    result = bench.resumed(study, folder, disturbed, chance)
    bench.discard(folder)
    return result | wrong


def processes_in(folder: Path) -> dict[int, bytes]:
    """Return the command lines of the processes in a working folder, by id."""
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cwd").readlink() == folder:
                commands[int(process.name)] = (process / "cmdline").read_bytes()
    return {pid: command for pid, command in commands.items() if command}


def workers_in(folder: Path) -> list[int]:
    """Return the ids of the workers of a driver in a working folder."""
    commands = processes_in(folder).items()
    return sorted(p for p, command in commands if any(w in command for w in WORKER.values()))


def left_over(folder: Path) -> list[str]:
    """Return that processes outlive the command in a folder, if they do; end them.

    The agents of a Ray node, which train nothing, look for their node at times and then end.
    """
    end = time.monotonic() + patience(STRAGGLE_SECONDS)
    while time.monotonic() < end:
        commands = processes_in(folder).values()
        if all(b"Agent" in command for command in commands):
            break
        time.sleep(0.05)
    left = processes_in(folder)
    for pid in left:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    names = [command.split(b"\0")[0].decode() for command in left.values()]
    return [f"{name} outlives the command" for name in names if "Agent" not in name]


def kill_workers(chance: random.Random, folder: Path) -> None:
    """Kill one worker of a driver, or all of them."""
    workers = workers_in(folder)
    some = workers if chance.random() < 0.3 else [chance.choice(workers)] if workers else []
    for pid in some:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def workers_killed(options: Sequence[str], bench: Bench, chance: random.Random) -> Result:
    """Kill workers at an operation of the driver on its files, or when steps are reported."""
    study = any_study(chance)
    reference = bench.reference(study)
    if chance.random() < 0.5:
        moment = chance.randint(1, reference.operations())
        fault = Fault(moment, Action.SIGNAL_BEFORE, signal.SIGSTOP)
        return disturb(bench, study, fault, chance, options, partial(kill_workers, chance))
    moment = chance.randint(1, reference.steps)
    act = partial(bench.act, "step", moment, lambda: kill_workers(chance, Path.cwd()))
    return disturb(bench, study, Fault(prepare=act), chance, options)


@kind
def worker_killed(bench: Bench, chance: random.Random) -> Result:
    """Worker processes are killed at the n-th operation of the driver, or after the n-th step."""
    return workers_killed(PROCESSES, bench, chance)


def driver_signalled(
    number: int, options: Sequence[str], bench: Bench, chance: random.Random
) -> Result:
    """Send a signal to the driver at an operation on its files, or when steps are reported."""
    study = any_study(chance)
    reference = bench.reference(study)
    if chance.random() < 0.5:
        moment = chance.randint(1, reference.operations())
        fault = Fault(moment, chance.choice(SIGNALLED), number)
    else:
        moment = chance.randint(1, reference.steps)
        act = partial(bench.act, "step", moment, lambda: os.kill(os.getpid(), number))
        fault = Fault(prepare=act)
    return disturb(bench, study, fault, chance, options)


@kind
def driver_killed(bench: Bench, chance: random.Random) -> Result:
    """The driver of worker processes is killed; they end too."""
    return driver_signalled(signal.SIGKILL, PROCESSES, bench, chance)


@kind
def driver_interrupted(bench: Bench, chance: random.Random) -> Result:
    """SIGINT or SIGTERM to the driver of worker processes, which store a checkpoint and end."""
    number = chance.choice([signal.SIGINT, signal.SIGTERM])
    return driver_signalled(number, PROCESSES, bench, chance)


def interrupted_twice(options: Sequence[str], bench: Bench, chance: random.Random) -> Result:
    """Send two signals to the driver when steps are reported."""
    study = any_study(chance)
    first, second = chance.choices([signal.SIGINT, signal.SIGTERM], k=2)
    pause = chance.choice([0.0, 0.3])

    def interrupt() -> None:
        os.kill(os.getpid(), first)
        time.sleep(pause)
        os.kill(os.getpid(), second)

    moment = chance.randint(1, bench.reference(study).steps)
    fault = Fault(prepare=partial(bench.act, "step", moment, interrupt))
    return disturb(bench, study, fault, chance, options)


@kind
def driver_interrupted_twice(bench: Bench, chance: random.Random) -> Result:
    """Two signals to the driver of worker processes, which ends at once."""
    return interrupted_twice(PROCESSES, bench, chance)


@kind
def driver_without_disk(bench: Bench, chance: random.Random) -> Result:
    """The driver of worker processes finds the disk full, or it fails."""
    study, number = any_study(chance), chance.choice([28, 5])  # ENOSPC, EIO
    moment, forever = chance.randint(1, bench.reference(study).operations()), chance.random() < 0.5
    return disturb(bench, study, Fault(moment, Action.FAIL, number, CHANGES, forever), chance)


@kind
def worker_without_memory(bench: Bench, chance: random.Random) -> Result:
    """The address space of one worker process, or of all, may grow by little from a step on."""
    study = chance.choice(["wide-stacks", any_study(chance)])
    more = int(10 ** chance.uniform(5, 8.5))
    share = chance.choice([1, 2])

    def limit() -> None:
        for pid in workers_in(Path.cwd())[:share]:
            with suppress(OSError):
                limit_memory(more, pid)

    moment = chance.randint(1, bench.reference(study).steps)
    fault = Fault(prepare=partial(bench.act, "step", moment, limit))

    def check(location: Path) -> list[str]:
        return [
            f"not because of memory: {text}" for text in failures(location) if "memory" not in text
        ]

    return disturb(bench, study, fault, chance, check=check)


def run_misbehaves(options: Sequence[str], bench: Bench, chance: random.Random) -> Result:
    """Train a study with a setting that misbehaves in workers; the other runs are recorded."""
    act = chance.choice(sorted(WORDS))
    begin = {"FAULTS_ACT": act, "FAULTS_STEPS": str(chance.randint(1, 8))}
    # Every stack misbehaves, in each worker; or one run, alone or in a stack of four.
    study = chance.choice(["user-stacks", "fickle", "fickle", "greedy", "greedy"])
    fault = Fault(prepare=partial(bench.act, "wave", 1, partial(os.environ.update, begin)))
    limit = ["--set", "timeout=3"] if act == "hang" else []

    def check(location: Path) -> list[str]:
        return not_recorded(bench, study, location, WORDS[act])

    return disturb(bench, study, fault, chance, [*options, *limit], check=check)


@kind
def run_misbehaving(bench: Bench, chance: random.Random) -> Result:
    """A run raises, hangs, runs out of memory or ends its worker process."""
    return run_misbehaves(PROCESSES, bench, chance)


def not_recorded(bench: Bench, study: str, location: Path, words: Sequence[str]) -> list[str]:
    """Return the runs that are neither recorded as undisturbed nor failed for the right reason."""
    try:
        with Store.open(location) as store:
            records = store.runs()
    except StoreError as error:
        return [f"cannot be read: {error}"]
    may_fail = {
        record.run_id: record
        for record in records
        if study == "user-stacks" or record.spec.hyperparameters["lr"] == 0.05
    }
    wrong = [
        f"another reason: {record.reason}"
        for record in may_fail.values()
        if record.status is Status.ERROR and not any(word in record.reason for word in words)
    ]
    if study != "user-stacks":
        healthy = differences(location, bench.reference(study), leaving_out=may_fail)
        wrong += [f"of the healthy runs, {text}" for text in healthy]
    return wrong[:2]


def on_ray(scenario: Callable[..., Result], bench: Bench, chance: random.Random) -> Result:
    if find_spec("ray") is None:
        return Result("skipped")
    return scenario(RAY, bench, chance)


@kind
def ray_worker_killed(bench: Bench, chance: random.Random) -> Result:
    """Ray: worker processes are killed at the n-th operation of the driver, or after a step."""
    return on_ray(workers_killed, bench, chance)


@kind
def ray_driver_ended(bench: Bench, chance: random.Random) -> Result:
    """Ray: the driver is killed or interrupted, and its cluster on this machine ends."""
    number = chance.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
    return on_ray(partial(driver_signalled, number), bench, chance)


@kind
def ray_driver_interrupted_twice(bench: Bench, chance: random.Random) -> Result:
    """Ray: two signals to the driver, which ends at once, and its cluster on this machine too."""
    return on_ray(interrupted_twice, bench, chance)


@kind
def ray_run_misbehaving(bench: Bench, chance: random.Random) -> Result:
    """Ray: a run raises, hangs, runs out of memory or ends its process."""
    return on_ray(run_misbehaves, bench, chance)


def shared(
    bench: Bench,
    chance: random.Random,
    action: Action,
    number: int = 0,
    stopped: Callable[[Server], None] | None = None,
) -> Result:
    """Let two processes train a study on a server, one of them with a fault on its connection."""
    server = bench.server
    if server is None:
        return Result("skipped")
    study = chance.choice(SERVED)
    reference, url = bench.reference(study), server.schema()
    folders = [bench.folder(study), bench.folder(study)]
    for folder in folders:
        (folder / "parallel.yaml").write_text(json.dumps(LEASES))
    command = ["run", "study.yaml", "--out", url, "--quiet", "--parallel-config", "parallel.yaml"]
    moment = chance.randint(1, reference.socket_operations)
    fault = Fault(moment, action, number, Operation.SOCKET)
    with bench.runner.armed(folders[0], fault, server.port, 0):
        other = bench.runner.start(command, folders[1], Fault(prepare=shim.forget))
        first = bench.runner.start(command, folders[0], fault)
        disturbed = first.wait(partial(stopped, server) if stopped else None)
    helper = other.wait()
    wrong = [*complaints(disturbed), *(f"other: {p}" for p in complaints(helper))]
    server.wait_for_end_of_connections()
    again = bench.runner.run(command, folders[0])
    wrong += [f"again: {problem}" for problem in complaints(again)]
    if again.status != reference.status:
        wrong.append(f"again: exit status {again.status}: {last_line(again)}")
    wrong += differences(url, reference)
    for folder in folders:
        bench.discard(folder)
    answer = answer_of(disturbed, reference)
    return Result(answer, tuple(wrong), last_line(disturbed), disturbed.err + helper.err)


@kind
def shared_killed(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: one of two processes is killed at the n-th operation on its connection."""
    return shared(bench, chance, chance.choice(SIGNALLED[:2]), signal.SIGKILL)


@kind
def shared_interrupted(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: one of two processes is interrupted."""
    number = chance.choice([signal.SIGINT, signal.SIGTERM])
    return shared(bench, chance, chance.choice(SIGNALLED[:2]), number)


@kind
def shared_cut(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: the connection of one of two processes breaks."""
    return shared(bench, chance, Action.CUT)


@kind
def shared_paused(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: one of two processes is paused beyond its lease, and goes on later."""
    pause = LEASES["grace_period"] + chance.uniform(-1.0, 2.0)

    def wait(server: Server) -> None:
        del server
        time.sleep(pause)

    return shared(bench, chance, Action.SIGNAL_BEFORE, signal.SIGSTOP, wait)


@kind
def shared_restarted(bench: Bench, chance: random.Random) -> Result:
    """PostgreSQL: the server of two processes crashes and starts again."""
    return shared(bench, chance, Action.SIGNAL_BEFORE, signal.SIGSTOP, Server.restart)
