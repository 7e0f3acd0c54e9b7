"""Builds learners, and chooses among the engines: the one module that knows all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import torch

from optrial.data import Dataset
from optrial.engine.backends.compiling import can_compile
from optrial.engine.backends.numpy_backprop import NumpyEngine
from optrial.engine.backends.reference import ReferenceEngine
from optrial.engine.backends.stacked import StackedEngine
from optrial.engine.backends.tensor_splits import TensorSplit, tensor_splits
from optrial.engine.learner import Learner
from optrial.engine.options import data_facts, has_own_code
from optrial.engine.process import device_limit, release_memory, threads_for
from optrial.engine.select.busy import Clocks
from optrial.engine.select.choice import Choice, Chooser
from optrial.engine.select.measure import (
    KeptTimes,
    ModelledTimes,
    NotKeptError,
    StepTimer,
    Trial,
    take_turns,
)
from optrial.engine.select.stacking import why_not_stacked
from optrial.errors import USER_CODE_ERRORS, EngineError
from optrial.memory import MemoryLimit
from optrial.plan import estimate, pack
from optrial.spec import RunSpec

__all__ = ["Engines", "Part"]

_UNTRIED = (
    "optrial run, or optrial plan --measure, tries whether runs with your code can be trained "
    "together"
)

_SHARE_OF_FREE = 0.5
"""Share of the free memory beyond which a stack may need more than is estimated."""


class Part(NamedTuple):
    """A stack that may be trained.

    Attributes:
        engine: the engine that trains it.
        runs: its runs.
        threads: number of CPU threads.
    """

    engine: str
    runs: Sequence[RunSpec]
    threads: int


class Engines:
    """Builds learners for one dataset on one device.

    Args:
        dataset: training data of all runs.
        precision: "float32", "bfloat16" or "float64".
        device: "auto" (CUDA if available), "cpu" or "cuda".
        clocks: clocks of measurements.
        most: most runs in a stack that `choose` returns; None for the choice of optrial.

    Raises:
        EngineError: the device is unknown, or CUDA is not available.
    """

    def __init__(
        self,
        dataset: Dataset,
        precision: str,
        device: str = "auto",
        clocks: Clocks = Clocks(),  # noqa: B008
        most: int | None = None,
    ) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise EngineError(f"device '{device}' is unknown; use auto, cpu or cuda.")
        available = torch.cuda.is_available()
        if device == "cuda" and not available:
            raise EngineError("device 'cuda': PyTorch finds no CUDA device here; use auto or cpu.")
        self.dataset = dataset
        self.device = device
        place = self._place = torch.device("cuda" if available and device != "cpu" else "cpu")
        self._precision = precision
        self._clocks = clocks
        timer = StepTimer(self.build, dataset, place, clocks)
        self._chooser = Chooser(dataset, place, timer, self._why_not_stacked, most)
        self._by_kept = Chooser(dataset, place, KeptTimes(timer), _stackable)
        self._by_model = Chooser(dataset, place, ModelledTimes(dataset, place), _stackable)

    @cached_property
    def _splits(self) -> dict[str, TensorSplit]:
        return tensor_splits(self.dataset, self._precision, str(self._place))

    def load_data(self, spec: RunSpec) -> None:
        """Convert the data to tensors on the device, and compute the facts about it, as `build`
        does when it needs them first.
        """
        _ = self._splits
        data_facts(spec, self.dataset)

    def _why_not_stacked(self, runs: Sequence[RunSpec]) -> str:
        return why_not_stacked(runs, self.dataset, self.build)

    def build(self, engine: str, specs: Sequence[RunSpec]) -> Learner:
        """Return a fresh learner of the runs of one stack, for an engine named as in `Choice`."""
        kind, _, library = engine.partition("+")
        if kind in ("stacked", "compiled"):
            compiled, onednn = kind == "compiled", library == "onednn"
            return StackedEngine(
                specs, self.dataset, self._splits, compiled=compiled, onednn=onednn
            )
        (spec,) = specs
        if engine == "reference":
            return ReferenceEngine(spec, self.dataset, self._splits)
        if self.device == "cuda":
            raise EngineError("device 'cuda': the numpy engine runs on the CPU only; use cpu.")
        return NumpyEngine(spec, self.dataset)

    @property
    def on_cuda(self) -> bool:
        """True if learners are on a GPU."""
        return self._place.type == "cuda"

    @property
    def memory_limit(self) -> MemoryLimit:
        """Tightest limit on the memory of the device."""
        return device_limit(self._place)

    def needed_bytes(self, runs: Sequence[RunSpec]) -> int:
        """Return the memory that runs need as a stack on the device."""
        return estimate(runs, self.dataset, len(runs), on_cuda=self.on_cuda).stack_bytes

    def make_room(self, runs: Sequence[RunSpec]) -> None:
        """Release what earlier stacks left on a GPU, if a stack of the runs may need it."""
        with suppress(*USER_CODE_ERRORS):  # training fails likewise, and records the failure
            if self.on_cuda and self.needed_bytes(runs) > _SHARE_OF_FREE * self.memory_limit.free:
                release_memory()

    def threads(self, runs: Sequence[RunSpec]) -> int:
        """Return the number of CPU threads of a new stack on this machine."""
        threads: int | None = None
        with suppress(*USER_CODE_ERRORS):  # training fails likewise, and records the failure
            threads = threads_for(runs, self.dataset)
        return threads or torch.get_num_threads()

    def slowdown(self, part: Part, whole: Part, within: float = math.inf) -> float:
        """Return how much longer a run takes per step in one stack than in another one.

        The two take steps alternately, uncompiled, because the machine's pace changes. Infinite if
        they cannot be tried.

        Args:
            part: the one stack.
            whole: the other one.
            within: seconds after which no more steps are taken; each stack takes one at least.
        """
        clock = self._clocks.wall
        until = clock() + within
        try:
            trials = [self._trial(one) for one in (part, whole)]
            if clock() >= until:  # the first steps say enough
                turns = [[trial.first_step] for trial in trials]
            else:
                take_turns(trials, clock, until - clock())
                turns = [trial.turns for trial in trials]
        except USER_CODE_ERRORS:
            return math.inf
        ratio: float = statistics.median(one / other for one, other in zip(*turns, strict=True))
        return ratio * len(whole.runs) / len(part.runs)

    def _trial(self, part: Part) -> Trial:
        learner = self.build(part.engine.replace("compiled", "stacked"), part.runs)
        learner.threads = part.threads
        return Trial(learner, self._clocks)

    def one_by_one(self, runs: Sequence[RunSpec], reason: str) -> Choice:
        """Return how to train runs one by one, without trying any step of them."""
        return self._chooser.one_by_one(runs, reason)

    def within(self, most: int) -> Engines:
        """Return engines that choose stacks of at most `most` runs, for the current threads."""
        return Engines(self.dataset, self._precision, self.device, most=most)

    def choose(self, runs: Sequence[RunSpec]) -> list[Choice]:
        """Return how to train new runs: as their study says, else the fastest way.

        The fastest way is found by timing a few steps of the runs, and cached for the machine. If
        timing would take longer than it saves, the reference engine is chosen.

        Raises:
            EngineError: compilation is required but there is no compiler.
        """
        return self._each(runs, self._chooser.choose)

    def forecast(self, runs: Sequence[RunSpec]) -> list[Choice]:
        """Return how `choose` would probably train new runs, without training any step.

        The speeds are kept ones or, where none are kept, those of a model of the cost.

        Raises:
            EngineError: compilation is required but there is no compiler.
        """
        return self._each(runs, self._forecast)

    def _forecast(self, group: Sequence[RunSpec]) -> Choice:
        try:
            choice = self._by_kept.choose(group)
        except NotKeptError:
            choice = self._by_model.choose(group)
        untried = choice.is_stacked and has_own_code(group[0])
        return replace(choice, note=choice.note or _UNTRIED) if untried else choice

    def _each(
        self, runs: Sequence[RunSpec], choose: Callable[[Sequence[RunSpec]], Choice]
    ) -> list[Choice]:
        """Choose for each group of runs that could be one stack."""
        if runs[0].compile == "always" and not can_compile():
            raise EngineError(
                "compile: 'always' needs a C++ compiler, and no c++ is on the PATH; install one or "
                "use auto or never."
            )
        return [choose(group) for group in pack(runs, len(runs))]


def _stackable(runs: Sequence[RunSpec]) -> str:
    del runs
    return ""
