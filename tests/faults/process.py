"""Commands in forked children, with a fault."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from optrial import cli
from tests.faults.shim import CHANGES, Action, Control, Operation

LONGEST = 60.0
"""Seconds after which a command counts as hanging, on a machine that has a core for it."""


@dataclass(frozen=True)
class Fault:
    """A fault of a command.

    Attributes:
        at: number of the operation, from 1; 0 for none.
        action: what happens there.
        value: signal or errno.
        operations: which operations are counted.
        forever: whether all later operations fail too.
        below: start of the paths that are watched, relative to the working folder.
        clock: seconds by which the clock is set forward from operation `clock_at` on.
        memory: bytes of address space beyond those in use; 0 for no limit.
        prepare: called in the child before the command.
        environment: variables of the child.
        longest: seconds after which the command counts as hanging, see `LONGEST`.
    """

    at: int = 0
    action: Action = Action.NOTHING
    value: int = 0
    operations: Operation = CHANGES
    forever: bool = False
    below: str = ""
    clock: int = 0
    clock_at: int = 0
    memory: int = 0
    prepare: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    longest: float = LONGEST


CACHE = "cache"
"""Folder of measured speeds, in the working folder."""
NO_FAULT = Fault()
CORES = os.cpu_count() or 1


def patience(seconds: float) -> float:
    """Return the longest time to wait for what takes some seconds on an idle machine."""
    return seconds * max(1.0, os.getloadavg()[0] / CORES)


@dataclass(frozen=True)
class Outcome:
    """Output and exit status of a command.

    Attributes:
        status: exit status; minus the signal that killed it.
        out, err: what it printed.
        operations: number of operations of each kind, see `counted`.
        fired: whether the fault happened.
    """

    command: Sequence[str]
    status: int
    out: str
    err: str
    operations: Sequence[int] = ()
    fired: bool = False


HANGS = 999
"""Exit status of a command that did not end."""


@dataclass(frozen=True)
class Child:
    """A command that was started.

    Attributes:
        pid: id of its process.
        command: its arguments.
        logs: files with its output and its errors.
        control: the control block of the preloaded library.
        longest: seconds after which it counts as hanging.
    """

    pid: int
    command: Sequence[str]
    logs: Sequence[Path]
    control: Control
    longest: float

    def wait(self, stopped: Callable[[], None] | None = None) -> Outcome:
        """Wait for its end.

        Args:
            stopped: called when the child stops itself; then it is continued.
        """
        status = self._status(stopped)
        out, err = (log.read_text(errors="replace") for log in self.logs)
        return Outcome(self.command, status, out, err)

    def _status(self, stopped: Callable[[], None] | None) -> int:
        began = time.monotonic()
        while True:
            number, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if number and os.WIFSTOPPED(status):
                self.control.armed = 0
                if stopped:
                    stopped()
                self.control.armed = 1
                os.kill(self.pid, signal.SIGCONT)
            elif number:
                return os.waitstatus_to_exitcode(status)
            elif time.monotonic() - began > patience(self.longest):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return HANGS
            time.sleep(0.005)


class Runner:
    """Runs commands in forked children of this process.

    Args:
        control: the control block of the preloaded library.
    """

    def __init__(self, control: Control) -> None:
        self.control = control
        self.number = 0

    def run(
        self,
        command: Sequence[object],
        folder: Path,
        fault: Fault = NO_FAULT,
        *,
        port: int = 0,
        journal: int = 0,
        stopped: Callable[[], None] | None = None,
    ) -> Outcome:
        """Run `optrial COMMAND` in `folder`, whose files are watched.

        Args:
            port: port whose connections are watched.
            journal: file descriptor to which all changes are written.
            stopped: called when the child stops itself; then it is continued.
        """
        with self.armed(folder, fault, port, journal):
            outcome = self.unarmed(command, folder, fault, stopped=stopped)
        block = self.control
        return replace(outcome, operations=tuple(block.counts), fired=bool(block.fired))

    def unarmed(
        self,
        command: Sequence[object],
        folder: Path,
        fault: Fault = NO_FAULT,
        *,
        stopped: Callable[[], None] | None = None,
    ) -> Outcome:
        """Run `optrial COMMAND` in `folder` without arming the library."""
        return self.start(command, folder, fault).wait(stopped)

    def start(self, command: Sequence[object], folder: Path, fault: Fault = NO_FAULT) -> Child:
        """Start `optrial COMMAND` in `folder` without arming the library."""
        arguments = list(map(str, command))
        self.number += 1
        logs = [folder.parent / f"{folder.name}.{self.number}.{name}" for name in ("out", "err")]
        child = os.fork()
        if child == 0:
            _become(arguments, folder, fault, logs)
        return Child(child, arguments, logs, self.control, fault.longest)

    @contextmanager
    def armed(self, folder: Path, fault: Fault, port: int, journal: int) -> Iterator[None]:
        block = self.control
        block.prefix = f"{folder}/{fault.below}".encode()
        block.kinds, block.action, block.value = fault.operations, fault.action, fault.value
        block.at, block.forever, block.count, block.fired = fault.at, fault.forever, 0, 0
        block.clock_offset, block.clock_at = fault.clock * 10**9, fault.clock_at
        block.counts[:] = [0] * len(block.counts)
        block.port, block.journal = port, journal
        block.armed = 1
        try:
            yield
        finally:
            block.armed = 0


def _become(arguments: list[str], folder: Path, fault: Fault, logs: Sequence[Path]) -> None:
    """Run a command as if this process had been started for it; never returns."""
    status = 1
    try:
        for stream, log in zip((sys.stdout, sys.stderr), logs, strict=True):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(folder)
        os.environ.update({"OPTRIAL_CACHE": str(folder / CACHE)} | dict(fault.environment))
        sys.path.insert(0, str(folder))
        sys.argv = ["optrial", *arguments]
        if fault.prepare:
            fault.prepare()
        if fault.memory:
            limit_memory(fault.memory)
        status = _exit_status()
    finally:
        os._exit(status)


def _exit_status() -> int:
    """Run the command; return its status and print errors as the interpreter does."""
    status = 1
    with suppress(OSError):  # standard error may be lost
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
    with suppress(OSError):
        try:
            threading._shutdown()  # type: ignore[attr-defined]
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001
            status = 120
            print(f"Exception ignored at exit: {error!r}", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
    return status


def limit_memory(more: int, pid: int | None = None) -> None:
    """Let the address space of a process grow by so many bytes and no further.

    Args:
        more: the bytes.
        pid: id of the process; by default this one.
    """
    number = os.getpid() if pid is None else pid
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.prlimit(number, resource.RLIMIT_AS, (limit, limit))
