"""Engine name -> learners: the one place that knows every engine, and chooses among them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from optrial.code import is_code
from optrial.data import Dataset
from optrial.engine.backends.compiling import can_compile
from optrial.engine.backends.numpy_backprop import NumpyEngine
from optrial.engine.backends.reference import ReferenceEngine
from optrial.engine.backends.stacked import StackedEngine, stackable_model
from optrial.engine.backends.tensor_splits import tensor_splits
from optrial.engine.process import process_for
from optrial.engine.select.speeds import Measured, Speeds
from optrial.engine.training import Learner
from optrial.errors import USER_CODE_ERRORS, EngineError, reason_of
from optrial.models import call_count, foreign_types
from optrial.plan import estimate, pack
from optrial.spec import RunSpec

__all__ = ["Choice", "Engines", "out_of_memory"]

_WORTH_MEASURING = 5.0
"""Seconds of plain training below which measuring what is fastest would not pay."""
_WIDTHS = (4, 16, 64, 256)
_TIMED_SECONDS, _TIMED_TURNS = 0.15, 3  # at least
_COMPARED_TURNS = 7  # where two are told apart
_CLOSE = 1.5  # a machine's pace may change by so much from one measurement to the next
_SHARE_OF_MEMORY = 0.25
_COMPILE_SECONDS = (6.0, 0.4, 1.3)
"""To compile, on two 2.5 GHz cores: at all, each kernel that a stack's forward pass calls, and each
rule's update of each parameter tensor. It is 13 s for an MLP of one hidden layer with one rule,
about 55 s with nine, 90 s for a transformer of two layers."""
_COMPILED_SHARE = 0.5  # of the time of an eager step, measured on MLPs; before it is measured
_COMPILED_ALONE = 0.9  # likewise of a run by itself, of which the update alone is compiled
_NO_COMPILER = "no C++ compiler (c++) is on the PATH, so steps are not compiled: slower, but right"
_SAME_GRADIENT = {"float32": 1e-3, "float64": 1e-6, "bfloat16": 0.1}  # relative
_SAME_LOSS = 1e-3  # relative difference of float32 losses after a few steps that rounding explains


@dataclass(frozen=True)
class Choice:
    """How some new runs, which could be one stack, are trained.

    Attributes:
        engine: "reference", "stacked", "compiled" (stacked, its step compiled) or "numpy".
        stacks: the runs, as they are trained together.
        seconds: how long that will take, evaluation left out.
        note: what the user should know about it; or "".
    """

    engine: str
    stacks: tuple[tuple[RunSpec, ...], ...]
    seconds: float
    note: str = ""

    @property
    def width(self) -> int:
        """Most runs in a stack."""
        return max(map(len, self.stacks))


class Engines:
    """Builds learners for one dataset on one device.

    Args:
        dataset: shared by all runs.
        precision: "float32", "bfloat16" or "float64".
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
        self._place = torch.device("cuda" if available and device != "cpu" else "cpu")
        self._splits = tensor_splits(dataset, precision, str(self._place))
        self._speeds = Speeds(self._place)
        self._known_kernels: dict[tuple[str, str], int] = {}

    def build(self, engine: str, specs: Sequence[RunSpec]) -> Learner:
        """Return a fresh learner of the runs of one stack, for an engine as `Choice` names it."""
        if engine in ("stacked", "compiled"):
            compiled = engine == "compiled"
            return StackedEngine(specs, self.dataset, self._splits, compiled=compiled)
        (spec,) = specs
        if engine == "reference":
            return ReferenceEngine(spec, self.dataset, self._splits)
        if self.device == "cuda":
            raise EngineError("device 'cuda': the numpy engine runs on the CPU only; use cpu.")
        return NumpyEngine(spec, self.dataset)

    def choose(self, runs: Sequence[RunSpec]) -> list[Choice]:
        """Return how to train runs that no store knows yet: as their study says, else fastest.

        What is fastest is measured on a few steps of the runs themselves, and kept for the machine;
        where measuring would take longer than it saves, the reference engine is chosen.

        Raises:
            EngineError: compilation was asked for where there is no compiler.
        """
        if runs[0].compile == "always" and not can_compile():
            raise EngineError(
                "compile: 'always' needs a C++ compiler, and no c++ is on the PATH; install one or "
                "use auto or never."
            )
        return [self._choose(group) for group in pack(runs, len(runs))]

    def _choose(self, runs: Sequence[RunSpec]) -> Choice:
        """Choose for runs that could be one stack."""
        first, plain = runs[0], estimate(runs, self.dataset).seconds
        alone = tuple((run,) for run in runs)
        if first.engine == "numpy" and first.optimizer_kind != "torch":
            return Choice("numpy", alone, plain)
        reference = Choice("reference", alone, plain)
        if first.engine == "reference" or first.rng == "script" or first.optimizer_kind == "torch":
            return reference
        if first.engine == "auto" and (len(runs) == 1 or plain < _WORTH_MEASURING):
            return reference
        try:
            reason = self._why_not_stacked(runs)
            if not reason:
                return self._fastest(runs)
        except EngineError:
            raise
        except USER_CODE_ERRORS as error:  # it fails in training too, and is recorded there
            reason = reason_of(error).partition("\n")[0]
        return replace(reference, note=f"trained one by one: {reason}")

    def _fastest(self, runs: Sequence[RunSpec]) -> Choice:
        steps = _steps_of(runs)
        by_width = self._seconds_by_width(runs)
        width = min(by_width, key=by_width.__getitem__)
        eager = [Choice("stacked", tuple(pack(runs, width)), by_width[width] * steps)]
        guesses = [min((self._compiled(runs, *pair) for pair in by_width.items()), key=_seconds_of)]
        if runs[0].engine == "auto":
            ((alone, _),) = self._seconds(("reference", runs[:1]))
            eager.append(Choice("reference", tuple((run,) for run in runs), alone * steps))
            if 1 / _CLOSE < alone / by_width[width] < _CLOSE:
                eager = self._in_turns(eager)
            guesses.append(self._compiled(runs, 1, eager[-1].seconds / steps))
        fastest = min(eager, key=_seconds_of)
        if runs[0].compile == "always":
            return min(guesses, key=_seconds_of)
        tried = [
            guess
            for guess in guesses
            if runs[0].compile == "auto"
            and guess.seconds + self._compile_seconds(guess.stacks[0]) < fastest.seconds
        ]
        if not tried:
            return fastest
        if not can_compile():
            return replace(fastest, note=_NO_COMPILER)
        return min(self._in_turns([fastest, *tried]), key=_seconds_of)

    def _in_turns(self, choices: Sequence[Choice]) -> list[Choice]:
        """Time choices side by side, for a machine's pace may change from one to the next.

        Where memory does not hold all of them, what is known of each has to do.
        """
        try:
            timed = self._seconds(*((choice.engine, choice.stacks[0]) for choice in choices))
        except Exception as error:
            if not out_of_memory(error):
                raise
            return list(choices)
        found = []
        for choice, (seconds, first_step) in zip(choices, timed, strict=True):
            training = seconds * sum(map(_steps_of, choice.stacks))
            compiling = first_step * len(choice.stacks) if choice.engine == "compiled" else 0.0
            found.append(replace(choice, seconds=training + compiling))
        return found

    def _compiled(self, runs: Sequence[RunSpec], width: int, seconds: float) -> Choice:
        """Guess how long compiled stacks take, each compiled by itself, from uncompiled steps."""
        stacks = tuple(pack(runs, width))
        share = _COMPILED_ALONE if width == 1 else _COMPILED_SHARE
        training = share * seconds * _steps_of(runs)
        return Choice("compiled", stacks, training + sum(map(self._compile_seconds, stacks)))

    def _compile_seconds(self, runs: Sequence[RunSpec]) -> float:
        """Guess what compiling a stack will take."""
        anything, kernel, update = _COMPILE_SECONDS
        rules = {(run.rule, run.decay) for run in runs}
        updates = len(rules) * estimate(runs[:1], self.dataset).tensors
        gradient = self._kernels(runs[0]) if len(runs) > 1 else 0  # that of one run is not compiled
        return anything + kernel * gradient + update * updates

    def _kernels(self, run: RunSpec) -> int:
        """Return how many kernels the forward pass of a run in a stack calls."""
        model = run.model, repr(run.model_arguments)
        if model not in self._known_kernels:
            built = stackable_model(run, self.dataset)
            self._known_kernels[model] = call_count(built, self.dataset.input_shape)
        return self._known_kernels[model]

    def _why_not_stacked(self, runs: Sequence[RunSpec]) -> str:
        """Try code of the user's in a stack of two; return why it cannot be stacked, or ""."""
        first = runs[0]
        if not any(map(is_code, (first.model, first.loss, *first.metrics, *first.code))):
            return ""
        model = stackable_model(first, self.dataset)
        own_types = foreign_types(model, torch.float32)
        if own_types:  # hyperparameters of a stack are arrays, in one precision for all parameters
            return f"its parameters are {' and '.join(map(str, own_types))}"
        pair = pack(runs, 2)[0]
        tried = _descending(runs)
        try:
            together = _losses(self.build("stacked", pair))
            together_moved = _changes(self.build("stacked", tried), len(tried))
        except USER_CODE_ERRORS as error:  # whatever it is, the reference engine goes on
            return reason_of(error).partition("\n")[0]
        apart = np.hstack([_losses(self.build("reference", [run])) for run in pair])
        if not np.allclose(together, apart, rtol=_SAME_LOSS, equal_nan=True):
            return "in a stack its numbers differ from those of a run by itself"
        parameters = {name for name, _ in model.named_parameters()}
        for run, (_, moved) in zip(tried, together_moved, strict=True):
            ((weights, wanted),) = _changes(self.build("reference", [run]), 1)
            own = parameters & wanted.keys()
            scale = _norm(wanted[name] for name in own)
            scale += 1e-3 * _norm(weights[name] for name in own)  # which are rounded
            difference = _norm(moved[name] - wanted[name] for name in own)
            if difference > _SAME_GRADIENT[first.precision] * scale:
                return "in a stack its gradients differ from those of a run by itself"
        return ""

    def _seconds_by_width(self, runs: Sequence[RunSpec]) -> dict[int, float]:
        """Return seconds per run and step of stacks of some widths, up to where they rise again."""
        largest_bytes = _SHARE_OF_MEMORY * self._memory()
        bytes_of_one = estimate(runs[:1], self.dataset).run_bytes
        measured: dict[int, float] = {}
        for width in (*(w for w in _WIDTHS if w < len(runs)), min(len(runs), _WIDTHS[-1])):
            if width > 1 and width * bytes_of_one > largest_bytes:
                break
            try:
                ((seconds, _),) = self._seconds(("stacked", pack(runs, width)[0]))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                break
            rising = seconds > 0.97 * min(measured.values(), default=math.inf)
            measured[width] = seconds
            if rising:
                break
        return measured or {1: self._seconds(("stacked", runs[:1]))[0][0]}

    def _memory(self) -> int:
        """Return the bytes of memory of the device."""
        if self._place.type == "cuda":
            return torch.cuda.get_device_properties(self._place).total_memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def _seconds(self, *candidates: tuple[str, Sequence[RunSpec]]) -> list[tuple[float, float]]:
        """Return, for each engine with a stack, seconds per run and step, and those of the first
        step, which may compile; kept for the machine."""
        trained = [self._trained(engine, specs) for engine, specs in candidates]
        kept = self._speeds.measured(trained, lambda: self._measure(*candidates))
        return list(zip(kept[::2], kept[1::2], strict=True))

    def _trained(self, engine: str, specs: Sequence[RunSpec]) -> dict[str, Any]:
        """Return all that the time of a step depends on."""
        named = ("model", "model_arguments", "loss", "batch_size", "precision", "metrics", "code")
        first = specs[0].as_dict()
        return {name: first[name] for name in named} | {
            "engine": engine,
            "inputs": self.dataset.input_shape,
            "outputs": self.dataset.classes,
            "seeds": len({spec.seed for spec in specs}),
            "rules": [spec.rule for spec in specs],
        }

    def _measure(self, *candidates: tuple[str, Sequence[RunSpec]]) -> Measured:
        """Time steps in turns; return the two numbers of `_seconds` of one after the other.

        All are compared with the first turn by turn, and its own time is the median of its turns.
        """
        trials = [_Trial(self.build(engine, specs)) for engine, specs in candidates]
        turns = _TIMED_TURNS if len(trials) == 1 else _COMPARED_TURNS
        while not all(trial.enough(turns) for trial in trials):
            for trial in trials:
                trial.take_turn()
        found, pace = [], np.array(trials[0].turns)
        for trial, (_, specs) in zip(trials, candidates, strict=True):
            step = np.median(pace) * np.median(trial.turns / pace)
            found += [float(step) / len(specs), trial.first_step]
        on_cuda = self._place.type == "cuda"  # waiting for the device is no sign of a busy machine
        return Measured(found, 1.0 if on_cuda else min(trial.cpu_share for trial in trials))


