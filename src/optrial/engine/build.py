"""Engine name -> learners: the one place that knows every engine, and chooses among them."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from optrial.data import Dataset
from optrial.engine.numpy_backprop import NumpyEngine
from optrial.engine.reference import ReferenceEngine, tensor_splits
from optrial.engine.solo import Solo
from optrial.engine.stacked import StackedEngine
from optrial.engine.training import Learner
from optrial.errors import EngineError
from optrial.plan import RunSpec, estimate, pack

__all__ = ["Choice", "Engines"]

_WORTH_MEASURING = 5.0
"""Seconds of plain training below which measuring what is fastest would not pay."""
_WIDTHS = (4, 16, 64, 256)
_TIMED_SECONDS = 0.15
_SHARE_OF_MEMORY = 0.25
_COMPILE_SECONDS = 20.0  # for each stack, on two 2.5 GHz cores
_COMPILED_SHARE = 0.4  # of the time of an eager step, measured on MLPs


@dataclass(frozen=True)
class Choice:
    """How new runs are trained.

    Attributes:
        engine: "reference", "stacked", "compiled" (stacked, its step compiled) or "numpy".
        width: most runs in a stack.
        seconds: how long that will take, evaluation left out.
    """

    engine: str
    width: int
    seconds: float


class Engines:
    """Builds learners for one dataset on one device.

    Args:
        dataset: shared by all runs.
        precision: "float32" or "float64".
        device: "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises:
        EngineError: CUDA was asked for where there is none, or the device is unknown.
    """

    def __init__(self, dataset: Dataset, precision: str, device: str = "auto") -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise EngineError(f"device '{device}' is unknown; use auto, cpu or cuda.")
        available = torch.cuda.is_available()
        if device == "cuda" and not available:
            raise EngineError("device 'cuda': PyTorch finds no CUDA device here; use auto or cpu.")
        self.dataset = dataset
        self.device = device
        place = "cuda" if available and device != "cpu" else "cpu"
        self._splits = tensor_splits(dataset, precision, place)

    def build(self, engine: str, specs: Sequence[RunSpec]) -> Learner:
        """Return a fresh learner of the runs of one stack, for an engine as `Choice` names it."""
        if engine in ("stacked", "compiled"):
            compiled = engine == "compiled"
            return StackedEngine(specs, self.dataset, self._splits, compiled=compiled)
        (spec,) = specs
        if engine == "reference":
            return Solo(ReferenceEngine(spec, self.dataset, self._splits))
        if self.device == "cuda":
            raise EngineError("device 'cuda': the numpy engine runs on the CPU only; use cpu.")
        return Solo(NumpyEngine(spec, self.dataset))

    def choose(self, runs: Sequence[RunSpec]) -> Choice:
        """Return how to train runs that no store knows yet: as their study says, else fastest.

        What is fastest is measured on a few steps of the runs themselves; where that would take
        longer than it saves, the reference engine is chosen.

        Raises:
            EngineError: compilation was asked for where there is no compiler.
        """
        wanted, estimated = runs[0].engine, estimate(runs, self.dataset).seconds
        if wanted in ("numpy", "reference") or runs[0].rng == "script":
            return Choice("numpy" if wanted == "numpy" else "reference", 1, estimated)
        largest = max(pack(runs, len(runs)), key=len)
        if wanted == "auto" and (len(largest) == 1 or estimated < _WORTH_MEASURING):
            return Choice("reference", 1, estimated)
        steps = sum(run.steps for run in runs)
        seconds, width = self._fastest_width(largest)
        choices = [Choice("stacked", width, seconds * steps)]
        if wanted == "auto":
            alone = self._seconds_per_run_step("reference", largest[:1])
            choices.append(Choice("reference", 1, alone * steps))
        fastest = min(choices, key=lambda choice: choice.seconds)
        price = _COMPILE_SECONDS * math.ceil(len(runs) / width)
        compiled = Choice("compiled", width, seconds * steps * _COMPILED_SHARE + price)
        pays = runs[0].compile == "auto" and 1.5 * compiled.seconds < fastest.seconds
        if runs[0].compile == "always" and shutil.which("c++") is None:
            raise EngineError(
                "compile: 'always' needs a C++ compiler, and no c++ is on the PATH; install one or "
                "use auto or never."
            )
        if runs[0].compile == "always" or (pays and shutil.which("c++")):
            return compiled
        return fastest

    def _fastest_width(self, runs: Sequence[RunSpec]) -> tuple[float, int]:
        """Return the least seconds per run and step, and the width that takes them."""
        largest_bytes = _SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        # Parameters, gradients, two averages and as much again for results under way.
        bytes_of_one = estimate(runs[:1], self.dataset).parameters * 8 * 4
        best = (math.inf, 1)
        for width in (*(w for w in _WIDTHS if w < len(runs)), min(len(runs), _WIDTHS[-1])):
            if best[1] > 1 and width * bytes_of_one > largest_bytes:
                break
            seconds = self._seconds_per_run_step("stacked", pack(runs, width)[0])
            if seconds > 0.97 * best[0]:
                break
            best = (seconds, width)
        return best

    def _seconds_per_run_step(self, engine: str, specs: Sequence[RunSpec]) -> float:
        learner = self.build(engine, specs)
        learner.start(1)
        learner.advance(1)  # warms up
        steps, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < _TIMED_SECONDS:
            learner.advance(1)
            steps += 1
        return elapsed / steps / len(specs)
