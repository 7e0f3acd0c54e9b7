"""Whole steps on CUDA, captured once as a graph and replayed without single kernel launches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from optrial.garbage import collecting_no_garbage

__all__ = ["CapturedStep"]

_WARM_UPS = 3  # steps before the capture, in which compilers and libraries initialize


class _Engine(Protocol):
    def compute(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Train on a batch without waiting for the device, reading and writing fixed arrays."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return a copy of everything that training changes."""

    def load(self, state: Mapping[str, NDArray[Any]], step: int) -> None:
        """Restore the result of `state`."""

    @property
    def _step(self) -> Tensor: ...


class CapturedStep:
    """Replays `engine.compute` as one CUDA graph.

    Everything a step reads besides its batch (parameters, state, rates, mask keys) lies in arrays
    whose addresses never change; the batch is copied into such arrays first.
    """

    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step; the next one overwrites the returned tensors."""
        if self._graph is None:
            self._capture(inputs, targets)
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        assert self._graph is not None
        self._graph.replay()
        return self._outputs

    def _capture(self, inputs: Tensor, targets: Tensor) -> None:
        """Record one step, then undo the changes of the warm-up."""
        before, step = self._engine.state(), self._engine._step.clone()
        self._inputs, self._targets = inputs.clone(), targets.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._engine.compute(self._inputs, self._targets)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Nothing may be freed on the device meanwhile, such as graphs of earlier stacks.
        with collecting_no_garbage(), torch.cuda.graph(graph):
            self._outputs = self._engine.compute(self._inputs, self._targets)
        self._engine.load(before, 0)
        self._engine._step.copy_(step)
        self._graph = graph