class _Trial:
    """Steps of a learner as it would train: as many at once, unless that is too long.

    Attributes:
        first_step: seconds of the first step.
        turns: seconds of a step, one value per turn.
        cpu_share: CPU time by wall time over all turns.
    """

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        learner.start(1)
        self.turns: list[float] = []
        self._wall = self._cpu = 0.0
        self.first_step = self._timed(1)
        at_once = int(_TIMED_SECONDS / _TIMED_TURNS / self._timed(1))
        self._at_once = min(max(at_once, 1), learner.chunk)

    def enough(self, turns: int) -> bool:
        """Whether it has had so many turns, and time enough."""
        return len(self.turns) >= turns and sum(self.turns) * self._at_once >= _TIMED_SECONDS

    def take_turn(self) -> None:
        """Take steps and the time."""
        started = time.perf_counter(), time.thread_time()
        self.turns.append(self._timed(self._at_once))
        self._wall += time.perf_counter() - started[0]
        self._cpu += time.thread_time() - started[1]

    @property
    def cpu_share(self) -> float:
        return self._cpu / self._wall if self._wall > 0 else 1.0

    def _timed(self, steps: int) -> float:
        with process_for(self._learner):
            started = time.perf_counter()
            taken = len(self._learner.advance(steps).losses)
            return (time.perf_counter() - started) / taken


