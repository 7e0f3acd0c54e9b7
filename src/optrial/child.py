"""A process that runs a function of optrial, and the connection to it.

It ends with the process that started it, and Ctrl-C does not reach it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

__all__ = ["Child", "Parent"]

_PROGRAM = """
import sys
sys.path.append({root!r})
from optrial.{module} import {name}
{name}{descriptors}
"""


class Child:
    """A child process and this end of the connection to it. A context that ends the process.

    Its standard streams lead nowhere.

    Args:
        function: what it runs, such as ``executors.worker:main``. Arguments are the descriptor of
            its end of the connection, for `Parent`, and `files`.
        files: further descriptors that it inherits.
        environment: environment variables, beside those of this process.

    Raises:
        OSError: it cannot start.
    """

    def __init__(
        self,
        function: str,
        files: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        near, far = socket.socketpair()
        with near, far:
            module, _, name = function.partition(":")
            descriptors = (far.fileno(), *files)
            root = str(Path(__file__).parents[1])
            program = _PROGRAM.format(root=root, module=module, name=name, descriptors=descriptors)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=descriptors,
                env=os.environ | dict(environment or {}),
                start_new_session=True,  # Ctrl-C reaches the parent alone
            )
            self.connection = Connection(near.detach())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def send(self, message: object) -> None:
        """Send an object, pickled; nothing if the process has died, as its next look shows."""
        self.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))

    def send_bytes(self, data: bytes) -> None:
        """Send an object that is pickled already; see `send`."""
        with suppress(OSError):
            self.connection.send_bytes(data)

    def receive(self) -> Any:
        """Return the next message; None if the process has died."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None

    @property
    def has_died(self) -> bool:
        """True if the process is gone and everything that it sent was received."""
        return self.process.poll() is not None and not self.connection.poll()

    def kill(self) -> str:
        """End the process and its children; return how it ended."""
        with suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.connection.close()
        return _ending(self.process.wait())


def _ending(status: int) -> str:
    """Return how a process ended, from its exit status."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


class Parent:
    """The connection of this process, which is a `Child`, to the one that started it.

    If that one is gone, this process ends.
    """

    def __init__(self, descriptor: int) -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to children, too
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == "linux":  # the kernel kills this process when its parent dies
            set_death_signal = 1
            ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        self._connection = Connection(descriptor)
        self._gate = threading.Lock()  # messages of the watch come from another thread

    def receive(self) -> Any:
        """Return its next message."""
        try:
            return pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)

    def send(self, message: object) -> None:
        """Send a message."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        try:
            with self._gate:
                self._connection.send_bytes(data)
        except OSError:
            os._exit(1)
