"""Other programs that use the processor while a benchmark runs: neighbours.py training|spinning

Each is a process that can be paused, so that contenders run with and without it alternately, and
that ends with the benchmark, even if that is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

NEIGHBOURS = {
    "training": "a plain PyTorch loop with default threads, MLP 784-50-50-10, batch 128",
    "spinning": "a process that spins on one core",
}
_READY = "ready"
_BENCHMARK = os.getppid()


def train() -> None:
    """Train an MLP with PyTorch's default threads, as long as the benchmark runs."""
    network = nn.Sequential(
        nn.Linear(784, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    inputs, targets = torch.randn(10_000, 784), torch.randint(0, 10, (10_000,))
    print(_READY, flush=True)
    while os.getppid() == _BENCHMARK:
        for rows in torch.split(torch.randperm(len(inputs)), 128):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(inputs[rows]), targets[rows])
            torch.autograd.backward(loss)
            optimizer.step()


def spin() -> None:
    """Compute on one core as long as the benchmark runs."""
    print(_READY, flush=True)
    while os.getppid() == _BENCHMARK:
        pass


class Neighbours:
    """The processes of all neighbours, paused unless one is asked for."""

    def __init__(self) -> None:
        # OMP_NUM_THREADS would give the training loop other threads than a user's has.
        environment = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
        self._processes = {
            name: subprocess.Popen(
                [sys.executable, __file__, name], stdout=subprocess.PIPE, text=True, env=environment
            )
            for name in NEIGHBOURS
        }
        for name, process in self._processes.items():
            assert process.stdout is not None
            if process.stdout.readline().strip() != _READY:
                raise SystemExit(f"the neighbour {name} did not start")
            process.send_signal(signal.SIGSTOP)

    @contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Resume one neighbour, named as in `NEIGHBOURS`, while the context lasts; none for ""."""
        process = self._processes.get(name)
        if process is None:
            yield
            return
        process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.kill()
            process.wait()


if __name__ == "__main__":
    {"training": train, "spinning": spin}[sys.argv[1]]()