def _steps_of(stack: Sequence[RunSpec]) -> int:
    return sum(run.steps for run in stack)


def _seconds_of(choice: Choice) -> float:
    return choice.seconds


def _descending(runs: Sequence[RunSpec]) -> tuple[RunSpec, ...]:
    """Return gradient descent at two rates for up to two seeds: a step's change is the gradient.

    A small rate, or a rule that divides by the gradient's size, would hide a wrong gradient.
    """
    seeds = list(dict.fromkeys(run.seed for run in runs))[:2]
    plain: dict[str, Any] = {
        **{"optimizer": "sgd", "optimizer_kind": "rule", "rule": "sgd", "weight_decay": 0.0},
        **{"schedule": None, "clip_norm": None, "clip_value": None, "loss_limit": None},
    }
    grid = (
        replace(runs[0], seed=seed, hyperparameters={"lr": rate}, **plain)
        for seed in seeds
        for rate in (0.5, 1.0)
    )
    return pack(grid, 4)[0]


Arrays = dict[str, NDArray[Any]]


def _changes(learner: Learner, runs: int) -> list[tuple[Arrays, Arrays]]:
    """Take one step; return the numbers of each run's model before it, and their changes."""
    before = [learner.weights(run) for run in range(runs)]
    learner.start(1)
    learner.advance(1)
    after = [learner.weights(run) for run in range(runs)]
    return [
        (old, {name: new[name] - old[name] for name in old if old[name].dtype.kind in "fc"})
        for old, new in zip(before, after, strict=True)
    ]


def _norm(arrays: Iterable[NDArray[Any]]) -> float:
    """Return the length of arrays as one vector; what is not finite counts as nothing."""
    finite = (np.nan_to_num(array, posinf=0.0, neginf=0.0) for array in arrays)
    return math.sqrt(sum(float((np.abs(array) ** 2).sum()) for array in finite))


def _losses(learner: Learner) -> np.ndarray:
    """Train a few steps and evaluate; return every loss, (losses, runs)."""
    learner.start(1)
    steps = learner.advance(3).losses
    return np.vstack([steps, learner.evaluate("train", 3).losses])


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )
